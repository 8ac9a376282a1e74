import jax
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from scdae.core.data.conditions import Conditions
from scdae.core.training import newton, regressions
from scdae.core.training.newton import learn_prior, refit, standard_axes
from scdae.core.training.regressions import Cells, Refit, Regressions


def simulated(n_obs=400, n_vars=30, n_axes=3, depth=2000.0, seed=0):
    """Positions, true loadings, intercepts and counts of a Poisson model whose shares sum to one."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_obs, n_axes))
    mean, axes = standard_axes(latent)
    positions = ((latent - mean) @ axes).astype(np.float32)
    loading, intercept = 0.4 * rng.normal(size=(n_axes, n_vars)), rng.normal(size=n_vars)
    share = np.exp(positions @ loading + intercept)
    share /= share.sum(axis=1, keepdims=True)
    counts = rng.poisson(depth * share).astype(np.float32)
    return positions, loading, np.log(share).mean(axis=0), counts


def at(loading, intercept):
    return Refit(loading.astype(np.float32), intercept.astype(np.float32), np.ones(loading.shape))


def test_slopes_are_those_of_the_likelihood():
    positions, loading, intercept, counts = simulated(depth=60.0)
    work = Regressions(Cells(sp.csr_matrix(counts), positions), None, None, None)
    genes = np.arange(counts.shape[1])
    work.update_norm(work.look(at(loading, intercept), genes).rows)
    features = np.concatenate([np.ones((len(positions), 1)), positions], axis=1)
    exposure = counts.sum(axis=1) / np.exp(work.log_norm)

    def expected(coefficients):
        return exposure @ np.exp(features @ coefficients)

    here = np.concatenate([intercept[None], loading])
    look = work.look(at(loading, intercept), genes, curved=True)
    np.testing.assert_allclose(look.sums[0], expected(here), rtol=1e-5)
    np.testing.assert_allclose(look.rows, counts.sum(axis=1), rtol=1e-5)  # all shares together
    curvature, step = work.full(look.products), 1e-3
    for i, move in enumerate(step * np.eye(len(here))):
        up, down = (expected(here + sign * move[:, None]) for sign in (1, -1))
        np.testing.assert_allclose(look.sums[i], (up - down) / (2 * step), rtol=1e-4, atol=1e-3 * look.sums[0].max())
        np.testing.assert_allclose(curvature[:, i, i], (up + down - 2 * expected(here)) / step**2, rtol=1e-3)
        np.testing.assert_allclose(curvature[:, i], curvature[:, :, i])


def test_loadings_are_found():
    positions, loading, intercept, counts = simulated(n_obs=2000)
    found = refit(Cells(sp.csr_matrix(counts), positions), np.zeros(loading.shape), np.log(counts.mean(axis=0) + 1))
    centered = [
        x - x.mean(axis=1, keepdims=True) for x in (found.loading, loading)
    ]  # what all genes share is no matter
    np.testing.assert_allclose(*centered, atol=0.05)
    assert found.gain[0] > 0.01 and found.gain[-1] < 1e-4 and not any(found.refused)


def test_groups_get_their_totals():
    """Two places are two groups: the top of the likelihood is where each gene has its molecules in both."""
    rng = np.random.default_rng(1)
    group = np.arange(300) % 10 == 0
    share = np.array([[0.7, 0.2999, 0.0001], [0.5, 0.3, 0.2]])[group.astype(int)]
    counts = rng.poisson(500 * share).astype(np.float32)
    mean, axes = standard_axes(group[:, None].astype(float))
    positions = ((group[:, None] - mean) @ axes).astype(np.float32)
    found = refit(Cells(sp.csr_matrix(counts), positions), np.zeros((1, 3)), np.log(counts.mean(axis=0)), n_rounds=12)
    shares = np.exp(positions @ found.loading + found.intercept)
    expected = shares / shares.sum(axis=1, keepdims=True) * counts.sum(axis=1, keepdims=True)
    for rows in (group, ~group):
        np.testing.assert_allclose(expected[rows].sum(axis=0), counts[rows].sum(axis=0), rtol=0.05, atol=2)


@pytest.mark.parametrize(("start", "steps", "moved"), [(-6.0, newton.STEPS, True), (-6.0, (1.0,), False)])
def test_a_step_that_overshoots_is_shortened_and_one_that_never_gains_is_counted(start, steps, moved, monkeypatch):
    """A gene of ten cells of a thousand: the curvature where it starts says nothing of where it goes."""
    monkeypatch.setattr(newton, "STEPS", steps)
    counts = np.full((1000, 2), 50.0, np.float32)
    counts[:, 1] = 0
    counts[:10, 1] = 400
    positions = np.full((1000, 1), -0.1005, np.float32)
    positions[:10] = 9.95
    found = refit(Cells(sp.csr_matrix(counts), positions), np.zeros((1, 2)), np.array([0.0, start]), n_rounds=1)
    assert (found.loading[0, 1] > 0.01) == moved
    assert (found.refused == [0]) == moved


def test_hidden_entries_say_nothing():
    """What was hidden has no part in the gene's regression, nor in the sum of the shares of its cell."""
    positions, loading, intercept, counts = simulated(n_obs=600)
    hidden = np.zeros(counts.shape, bool)
    hidden[:200, :5] = True
    seen = sp.csr_matrix(np.where(hidden, 0, counts))
    found = refit(Cells(seen, positions, sp.csr_matrix(hidden)), np.zeros(loading.shape), np.log(counts.mean(axis=0)))
    usual = refit(Cells(sp.csr_matrix(counts), positions), np.zeros(loading.shape), np.log(counts.mean(axis=0)))
    np.testing.assert_allclose(found.loading, usual.loading, atol=0.06)
    np.testing.assert_allclose(found.intercept - usual.intercept, (found.intercept - usual.intercept).mean(), atol=0.05)


def test_effects_and_dropout_are_offsets():
    positions, loading, intercept, counts = simulated(n_obs=3000)
    rng = np.random.default_rng(5)
    effects = np.array([[0.5, -0.5] * 15, [0.0, 0.0] * 15], np.float32)
    level, kept = np.arange(3000) % 2, np.where(np.arange(30) < 3, 0.6, 1.0)
    share = np.exp(positions @ loading + intercept + effects[level])
    share /= share.sum(axis=1, keepdims=True)
    counts = rng.poisson(2000 * share) * (rng.random(share.shape) < kept)
    conditions = Conditions(level[:, None].astype(np.int32), np.zeros((3000, 0), np.float32))
    cells = Cells(sp.csr_matrix(counts.astype(np.float32)), positions, conditions=conditions)
    found = refit(cells, np.zeros(loading.shape), np.log(counts.mean(axis=0)), effects=effects, kept=kept)
    away = found.intercept - intercept
    np.testing.assert_allclose(away, away.mean(), atol=0.05)
    np.testing.assert_allclose(
        found.loading - found.loading.mean(axis=1, keepdims=True),
        loading - loading.mean(axis=1, keepdims=True),
        atol=0.06,
    )


def test_hidden_units_are_offsets_and_parts_add_up(monkeypatch):
    positions, loading, intercept, counts = simulated()
    turned, turn_loading = positions[:, :1] * 0.3, np.linspace(-1, 1, 30)[None]
    cells = Cells(sp.csr_matrix(counts), positions, turned=turned)
    whole = refit(cells, np.zeros(loading.shape), intercept, turn_loading=turn_loading)
    monkeypatch.setattr(regressions, "_CELLS", 130)
    monkeypatch.setattr(regressions, "_VALUES", 130 * 8)
    parts = refit(cells, np.zeros(loading.shape), intercept, turn_loading=turn_loading)
    np.testing.assert_allclose(parts.loading, whole.loading, atol=1e-4)
    again = refit(cells, np.zeros(loading.shape), intercept, turn_loading=turn_loading)
    np.testing.assert_array_equal(again.loading, parts.loading)


def test_loadings_are_drawn_to_the_center_where_nothing_is_known():
    positions, loading, intercept, counts = simulated(n_obs=50, depth=3.0)
    cells, center = Cells(sp.csr_matrix(counts), positions), np.full(loading.shape, 0.7)
    one = refit(cells, loading, intercept)
    other = refit(cells, loading, intercept, center=center)
    assert np.abs(one.loading).mean() < 0.5 * np.abs(loading).mean()
    assert np.abs(other.loading - 0.7).mean() < 0.3


def test_an_axis_without_signal_costs_little():
    positions, loading, intercept, counts = simulated(n_obs=3000, n_axes=2)
    noise = np.random.default_rng(9).normal(size=(3000, 1)).astype(np.float32)
    cells = Cells(sp.csr_matrix(counts), np.concatenate([positions, noise], axis=1))
    found = refit(cells, np.zeros((3, 30)), intercept)
    assert found.variance[2].mean() < 1e-3 * found.variance[:2].mean()


def test_the_prior_follows_axes_and_genes():
    rng = np.random.default_rng(2)
    axis, gene = np.array([1.0, 0.1])[:, None], np.where(np.arange(2000) < 100, 25.0, 1.0)
    loading = rng.normal(size=(2, 2000)) * np.sqrt(axis * gene)
    variance = learn_prior(loading, np.zeros(loading.shape))
    assert 7 < variance[0].mean() / variance[1].mean() < 13
    assert variance[0, :100].mean() > 3 * variance[0, 100:].mean()


def test_cells_without_molecules_are_no_hindrance():
    positions, loading, intercept, counts = simulated()
    counts[3] = 0
    found = refit(Cells(sp.csr_matrix(counts), positions), loading, intercept)
    assert np.isfinite(found.loading).all() and np.isfinite(found.intercept).all()


def test_one_program_serves_all_blocks(monkeypatch):
    """Two programs, with the curvature and without, whatever the number of genes left over."""
    positions, loading, intercept, counts = simulated(n_vars=101)
    monkeypatch.setattr(regressions, "_VALUES", 400 * 32)
    look = regressions._look.__wrapped__
    monkeypatch.setattr(regressions, "_look", jax.jit(lambda *values: look(*values)))  # compiled in no other test
    refit(Cells(sp.csr_matrix(counts), positions), loading, intercept)
    assert regressions._look._cache_size() == 2


def test_steps_that_overshoot_are_shortened_whatever_the_blocks(monkeypatch):
    """Genes of a few cells, some in every block: those that are left of all blocks go on together."""
    rng = np.random.default_rng(4)
    counts = np.full((1000, 100), 50.0, np.float32)
    counts[:, ::7] = 0
    counts[:10, ::7] = rng.integers(300, 500, (10, 15))
    positions = np.full((1000, 1), -0.1005, np.float32)
    positions[:10] = 9.95
    start = np.where(np.arange(100) % 7 == 0, -6.0, 0.0)
    cells = Cells(sp.csr_matrix(counts), positions)
    whole = refit(cells, np.zeros((1, 100)), start)
    assert (np.abs(whole.loading[0, ::7]) > 0.01).all()
    monkeypatch.setattr(regressions, "_VALUES", 1000 * 32)
    assert Regressions(cells, None, None, None).at_once == 32
    blocks = refit(cells, np.zeros((1, 100)), start)
    np.testing.assert_allclose(blocks.loading, whole.loading, atol=1e-3)
    np.testing.assert_allclose(blocks.evidence, whole.evidence, rtol=1e-3, atol=1)
    assert blocks.refused == whole.refused


def test_evidence_is_the_likelihood_over_that_of_one_share():
    positions, loading, intercept, counts = simulated()
    found = refit(
        Cells(sp.csr_matrix(counts), positions), loading, intercept, n_rounds=1
    )  # nothing is learned of the excess
    share = np.exp(positions @ found.loading + found.intercept)
    share /= share.sum(axis=1, keepdims=True)
    total, usual = counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    expected = (stats.poisson.logpmf(counts, total * share) - stats.poisson.logpmf(counts, total * usual)).sum(axis=0)
    np.testing.assert_allclose(found.evidence, expected, rtol=1e-3, atol=0.5)


def test_excess_is_that_of_pearson():
    positions, loading, intercept, counts = simulated()
    counts[:, 0] = np.random.default_rng(2).negative_binomial(0.5, 0.5 / (0.5 + counts[:, 0].mean()), len(counts))
    work, genes = Regressions(Cells(sp.csr_matrix(counts), positions), None, None, None), np.arange(30)
    solution = at(loading, intercept)
    work.update_norm(work.look(solution, genes).rows)
    more = work.square_left_over(work.left_over(solution))
    work.learn_excess(genes, work.look(solution, genes, curved=True), more)
    share = np.exp(positions @ loading + intercept)
    mean = counts.sum(axis=1, keepdims=True) * share / share.sum(axis=1, keepdims=True)
    expected = ((counts - mean) ** 2).sum(axis=0) / mean.sum(axis=0) / (1 - 4 / 400)
    np.testing.assert_allclose(work.excess, np.maximum(expected, 1), rtol=1e-3)
    assert work.excess[0] > 5
