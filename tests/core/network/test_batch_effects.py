from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import scdae.core.network.batch_effects as effects_module
import small
from scdae.core.data.cells import cell_data
from scdae.core.data.conditions import effect_of
from scdae.core.data.exposure import gene_profile
from scdae.core.network.batch_effects import find_effects, level_effects
from scdae.core.network.dispersion import moment_theta

N_VARS = 41  # the last gene is half of every cell, and nothing acts on it: it holds the library size


def true_effects(rng, n_levels, size=0.5):
    effects = rng.normal(0, size, (n_levels, N_VARS)).astype(np.float32)
    effects[:, -1] = 0
    return effects


def simulate(kind, conditions, effects, theta=np.inf, depth=1500.0, hidden=None, seed=0):
    """Cells of some kinds, whose genes the conditions change by known factors."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(1.5, 1, N_VARS - 1)
    kinds = base * np.exp(1.2 * rng.normal(size=(3, N_VARS - 1)) * (rng.random((3, N_VARS - 1)) < 0.3))
    share = np.concatenate([0.5 * kinds / kinds.sum(axis=1, keepdims=True), np.full((3, 1), 0.5)], axis=1)
    rate = depth * np.exp(0.3 * rng.normal(size=(len(kind), 1))) * share[kind]
    rate = rate * np.exp(effect_of(effects, conditions))
    counts = rng.poisson(rate if np.isinf(theta) else rate * rng.gamma(theta, 1 / theta, rate.shape))
    counts = counts if hidden is None else np.where(hidden, 0, counts)
    counts, unobserved = sp.csr_matrix(counts.astype(np.float32)), None if hidden is None else sp.csr_matrix(hidden)
    profile = gene_profile(counts, unobserved)
    return cell_data(counts, unobserved, conditions, profile), profile


def effects_in_groups(data, theta, group, n_levels):
    combinations, place = np.unique(data.conditions.levels, axis=0, return_inverse=True)
    theta = np.full(data.n_vars, min(theta, 1e4))
    return level_effects(data, theta, group, combinations, place.ravel(), n_levels)


def contrast(effects, level=1, other=0):
    """What one level does to the genes against another, where the last gene stays."""
    difference = effects[level] - effects[other]
    return difference - difference[-1]


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.fixture
def rng():
    return np.random.default_rng(1)


# Within groups that are known ---------------------------------------------------------------------------------------


def cell_by_cell(data, theta, group, n_levels):
    """The factors as they are defined, from dense arrays and one cell at a time."""
    x, levels = data.counts.toarray().astype(float), data.conditions.levels
    seen = np.ones(x.shape) if data.unobserved is None else 1.0 - data.unobserved.toarray()
    exposed = seen * (x.sum(axis=1) / data.share)[:, None]
    effects = np.zeros((n_levels, data.n_vars))
    for _ in range(10):
        factor = np.exp(effects[levels].sum(axis=1))
        share = np.zeros((group.max() + 1, data.n_vars))
        for k in range(len(share)):
            expected = (exposed * factor)[group == k].sum(axis=0)
            share[k] = np.where(expected > 0, x[group == k].sum(axis=0) / np.maximum(expected, 1e-300), 0)
        for column in levels.T:
            before = exposed * share[group] * np.exp(effects[levels].sum(axis=1) - effects[column])
            for level in np.unique(column):
                at = column == level
                expected, now = before[at].sum(axis=0), (before * np.exp(effects[column]))[at]
                weight = now.sum(axis=0) / np.maximum(now.sum(axis=0) + (now**2).sum(axis=0) / theta, 1e-12)
                counted, expected = weight * x[at].sum(axis=0), weight * expected
                clear = np.maximum(counted, expected) > 10
                spread = 0.02
                if clear.sum() > 10:
                    ratio = np.log((counted + 0.5) / (expected + 0.5))[clear] ** 2
                    spread = np.sqrt(np.clip((ratio - 2 / (counted + expected)[clear]).mean(), 0, None))
                shape = np.clip(spread, 0.02, 2.0) ** -2
                effects[level] = np.log((shape + counted) / (shape + expected))
    return effects


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("columns", [1, 2])
def test_factors_are_those_of_single_cells(rng, columns, masked):
    n_obs = 90
    kind = rng.integers(0, 3, n_obs)
    conditions = small.of_levels(*(rng.integers(0, 2, n_obs), rng.integers(2, 5, n_obs))[:columns])
    hidden = rng.random((n_obs, N_VARS)) < 0.2 if masked else None
    data, _ = simulate(kind, conditions, true_effects(rng, 5), theta=8.0, hidden=hidden)
    n_levels = (2, 5)[columns - 1]
    expected = cell_by_cell(data, 8.0, kind, n_levels)
    found = effects_in_groups(data, 8.0, kind, n_levels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(expected).max() > 0.3


@pytest.mark.parametrize("theta", [np.inf, 10.0, 2.0])
def test_known_factors_are_recovered_in_groups(rng, theta):
    """Groups of unlike size in the two batches, so that the means of the batches differ by more than the factors."""
    n_obs = 800
    level = rng.integers(0, 2, n_obs)
    kind = np.where(rng.random(n_obs) < 0.8, level, 2)
    kind = np.where(rng.random(n_obs) < 0.15, 1 - level, kind)
    effects = true_effects(rng, 2)
    data, _ = simulate(kind, small.of_levels(level), effects, theta)
    truth = contrast(effects)
    found = contrast(effects_in_groups(data, theta, kind, 2))
    assert rms(found - truth) < 0.2 * rms(truth)
    assert (found @ truth) / (truth @ truth) == pytest.approx(1, abs=0.1)
    one_group = contrast(effects_in_groups(data, theta, np.zeros(n_obs, int), 2))
    assert rms(one_group - truth) > 2 * rms(found - truth)


def test_two_columns_are_told_apart(rng):
    """A donor is mostly in one batch: each column alone would take the other's effect for its own."""
    n_obs = 1500
    batch = rng.integers(0, 2, n_obs)
    donor = 2 + np.where(rng.random(n_obs) < 0.8, batch, rng.integers(0, 3, n_obs))
    kind, effects = rng.integers(0, 3, n_obs), true_effects(rng, 5)
    data, _ = simulate(kind, small.of_levels(batch, donor), effects, theta=10.0)
    found = effects_in_groups(data, 10.0, kind, 5)
    for level, other in ((1, 0), (3, 2), (4, 2)):
        truth = contrast(effects, level, other)
        assert rms(contrast(found, level, other) - truth) < 0.25 * rms(truth)
    batches_alone = replace(data, conditions=small.of_levels(batch))
    mixed = contrast(effects_in_groups(batches_alone, 10.0, kind, 2))
    assert rms(mixed - contrast(effects)) > 2 * rms(contrast(found) - contrast(effects))


def test_few_cells_move_an_effect_less_than_many(rng):
    effects, moved = true_effects(rng, 2), []
    for n_second in (2, 20, 200):
        level = (np.arange(400) < n_second).astype(int)
        data, _ = simulate(np.zeros(400, int), small.of_levels(level), effects, theta=4.0, depth=300.0)
        found = contrast(effects_in_groups(data, 4.0, np.zeros(400, int), 2))
        moved.append(found @ contrast(effects) / rms(contrast(effects)) ** 2 / N_VARS)
    assert moved[0] < 0.5 * moved[1] and moved[1] < moved[2]
    assert moved[2] == pytest.approx(1, abs=0.15)


def test_where_nothing_acts_next_to_nothing_is_found(rng):
    level, kind = rng.integers(0, 3, 600), rng.integers(0, 3, 600)
    data, _ = simulate(kind, small.of_levels(level), np.zeros((3, N_VARS), np.float32), theta=3.0)
    assert rms(effects_in_groups(data, 3.0, kind, 3)) < 0.02


def test_a_gene_without_counts_and_an_empty_cell_are_finite(rng):
    level, kind = rng.integers(0, 2, 100), rng.integers(0, 3, 100)
    effects = true_effects(rng, 2)
    effects[0, 3], effects[1, 4], effects[:, 5] = -50, -50, -50  # genes of one batch only, and of none
    data, _ = simulate(kind, small.of_levels(level), effects)
    counts = data.counts.toarray()
    counts[7] = 0
    data = replace(data, counts=sp.csr_matrix(counts))
    found = effects_in_groups(data, np.inf, kind, 2)
    assert np.isfinite(found).all() and (found[:, 5] == 0).all()
    assert found[0, 3] < -0.5 < 0.2 < found[1, 3] and found[1, 4] < -0.5


def test_a_gene_that_a_batch_did_not_measure_has_no_effect_there(rng):
    level, kind = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    hidden = np.zeros((300, N_VARS), bool)
    hidden[:, 2:6] = (level == 1)[:, None]
    effects = true_effects(rng, 2)
    data, profile = simulate(kind, small.of_levels(level), effects, theta=10.0, hidden=hidden)
    for found in (effects_in_groups(data, 10.0, kind, 2), find_effects(data, profile, 2, np.random.default_rng(0))):
        np.testing.assert_allclose(found[1, 2:6], 0, atol=1e-6)
        measured = np.delete(np.arange(N_VARS), np.arange(2, 6))
        error = (contrast(found) - contrast(effects))[measured]
        assert rms(error) < 0.25 * rms(contrast(effects))


# Groups that have to be found ---------------------------------------------------------------------------------------


def test_effects_are_found_without_knowing_the_cell_types(rng):
    level, kind = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    effects = true_effects(rng, 2)
    data, profile = simulate(kind, small.of_levels(level), effects, theta=5.0)
    found = find_effects(data, profile, 2, np.random.default_rng(0))
    assert found.shape == (2, N_VARS) and found.dtype == np.float32
    assert rms(contrast(found) - contrast(effects)) < 0.2 * rms(contrast(effects))
    again = find_effects(data, profile, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(found, again)


def test_start_is_chosen_on_some_of_many_cells(rng, monkeypatch):
    monkeypatch.setattr(effects_module, "MAX_CELLS", 200)
    level, kind = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    effects = true_effects(rng, 2)
    data, profile = simulate(kind, small.of_levels(level), effects, theta=5.0)
    found = find_effects(data, profile, 2, np.random.default_rng(0))
    assert rms(contrast(found) - contrast(effects)) < 0.2 * rms(contrast(effects))


def test_continuous_columns_start_at_nothing(rng):
    level, kind = rng.integers(0, 2, 200), rng.integers(0, 3, 200)
    effects = true_effects(rng, 3)
    conditions = small.of_levels(level, values=[rng.normal(size=200)])
    data, profile = simulate(kind, conditions, effects)
    found = find_effects(data, profile, 2, np.random.default_rng(0))
    assert found.shape == (3, N_VARS) and not found[2].any() and found[:2].any()
    alone = replace(data, conditions=small.of_levels(values=conditions.values.T))
    found = find_effects(alone, profile, 0, np.random.default_rng(0))
    assert found.shape == (1, N_VARS) and not found.any()


@pytest.mark.parametrize("depth", [300.0, 20_000.0])
def test_a_level_of_one_cell_hardly_moves(rng, depth):
    """However deep the cell is, and even where its batch is unlike the others."""
    level, kind = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    level[5] = 2
    effects = true_effects(rng, 3)
    data, profile = simulate(kind, small.of_levels(level), effects, theta=5.0, depth=depth)
    found = find_effects(data, profile, 3, np.random.default_rng(0))
    assert np.abs(found[2]).max() < 0.05
    assert rms(contrast(found) - contrast(effects)) < 0.25 * rms(contrast(effects))


@pytest.mark.parametrize("n_obs", [2, 3, 30])
def test_tiny_data(rng, n_obs):
    data, profile = simulate(np.zeros(n_obs, int), small.of_levels(np.arange(n_obs) % 2), true_effects(rng, 2))
    assert np.isfinite(find_effects(data, profile, 2, np.random.default_rng(0))).all()


def test_more_levels_than_can_be_grouped(rng):
    """A level for each cell: nothing is compared with anything."""
    data, profile = simulate(np.zeros(60, int), small.of_levels(np.arange(60)), true_effects(rng, 60), theta=5.0)
    found = find_effects(data, profile, 60, np.random.default_rng(0))
    assert found.shape == (60, N_VARS) and np.abs(found).max() < 0.1


LACKS = {
    "each lacks one": lambda batch, kind: np.where(batch == 0, kind > 0, kind < 3),
    "one has one type only": lambda batch, kind: (batch == 0) | (kind == 0),
}


def unlike_batches(lacks, batch_effect, seed, n_obs=300):
    """How far effects are from those of known types, and ratios of means are, where two batches hold unlike cells."""
    settings = {"n_types": 4, "trajectory": False, "depth": 2000, "dropout": 0.0, "dispersion": 0.1, "n_batches": 2}
    adata = scdae.datasets.simulate(3 * n_obs, 200, batch_effect=batch_effect, seed=seed, **settings)
    kind, batch = (adata.obs[name].cat.codes.to_numpy().astype(int) for name in ("cell_type", "batch"))
    cells = np.flatnonzero(LACKS[lacks](batch, kind))[:n_obs]
    counts, kind, batch = adata.X[cells], kind[cells], batch[cells]
    counts = counts[:, np.asarray(counts.sum(axis=0)).ravel() > 50]
    profile = gene_profile(counts, None)
    data = cell_data(counts, None, small.of_levels(batch), profile)
    known = level_effects(data, moment_theta(counts, profile, data.share), kind, np.array([[0], [1]]), batch, 2)
    means = np.stack([np.asarray(counts[batch == k].sum(axis=0)).ravel() + 0.5 for k in (0, 1)])
    ratios = np.log(means / means.sum(axis=1, keepdims=True))
    found = find_effects(data, profile, 2, np.random.default_rng(1))

    def centered(effects):
        return effects[1] - effects[0] - profile @ (effects[1] - effects[0])

    return rms(centered(found) - centered(known)), rms(centered(ratios) - centered(known))


@pytest.mark.parametrize("batch_effect", [0.0, 0.3])
@pytest.mark.parametrize("lacks", LACKS)
def test_the_cells_of_a_batch_are_not_taken_for_its_effect(lacks, batch_effect):
    """At most a quarter of what the ratio of the batches' means would take for the effect by mistake."""
    for seed in range(3):
        error, of_ratios = unlike_batches(lacks, batch_effect, seed)
        assert of_ratios > 0.15
        assert error < 0.25 * of_ratios, seed
