import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from scdae.core.distributions.posterior import (
    dropout_probability,
    posterior_mean,
    posterior_quantile,
    posterior_sample,
    posterior_sd,
)

CASES = [  # x, mean, theta, pi
    (0, 2.0, 1.5, 0.3),
    (0, 0.4, 3.0, 0.05),
    (0, 6.0, 1.2, 0.0),
    (0, 5.0, 8.0, 1.0),
    (1, 2.0, 1.5, 0.3),
    (7, 3.0, 4.0, 0.6),
    (30, 8.0, 2.0, 0.0),
]


def integral(function, x, mean, theta, pi, upper=np.inf):
    """Integrate `function` times the Gamma prior times the emission over the expected count, from zero to `upper`."""

    def weighted(rate):
        emission = pi * (x == 0) + (1 - pi) * stats.poisson.pmf(x, rate)
        return function(rate) * stats.gamma.pdf(rate, theta, scale=mean / theta) * emission

    ends = [0.0, *(end for end in (mean, 5 * mean + x, 25 * mean + 3 * x) if end < upper), upper]
    return sum(integrate.quad(weighted, *pair, epsabs=1e-13, epsrel=1e-11)[0] for pair in itertools.pairwise(ends))


@pytest.mark.parametrize("case", CASES)
def test_moments_agree_with_numerical_integration(case):
    evidence = integral(lambda rate: 1.0, *case)
    mean = integral(lambda rate: rate, *case) / evidence
    variance = integral(lambda rate: (rate - mean) ** 2, *case) / evidence
    with jax.enable_x64(True):
        assert float(posterior_mean(*map(float, case))) == pytest.approx(mean, rel=1e-7)
        assert float(posterior_sd(*map(float, case))) == pytest.approx(variance**0.5, rel=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_dropout_probability_is_bayes_rule(case):
    x, mean, theta, pi = case
    kept = (1 - pi) * stats.nbinom.pmf(x, theta, theta / (theta + mean))
    lost = pi * (x == 0)
    with jax.enable_x64(True):
        assert float(dropout_probability(*map(float, case))) == pytest.approx(lost / (lost + kept), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("q", [0.01, 0.5, 0.95])
def test_quantile_inverts_the_integrated_distribution_function(q, case):
    value = float(posterior_quantile(q, *case))
    below = integral(lambda rate: 1.0, *case, upper=value) / integral(lambda rate: 1.0, *case)
    assert below == pytest.approx(q, abs=1e-7)


def test_quantiles_of_a_grid_are_ordered_and_solve_their_equation():
    q, x, mean, theta, pi = (
        np.array(axis)
        for axis in zip(
            *itertools.product(
                [0.001, 0.5, 0.999], [0.0, 4.0], [1e-8, 0.3, 50.0, 1e6], [1e-3, 0.5, 30.0, 1e6], [0.0, 1e-9, 0.4, 1.0]
            ),
            strict=True,
        )
    )
    value = posterior_quantile(q, x, mean, theta, pi)
    assert np.isfinite(value).all()
    assert (np.diff(value.reshape(3, -1), axis=0) >= 0).all()
    with jax.enable_x64(True):
        lost = np.array(dropout_probability(x, mean, theta, pi))
    kept_cdf = stats.gamma.cdf(value, theta + x, scale=mean / (theta + mean))
    cdf = (1 - lost) * kept_cdf + lost * stats.gamma.cdf(value, theta, scale=mean / theta)
    positive = value > 1e-290  # below, the quantile is smaller than any float
    assert positive.mean() > 0.7
    np.testing.assert_allclose(cdf[positive], q[positive], rtol=1e-6)


def test_draws_have_the_posterior_distribution():
    rng = np.random.default_rng(1)
    for x, mean, theta, pi in CASES:
        draws = posterior_sample(rng, np.full(40_000, x), mean, theta, pi)
        for q in (0.05, 0.5, 0.95):
            share = (draws < posterior_quantile(q, x, mean, theta, pi)).mean()
            assert abs(share - q) < 5 * (q * (1 - q) / draws.size) ** 0.5
        assert abs(draws.mean() - posterior_mean(float(x), mean, theta, pi)) < 5 * draws.std() / draws.size**0.5


def test_draws_are_reproducible_by_seed():
    first, second, other = (posterior_sample(np.random.default_rng(s), np.arange(9), 2.0, 1.0, 0.2) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).all()


def test_empty_genes_give_zeros():
    x, mean, theta = np.zeros(3), np.zeros(3, np.float32), np.array([0.5, 1e6, np.inf], np.float32)
    for pi in (None, np.float32(0.4)):
        assert not np.asarray(posterior_mean(x, mean, theta, pi)).any()
        assert not np.asarray(posterior_sd(x, mean, theta, pi)).any()
        for q in (0.0, 0.3, 1.0):
            assert not posterior_quantile(q, x, mean, theta, pi).any()
        assert not posterior_sample(np.random.default_rng(0), x, mean, theta, pi).any()


def test_infinite_theta_is_certain_of_the_mean():
    x, mean = np.array([0.0, 1.0, 90.0], np.float32), np.array([0.2, 3.0, 60.0], np.float32)
    for pi in (None, np.float32(0.4)):
        np.testing.assert_array_equal(posterior_mean(x, mean, np.inf, pi), mean)
        np.testing.assert_array_equal(posterior_sd(x, mean, np.inf, pi), 0)
        np.testing.assert_array_equal(posterior_quantile(0.9, x, mean, np.inf, pi), mean)
        np.testing.assert_array_equal(posterior_sample(np.random.default_rng(0), x, mean, np.inf, pi), mean)


def test_ends_of_the_quantile_range():
    assert posterior_quantile(0, 0, 2.0, 1.5, 0.3) == 0
    assert posterior_quantile(1, 0, 2.0, 1.5, 0.3) == np.inf


def test_finite_in_float32_at_extremes():
    x, mean, theta, pi = (
        np.array(axis, np.float32)
        for axis in zip(
            *itertools.product(
                [0, 1, 1e6], [0, 1e-8, 1, 1e6], [1e-3, 1, 1e4, 1e6, np.inf], [0, 1e-6, 0.5, 0.999999, 1]
            ),
            strict=True,
        )
    )
    for function in (posterior_mean, posterior_sd, dropout_probability):
        value = function(x, mean, theta, pi)
        assert value.dtype == jnp.float32
        assert np.isfinite(value).all()
        assert (np.asarray(value) >= 0).all()
    with jax.enable_x64(True):
        exact = posterior_mean(*(array.astype(float) for array in (x, mean, theta, pi)))
    np.testing.assert_allclose(posterior_mean(x, mean, theta, pi), exact, rtol=2e-4)
    assert posterior_quantile(np.float32(0.4), x, mean, theta, pi).dtype == np.float32


def test_strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        half = jnp.full((2, 3), 0.5, jnp.float32)
        for function in (posterior_mean, posterior_sd, dropout_probability):
            assert function(half, half, half[:1], half[:1]).dtype == jnp.float32


@pytest.mark.parametrize("q", [-0.1, 95, np.nan])
def test_impossible_quantile_is_refused(q):
    with pytest.raises(ValueError, match=r"`q` must lie between 0 and 1, but 1 of its 2 values do not"):
        posterior_quantile([0.5, q], 0, 1.0, 1.0)
