import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small

QUICK = {"likelihood": "nb", "max_epochs": 7, "batch_size": 64, "n_latent": 10}


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    small.keep_compiled()


@pytest.fixture
def adata():
    return small.structured()


@pytest.fixture(scope="module")
def expected():
    return small.fitted(likelihood="nb", max_epochs=7).impute(small.structured())


def fingerprint(matrix):
    if sp.issparse(matrix):
        return (
            type(matrix),
            matrix.shape,
            *(p.dtype for p in (matrix.data, matrix.indices)),
            *map(bytes, (matrix.data, matrix.indices, matrix.indptr)),
        )
    return type(matrix), matrix.dtype, matrix.shape, np.asarray(matrix).tobytes()


def test_what_is_written(adata, expected):
    assert scdae.pp.impute(adata, **QUICK) is None
    layer = adata.layers["scdae"]
    assert isinstance(layer, np.ndarray) and layer.dtype == np.float32
    np.testing.assert_array_equal(layer, expected)
    assert adata.obsm["X_scdae"].shape == (150, 10)
    for name in ("dispersion", "dropout", "zero_inflated", "gate", "gain"):
        assert f"scdae_{name}" in adata.var
    assert "scdae_gain" in adata.obs
    entry = adata.uns["scdae"]
    for name in ("output", "unit", "likelihood", "seed", "layer", "n_latent", "version", "report", "settings"):
        assert name in entry
    assert entry["layer"] == "X" and entry["output"] == "mean"
    for name in ("skill", "n_genes_helped", "n_genes", "n_epochs", "history", "zero_inflated_genes"):
        assert name in entry["report"]


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_matrix, np.asfortranarray])
def test_nothing_else_is_touched(make):
    """Also not where the user's matrix is unsorted, has repeats, or stores zeros."""
    matrix = make(small.dense(small.structured()))
    if sp.issparse(matrix):
        matrix.data[::7] = 0  # stored zeros
        first = slice(matrix.indptr[0], matrix.indptr[1])
        matrix.indices[first], matrix.data[first] = matrix.indices[first][::-1].copy(), matrix.data[first][::-1].copy()
        matrix.has_sorted_indices = False
    adata = small.wrap(matrix, layers={"mine": matrix.copy()})
    adata.raw = adata.copy()
    before = {
        "X": fingerprint(adata.X),
        "raw": fingerprint(adata.raw.X),
        "mine": fingerprint(adata.layers["mine"]),
        "obs": adata.obs.copy(),
        "var": adata.var.copy(),
    }
    scdae.pp.impute(adata, **QUICK)
    assert fingerprint(adata.X) == before["X"]
    assert fingerprint(adata.raw.X) == before["raw"]
    assert fingerprint(adata.layers["mine"]) == before["mine"]
    assert adata.obs[before["obs"].columns].equals(before["obs"])
    assert adata.var[before["var"].columns].equals(before["var"])


def test_layer_is_read_and_said_so(adata, expected):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    scdae.pp.impute(adata, layer="counts", key_added="restored", **QUICK)
    np.testing.assert_array_equal(adata.layers["restored"], expected)
    assert adata.uns["restored"]["layer"] == "counts"
    assert "X_restored" in adata.obsm and "restored_gain" in adata.obs


@pytest.mark.parametrize("output", ["prior", "rate", "sd", "log1p"])
def test_outputs_and_their_units(adata, output):
    model = small.fitted(likelihood="nb", max_epochs=7)
    scdae.pp.impute(adata, model=model, output=output)
    np.testing.assert_array_equal(adata.layers["scdae"], model.impute(adata, output=output))
    assert adata.uns["scdae"]["output"] == output and adata.uns["scdae"]["unit"]


@pytest.mark.parametrize("depth", [500, np.linspace(100, 900, small.N_OBS)])
def test_depth_of_log1p_is_recorded(adata, depth):
    model = small.fitted(likelihood="nb", max_epochs=7)
    scdae.pp.impute(adata, model=model, output="log1p", depth=depth)
    np.testing.assert_array_equal(adata.layers["scdae"], model.impute(adata, output="log1p", depth=depth))
    assert not np.allclose(adata.layers["scdae"], model.impute(adata, output="log1p"))
    np.testing.assert_allclose(adata.uns["scdae"]["depth"], depth, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 100}, "for output='log1p' only, but output='mean'"),
        ({"depth": [1.0, 2.0], "output": "log1p"}, "one for each of the 150 cells"),
        ({"depth": -1, "output": "log1p"}, r"1 of 1 are not \(the first: -1.0\)"),
        ({"depth": np.nan, "output": "log1p"}, "positive number of molecules"),
    ],
)
def test_depth_that_does_not_fit(adata, arguments, words):
    with pytest.raises(ValueError, match=words):
        scdae.pp.impute(adata, **arguments)
    assert "scdae" not in adata.layers


def test_copy(adata, expected):
    before = list(adata.layers), list(adata.obsm), list(adata.uns), list(adata.var)
    result = scdae.pp.impute(adata, copy=True, **QUICK)
    np.testing.assert_array_equal(result.layers["scdae"], expected)
    assert (list(adata.layers), list(adata.obsm), list(adata.uns), list(adata.var)) == before


def test_view(adata, expected):
    double = ad.concat([adata, adata], index_unique="-", merge="same")
    view = double[:150]
    assert view.is_view
    scdae.pp.impute(view, **QUICK)
    np.testing.assert_array_equal(view.layers["scdae"], expected)
    assert "scdae" not in double.layers and "scdae" not in double.uns and "scdae_gain" not in double.var


@pytest.mark.parametrize("copy", [False, True])
def test_backed(adata, expected, tmp_path, copy):
    path = tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    before = path.read_bytes()
    backed = ad.read_h5ad(path, backed="r")
    result = scdae.pp.impute(backed, copy=copy, **QUICK)
    np.testing.assert_array_equal((result if copy else backed).layers["scdae"], expected)
    assert not copy or not result.isbacked
    backed.file.close()
    assert path.read_bytes() == before


def test_dask(adata, expected):
    dask = pytest.importorskip("dask.array")
    adata.X = dask.from_array(small.dense(adata), chunks=(40, 60))
    scdae.pp.impute(adata, **QUICK)
    np.testing.assert_array_equal(adata.layers["scdae"], expected)
    assert isinstance(adata.X, dask.Array)


@pytest.mark.filterwarnings("ignore:Writing zarr v2", "ignore:.*zarr")
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_result_can_be_written(adata, tmp_path, kind):
    scdae.pp.impute(adata, batch_key="batch", **QUICK)
    path = tmp_path / f"out.{kind}"
    if kind == "h5ad":
        adata.write_h5ad(path)
        again = ad.read_h5ad(path)
    else:
        adata.write_zarr(path)
        again = ad.read_zarr(path)
    np.testing.assert_array_equal(again.layers["scdae"], adata.layers["scdae"])
    entry, written = adata.uns["scdae"], again.uns["scdae"]
    assert written["report"]["verdict"] == entry["report"]["verdict"]
    np.testing.assert_array_equal(written["report"]["history"]["loss"], entry["report"]["history"]["loss"])
    assert list(written["batch_levels"]) == list(entry["batch_levels"])
    scdae.pp.impute(again, batch_key="batch", **QUICK)  # what came back is known as ours
    np.testing.assert_array_equal(again.layers["scdae"], adata.layers["scdae"])


def test_again_replaces_its_own_output(adata, expected):
    scdae.pp.impute(adata, seed=3, **QUICK)
    assert not np.array_equal(adata.layers["scdae"], expected)
    scdae.pp.impute(adata, **QUICK)
    np.testing.assert_array_equal(adata.layers["scdae"], expected)


def test_a_second_run_without_batches_forgets_them(adata):
    scdae.pp.impute(adata, batch_key="batch", **QUICK)
    scdae.pp.impute(adata, **QUICK)
    assert "batch_key" not in adata.uns["scdae"]


@pytest.mark.parametrize("place", ["layers", "obsm", "var", "obs", "uns"])
def test_what_the_user_has_there_is_kept(adata, place, expected):
    if place == "layers":
        adata.layers["scdae"] = adata.X.copy()
    elif place == "obsm":
        adata.obsm["X_scdae"] = np.zeros((150, 2))
    elif place == "uns":
        adata.uns["scdae"] = {"mine": 1}
    else:
        getattr(adata, place)["scdae_gain"] = 1.0
    before = list(adata.layers), list(adata.var)
    with pytest.raises(ValueError, match=rf"adata\.{place}\[.*key_added=.*overwrite=True"):
        scdae.pp.impute(adata, **QUICK)
    assert (list(adata.layers), list(adata.var)) == before
    scdae.pp.impute(adata, overwrite=True, **QUICK)
    np.testing.assert_array_equal(adata.layers["scdae"], expected)


@pytest.mark.parametrize("key", ["", "a/b", None, 3])
def test_keys_that_are_no_names(adata, key):
    with pytest.raises(ValueError, match="key_added="):
        scdae.pp.impute(adata, key_added=key, **QUICK)


def test_the_layer_of_counts_is_never_the_output(adata):
    adata.layers["counts"] = adata.X.copy()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is the layer that the counts are read from"):
            scdae.pp.impute(adata, layer="counts", key_added="counts", overwrite=overwrite, **QUICK)


def test_unknown_settings_are_listed(adata):
    with pytest.raises(TypeError, match=r"no argument 'n_layers'.*n_latent.*corruption"):
        scdae.pp.impute(adata, n_layers=3)
    with pytest.raises(ValueError, match="output='log'"):
        scdae.pp.impute(adata, output="log")


@pytest.mark.parametrize(
    "given", [{"n_latent": 5}, {"likelihood": "nb"}, {"max_epochs": 3}, {"batch_key": "batch"}, {"noise": 0.2}]
)
def test_settings_of_the_fit_do_not_go_with_a_model(adata, given):
    with pytest.raises(ValueError, match=f"{next(iter(given))}=.*model="):
        scdae.pp.impute(adata, model=small.fitted(likelihood="nb", max_epochs=7), **given)


def test_model_that_is_none(adata, tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        scdae.pp.impute(adata, model=scdae.DAE())
    with pytest.raises(TypeError, match=r"model=.*scdae\.DAE"):
        scdae.pp.impute(adata, model=str(tmp_path))


def test_model_on_other_cells(adata):
    model = small.fitted(likelihood="nb", max_epochs=7)
    part = adata[20:90].copy()
    scdae.pp.impute(part, model=model)
    np.testing.assert_allclose(part.layers["scdae"], model.impute(adata)[20:90], rtol=1e-4, atol=1e-5)
    assert part.obs["scdae_gain"].notna().all()
    assert part.uns["scdae"]["report"]["skill"] > 0


def test_model_and_genes_it_does_not_know_warn_once(adata, log):
    adata.var_names = ["new", *adata.var_names[1:]]
    scdae.pp.impute(adata, model=small.fitted(likelihood="nb", max_epochs=7))
    assert np.isnan(adata.layers["scdae"][:, 0]).all() and np.isfinite(adata.layers["scdae"][:, 1:]).all()
    warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert len(warnings) == len(set(warnings)) == 2  # one missing, one unknown


def test_masked_cells_and_genes_go_through(adata):
    mask = np.ones(adata.shape, bool)
    mask[3], mask[:, 5] = False, False
    scdae.pp.impute(adata, mask=mask, **QUICK)
    layer = adata.layers["scdae"]
    assert np.isfinite(layer).all() and not layer[3].any() and not layer[:, 5].any()
    assert np.isfinite(adata.obsm["X_scdae"]).all() and adata.obs["scdae_gain"].iloc[3] == 0


def test_empty_cells_and_genes_come_back_as_zeros():
    adata = small.with_gaps()
    scdae.pp.impute(adata, **QUICK)
    layer = adata.layers["scdae"]
    assert not layer[3].any() and not layer[:, 5].any()
    assert (np.delete(np.delete(layer, 3, 0), 5, 1) > 0).all()
    assert adata.var["scdae_gain"].iloc[5] == 0 and adata.obs["scdae_gain"].iloc[3] == 0


def test_bad_input_writes_nothing(adata):
    adata.X.data[5] = -1
    before = list(adata.layers)
    with pytest.raises(ValueError, match="negative"):
        scdae.pp.impute(adata, **QUICK)
    assert list(adata.layers) == before and "scdae" not in adata.uns


def test_words_about_use_and_size(adata, log):
    scdae.pp.impute(adata, **QUICK)
    assert "150 x 60 float32 takes" in log.text
    assert "differential expression on raw counts" in log.text
    assert adata.uns["scdae"]["report"]["verdict"] in log.text


def test_thin(adata):
    before = fingerprint(adata.X)
    first, second = scdae.pp.thin(adata, 0.7, seed=1)
    assert fingerprint(adata.X) == before
    assert ((first.X + second.X) != adata.X).nnz == 0
    assert first.X.sum() / adata.X.sum() == pytest.approx(0.7, abs=0.01)
    assert first.obs.equals(adata.obs) and second.var.equals(adata.var)
    assert (scdae.pp.thin(adata, 0.7, seed=1)[0].X != first.X).nnz == 0
    assert (scdae.pp.thin(adata, 0.7, seed=2)[0].X != first.X).nnz > 0


def test_thin_of_a_layer_and_of_fractional_counts(adata):
    adata.layers["half"] = adata.X * 0.5
    with pytest.raises(ValueError, match="allow_fractional"):
        scdae.pp.thin(adata, layer="half")
    first, second = scdae.pp.thin(adata, layer="half", allow_fractional=True)
    np.testing.assert_allclose((first.X + second.X).toarray(), adata.layers["half"].toarray(), rtol=1e-5)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 90, float("nan")])
def test_fraction_out_of_range(adata, fraction):
    with pytest.raises(ValueError, match="fraction="):
        scdae.pp.thin(adata, fraction)


def test_quantile_layers():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    scdae.pp.impute(adata, model=model, quantiles=(0.05, 0.5, 0.975))
    expected = model.posterior(adata).quantile([0.05, 0.5, 0.975])
    for name, values in zip(("scdae_q05", "scdae_q50", "scdae_q97.5"), expected, strict=True):
        np.testing.assert_allclose(adata.layers[name], values, rtol=1e-4)
    np.testing.assert_array_equal(adata.uns["scdae"]["quantiles"], [0.05, 0.5, 0.975])
    scdae.pp.impute(adata, model=model, quantiles=0.05)
    with pytest.raises(ValueError, match=r"quantiles must lie between 0 and 1, but 1 of 2 do not \(the first: 95.0\)"):
        scdae.pp.impute(adata, model=model, quantiles=(0.05, 95))


def test_quantiles_of_genes_in_another_order_and_without_counts():
    adata, model = small.with_gaps(), small.fitted_to_gaps()
    other = adata[:, ::-1].copy()
    scdae.pp.impute(other, model=model, quantiles=0.9)
    assert not other.layers["scdae_q90"][:, small.N_VARS - 6].any()
    expected = model.posterior(adata, genes=[7]).quantile(0.9)
    np.testing.assert_allclose(other.layers["scdae_q90"][:, [small.N_VARS - 8]], expected, rtol=1e-4)
