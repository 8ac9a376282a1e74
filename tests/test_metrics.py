"""Metrics against values worked out otherwise."""

import numpy as np
import pytest
from scipy import stats

from scdae import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_poisson_deviance_is_twice_the_gap_to_the_saturated_likelihood(rng):
    x = rng.poisson(2.0, size=(30, 4))
    mean = rng.gamma(2.0, size=(30, 4))
    expected = 2 * (stats.poisson.logpmf(x, np.maximum(x, 1e-300)) - stats.poisson.logpmf(x, mean))
    np.testing.assert_allclose(metrics.poisson_deviance(x, mean), expected, atol=1e-10)


def test_poisson_deviance_at_the_edges():
    np.testing.assert_array_equal(metrics.poisson_deviance([0, 3, 2], [0, 3, 0]), [0, 0, np.inf])


def test_gene_mean_is_the_best_rank_one_prediction(rng):
    x = rng.poisson(rng.gamma(1.0, size=8), size=(50, 8))
    baseline = metrics.gene_mean(x)
    np.testing.assert_allclose(baseline.sum(axis=1), x.sum(axis=1))
    np.testing.assert_allclose(baseline.sum(axis=0), x.sum(axis=0))
    best = metrics.poisson_deviance(x, baseline).sum()
    for _ in range(5):
        other = baseline * np.exp(0.05 * rng.standard_normal(8))
        assert metrics.poisson_deviance(x, other).sum() > best


def test_gene_mean_at_another_depth_and_without_counts():
    np.testing.assert_allclose(metrics.gene_mean([[1, 1], [2, 0]], size=[4.0, 0.0]), [[3, 1], [0, 0]])
    np.testing.assert_array_equal(metrics.gene_mean(np.zeros((2, 3))), np.zeros((2, 3)))


def test_skill_is_nought_for_the_baseline_one_for_the_counts_and_between_for_the_truth(rng):
    truth = np.outer(np.full(400, 3.0), rng.gamma(1.0, size=20)) * rng.gamma(2.0, 0.5, size=(400, 20))
    x = rng.poisson(truth)
    baseline = metrics.gene_mean(x)
    assert metrics.deviance_skill(x, baseline, baseline) == 0
    assert metrics.deviance_skill(x, x, baseline) == 1
    assert 0.2 < metrics.deviance_skill(x, truth, baseline) < 0.8
    assert metrics.deviance_skill(x, 10 * baseline, baseline) < 0


def test_skill_blend_keeps_predicted_zeros_finite():
    x = np.array([[1.0, 3.0], [3.0, 1.0]])
    mean = np.array([[0.0, 4.0], [4.0, 0.0]])
    baseline = metrics.gene_mean(x)
    assert metrics.deviance_skill(x, mean, baseline) == -np.inf
    assert np.isfinite(metrics.deviance_skill(x, mean, baseline, blend=0.01))
    np.testing.assert_allclose(
        metrics.deviance_skill(x, mean, baseline, blend=0.5), metrics.deviance_skill(x, [[1, 3], [3, 1]], baseline)
    )


def test_skill_without_anything_to_explain():
    assert np.isnan(metrics.deviance_skill(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))))


def test_log_normalize_ignores_depth(rng):
    x = rng.poisson(3.0, size=(5, 7)).astype(np.float32) + 1
    np.testing.assert_allclose(metrics.log_normalize(x), metrics.log_normalize(7 * x))
    np.testing.assert_allclose(np.expm1(metrics.log_normalize(x)).sum(axis=1), 1e4)
    assert metrics.log_normalize(x).dtype == np.float64


def test_rmse_along_an_axis():
    np.testing.assert_allclose(metrics.rmse([[0, 3], [0, 3]], [[0, 0], [4, 3]], axis=0), np.sqrt([8, 4.5]))


def test_gene_correlation_is_numpys(rng):
    a, b = rng.normal(size=(2, 40, 6))
    b += a
    expected = [np.corrcoef(a[:, j], b[:, j])[0, 1] for j in range(6)]
    np.testing.assert_allclose(metrics.gene_correlation(a, b), expected)
    a[:, 2] = 1
    assert np.flatnonzero(np.isnan(metrics.gene_correlation(a, b))).tolist() == [2]
