import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.distributions.components import level_of
from scdae.core.distributions.laws import GRID, components
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
    assert fit.log_likelihood(found.weight).sum() > single + 1000
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
    few, many = (fit.fit(common, start, n)[0].log_likelihood.sum() for n in (_STEPS, 300))
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

    class Known:
        log_exposure = np.zeros(CELLS)

        def place(self, genes):
            return np.clip((np.log(mean[:, genes]) - _LOW) / _WIDTH, 0, _LEVELS - 1).astype(np.float32)

    hidden = np.random.default_rng(0).random(counts.shape) < 0.1
    counts = counts * ~hidden
    found = count_levels(Known(), sp.csc_matrix(counts.astype(np.float32)), sp.csc_matrix(hidden))
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

    class Known:
        log_exposure = np.log(np.where(deep, 10.0, 1.0))

        def place(self, genes):
            return np.clip((np.log(whole[:, genes]) - _LOW) / _WIDTH, 0, _LEVELS - 1).astype(np.float32)

    share = np.log(mean.mean(axis=0))
    found = count_levels(Known(), sp.csc_matrix(counts.astype(np.float32)), None, share)
    number = found.zeros + found.sum_levels()
    np.testing.assert_allclose(number.sum(), counts.size)
    expected = level_of(np.log(mean) - share).mean(axis=0)
    np.testing.assert_allclose((number * found.height).sum(axis=1) / CELLS, expected, atol=0.01)
