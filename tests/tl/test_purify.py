import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
import small


@pytest.fixture(scope="module")
def model():
    return small.fitted(likelihood="nb")


def logs_of(adata):
    counts = small.dense(adata)
    return np.log1p(counts * (1e4 / counts.sum(axis=1))[:, None]).astype(np.float32)


def test_the_layer_is_the_decoder_mean_at_full_strength(model):
    adata = small.structured()
    before = adata.X.copy()
    assert scdae.tl.purify(adata, model, scale="counts") is None
    np.testing.assert_allclose(adata.layers["purified"], model.impute(adata, output="prior"), rtol=2e-4, atol=1e-4)
    assert adata.layers["purified"].dtype == np.float32
    assert (adata.X != before).nnz == 0 and adata.uns["purified"]["unit"] == "counts at the cell's own depth"
    scdae.tl.purify(adata, model, scale="counts", strength=0)  # its own result is replaced
    np.testing.assert_array_equal(adata.layers["purified"], small.dense(adata))


def test_logs_and_counts_give_the_same(model, tmp_path):
    adata = small.structured()
    adata.obs["depth"] = small.dense(adata).sum(axis=1)
    for form in (np.asarray, sp.csc_matrix):
        adata.layers["logs"] = form(logs_of(adata))
        scdae.tl.purify(adata, model)
        scdae.tl.purify(adata, model, layer="logs", input_scale="log1p", depth="depth", key_added="of_logs")
        np.testing.assert_allclose(adata.layers["of_logs"], adata.layers["purified"], atol=1e-3)
    assert adata.uns["of_logs"]["input_scale"] == "log1p"
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").uns["of_logs"]["fractions"] == "round"


def test_perturbed_logs_come_back_near_the_clean_ones(model):
    adata = small.structured()
    clean = logs_of(adata)
    rng = np.random.default_rng(0)
    adata.layers["logs"] = clean + 0.3 * rng.choice([-1, 1], clean.shape)  # with negative values at zeros
    depth = small.dense(adata).sum(axis=1)
    scdae.tl.purify(adata, model)
    scdae.tl.purify(adata, model, layer="logs", input_scale="log1p", depth=depth, key_added="washed")
    moved = np.abs(adata.layers["washed"] - adata.layers["purified"]).mean()
    assert moved < 0.3 * 0.3
    adata.layers["fractional"] = np.expm1(np.maximum(adata.layers["logs"], 0)) * depth[:, None] / 1e4
    scdae.tl.purify(adata, model, layer="fractional", allow_fractional=True, key_added="same")
    np.testing.assert_allclose(adata.layers["same"], adata.layers["washed"], atol=0.25)
    with pytest.raises(ValueError, match=r"allow_fractional=True"):
        scdae.tl.purify(adata, model, layer="fractional", key_added="x")


def test_depths_with_names_go_by_these(model):
    adata = small.structured()
    adata.layers["logs"] = logs_of(adata)
    depth = pd.Series(small.dense(adata).sum(axis=1), index=adata.obs_names)
    options = {"layer": "logs", "input_scale": "log1p", "scale": "counts"}
    scdae.tl.purify(adata, model, depth=depth, **options)
    scdae.tl.purify(adata, model, depth=depth.sample(frac=1, random_state=1), key_added="shuffled", **options)
    np.testing.assert_array_equal(adata.layers["shuffled"], adata.layers["purified"])
    with pytest.raises(ValueError, match="depth .*cell_1'"):
        scdae.tl.purify(adata, model, depth=depth.iloc[1:], key_added="x", **options)
    with pytest.raises(ValueError, match="depth: .* is not a number"):
        scdae.tl.purify(adata, model, depth=["deep"] * adata.n_obs, key_added="x", **options)


def test_thinning_is_reproducible_and_lazy_counts_are_read(model):
    adata = small.structured()
    layers = []
    for seed in (0, 0, 1):
        scdae.tl.purify(adata, model, keep=0.5, n_draws=2, seed=seed)
        layers.append(adata.layers["purified"])
    np.testing.assert_array_equal(layers[0], layers[1])
    assert np.abs(layers[0] - layers[2]).max() > 1e-3


def test_genes_may_be_fewer_and_in_any_order_but_not_unknown(model):
    adata = small.structured()
    scdae.tl.purify(adata, model)
    part = adata[:, adata.var_names[:10:-1]].copy()
    scdae.tl.purify(part, model)
    expected = adata[:, part.var_names].layers["purified"]
    assert np.corrcoef(part.layers["purified"].ravel(), expected.ravel())[0, 1] > 0.95
    part.var_names = ["new", *part.var_names[1:]]
    with pytest.raises(ValueError, match=r"1 gene\(s\) are unknown to the model, the first being 'new'"):
        scdae.tl.purify(part, model)


def test_batches_are_those_of_the_model():
    adata = small.covaried()
    scdae.tl.purify(adata, small.fitted_to_covariates(), scale="counts")
    expected = small.fitted_to_covariates().impute(adata, output="prior")
    np.testing.assert_allclose(adata.layers["purified"], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": "rate"}, "scale='rate': choose 'counts'"),
        ({"input_scale": "logs"}, "input_scale='logs': choose 'counts'"),
        ({"depth": 1000}, "depth= has a meaning for input_scale='log1p' only"),
        ({"input_scale": "log1p"}, "needs depth="),
        ({"input_scale": "log1p", "depth": "n"}, "depth='n' not found in adata.obs"),
        ({"input_scale": "log1p", "depth": [1, 2]}, r"depth has shape \(2,\)"),
        ({"input_scale": "log1p", "depth": 0}, "depth must be a positive number"),
        ({"input_scale": "log1p", "depth": 800}, "X is not log-normalized: .* above 20"),
        (
            {"input_scale": "log1p", "depth": 800, "layer": "nan"},
            "is not log-normalized: 1 value.* are NaN; .* row 2, column 3",
        ),
        ({"input_scale": "log1p", "depth": 800, "layer": "little"}, "add up to"),
        ({"input_scale": "log1p", "depth": 800, "layer": "z"}, r"layers\['z'\] is not log1p of .* as in z-scores"),
        (
            {"input_scale": "log1p", "depth": 800, "layer": "log2"},
            r"layers\['log2'\] is not log1p of .* look like log2",
        ),
        ({"input_scale": "log1p", "depth": 800, "layer": "none"}, "layer='none' does not exist"),
        ({"key_added": "truth"}, r"layers\['truth'\] is there already"),
        ({"layer": "truth", "key_added": "truth", "overwrite": True}, "is the layer that holds the profiles"),
        ({"batch_key": "batch"}, r"batch_key=\.\.\. belongs to the fit"),
        ({"strength": 2}, "strength=2"),
    ],
)
def test_what_does_not_fit_is_named(model, options, words):
    adata = small.structured()
    adata.layers["nan"] = logs_of(adata)
    adata.layers["nan"][2, 3] = np.nan
    logs = logs_of(adata)
    adata.layers["z"] = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    adata.layers["log2"] = logs / np.log(2)
    adata.layers["little"] = logs_of(adata) / 100
    with pytest.raises(ValueError, match=words):
        scdae.tl.purify(adata, model, **options)
    assert "purified" not in adata.layers and "purified" not in adata.uns
    with pytest.raises(ValueError, match="needs model="):
        scdae.tl.purify(adata, input_scale="log1p", depth=800)
