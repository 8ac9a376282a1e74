import numpy as np
import pytest
import scipy.sparse as sp

import small
from scdae import metrics
from scdae.core.data.thinning import thin
from scdae.core.distributions.predictive_numpy import law_of_entries, log_prob, predictive_law
from scdae.core.evaluation.baselines import Raw
from scdae.core.evaluation.scores import BLEND, GENE_MEAN, MODEL, RESTORED, score
from scdae.core.prediction.decode import law_of_genes, read_out
from scdae.inputs.counts import read_counts
from scdae.model.restore import query_cells

RATIO = 1 / 3


@pytest.fixture(scope="module", params=[False, True], ids=["all observed", "masked"])
def case(request):
    """A fitted model, molecules shown and set aside, and their scores."""
    model, adata = small.fitted(likelihood="nb"), small.structured()
    mask = None
    if request.param:
        mask = np.random.default_rng(3).random(adata.shape) < 0.9
    counts = read_counts(adata, mask=mask)
    shown, rest = thin(counts.matrix, 0.75, np.random.default_rng(0))
    data, _ = query_cells(model.fitted_model(), type(counts)(shown, counts.unobserved, *_names(counts), False), None)
    fitted = model.outcome.fitted
    found = score(fitted, data, rest, RATIO, {"raw": Raw(data)}, np.random.default_rng(1))
    observed = np.ones(adata.shape, bool) if mask is None else mask
    return fitted, data, rest.toarray().astype(float), observed, found


def _names(counts):
    return counts.obs_names, counts.var_names


def laws_of(fitted, data):
    """Components of the entries."""
    laws = law_of_genes(fitted)
    return laws.over_cells(laws.level(blocks(fitted, data), data.exposure))


def blocks(fitted, data):
    return np.concatenate([part for _, part, _ in read_out(fitted, data, "prior")])


def test_deviance_is_that_of_the_formula(case):
    fitted, data, y, observed, found = case
    prior = blocks(fitted, data)
    law = law_of_entries(laws_of(fitted, data), data.counts.toarray(), prior, RATIO)
    base = base_of(data)
    entries = {
        MODEL: metrics.poisson_deviance(y, RATIO * prior),
        RESTORED: metrics.poisson_deviance(y, (1 - BLEND) * law.expected + BLEND * base),
        GENE_MEAN: metrics.poisson_deviance(y, base),
        "raw": metrics.poisson_deviance(y, (1 - BLEND) * RATIO * data.counts.toarray() + BLEND * base),
    }
    entries = {name: np.where(observed, values, 0) for name, values in entries.items()}
    rivals = {MODEL: GENE_MEAN, RESTORED: GENE_MEAN, GENE_MEAN: MODEL, "raw": RESTORED}
    for name, expected in entries.items():
        np.testing.assert_allclose(found.methods[name].deviance, expected.sum(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found.methods[name].cell_deviance, expected.sum(axis=1), rtol=1e-5)
        margin = expected - entries[rivals[name]]
        error = np.sqrt(((margin - margin.mean(axis=0)) ** 2).sum(axis=0))
        np.testing.assert_allclose(found.methods[name].margin_error, error, rtol=1e-4)


def base_of(data):
    return RATIO * np.asarray(data.counts.sum(axis=1)).ravel()[:, None] / data.share[:, None] * _profile(data)


def _profile(data):
    from scdae.core.data.cells import smoothed_profile

    return smoothed_profile(data)


def test_log_likelihood_is_that_of_the_predictive_law(case):
    fitted, data, y, observed, found = case
    law = law_of_entries(laws_of(fitted, data), data.counts.toarray(), blocks(fitted, data), RATIO)
    expected = np.where(observed, log_prob(y, law), 0).sum(axis=1)
    np.testing.assert_allclose(found.methods[RESTORED].log_likelihood, expected, rtol=1e-5)
    alone = law_of_entries(laws_of(fitted, data), None, blocks(fitted, data), RATIO)
    expected = np.where(observed, log_prob(y, alone), 0).sum(axis=1)
    np.testing.assert_allclose(found.methods[MODEL].log_likelihood, expected, rtol=1e-5)
    total = {name: one.log_likelihood.sum() for name, one in found.methods.items()}
    assert total[RESTORED] > total[MODEL] > total[GENE_MEAN] and total[RESTORED] > total["raw"]
    assert found.molecules == y.sum()


def test_intervals_hold_what_they_promise(case):
    *_, found = case
    entries = found.calibration.pit.sum()
    assert entries > 2000
    assert found.calibration.covered / entries == pytest.approx(0.9, abs=0.03)


def test_dispersion_of_a_baseline_is_that_of_its_residuals(case):
    """A negative binomial with moments' dispersion is likelier than Poisson where counts are overdispersed."""
    _, data, y, observed, found = case
    base = base_of(data)
    poisson = np.where(observed, log_prob(y, predictive_law(0.0, base, np.inf, None, 1.0)), 0).sum()
    assert found.methods[GENE_MEAN].log_likelihood.sum() > poisson


def test_poisson_model():
    model, counts = small.fitted(likelihood="poisson"), read_counts(small.structured())
    data, _ = query_cells(model.fitted_model(), counts, None)
    found = score(model.outcome.fitted, data, counts.matrix, 1.0, {}, np.random.default_rng(0))
    assert np.isfinite(found.methods[MODEL].log_likelihood).all()
    assert sp.issparse(counts.matrix) and list(found.methods) == [MODEL, RESTORED, GENE_MEAN]
