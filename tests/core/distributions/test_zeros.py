import numpy as np
import pytest

from scdae.core.distributions.laws import GRID
from scdae.core.distributions.zeros import nb_zero_chance_numpy, nb_zero_loss_numpy

MEAN = np.concatenate([[0.0], np.geomspace(1e-8, 1e7, 200)])


@pytest.mark.parametrize("theta", [*GRID, 0.3, 2.0**20, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chance_of_a_zero_is_that_of_its_logarithm(theta, dtype):
    mean, shape = MEAN.astype(dtype), np.full(len(MEAN), theta, dtype)
    found = nb_zero_chance_numpy(mean, shape)
    assert found.dtype == dtype
    expected = np.exp(-nb_zero_loss_numpy(mean.astype(np.float64), np.full(len(MEAN), theta)))
    np.testing.assert_allclose(found, expected, rtol=1e-10 if dtype == np.float64 else 1e-3, atol=1e-37)
    if dtype == np.float64:  # what is left of small means
        np.testing.assert_allclose(-np.log(found[1:20]), nb_zero_loss_numpy(mean[1:20], shape[1:20]), rtol=1e-4)


def test_genes_may_have_dispersions_of_their_own():
    mean, theta = np.full(3, 2.0), np.array([0.25, 4.0, np.inf])
    np.testing.assert_allclose(nb_zero_chance_numpy(mean, theta), np.exp(-nb_zero_loss_numpy(mean, theta)))


def test_of_no_genes_there_is_nothing():
    assert nb_zero_chance_numpy(np.zeros((3, 0)), np.zeros(0)).shape == (3, 0)
