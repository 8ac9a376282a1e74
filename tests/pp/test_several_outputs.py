"""Several layers of one fit."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.core.data.cells import cell_data
from scdae.core.prediction import decode
from scdae.core.prediction.decode import OUTPUTS, read_out
from scdae.io.write import write_atomic

MODEL = {"likelihood": "nb", "max_epochs": 7}
BOTH = ("mean", "log1p")
NAMES = ["scdae", "scdae_log1p"]


def counts():
    adata = small.structured()
    del adata.layers["truth"]
    return adata


@pytest.fixture
def adata():
    return counts()


@pytest.fixture
def model():
    return small.fitted(batch_key="batch", **MODEL)


def values(layer):
    layer = layer.compute() if hasattr(layer, "compute") else layer
    return layer.toarray() if sp.issparse(layer) else np.asarray(layer)


def alone(adata, model, output, **form):
    """The layer that a call for this output alone writes."""
    adata = adata.copy()
    scdae.pp.impute(adata, model=model, output=output, **form)
    return values(adata.layers["scdae"])


@pytest.mark.calls_core
@pytest.mark.parametrize("laws", [True, False])
def test_several_are_read_out_together_as_each_is_alone(model, laws):
    from dataclasses import replace

    fitted = model.outcome.fitted if laws else replace(model.outcome.fitted, laws=None)
    adata = small.structured()
    data = cell_data(adata.X, None, model.covariates.conditions(adata), fitted.profile)
    for (rows, parts, latent), *each in zip(
        read_out(fitted, data, tuple(OUTPUTS)), *(read_out(fitted, data, name) for name in OUTPUTS), strict=True
    ):
        for part, (rows_alone, part_alone, latent_alone) in zip(parts, each, strict=True):
            assert rows == rows_alone
            np.testing.assert_allclose(part, part_alone, rtol=2e-6, atol=1e-7)
            np.testing.assert_allclose(latent, latent_alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threshold", [None, 0.1])
def test_several_take_one_pass(adata, model, monkeypatch, threshold):
    asked = []
    plain = decode._read_out
    monkeypatch.setattr(decode, "_read_out", lambda *a, outputs: asked.append(outputs) or plain(*a, outputs=outputs))
    scdae.pp.impute(adata, model=model, output=BOTH, threshold=threshold)
    assert set(asked) == {BOTH}


@pytest.mark.parametrize(
    "form",
    [{"lazy": True}, {"threshold": 0.1}, {"threshold": 0.1, "lazy": True}, {"transform_batch": "average"}],
    ids=str,
)
def test_each_layer_is_what_a_call_of_its_own_writes(adata, model, form):
    scdae.pp.impute(adata, model=model, output=BOTH, **form)
    key = "scdae_as_average" if "transform_batch" in form else "scdae"
    names = [key, f"{key}_log1p"]
    assert small.layers_of(adata) == names
    for name, output in zip(names, BOTH, strict=True):
        other = counts()
        scdae.pp.impute(other, model=model, output=output, overwrite=True, **form)
        np.testing.assert_allclose(values(adata.layers[name]), values(other.layers[key]), rtol=2e-5, atol=1e-6)
        assert adata.uns[key]["units"][name] == other.uns[key]["unit"]
        assert sp.issparse(adata.layers[name]) == sp.issparse(other.layers[key])
        assert hasattr(adata.layers[name], "compute") == hasattr(other.layers[key], "compute")


def test_one_fit_is_recorded_for_all(adata, monkeypatch):
    fits = []
    plain = scdae.DAE._fit_counts
    monkeypatch.setattr(scdae.DAE, "_fit_counts", lambda *a, **k: fits.append(1) or plain(*a, **k))
    scdae.pp.impute(adata, output=("log1p", "mean", "sd"), quantiles=(0.05,), seed=77, max_epochs=1, depth=1000)
    assert len(fits) == 1
    assert small.layers_of(adata) == ["scdae", "scdae_mean", "scdae_q05", "scdae_sd"]
    run = adata.uns["scdae"]
    assert run["output"] == "log1p" and list(run["outputs"]) == ["log1p", "mean", "sd"]
    assert run["unit"] == run["units"]["scdae"] and "log1p" in run["unit"] and run["depth"] == 1000
    assert list(run["units"]) == ["scdae", "scdae_mean", "scdae_sd", "scdae_q05"]
    assert "0.05 quantile" in run["units"]["scdae_q05"]
    assert list(adata.obsm) == ["X_scdae"]


@pytest.mark.parametrize(("ending", "lazy"), [("h5ad", False), ("zarr", True)])
def test_what_is_written_is_found_again(adata, model, tmp_path, ending, lazy):
    scdae.pp.impute(adata, model=model, output=BOTH, lazy=lazy)
    expected = {name: values(adata.layers[name]) for name in NAMES}
    path = tmp_path / f"a.{ending}"
    part = scdae.get.results(adata, genes=adata.var_names[[4, 2]])
    assert small.layers_of(part) == NAMES
    write_atomic(adata, path)
    back = getattr(ad, f"read_{ending}")(path)
    for output, name in zip(BOTH, NAMES, strict=True):
        np.testing.assert_array_equal(scdae.get.imputed(back, output=output).to_numpy(), expected[name])
        np.testing.assert_array_equal(values(part.layers[name]), expected[name][:, [4, 2]])
    np.testing.assert_array_equal(scdae.get.imputed(back).to_numpy(), expected["scdae"])
    with pytest.raises(KeyError, match=r"output='sd' was not asked for.*'mean', 'log1p'"):
        scdae.get.imputed(back, output="sd")
    assert dict(back.uns["scdae"]["units"]) == adata.uns["scdae"]["units"]


def test_backed(adata, model, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    scdae.pp.impute(backed, model=model, output=BOTH)
    for output, name in zip(BOTH, NAMES, strict=True):
        np.testing.assert_allclose(values(backed.layers[name]), alone(adata, model, output), rtol=2e-5, atol=1e-6)


def test_a_second_call_leaves_no_layer_of_the_first(adata, model):
    mine = np.ones(adata.shape, "f4")
    adata.layers["scdae_q"] = adata.layers["other"] = mine
    scdae.pp.impute(adata, model=model, output=("mean", "sd"), quantiles=(0.05, 0.95))
    scdae.pp.impute(adata, model=model, output=BOTH)
    assert small.layers_of(adata) == ["other", "scdae", "scdae_log1p", "scdae_q"]
    scdae.pp.impute(adata, model=model)
    assert small.layers_of(adata) == ["other", "scdae", "scdae_q"]
    assert list(adata.uns["scdae"]["units"]) == ["scdae"]


def test_layers_of_others_are_not_replaced(adata, model):
    scdae.pp.impute(adata, model=model, output="log1p", key_added="scdae_log1p")
    before = adata.layers["scdae_log1p"].copy()
    with pytest.raises(ValueError, match=r"layers\['scdae_log1p'\] belongs to adata.uns\['scdae_log1p'\]"):
        scdae.pp.impute(adata, model=model, output=BOTH)
    np.testing.assert_array_equal(adata.layers["scdae_log1p"], before)
    assert "scdae" not in adata.layers and "scdae" not in adata.uns
    scdae.pp.impute(adata, model=model, output=BOTH, overwrite=True)
    with pytest.raises(ValueError, match=r"belongs to adata.uns\['scdae'\]"):
        scdae.pp.impute(adata, model=model, output="log1p", key_added="scdae_log1p")
    users = counts()
    users.layers["scdae_sd"] = users.X
    with pytest.raises(ValueError, match=r"layers\['scdae_sd'\] is there already"):
        scdae.pp.impute(users, model=model, output=("mean", "sd"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"output": ()}, "is empty"),
        ({"output": ("mean", "mean")}, "names 'mean' twice"),
        (
            {"output": ("mean", "log2p")},
            r"output='log2p' \(of output=\('mean', 'log2p'\)\): choose one of 'mean'",
        ),
        ({"output": {"mean", "sd"}}, "has no order"),
        ({"output": 3}, "output=3: choose"),
        ({"output": ("mean", "sd"), "depth": 100}, "has a meaning for output='log1p' only"),
        ({"output": ("mean", "rate"), "layer": "scdae_rate"}, "would also write the layer"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(adata, model, arguments, words):
    if "layer" in arguments:
        adata.layers["scdae_rate"] = adata.X.copy()
    layers = small.layers_of(adata)
    with pytest.raises(ValueError, match=words):
        scdae.pp.impute(adata, model=model, **arguments)
    assert small.layers_of(adata) == layers and "scdae" not in adata.uns


@pytest.mark.parametrize(
    "form", [{}, {"lazy": True}, {"threshold": 0.2}, {"genes": [3, 1]}, {"dtype": "float16"}], ids=str
)
def test_the_model_gives_a_dictionary(adata, model, form):
    restored = model.impute(adata, output=BOTH, **form)
    assert list(restored) == list(BOTH)
    for output, layer in restored.items():
        expected = values(model.impute(adata, output=output, **form))
        np.testing.assert_allclose(values(layer), expected, rtol=2e-5, atol=1e-6)
        assert layer.dtype == expected.dtype
    assert not isinstance(model.impute(adata, output="mean", **form), dict)
    assert list(model.impute(adata, output=["sd"])) == ["sd"]


def test_genes_without_counts_in_the_fit_come_back_in_each(adata):
    model, query = small.fitted_to_gaps(), adata
    both = model.impute(query, output=("mean", "sd"))
    for output, layer in both.items():
        np.testing.assert_allclose(layer, model.impute(query, output=output), rtol=2e-5, atol=1e-6)
    assert np.isnan(both["sd"][:, 5]).any() and not np.isnan(both["mean"]).any()
