"""One fit answers many questions: what is fitted to the same counts with the same settings is trained once."""

import numpy as np
import pytest

import scdae
import scdae.model.dae as dae
import small
from scdae.model import known_fits

SETTINGS = {"max_epochs": 2, "batch_size": 64, "n_latent": 8}


@pytest.fixture
def trained(monkeypatch):
    """Counts how often anything is trained, beginning with nothing known."""
    monkeypatch.setattr(known_fits, "_models", type(known_fits._models)())
    monkeypatch.setattr(known_fits, "_names", {})
    monkeypatch.setattr(scdae.settings, "_kept_fits", 4)
    fit, calls = dae.fit_counts, []

    def counted(*args, **kwargs):
        calls.append(1)
        return fit(*args, **kwargs)

    monkeypatch.setattr(dae, "fit_counts", counted)
    return calls


def test_a_second_output_and_the_tools_train_nothing(trained):
    adata = small.structured().copy()
    scdae.pp.impute(adata, **SETTINGS)
    before = adata.X.copy()
    scdae.pp.impute(adata, output="log1p", key_added="logs", **SETTINGS)
    scdae.tl.rank_genes(adata, "cell_type", **SETTINGS)
    scdae.tl.sample(adata, **SETTINGS)
    assert len(trained) == 1
    assert (adata.X != before).nnz == 0
    fresh = small.structured().copy()
    model = scdae.DAE(**SETTINGS).fit(fresh)
    assert len(trained) == 2  # who asks for a fit gets one
    np.testing.assert_array_equal(adata.layers["scdae"], model.impute(fresh))
    np.testing.assert_array_equal(adata.layers["logs"], model.impute(fresh, output="log1p"))


def test_evaluation_trains_its_own_model_once(trained):
    adata = small.structured().copy()
    scdae.pp.impute(adata, **SETTINGS)
    scdae.tl.evaluate(adata)
    assert len(trained) == 2  # that of `impute` has seen the molecules to be predicted
    scdae.tl.evaluate(adata, groupby="cell_type")
    assert len(trained) == 2


@pytest.mark.parametrize("what", ["count", "setting", "seed", "name", "batches", "mask"])
def test_whatever_else_is_fitted_is_trained(trained, what):
    adata, other, options = small.structured().copy(), small.structured().copy(), {}
    other.obs["batch"] = np.where(np.arange(other.n_obs) % 2, "a", "b")
    if what == "count":
        other.X = other.X.copy()
        other.X.data[5] += 1
    elif what == "setting":
        options = {"noise": 0.5}
    elif what == "seed":
        options = {"seed": 1}
    elif what == "name":
        other.var_names = [f"x{name}" for name in other.var_names]
    elif what == "batches":
        options = {"batch_key": "batch"}
    else:
        options = {"mask": np.arange(other.n_obs * other.n_vars).reshape(other.shape) % 7 > 0}
    scdae.pp.impute(adata, **SETTINGS)
    scdae.pp.impute(other, **SETTINGS, **options)
    assert len(trained) == 2


def test_the_model_comes_back(trained):
    adata = small.structured().copy()
    scdae.pp.impute(adata, **SETTINGS)
    model = scdae.get.model(adata)
    np.testing.assert_array_equal(model.impute(adata), adata.layers["scdae"])
    model.fit(small.noise(), layer=None)  # what is done with it changes nothing of what is kept
    np.testing.assert_array_equal(scdae.get.model(adata).impute(adata), adata.layers["scdae"])

    query = adata[:50].copy()
    scdae.pp.impute(query, model=scdae.get.model(adata), key_added="taken")
    assert query.uns["taken"]["fit"] == adata.uns["scdae"]["fit"]


def test_the_last_fits_are_kept_and_none_if_none_are_wanted(trained):
    first, adata = small.structured().copy(), small.structured().copy()
    monkey = scdae.settings
    monkey.kept_fits = 2
    scdae.pp.impute(first, **SETTINGS)
    for seed in (1, 2):
        scdae.pp.impute(adata, seed=seed, **SETTINGS)
    assert len(known_fits._models) == len(known_fits._names) == 2
    with pytest.raises(KeyError, match=r"uns\['scdae'\] is not kept in this process"):
        scdae.get.model(first)
    monkey.kept_fits = 0
    scdae.pp.impute(adata, seed=2, **SETTINGS)
    scdae.pp.impute(adata, seed=2, **SETTINGS)
    assert len(trained) == 5
    with pytest.raises(ValueError, match=r"kept_fits = -1: use a whole number of fits"):
        monkey.kept_fits = -1
