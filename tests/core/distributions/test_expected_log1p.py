import jax
import numpy as np
import pytest
from scipy.stats import nbinom, poisson

from scdae.core.distributions.expected_log1p import expected_log1p

MEANS = [0.0, 1e-6, 1e-3, 0.1, 1.0, 7.0, 100.0, 1500.0]


def summed(law, scale):
    """The sum over counts."""
    counts = np.arange(int(law.ppf(1 - 1e-13)) + 50)
    return float((law.pmf(counts) * np.log1p(scale * counts)).sum())


@pytest.mark.parametrize("scale", [0.05, 1.0, 6.0])
def test_is_the_sum_over_counts(scale):
    mean, shape = (part.ravel() for part in np.meshgrid(MEANS, [0.02, 1.0, 30.0]))
    laws = [nbinom(r, r / (r + m)) for m, r in zip(mean, shape, strict=True)]
    expected = [summed(law, scale) for law in laws]
    np.testing.assert_allclose(expected_log1p(mean, shape, scale), expected, rtol=2e-5, atol=1e-9)


def test_few_molecules_in_a_shallow_cell():
    expected = [summed(poisson(mean), 100.0) for mean in MEANS[:-2]]
    np.testing.assert_allclose(expected_log1p(np.array(MEANS[:-2]), 1e8, 100.0), expected, rtol=2e-5, atol=1e-9)


def test_large_shape_is_poisson():
    expected = [summed(poisson(mean), 2.0) for mean in MEANS]
    np.testing.assert_allclose(expected_log1p(np.array(MEANS), 1e8, 2.0), expected, rtol=2e-5, atol=1e-9)


def test_is_less_than_the_logarithm_of_the_mean_and_rises_with_it():
    mean = np.geomspace(1e-4, 1e3, 60, dtype=np.float32)
    value = np.asarray(expected_log1p(mean, 2.0, 5.0))
    assert (value < np.log1p(5 * mean)).all() and (np.diff(value) > 0).all()


def test_arguments_are_broadcast():
    mean, shape, scale = np.ones((3, 4), np.float32), np.array([1.0, 2.0, 3.0, 4.0]), np.array([[1.0], [2.0], [3.0]])
    with jax.numpy_rank_promotion("allow"):
        value = expected_log1p(mean, shape, scale)
    assert value.shape == (3, 4) and value.dtype == np.float32
    assert float(value[1, 2]) == pytest.approx(float(expected_log1p(1.0, 3.0, 2.0)), rel=1e-6)


def test_a_factor_for_each_cell_is_that_of_each_entry():
    scale, cells = np.array([[0.5, 20.0, 3000.0]]), np.array([2, 0, 0, 1, 2])
    mean, shape = np.array([[0.1, 3.0, 0.0, 1.0, 0.7]]), np.array([[0.5], [4.0]])
    np.testing.assert_allclose(
        expected_log1p(mean, shape, scale, cells), expected_log1p(mean, shape, scale[:, cells]), rtol=1e-6
    )
