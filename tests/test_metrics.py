"""Metrics against values worked out otherwise."""

import anndata as ad
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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.poisson_deviance([1, -2], [1, 1]), r"counts has to be 0 or more, but 1 value\(s\) .* first -2 at \(1,\)"),
        (lambda: metrics.poisson_deviance([1, 2], [1, -1]), "mean has to be 0 or more"),
        (lambda: metrics.poisson_deviance(np.ones((3, 2)), np.ones((2, 3))), r"mean has the shape \(2, 3\), which does not go"),
        (lambda: metrics.gene_mean([1, 2]), r"counts has the shape \(2,\): give an array of cells and genes"),
        (lambda: metrics.gene_mean([[1, 2]], size=[[1.0]]), r"size has the shape \(1, 1\): give one depth"),
        (lambda: metrics.gene_mean([[1, 2]], size=[-1.0]), "size has to be 0 or more"),
        (lambda: metrics.deviance_skill(np.ones((3, 2)), np.ones((3, 1)), np.ones((3, 2))), r"mean has the shape \(3, 1\) and counts"),
        (lambda: metrics.deviance_skill(np.ones((3, 2)), np.ones((3, 2)), np.ones(2)), r"baseline has the shape \(2,\) and counts"),
        (lambda: metrics.deviance_skill([[1]], [[1]], [[1]], blend=1.5), "blend=1.5: use a fraction"),
        (lambda: metrics.log_normalize([[-1, 2]]), "Logs and z-scores are not counts"),
        (lambda: metrics.log_normalize([[1, 2]], target=0), "target=0: use a positive number"),
        (lambda: metrics.log_normalize([1, 2]), "counts has the shape"),
        (lambda: metrics.rmse(np.ones((3, 1)), np.ones(3)), r"predicted has the shape \(3, 1\) and truth \(3,\): they have to hold"),
        (lambda: metrics.gene_correlation(np.ones((3, 2)), np.ones((2, 2))), r"predicted has the shape \(3, 2\) and truth"),
        (lambda: metrics.gene_correlation(np.ones(3), np.ones(3)), r"predicted has the shape \(3,\): give"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_what_was_not_measured_passes():
    assert np.isnan(metrics.poisson_deviance([np.nan, 1], [1.0, 1.0])).tolist() == [True, False]


def test_an_annotated_matrix_is_refused():
    adata = ad.AnnData(np.ones((3, 2), np.float32))
    for call in (metrics.poisson_deviance, metrics.rmse, metrics.gene_correlation):
        with pytest.raises(TypeError, match=r"an AnnData.*adata\.X"):
            call(adata.X, adata)
    for call in (metrics.gene_mean, metrics.log_normalize):
        with pytest.raises(TypeError, match="an AnnData"):
            call(adata)
