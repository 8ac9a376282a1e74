"""What is said of molecules set aside, against sums over the components in double precision."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.law_sums import zero_again
from scdae.core.distributions.laws import GRID, Laws, Part, components, filled
from scdae.core.distributions.mixtures import log_rising
from scdae.core.distributions.predictive_numpy import law_of_entries, log_prob, log_prob_zero
from scdae.core.prediction.set_aside import BlockLaw

N, CELLS = 40, 30
THETA = np.array(GRID)[:, None, None]


def laws(dropout):
    rng = np.random.default_rng(2)
    weight = rng.dirichlet(np.full(len(GRID), 0.3), (2, N)).swapaxes(1, 2)
    chance, lost = np.zeros(N), np.zeros(N // 2)
    if dropout:
        chance[::2], lost = rng.uniform(0.1, 0.9, (2, N // 2))
    ones = np.ones(N, np.float32)
    plain = Part(np.float32(weight * (1 - chance)), np.float32(rng.uniform(0.8, 1, N)), 0 * ones)
    second = None
    if dropout:
        own = np.float32(weight[..., ::2] * chance[::2])
        second = Part(own, np.float32(1 / (1 - lost)), np.float32(lost), np.arange(0, N, 2, dtype=np.int32))
    return Laws(plain, second, ones, np.float32(chance), 0 * ones)


@pytest.fixture(scope="module", params=[False, True], ids=["without dropout", "with dropout"])
def known(request):
    """Laws, and expected molecules and levels of entries, from next to none to many thousands."""
    rng = np.random.default_rng(3)
    mean = np.exp(rng.uniform(np.log(1e-7), np.log(3e4), (CELLS, N))).astype(np.float32)
    return laws(request.param), mean, rng.random((CELLS, N), np.float32)


def brute_force(known, ratio):
    """Expected molecules after a zero, log probability of a zero after one, and without knowing: float64."""
    of_genes, mean, level = known
    one = components(of_genes).over_cells(level)
    theta, weight, scale, lost = one.theta, one.weight, one.scale, one.lost
    inner = mean.astype(np.float64) * scale
    kept = [weight * (1 - lost) * np.exp(-theta * np.log1p(depth * inner / theta)) for depth in (1, 1 + ratio, ratio)]
    gone = (weight * lost).sum(axis=0)
    before, both, alone = (part.sum(axis=0) + gone for part in kept)
    expected = (kept[0] * ratio * inner / (1 + inner / theta)).sum(axis=0) / before
    total = weight.sum(axis=0)  # of weights in float32, which is 1 but for rounding
    return expected, np.log(both / before), np.log(alone / total)


@pytest.mark.parametrize("ratio", [0.05, 1.0, 9.0])
def test_zeros_have_a_small_relative_error(known, ratio):
    of_genes, mean, level = known
    found = zero_again(filled(of_genes), jnp.asarray(mean), jnp.asarray(level), np.float32(ratio))
    for name, value, expected in zip(found._fields, found, brute_force(known, float(np.float32(ratio))), strict=True):
        # Weights of low and high genes may cancel in float32; the sums of the components have no other error.
        np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-5, atol=1e-12, err_msg=name)
        assert np.median(np.abs(value / expected - 1)) < 3e-7, name


def test_every_entry_is_what_it_is_alone(known):
    of_genes, mean, level = known
    rng, all_components = np.random.default_rng(4), components(of_genes)
    x = rng.poisson(np.minimum(mean, 50) * rng.gamma(0.5, 2, mean.shape)).astype(np.float32)
    y = rng.poisson(np.minimum(0.5 * mean, 30) * rng.gamma(0.5, 2, mean.shape)).astype(np.float32)
    again = zero_again(of_genes, jnp.asarray(mean), jnp.asarray(level), np.float32(0.5))
    for counts, shown in ((None, None), (sp.csr_matrix(x), x)):
        block = BlockLaw(all_components, again, counts, mean, 0.5, level)
        law = law_of_entries(all_components.over_cells(level), shown, mean, 0.5)
        np.testing.assert_allclose(block.expected, law.expected, rtol=5e-6)
        of_y, of_zero = log_prob(y.astype(float), law), log_prob_zero(law)
        np.testing.assert_allclose(block.log_prob(sp.csr_matrix(y)), of_y, rtol=5e-6, atol=1e-7)
        np.testing.assert_allclose(block.log_zero(), of_zero, rtol=5e-6, atol=1e-7)


def test_a_zero_that_is_next_to_impossible_is_no_worse_than_it_is():
    """In float32 a probability of 1e-30 cannot be told from none by what it lacks to one."""
    weight = np.zeros((1, len(GRID), 1), np.float32)
    weight[0, -1] = 1
    ones = np.ones(1, np.float32)
    of_genes = Laws(Part(weight, ones, 0 * ones), None, ones, 0 * ones)
    poisson_like, mean = components(of_genes), np.full((1, 1), 80, np.float32)
    two = poisson_like._replace(
        **{name: np.repeat(getattr(poisson_like, name), 2, 0) for name in poisson_like._fields[:4]}
    )
    two = two._replace(weight=two.weight / 2)
    block = BlockLaw(two, zero_again(of_genes, mean, None, np.float32(1)), None, mean, 1.0)
    assert block.log_zero().item() == pytest.approx(-256 * np.log1p(80 / 256), rel=1e-6)


@pytest.mark.parametrize("x", [[0, 1, 2, 700], [0.5, 3.25], [5000, 1], []], ids=["few", "fractions", "many", "none"])
def test_rising_factorials(x):
    x, theta = np.array(x, float), np.array(GRID)[:, None]
    expected = special.gammaln(theta + x) - special.gammaln(theta) - x * np.log(theta)
    np.testing.assert_allclose(log_rising(x, theta), expected, rtol=1e-12, atol=1e-12)
