import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from scdae.core.distributions.components import Components
from scdae.core.guard.anomaly import cell_deviance, combined, entry_deviance, neighbors, rarity, standardize

RNG = np.random.default_rng(0)
THETA = np.array([0.3, 2.0, 50.0, np.inf])
PI = np.array([0.0, 0.4, 0.0, 0.0])
MEAN = RNG.gamma(1.0, 2.0, (40, 4))
COUNTS = RNG.poisson(MEAN).astype(float)


def log_prob(x, mean):
    law = np.stack([stats.nbinom.logpmf(x[:, j], t, t / (t + mean[:, j])) for j, t in enumerate(THETA[:3])], axis=1)
    law = np.column_stack([law, stats.poisson.logpmf(x[:, 3], mean[:, 3])])
    return np.log((x == 0) * PI + (1 - PI) * np.exp(law))


def one_law(theta, pi):
    theta = np.asarray(theta, np.float64)
    return Components(
        theta[None], np.ones((1, len(theta))), np.ones((1, len(theta))), np.broadcast_to(pi, (1, len(theta)))
    )


def saturated(x):
    """Log likelihood without dropout of a law whose mean is the count."""
    best = np.zeros(x.shape)
    for j, t in enumerate(THETA):
        at = x[:, j] > 0
        mean = x[at, j]
        best[at, j] = stats.poisson.logpmf(mean, mean) if np.isinf(t) else stats.nbinom.logpmf(mean, t, t / (t + mean))
    return best


def test_deviance_is_what_the_likelihood_lacks():
    expected = 2 * (saturated(COUNTS) - log_prob(COUNTS, MEAN))
    np.testing.assert_allclose(entry_deviance(COUNTS, MEAN, one_law(THETA, PI)), expected, rtol=1e-9, atol=1e-9)


def test_deviance_of_cells_is_that_of_their_observed_entries():
    observed = RNG.random(COUNTS.shape) < 0.7
    for mask in (None, observed):
        seen = COUNTS if mask is None else np.where(mask, COUNTS, 0)
        expected = entry_deviance(seen, MEAN, one_law(THETA, PI))
        expected = (expected if mask is None else np.where(mask, expected, 0)).sum(axis=1)
        found = cell_deviance(sp.csr_matrix(seen), MEAN.astype(np.float32), one_law(THETA, PI), mask)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    no_dropout = cell_deviance(sp.csr_matrix(COUNTS), MEAN, one_law(THETA, 0 * PI))
    np.testing.assert_allclose(no_dropout, entry_deviance(COUNTS, MEAN, one_law(THETA, 0 * PI)).sum(axis=1), rtol=1e-9)


def test_deviance_under_several_components():
    """Against the sum over the components, of which some lose counts."""
    weight = RNG.dirichlet(np.ones(2), len(THETA)).T
    theta, scale, lost = (
        np.repeat(np.array(values)[:, None], len(THETA), 1) for values in ([0.5, 8], [0.8, 1.5], [0, 0.3])
    )
    laws = Components(theta, weight, scale, lost)

    def chance(mean, lost):
        parts = weight[:, None] * (
            (1 - lost[:, None])
            * stats.nbinom.pmf(COUNTS, theta[:, None], 1 / (1 + scale[:, None] * mean / theta[:, None]))
            + lost[:, None] * (COUNTS == 0)
        )
        return parts.sum(axis=0)

    expected = 2 * np.maximum(np.log(chance(COUNTS, 0 * lost)) - np.log(chance(MEAN, lost)), 0)
    np.testing.assert_allclose(entry_deviance(COUNTS, MEAN, laws), expected, rtol=1e-9, atol=1e-9)
    found = cell_deviance(sp.csr_matrix(COUNTS), MEAN, laws)
    np.testing.assert_allclose(found, expected.sum(axis=1), rtol=1e-6)


def test_what_is_rare_among_normal_cells():
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0, 0], [10, 0, 0]]) * [1, 10, 100]
    normal = centers[rng.integers(0, 2, 600)] + rng.normal(size=(600, 3)) * [1, 10, 100]
    unseen = centers[rng.integers(0, 2, 300)] + rng.normal(size=(300, 3)) * [1, 10, 100]
    between = np.array([[5.0, 0, 0]] * 5) + rng.normal(size=(5, 3)) * 0.1
    found = rarity(np.concatenate([normal, unseen, between]), np.arange(600), seed=0)
    assert stats.ks_2samp(found[:600], found[600:900]).pvalue > 0.01  # a normal cell is as rare as one that is new
    assert found[900:].min() > np.quantile(found[:900], 0.95)


@pytest.mark.parametrize("n", [2, 3, 30])
def test_few_normal_cells_have_a_density(n):
    latent = np.random.default_rng(0).normal(size=(40, 4))
    latent[-1] = 30
    found = rarity(latent, np.arange(n), seed=0)
    assert np.isfinite(found).all() and found.argmax() == 39


def test_neighbors_are_the_nearest_others():
    normal = RNG.normal(size=(30, 3)) * [1, 10, 100]
    latent = np.concatenate([normal[:4], RNG.normal(size=(5, 3)) * [1, 10, 100]])
    apart = np.linalg.norm((latent[:, None] - normal) / normal.std(axis=0), axis=2)
    apart[np.arange(4), np.arange(4)] = np.inf
    np.testing.assert_array_equal(neighbors(latent, normal, 6), np.argsort(apart, axis=1)[:, :6])
    assert neighbors(latent, normal[:2], 6).shape == (9, 1)


def test_place_counts_in_full_and_deviance_where_it_is_large():
    place, deviance = np.array([-2.0, -2.0, 3.0, 3.0]), np.array([-5.0, 16.0, -5.0, 8.0])
    np.testing.assert_allclose(combined(place, deviance), [-2, 6, 3, 5])


def test_standard_values_do_not_depend_on_depth():
    depth = np.exp(RNG.normal(7, 0.6, 4000))
    noise = RNG.normal(size=4000)
    values = 2 - 0.7 * np.log(depth) + 0.05 * np.log(depth) ** 2 + noise * (0.5 + 0.1 * (7 - np.log(depth)))
    normal = np.arange(4000) < 3000
    odd = values.copy()
    odd[~normal] += 3
    odd[:60] += 9  # taken for normal, but far from it
    for given in (values, odd):
        found = standardize(given, depth, normal)
        some = found[200:3000]
        assert abs(np.median(some)) < 0.1 and abs(np.quantile(some, 0.84) - 1) < 0.15
        deep = depth[200:3000] > np.median(depth)
        assert stats.ks_2samp(some[deep], some[~deep]).statistic < 0.06
    assert np.median(found[3000:]) > 4


@pytest.mark.parametrize("n", [0, 1, 5])
def test_few_normal_cells_give_finite_values(n):
    found = standardize(np.array([1.0, 2, 3, 4, np.nan, 5]), np.array([10.0, 20, 10, 30, 0, 10]), np.arange(6) < n)
    assert np.isfinite(np.delete(found, 4)).all() and np.isnan(found[4])
