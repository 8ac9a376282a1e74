import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import scdae
import scdae.inputs.logs
import small
from scdae.core.data.cells import cell_data
from scdae.core.data.exposure import gene_profile
from scdae.core.network.fitted import Fitted
from scdae.core.training.initialize import new_network
from scdae.model.fitted_model import FittedModel
from scdae.sklearn import Purifier

with pytest.MonkeyPatch.context() as patch:  # without it scikit-learn 1.6 refuses the import beside array-api-compat
    patch.setenv("SCIPY_ARRAY_API", "1")
    from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks


def every_check(*estimators):
    """Return scikit-learn's decorator with each check once: those of 1.6 and 1.7 list one twice, which pytest refuses."""
    mark = parametrize_with_checks(estimators).mark
    names, pairs = mark.args
    once = {"-".join(map(mark.kwargs["ids"], pair)): pair for pair in pairs}
    return pytest.mark.parametrize(names, list(once.values()), ids=list(once))


def untrained(model, adata, **_):
    """What a fit would give before its first step: scikit-learn's checks fit dozens of shapes."""
    counts = adata.X.tocsr()
    genes = np.flatnonzero(np.asarray(counts.sum(axis=0)).ravel())
    profile = gene_profile(counts[:, genes], None)
    data = cell_data(counts[:, genes], None, None, profile)
    start = new_network(data, profile, 0, 0, model.config, np.random.default_rng(0))
    fitted = Fitted("nb", start.axes, start.graph, start.params, profile, np.zeros(len(genes), bool))
    outcome = SimpleNamespace(fitted=fitted, genes=genes)
    model._fitted = FittedModel(model.config, outcome, adata.var_names.to_numpy(str))
    return model


@every_check(Purifier(allow_fractional=True))
def test_it_is_an_estimator(estimator, check, monkeypatch):
    monkeypatch.setattr(scdae.DAE, "fit", untrained)
    check(estimator)


@every_check(Purifier(input_scale="log1p"), Purifier(input_scale="log1p", allow_fractional=True))
def test_it_is_an_estimator_of_logs(estimator, check, monkeypatch):
    """The checks' values are no logs of counts, so whether they are is not looked at, but for the sign."""
    monkeypatch.setattr(scdae.DAE, "fit", untrained)
    monkeypatch.setattr(scdae.inputs.logs, "_TOTALS", (0, np.inf))
    monkeypatch.setattr(scdae.inputs.logs, "_ENOUGH", np.inf)
    check(estimator)


@pytest.mark.slow
@every_check(Purifier(allow_fractional=True, settings={"max_epochs": 1}))
def test_it_is_an_estimator_that_trains(estimator, check):
    check(estimator)


def test_it_is_an_estimator_where_metadata_is_routed(monkeypatch):
    monkeypatch.setattr(scdae.DAE, "fit", untrained)
    with sklearn.config_context(enable_metadata_routing=True):
        results = check_estimator(Purifier(allow_fractional=True), on_skip=None)
    skipped = {result["check_name"] for result in results if result["status"] != "passed"}
    assert len(results) > 40 and skipped <= {
        "check_array_api_input"
    }  # asks for a variable set before SciPy is imported


def test_weights_go_past_it_to_the_classifier():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    labels = adata.obs["cell_type"].to_numpy()
    weights = np.where(labels == labels[0], 1.0, 0.0) + 1e-3
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
        weighted = make_pipeline(Purifier(model), classifier).fit(adata.X, labels, sample_weight=weights)
        assert "sample_weight" not in Purifier().get_metadata_routing().fit.requests
    plain = LogisticRegression(max_iter=500).fit(Purifier(model).fit_transform(adata.X), labels, sample_weight=weights)
    np.testing.assert_allclose(weighted[-1].coef_, plain.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("by", ["set_output", "config"])
def test_tables_come_out_where_they_are_asked_for(by):
    table, step = small.structured().to_df(), Purifier(small.fitted(likelihood="nb"))
    expected = step.fit(table).transform(table)
    with sklearn.config_context(transform_output="pandas" if by == "config" else "default"):
        found = (step.set_output(transform="pandas") if by == "set_output" else step).transform(table)
    assert list(found.columns) == list(table.columns) and list(found.index) == list(table.index)
    assert set(found.dtypes) == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found.to_numpy(), expected)


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


def test_log_normalized_cells_are_taken_back_to_counts():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    counts = small.dense(adata)
    logs = np.log1p(counts * (1e4 / counts.sum(axis=1))[:, None]).astype(np.float32)
    settings = {"max_epochs": 40, "batch_size": 64, "n_latent": 10, "likelihood": "nb", "seed": 0}
    step = Purifier(input_scale="log1p", settings=settings).fit(sp.csr_matrix(logs))
    assert step.depth_ == np.median(counts.sum(axis=1))
    assert small.bits(step.model_) == small.bits(model)  # the counts are found exactly
    assert step.transform(logs - 0.01).min() >= 0
    assert Purifier(model, input_scale="log1p", depth=500).fit(logs).depth_ == 500


def logs_of(counts):
    return np.log1p(counts * (1e4 / counts.sum(axis=1))[:, None]).astype(np.float32)


def test_the_fit_refuses_what_are_no_logs_and_transform_takes_perturbed_ones():
    counts, model = small.dense(small.structured()), small.fitted(likelihood="nb")
    logs, rng = logs_of(counts), np.random.default_rng(0)
    step = Purifier(model, input_scale="log1p").fit(logs)
    assert step.__sklearn_tags__().input_tags.positive_only
    noisy = logs + rng.normal(0, 0.2, logs.shape)
    for wrong, words in (
        (noisy, "Negative values in data passed to Purifier: "),
        (np.maximum(noisy, 0), "are not multiples of one molecule"),
        (logs / np.log(2), "look like log2"),
        ((logs - logs.mean(axis=0)) / logs.std(axis=0), "Negative values.*z-scores"),
    ):
        for kind in (np.asarray, sp.csr_matrix):
            with pytest.raises(ValueError, match=words):
                Purifier(model, input_scale="log1p").fit(kind(wrong))
    assert np.isfinite(step.transform(noisy)).all()
    with pytest.raises(ValueError, match="z-scores"):
        step.transform((logs - logs.mean(axis=0)) / logs.std(axis=0))
    estimated = Purifier(model, input_scale="log1p", allow_fractional=True).fit(np.maximum(noisy, 0))
    assert np.isfinite(estimated.transform(noisy)).all()


def test_an_annotated_matrix_a_path_and_text_are_refused_at_once(tmp_path):
    adata, model = small.structured(), small.fitted(likelihood="nb")
    step = Purifier(model).fit(adata.X)
    for wrong, words in (
        (adata, r"X is a AnnData.*Pass adata\.X.*scdae\.tl\.purify"),
        ("cells.h5ad", "X is a str.*Read a file first"),
        (tmp_path, "Path.*Read a file first"),
        ({"X": adata.X}, "X is a dict"),
        (["cell", "cell"], "X is a list of text"),
    ):
        for call in (Purifier().fit, Purifier().fit_transform, step.transform):
            with pytest.raises(TypeError, match=words):
                call(wrong)


def test_tables_go_by_their_columns():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    table = adata.to_df()
    step = Purifier(model).fit(table)
    np.testing.assert_array_equal(step.feature_names_in_, adata.var_names)
    np.testing.assert_array_equal(step.transform(table), Purifier(model).fit(adata.X).transform(adata.X))
    with pytest.raises(ValueError, match="feature names"):
        step.transform(table.iloc[:, ::-1])


@pytest.mark.parametrize("depth", [0, -5, float("nan"), float("inf"), "many", True, [1, 2]])
def test_a_depth_that_is_none_is_named(depth):
    with pytest.raises(ValueError, match="depth=.*use a positive number"):
        Purifier(depth=depth).fit(small.dense(small.structured()))


def test_a_fitted_model_can_be_pickled_and_copied():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    expected = model.impute(adata)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(again.impute(adata), expected)


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
    with pytest.raises(TypeError, match=r"must be a fitted scdae\.DAE"):
        Purifier("model").fit(counts)
    with pytest.raises(ValueError, match="value.s. are fractional.*allow_fractional=True"):
        Purifier(model).fit(counts + 0.5)
    with pytest.raises(ValueError, match="Negative values.*input_scale='log1p'"):
        Purifier(model).fit(counts - 1)
    with pytest.raises(ValueError, match="input_scale='x'"):
        Purifier(model, input_scale="x").fit(counts)


@pytest.mark.parametrize("make", [pd.Series, np.asarray])
def test_depths_of_single_cells_are_refused_in_one_line(make):
    depth = make(np.full(200, 1500.0))
    with pytest.raises(
        TypeError, match=r"depth is a (pandas Series|numpy ndarray) of shape \(200,\): one number serves all cells"
    ):
        Purifier(input_scale="log1p", depth=depth).fit(np.log1p(np.ones((200, 5))))
