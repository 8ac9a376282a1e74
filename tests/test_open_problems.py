"""The component for the Open Problems denoising task, by its interface: a file in, a file out."""

import importlib.util
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import small

FOLDER = Path(__file__).parent.parent / "benchmarks/open_problems"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not here")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch):
    """The script, with one small fit for all of its calls."""
    model = small.fitted()
    monkeypatch.setattr("scdae.DAE.fit", lambda self, adata, layer: model)
    return load(FOLDER / "script.py")


@pytest.fixture
def train(tmp_path):
    """As the task hands it out: counts in a layer, no X, and the name of the data."""
    adata = small.structured()
    train = ad.AnnData(obs=adata.obs, var=adata.var, layers={"counts": adata.X.astype(np.int64)})
    train.uns["dataset_id"] = "small"
    train.write_h5ad(tmp_path / "train.h5ad")
    return tmp_path / "train.h5ad"


@pytest.mark.parametrize("scale", ["log1p", "mean"])
def test_the_script_follows_the_interface(script, train, tmp_path, scale):
    par = script.par | {"input_train": str(train), "output": str(tmp_path / "out.h5ad"), "output_scale": scale}
    script.main(par, {"name": "scdae"})
    given, back = ad.read_h5ad(train), ad.read_h5ad(tmp_path / "out.h5ad")
    assert list(back.obs_names) == list(given.obs_names) and list(back.var_names) == list(given.var_names)
    assert dict(back.uns) == {"dataset_id": "small", "method_id": "scdae"}
    assert back.X is None and list(back.obs.columns) == []
    values, model = back.layers["denoised"], small.fitted()
    assert np.isfinite(values).all() and (values >= 0).all()
    if scale == "mean":
        np.testing.assert_allclose(values, model.impute(small.structured()), rtol=1e-5)
        return
    depth = np.asarray(given.layers["counts"].sum(axis=1)).ravel() / 9
    logs = model.impute(small.structured(), output="log1p", depth=depth)
    scored = np.log1p(1e4 * values / values.sum(axis=1, keepdims=True))  # what the task's metric does
    most = values.argmax(axis=1)[:, None] == np.arange(values.shape[1])
    np.testing.assert_allclose(scored[~most], logs[~most], atol=1e-3)


def test_the_referee_gets_the_same(script):
    logs = small.fitted().impute(small.structured(), output="log1p")
    ours = load(FOLDER.parent / "adapter.py").on_count_scale(logs.copy())
    np.testing.assert_array_equal(script.on_count_scale(logs.copy()), ours)


def test_the_component_says_what_the_script_takes(script):
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((FOLDER / "config.vsh.yaml").read_text())
    defaults = {argument["name"].removeprefix("--"): argument["default"] for argument in config["arguments"]}
    assert {"input_train", "output", *defaults} == set(script.par)
    assert all(script.par[name] == value for name, value in defaults.items())
    assert config["__merge__"] == "../../api/comp_method.yaml" and config["resources"][0]["path"] == "script.py"
    for settings in config["info"]["variants"].values():
        assert set(settings or {}) <= set(defaults)
