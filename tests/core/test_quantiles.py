import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.posterior import posterior_quantile
from scdae.core.quantiles import cell_quantiles


@pytest.mark.parametrize("q", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_same_as_entry_by_entry(q, dropout, masked):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (20, 7)).astype(np.float32)
    prior, theta = rng.gamma(2, 1, counts.shape), rng.gamma(2, 2, 7).astype(np.float32)
    pi = np.where(np.arange(7) < 3, 0.3, 0).astype(np.float32) if dropout else None
    observed = rng.random(counts.shape) < 0.8 if masked else None
    counts = counts if observed is None else np.where(observed, counts, 0)
    lost = np.zeros(counts.shape) + (0 if pi is None else pi)
    lost = lost if observed is None else np.where(observed, lost, 1.0)
    found = cell_quantiles(q, sp.csr_matrix(counts), prior, theta, pi, observed)
    np.testing.assert_allclose(found, posterior_quantile(q, counts, prior, theta, lost), rtol=1e-5)
    assert found.dtype == np.float32


def test_poisson_is_certain():
    prior = np.ones((2, 3))
    found = cell_quantiles(0.9, sp.csr_matrix(np.eye(2, 3)), prior, np.full(3, np.inf))
    np.testing.assert_array_equal(found, prior)
