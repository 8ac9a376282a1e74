import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import scdae
import small
from scdae.core.axes import gene_profile
from scdae.core.fitted import Fitted, cell_data
from scdae.core.starting import new_network
from scdae.sklearn import Purifier


def untrained(model, adata, **_):
    """What a fit would give before its first step: scikit-learn's checks fit dozens of shapes."""
    counts = adata.X.tocsr()
    genes = np.flatnonzero(np.asarray(counts.sum(axis=0)).ravel())
    profile = gene_profile(counts[:, genes], None)
    data = cell_data(counts[:, genes], None, None, profile)
    start = new_network(data, profile, 0, 0, model.config, np.random.default_rng(0))
    fitted = Fitted("nb", start.axes, start.graph, start.params, profile, np.zeros(len(genes), bool))
    model.outcome, model.var_names = SimpleNamespace(fitted=fitted, genes=genes), adata.var_names.to_numpy(str)
    return model


@parametrize_with_checks([Purifier(allow_fractional=True)])
def test_it_is_an_estimator(estimator, check, monkeypatch):
    small.keep_compiled()
    monkeypatch.setattr(scdae.DAE, "fit", untrained)
    check(estimator)


def test_the_package_of_that_name_is_not_hidden():
    assert sklearn.__version__ and scdae.sklearn.Purifier is Purifier


def test_it_gives_what_the_tool_gives():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    scdae.tl.purify(adata, model, strength=0.9)
    step = Purifier(model, strength=0.9)
    found = step.fit(adata.X).transform(adata.X)
    np.testing.assert_allclose(found, adata.layers["purified"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found, step.transform(small.dense(adata)))
    again = clone(step)
    np.testing.assert_array_equal(found, again.fit_transform(adata.X))
    np.testing.assert_array_equal(found, pickle.loads(pickle.dumps(step)).transform(adata.X))
    assert list(step.get_feature_names_out(["a"] * 0 or [f"g{j}" for j in range(small.N_VARS)]))[:1] == ["g0"]


def test_log_normalised_cells_are_taken_back_to_counts():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    counts = small.dense(adata)
    logs = np.log1p(counts * (1e4 / counts.sum(axis=1))[:, None]).astype(np.float32)
    small.keep_compiled()
    settings = {"max_epochs": 40, "batch_size": 64, "n_latent": 10, "likelihood": "nb", "seed": 0}
    step = Purifier(input_scale="log1p", settings=settings).fit(sp.csr_matrix(logs))
    assert step.depth_ == np.median(counts.sum(axis=1))
    assert small.bits(step.model_) == small.bits(model)  # the counts are found exactly
    assert step.transform(logs - 0.01).min() >= 0
    assert Purifier(model, input_scale="log1p", depth=500).fit(logs).depth_ == 500


def test_a_pipeline_of_purifier_and_classifier():
    adata = small.structured()
    shielded = make_pipeline(Purifier(small.fitted(likelihood="nb")), LogisticRegression(max_iter=500))
    labels = adata.obs["cell_type"].to_numpy()
    assert shielded.fit(adata.X, labels).score(adata.X, labels) > 0.95
    assert shielded.set_params(purifier__strength=0.5)[0].strength == 0.5


def test_what_does_not_fit_is_named():
    counts, model = small.dense(small.structured()), small.fitted(likelihood="nb")
    with pytest.raises(ValueError, match=r"model= was fitted to 60 genes, but X has 50 columns"):
        Purifier(model).fit(counts[:, :50])
    with pytest.raises(ValueError, match="knows batches or covariates"):
        Purifier(small.fitted_to_covariates()).fit(counts)
    with pytest.raises(TypeError, match=r"is no scdae\.DAE"):
        Purifier("model").fit(counts)
    with pytest.raises(ValueError, match="value.s. are fractional.*allow_fractional=True"):
        Purifier(model).fit(counts + 0.5)
    with pytest.raises(ValueError, match="Negative values.*input_scale='log1p'"):
        Purifier(model).fit(counts - 1)
    with pytest.raises(ValueError, match="input_scale='x'"):
        Purifier(model, input_scale="x").fit(counts)
