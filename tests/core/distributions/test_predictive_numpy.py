import numpy as np
import pytest
from scipy import stats

from scdae.core.distributions.predictive import zinb_predictive_log_prob
from scdae.core.distributions.predictive_numpy import (
    HeldOutLaw,
    log_prob,
    log_prob_zero,
    predictive_law,
    predictive_pit,
)

X, Y = np.meshgrid(np.arange(5.0), np.arange(7.0))


@pytest.mark.parametrize("pi", [None, 0.3])
@pytest.mark.parametrize("theta", [0.7, 40.0, np.inf])
def test_log_prob_is_that_of_the_loss(theta, pi):
    law = predictive_law(X, 2.5, theta, pi, 0.4)
    expected = zinb_predictive_log_prob(Y, X, 2.5, 1.0, theta, pi or 0.0)
    np.testing.assert_allclose(log_prob(Y, law), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_prob_zero(law)[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pi", [None, 0.3])
@pytest.mark.parametrize("theta", [0.7, np.inf])
def test_probabilities_sum_to_one_and_give_the_expected_count(theta, pi):
    law = predictive_law(np.array([0.0, 3.0]), 2.5, theta, pi, 0.4)
    y = np.arange(400.0)[:, None]
    chance = np.exp(log_prob(y, law))
    np.testing.assert_allclose(chance.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose((y * chance).sum(axis=0), law.expected, rtol=1e-6)


@pytest.mark.parametrize("theta", [1.5, np.inf])
def test_transform_is_uniform_where_the_law_is_right(theta):
    rng = np.random.default_rng(0)
    law = HeldOutLaw(np.full(20_000, 2.0), np.full(20_000, theta), np.full(20_000, 0.2))
    rate = np.full(20_000, 2.0) if np.isinf(theta) else rng.gamma(theta, 2.0 / theta, 20_000)
    y = np.where(rng.random(20_000) < 0.2, 0, rng.poisson(rate))
    value = predictive_pit(y, law, rng)
    assert stats.kstest(value, "uniform").pvalue > 0.01
    assert stats.kstest(predictive_pit(y + 1, law, rng), "uniform").pvalue < 1e-9


def test_transform_takes_the_probability_of_the_counts_where_it_is_known():
    law = predictive_law(X, 2.5, 0.7, 0.3, 0.4)
    values = [predictive_pit(Y, law, np.random.default_rng(0), chance) for chance in (None, np.exp(log_prob(Y, law)))]
    np.testing.assert_array_equal(*values)
    pmf = stats.nbinom.pmf(np.arange(7)[:, None], law.shape[0], law.shape[0] / (law.shape[0] + law.mean[0]))
    upper = law.lost[0] + (1 - law.lost[0]) * pmf.cumsum(axis=0)
    chance = np.exp(log_prob(Y, law))
    expected = upper - chance * (1 - np.random.default_rng(0).random(Y.shape))
    np.testing.assert_allclose(values[0], expected, rtol=1e-6)


def test_law_of_some_entries():
    law = predictive_law(X, 2.5, 1.0, None, 1.0)
    part = law.at(np.array([0, 1]), np.array([2, 3]))
    np.testing.assert_allclose(part.mean, law.mean[[0, 1], [2, 3]])
    np.testing.assert_array_equal(part.lost, 0)
