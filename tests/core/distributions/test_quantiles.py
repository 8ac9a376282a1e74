import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.distributions.components import Components
from scdae.core.distributions.laws import GRID
from scdae.core.distributions.mixtures import given_counts
from scdae.core.distributions.posterior import posterior_quantile
from scdae.core.distributions.quantiles import cell_quantiles


def one_law(theta, pi=None):
    pi = np.zeros_like(theta) if pi is None else pi
    return Components(theta[None], np.ones_like(theta)[None], np.ones_like(theta)[None], pi[None])


@pytest.mark.parametrize("q", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("levels", [False, True])
def test_several_components(q, masked, levels):
    """Entries with counts are worked out each, and zeros interpolated: within three hundredths, most within a thousandth."""
    rng = np.random.default_rng(0)
    weight = rng.dirichlet(np.ones(16), 7).T
    lost, scale = (np.repeat(values, 8)[:, None] * np.ones(7) for values in ([0, 0.3], [0.9, 1.2]))
    high = rng.dirichlet(np.ones(16), 7).T if levels else None
    laws = Components(np.tile(np.array(GRID)[:, None], (2, 7)), weight, scale, lost, high)
    counts = rng.poisson(1.0, (300, 7)).astype(np.float32)
    prior = np.exp(rng.normal(0, 2, counts.shape)).astype(np.float32)
    observed = rng.random(counts.shape) < 0.8 if masked else None
    counts = counts if observed is None else np.where(observed, counts, 0)
    level = rng.random(counts.shape).astype(np.float32) if levels else None
    found = cell_quantiles(q, sp.csr_matrix(counts), prior, laws, observed, level)
    expected = given_counts(laws.over_cells(level), counts, prior, observed).quantile(q)
    np.testing.assert_allclose(found[counts > 0], expected[counts > 0], rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=0.03, atol=1e-6 * prior.max())
    assert np.median(np.abs(found / np.maximum(expected, 1e-30) - 1)[expected > 1e-9]) < 1e-3


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
    found = cell_quantiles(q, sp.csr_matrix(counts), prior, one_law(theta, pi), observed)
    np.testing.assert_allclose(found, posterior_quantile(q, counts, prior, theta, lost), rtol=1e-5)
    assert found.dtype == np.float32


def test_poisson_is_certain():
    prior = np.ones((2, 3))
    found = cell_quantiles(0.9, sp.csr_matrix(np.eye(2, 3)), prior, one_law(np.full(3, np.inf)))
    np.testing.assert_array_equal(found, prior)
