import numpy as np
import pytest
import scipy.sparse as sp
from scipy import optimize, special, stats

from scdae.core.distributions.components import level_of
from scdae.core.distributions.laws import GRID, components
from scdae.core.evaluation import law_counts
from scdae.core.evaluation.law_counts import _CENTRES, _LEVELS, _LOW, _WIDTH, Counted, count_levels
from scdae.core.evaluation.law_fit import _STEPS, LawFit, laws_of_counted

CELLS = 2000


def counted(counts, mean):
    """Counts by the levels on either side of their means, entry by entry."""
    place = np.clip((np.log(mean) - _LOW) / _WIDTH, 0, _LEVELS - 1)
    below = np.minimum(place.astype(int), _LEVELS - 2)
    n = counts.shape[1]
    zeros = np.zeros((n, _LEVELS))
    gene, at, x, number = [], [], [], []
    for j in range(n):
        here = counts[:, j] > 0
        for level, share in ((below[:, j], 1 + (below - place)[:, j]), (below[:, j] + 1, (place - below)[:, j])):
            np.add.at(zeros[j], level[~here], share[~here])
            gene += [j] * int(here.sum())
            at += list(level[here])
            x += list(counts[here, j])
            number += list(share[here])
    start = np.concatenate([[0], np.cumsum(np.bincount(gene, minlength=n))])
    log_share = np.log(mean.mean(axis=0))
    rest = np.array(gene), np.array(at), np.array(x, float), np.array(number)
    return Counted(zeros, start, *rest, _CENTRES, np.zeros(_LEVELS), log_share)


def drawn(dispersion, pi, n_genes=30, seed=0):
    """Counts of genes with one Gamma law each, of which those with `pi` above zero lose some."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(1.0, 0.7, (CELLS, n_genes)))
    pi = np.broadcast_to(pi, n_genes)
    rate = mean / (1 - pi) * rng.gamma(1 / dispersion, dispersion, mean.shape)
    return rng.poisson(rate) * (rng.random(mean.shape) >= pi), mean


class Known:
    """Means that are known."""

    def __init__(self, mean, log_exposure=None):
        self.mean, self.log_exposure = mean, np.zeros(len(mean)) if log_exposure is None else log_exposure

    def logits(self, genes):
        return np.log(self.mean[:, genes]).astype(np.float32)

    def place(self, logits, genes, cells, cols):
        return np.clip((logits - np.float32(_LOW)) / np.float32(_WIDTH), 0, _LEVELS - 1)


@pytest.mark.parametrize("dispersion", [0.1, 1.0])
def test_spread_is_found(dispersion):
    laws = laws_of_counted(counted(*drawn(dispersion, 0.0)), np.zeros(30))
    assert laws.dropout is None and not laws.chance.any()
    np.testing.assert_allclose(np.median(components(laws).dispersion), dispersion, rtol=0.3)
    np.testing.assert_allclose(laws.plain.weight.sum(axis=1), 1, rtol=1e-5)


def test_heavy_tails_are_found():
    """One cell in twenty has ten times the counts: no single Gamma law has that."""
    counts, mean = drawn(0.1, 0.0)
    rng = np.random.default_rng(1)
    many = rng.random(mean.shape) < 0.05
    counts = np.where(many, rng.poisson(10 * mean), counts)
    mean = mean * 1.45
    fit = LawFit(counted(counts, mean))
    even = np.full((1, len(GRID)), 1 / len(GRID))
    found, common = fit.fit(even, np.tile(even[..., None], 30), 30, learn=True)
    single = max(fit.log_likelihood(np.tile(row[None, :, None], 30)).sum() for row in np.eye(len(GRID)) + 1e-12)
    assert fit.log_likelihood(found).sum() > single + 1000
    np.testing.assert_allclose(common.sum(), 1)


def test_spread_may_be_another_where_a_gene_is_low():
    """A marker outside its cell type: most cells have far less than expected, and a few have much more."""
    rng = np.random.default_rng(3)
    mean = np.where(rng.random((CELLS, 30)) < 0.25, 8.0, 0.25)
    factor = np.where(mean > 1, rng.gamma(10, 0.1, mean.shape), rng.gamma(0.25, 4.0, mean.shape))
    found = counted(rng.poisson(mean * factor), mean)
    laws = components(laws_of_counted(found, np.zeros(30)))
    low, high = (
        (laws.at(slice(None), np.full(30, level)).weight * (1 + 1 / laws.theta)).sum(axis=0) - 1 for level in (0.0, 1.0)
    )
    np.testing.assert_allclose(np.median(high), 0.1, atol=0.1)
    np.testing.assert_allclose(np.median(low), 4, rtol=0.3)


def test_more_steps_do_not_make_it_likelier():
    fit, even = LawFit(counted(*drawn(0.5, 0.0))), np.full((2, len(GRID)), 1 / len(GRID))
    start = np.tile(even[..., None], 30)
    common = fit.fit(even, start, 60, learn=True)[1]
    start = np.tile(common[..., None], 30)
    few, many = (fit.log_posterior(fit.fit(common, start, n)[0], common).sum() for n in (_STEPS, 300))
    assert many - few < 0.3 * 30


def test_dropout_is_found_where_it_is():
    pi = np.where(np.arange(30) % 3 == 0, 0.4, 0.0)
    laws = laws_of_counted(counted(*drawn(0.2, pi)), np.ones(30))
    np.testing.assert_array_equal(laws.chance > 0.5, pi > 0)
    np.testing.assert_allclose(components(laws).dropout[pi > 0] / laws.chance[pi > 0], 0.4, atol=0.1)
    assert (laws.lift >= 1).all() and laws.chance.max() <= 1


def test_few_genes_with_many_zeros_are_no_dropout():
    """A gene or two of a hundred: they are off in some cells, as genes are."""
    pi = np.where(np.arange(100) < 2, 0.5, 0.0)
    laws = laws_of_counted(counted(*drawn(0.2, pi, 100)), np.ones(100))
    assert laws.dropout is None and not laws.chance.any()


def test_a_gene_with_few_counts_follows_the_others():
    counts, mean = drawn(1.0, 0.0)
    counts[:, 0], mean[:, 0] = 0, 1e-3
    weight = laws_of_counted(counted(counts, mean), np.zeros(30)).plain.weight
    np.testing.assert_allclose(weight[..., 0], weight[..., 1:].mean(axis=2), atol=0.1)


def test_levels_are_those_of_the_entries():
    counts, mean = drawn(1.0, 0.0, 7)

    hidden = np.random.default_rng(0).random(counts.shape) < 0.1
    counts = counts * ~hidden
    found = count_levels(Known(mean), sp.csc_matrix(counts.astype(np.float32)), sp.csc_matrix(hidden))
    expected = counted(counts, mean)
    gone = counted(np.where(hidden, 0, 1), mean).zeros
    np.testing.assert_allclose(found.zeros, expected.zeros - gone, atol=1e-2)
    np.testing.assert_allclose(found.number.sum(), expected.number.sum())
    np.testing.assert_allclose(found.sum_levels(), expected.sum_levels(), atol=1e-2)
    np.testing.assert_allclose(found.sum(found.number * found.x), counts.sum(axis=0))


def test_cells_of_unlike_exposure_are_counted_apart():
    """The same share is the same height in a shallow cell and a deep one, whatever the means."""
    counts, mean = drawn(1.0, 0.0, 7)
    deep = np.arange(CELLS) % 2 == 0
    whole = mean * np.where(deep, 10.0, 1.0)[:, None]

    share = np.log(mean.mean(axis=0))
    means = Known(whole, np.log(np.where(deep, 10.0, 1.0)))
    found = count_levels(means, sp.csc_matrix(counts.astype(np.float32)), None, share)
    number = found.zeros + found.sum_levels()
    np.testing.assert_allclose(number.sum(), counts.size)
    expected = level_of(np.log(mean) - share).mean(axis=0)
    np.testing.assert_allclose((number * found.height).sum(axis=1) / CELLS, expected, atol=0.01)


def test_zeros_of_some_cells_stand_for_those_of_all_where_a_gene_is_rare(monkeypatch):
    rng = np.random.default_rng(5)
    mean = np.exp(rng.normal(np.repeat([-4.0, 1.0], 15), 1.0, (4 * CELLS, 30)))
    counts, share = sp.csc_matrix(rng.poisson(mean).astype(np.float32)), np.log(mean.mean(axis=0))
    exact = count_levels(Known(mean), counts, None, share)
    monkeypatch.setattr(law_counts, "_ENTRIES", CELLS * 30)
    found = count_levels(Known(mean), counts, None, share)
    for one, other in zip(found[1:], exact[1:], strict=True):  # all counts
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found.zeros[15:], exact.zeros[15:], atol=1e-3)
    expected, limit = exact.zeros[:15], 6 * np.sqrt(3 * exact.zeros[:15] + 3)  # of a fourth of the cells
    assert (np.abs(found.zeros[:15] - expected) < limit).all()
    assert 0 < np.abs(found.zeros[:15] - expected).max()
    np.testing.assert_allclose(found.zeros[:15].sum(axis=1), expected.sum(axis=1), rtol=0.02)


def test_genes_without_counts_may_be_worked_on_together(monkeypatch):
    monkeypatch.setattr(law_counts, "_AT_ONCE", 3 * CELLS)
    counts, mean = drawn(1.0, 0.0)
    for some in (slice(3, 9), slice(None)):
        counts[:, some] = 0
        found = count_levels(Known(mean), sp.csc_matrix(counts.astype(np.float32)), None)
        np.testing.assert_allclose(found.zeros, counted(counts, mean).zeros, atol=1e-2)
        assert len(found.x) == 0 or found.x.min() > 0


def test_equal_counts_at_a_level_are_put_together():
    rng = np.random.default_rng(6)
    start = np.array([4, 4, 504, 1004])  # in the order of the genes, the first without counts
    level, beyond = rng.integers(0, 6, 1000), rng.random(1000)
    x = np.where(rng.random(1000) < 0.1, 1.5, rng.integers(1, 4, 1000)).astype(np.float32)
    x[:3] = 5000.0
    gene, at, count, number = law_counts._together(10, start, level.astype(np.int32), x, beyond, 8)
    assert (np.diff(gene) >= 0).all() and set(gene) == {11, 12}
    for i in (11, 12):
        own = slice(500 * (i - 11), 500 * (i - 10))
        for value in (1.0, 1.5, 2.0, 3.0, 5000.0):
            some = x[own] == value
            there = (gene == i) & (count == value)
            expected = np.bincount(level[own][some], 1 - beyond[own][some], 8)
            expected[1:] += np.bincount(level[own][some], beyond[own][some], 8)[:-1]
            np.testing.assert_allclose(np.bincount(at[there], number[there], 8), expected)
    whole = (count == np.floor(count)) & (count < 5000)
    assert len(np.unique(np.stack([gene, at, count])[:, whole], axis=1).T) == whole.sum()


def test_weights_are_where_the_likelihood_is_highest():
    """Against a general optimizer, with the weights of genes that are low in some cells and high in others."""
    rng = np.random.default_rng(8)
    counts, mean = drawn(0.5, 0.0, 3)
    mean *= np.where(rng.random(mean.shape) < 0.5, 1.0, 0.05)
    fit, common = LawFit(counted(rng.poisson(mean), mean)), np.full((2, len(GRID)), 1 / len(GRID))
    found = fit.fit(common, np.tile(common[..., None], 3), 500)[0]

    def loss(logs, i):
        weight = np.tile(special.softmax(logs.reshape(2, -1), axis=1)[..., None], 3)
        return -fit.log_posterior(weight, common)[i]

    for i in range(3):
        best = optimize.minimize(loss, np.log(found[..., i]).ravel(), (i,))
        assert loss(np.log(found[..., i]).ravel(), i) < best.fun + 0.2


def test_probability_of_counts_is_that_of_the_mixture():
    """By SciPy's negative binomial distribution, at the levels of the means, with dropout."""
    counts, mean = drawn(0.5, 0.0, 2)
    levels = np.rint((np.log(mean) - _LOW) / _WIDTH)
    fit = LawFit(counted(counts, np.exp(_LOW + _WIDTH * levels) * 1.0000001), 0.25)
    weight = np.random.default_rng(0).dirichlet(np.ones(len(GRID)), 2).T[None]
    theta, pi = np.array(GRID)[:, None, None], -np.expm1(-0.25)
    at = np.exp(_LOW + _WIDTH * levels + 0.25)
    own = stats.nbinom.pmf(counts, theta, theta / (theta + at))
    chance = (weight[0][:, None] * (pi * (counts == 0) + (1 - pi) * own)).sum(axis=0)
    np.testing.assert_allclose(fit.log_likelihood(weight), np.log(chance).sum(axis=0), rtol=1e-5)
    like = LawFit(fit.counted, 0.6).log_likelihood(weight)
    np.testing.assert_array_equal(LawFit(fit.counted, 0.6, fit).log_likelihood(weight), like)
