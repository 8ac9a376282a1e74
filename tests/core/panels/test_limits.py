import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from scdae.core.panels.limits import Calibration, Levels, _survival_quantile, log_excess


def test_levels_find_the_line():
    predicted = np.array([0.1, 1.0, 10.0])
    levels = Levels.of(predicted, 2 * predicted**0.5)
    np.testing.assert_allclose([levels.intercept, levels.slope], [np.log(2), 0.5])
    np.testing.assert_allclose(predicted * levels.factors(predicted), 2 * predicted**0.5)
    assert levels.factors(np.zeros(1))[0] == 1


def test_levels_never_turn_the_order_of_genes():
    assert Levels.of(np.array([1.0, 10.0]), np.array([10.0, 1.0])).slope == 0
    assert Levels.of(np.array([1.0, 10.0]), np.array([1.0, 1000.0])).slope == 1


@pytest.mark.parametrize("law", ["negative binomial", "poisson", "wrong level"])
def test_limits_hold_as_many_counts_as_asked_for(law):
    rng = np.random.default_rng(0)
    means = rng.gamma(2, 2, (4000, 5)) + 1
    factor = 1.4 if law == "wrong level" else 1.0
    counts = rng.poisson(means * factor * (rng.gamma(2, 0.5, means.shape) if law == "negative binomial" else 1))
    half = slice(0, 2000)
    weights = np.ones(means[half].size)
    calibration = Calibration.of(means[half].ravel(), counts[half].ravel(), np.zeros(weights.size), weights, 0.9, rng)
    lower, upper = calibration.limits(means[2000:], np.zeros(5), rng)
    new = counts[2000:]
    assert abs((new < lower).mean() - 0.05) < 0.01
    assert abs((new > upper).mean() - 0.05) < 0.01


def test_dispersion_is_found():
    rng = np.random.default_rng(0)
    means = rng.gamma(2, 2, 40_000) + 1
    counts = stats.nbinom.rvs(3, 3 / (3 + means), random_state=rng)
    found = Calibration.of(means, counts, np.zeros(len(means)), np.ones(len(means)), 0.9, rng)
    assert found.theta == pytest.approx(3, rel=0.05)


def test_genes_that_vary_more_have_wider_limits_and_hold_as_many():
    rng = np.random.default_rng(0)
    excess = np.repeat([-1.0, 0.0, 1.0], 20_000)
    means, theta = np.full(60_000, 8.0), 2 * np.exp(-0.8 * excess)
    counts = stats.nbinom.rvs(theta, theta / (theta + means), random_state=rng)
    found = Calibration.of(means, counts, excess, np.ones(60_000), 0.9, rng)
    assert found.slope == pytest.approx(-0.8, abs=0.1) and found.theta == pytest.approx(2, rel=0.05)
    lower, upper = found.limits(means.reshape(3, -1).T, np.array([-1.0, 0.0, 1.0]), rng)
    new = counts.reshape(3, -1).T
    np.testing.assert_allclose(((new >= lower) & (new <= upper)).mean(axis=0), 0.9, atol=0.015)
    assert (np.diff((upper - lower).mean(axis=0)) > 1).all()


def test_excess_is_the_variance_beyond_poisson():
    rng = np.random.default_rng(0)
    total = rng.uniform(50, 150, 20_000)
    counts = rng.poisson(0.05 * total * rng.gamma(2, 0.5, 20_000))
    np.testing.assert_allclose(log_excess(sp.csr_matrix(counts[:, None].astype(float)), total), np.log(0.5), atol=0.05)
    assert log_excess(sp.csr_matrix((20_000, 1)), total)[0] == np.log(0.01)


def test_the_median_is_always_within():
    rng = np.random.default_rng(0)
    means = np.full((1000, 2), [0.01, 0.6])
    lower, upper = Calibration(10.0, 0.0, 0.05, 0.05).limits(means, np.zeros(2), rng)
    assert (lower[:, 0] == 0).all() and (upper[:, 0] == 0).all()
    assert (lower <= upper).all() and (lower >= 0).all()


def test_counts_far_beyond_the_prediction_leave_limits_finite():
    rng = np.random.default_rng(0)
    means = np.full(2000, 0.01)
    counts = np.where(rng.random(2000) < 0.2, 50.0, 0.0)
    calibration = Calibration.of(means, counts, np.zeros(2000), np.ones(2000), 0.9, rng)
    lower, upper = calibration.limits(means[:, None], np.zeros(1), rng)
    assert np.isfinite(lower).all() and np.isfinite(upper).all()
    assert (counts[:, None] <= upper).mean() >= 0.9


def test_survival_quantiles_are_those_of_scipy_where_it_has_them():
    means = np.array([[0.01, 1.0, 300.0]])
    law = stats.nbinom(0.7, 0.7 / (0.7 + means))
    for probability in (0.3, 1e-3, 1e-9):
        np.testing.assert_array_equal(_survival_quantile(means, 0.7, probability), law.isf(probability))
    far = _survival_quantile(means, 0.7, 1e-30)
    assert (law.sf(far) <= 1e-30).all() and (law.sf(far - 1) > 1e-30).all()
