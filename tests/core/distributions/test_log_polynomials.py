import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scdae.core.distributions.laws import GRID
from scdae.core.distributions.log_polynomials import log_polynomial, log_value

SCALE = np.array([0.1, 4.0, 300.0], np.float32)


def brute(mean, theta, scale):
    """The expectation as a sum over all counts that matter, in float64."""
    counts = np.arange(200_000)
    return stats.nbinom.pmf(counts, theta, theta / (theta + mean)) @ np.log1p(scale * counts)


@pytest.mark.parametrize("k", range(len(GRID)))
def test_values_are_those_of_the_sum_over_counts(k):
    largest = np.full((len(GRID), len(SCALE)), 100.0, np.float32)
    polynomial = log_polynomial(jnp.asarray(GRID, jnp.float32), jnp.asarray(SCALE), jnp.asarray(largest))
    mean = np.array([1e-7, 1e-4, 0.01, 0.3, 1.0, 7.0, 100.0], np.float32)
    found = log_value(jax.tree.map(lambda part: part[k], polynomial), jnp.asarray(np.tile(mean, (len(SCALE), 1))))
    expected = [[brute(float(m), GRID[k], float(s)) for m in mean] for s in SCALE]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_of_nothing_nothing_is_expected():
    polynomial = log_polynomial(jnp.ones(1), jnp.ones(1), jnp.zeros((1, 1)))
    found = log_value(jax.tree.map(lambda part: part[0], polynomial), jnp.zeros((1, 3)))
    np.testing.assert_array_equal(found, np.zeros((1, 3), np.float32))
