import numpy as np
import pytest

from scdae.core.network import batch_alignment as alignment
from scdae.core.network.batch_alignment import Alignment, align_to, fit_alignment, n_groups_for

CENTRES = 8 * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [-1, -1, 0, 0]], np.float32)  # of four cell types
N_GROUPS, N_COMPONENTS = CENTRES.shape


def cells(kind, level, shift, seed=0):
    """Cells around the center of their kind, moved by `shift`: (n_levels, n_components), or with kinds in between."""
    shift = np.broadcast_to(np.asarray(shift)[:, None] if np.ndim(shift) == 2 else shift, (*np.shape(shift)[:1], 4, 4))
    noise = np.random.default_rng(seed).normal(size=(len(kind), N_COMPONENTS))
    return (CENTRES[kind] + shift[level, kind] + noise).astype(np.float32)


def taken_off(alignment, kind, level):
    """How far each batch is taken to be moved in the groups of each kind, of the cells there: (n_levels, 4, 4)."""
    found = np.full((len(alignment.of_level), N_GROUPS, N_COMPONENTS), np.nan)
    for k in range(N_GROUPS):
        for b in range(len(alignment.of_level)):
            groups = alignment.groups[(kind == k) & (level == b)]
            if len(groups):
                found[b, k] = (alignment.of_level[b] - alignment.common)[groups].mean(axis=0)
    return found


@pytest.fixture
def drawn():
    rng = np.random.default_rng(3)
    return rng.integers(0, N_GROUPS, 600), rng.integers(0, 2, 600)


def test_known_shift_is_recovered(drawn):
    kind, level = drawn
    shift = np.array([[0, 0, 0, 0], [1, 2, -3, 4]])
    found = fit_alignment(cells(kind, level, shift), level, N_GROUPS, 0)
    assert found.common.shape == (N_GROUPS, N_COMPONENTS) and found.of_level.shape == (2, N_GROUPS, N_COMPONENTS)
    assert found.common.dtype == found.of_level.dtype == np.asarray(found.scale).dtype == np.float32
    moved = taken_off(found, kind, level)
    np.testing.assert_allclose(moved[1] - moved[0], np.tile(shift[1], (N_GROUPS, 1)), atol=0.6)
    assert found.scale == pytest.approx(1, abs=0.25)  # the variance of a cell around its centroid


def test_cells_of_two_batches_lie_together_afterwards(drawn):
    kind, level = drawn
    inputs = cells(kind, level, [[0, 0, 0, 0], [1, 2, -3, 4]])
    found = fit_alignment(inputs, level, N_GROUPS, 0)
    moved = inputs - (found.of_level[level, found.groups] - found.common[found.groups])
    for k in range(N_GROUPS):
        before, after = (
            np.linalg.norm(x[(kind == k) & (level == 1)].mean(axis=0) - x[(kind == k) & (level == 0)].mean(axis=0))
            for x in (inputs, moved)
        )
        assert after < 0.15 * before
        assert len(np.unique(found.groups[kind == k])) == 1  # alike cells are in one group, whatever their batch


def test_shifts_of_single_groups_are_recovered(drawn):
    """Each cell type is moved its own way."""
    kind, level = drawn
    shift = np.zeros((2, N_GROUPS, N_COMPONENTS))
    shift[1] = [[3, 0, 0, 0], [0, 0, 0, 3], [0, 3, 0, 0], [0, 0, -3, 0]]
    found = fit_alignment(cells(kind, level, shift), level, N_GROUPS, 0)
    moved = taken_off(found, kind, level)
    np.testing.assert_allclose(moved[1] - moved[0], shift[1], atol=0.6)


def test_three_batches_and_two_groups_in_each():
    """Every batch lacks a cell type; what it has is moved as it should be."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, 900)
    kind = (level + rng.integers(0, 3, 900)) % N_GROUPS
    shift = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, -2, 0, 2]])
    found = fit_alignment(cells(kind, level, shift), level, N_GROUPS, 0)
    moved = taken_off(found, kind, level)
    for b in (1, 2):
        for k in range(N_GROUPS):
            if np.isfinite(moved[[0, b], k]).all():
                np.testing.assert_allclose(moved[b, k] - moved[0, k], shift[b], atol=0.7)
    assert np.isfinite(found.of_level).all()


def test_a_batch_that_lacks_a_group_is_not_pulled_onto_another(drawn):
    """The second batch has no cells of the last kind; its own are not moved there, and those of the first stay."""
    kind, level = drawn
    level = np.where(kind == 3, 0, level)
    inputs = cells(kind, level, [[0, 0, 0, 0], [1, 2, -3, 4]])
    found = fit_alignment(inputs, level, N_GROUPS, 0)
    moved = inputs - (found.of_level[level, found.groups] - found.common[found.groups])
    centers = np.stack([moved[(kind == k) & (level == 0)].mean(axis=0) for k in range(N_GROUPS)])
    second = moved[level == 1]
    nearest = ((second[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind[level == 1]).mean() > 0.98
    assert not set(found.groups[level == 1]) & set(found.groups[kind == 3])
    # in the group that it lacks, the batch is taken to be moved as it is elsewhere
    lacked = found.groups[kind == 3][0]
    shift = found.of_level[:, lacked] - found.common[lacked]
    elsewhere = np.nanmean(taken_off(found, kind, level)[1, :3], axis=0)
    np.testing.assert_allclose(shift[1], elsewhere, atol=0.6)
    assert np.abs(shift[1]).max() > 1


@pytest.mark.parametrize("n_groups", [4, 10])
def test_a_batch_of_one_cell_type_stays_with_its_kind(n_groups):
    """Nothing is moved between the batches, of which the second has cells of the first kind alone."""
    rng = np.random.default_rng(1)
    level = rng.integers(0, 2, 300)
    kind = np.where(level == 1, 0, rng.integers(0, N_GROUPS, 300))
    inputs = cells(kind, level, np.zeros((2, N_COMPONENTS)))
    found = fit_alignment(inputs, level, n_groups, 0)
    moved = inputs - (found.of_level[level, found.groups] - found.common[found.groups])
    here, there = (moved[(kind == 0) & (level == b)].mean(axis=0) for b in (0, 1))
    assert np.linalg.norm(here - there) < 1


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_batch_of_one_cell_is_finite_and_leaves_the_others_alone(drawn, where):
    kind, level = drawn
    shift = np.zeros((3, N_COMPONENTS))
    shift[1] = [1, 2, -3, 4]
    inputs = cells(kind, level, shift)
    without = fit_alignment(inputs, level, N_GROUPS, 0)
    alone = np.where(np.arange(600) == 17, 2, level)
    alone = (alone + where) % 3  # also as the first batch
    found = fit_alignment(inputs, alone, N_GROUPS, 0)
    assert all(np.isfinite(part).all() for part in found[:3])
    one, two = where % 3, (1 + where) % 3
    moved, before = taken_off(found, kind, alone), taken_off(without, kind, level)
    np.testing.assert_allclose((moved[two] - moved[one]), before[1] - before[0], atol=0.3)
    assert np.abs(moved[(2 + where) % 3, kind[17]]).max() < 5


def test_start_is_chosen_on_some_of_many_cells(drawn, monkeypatch):
    monkeypatch.setattr(alignment, "MAX_CELLS", 200)
    kind, level = drawn
    shift = np.array([[0, 0, 0, 0], [1, 2, -3, 4]])
    found = fit_alignment(cells(kind, level, shift), level, N_GROUPS, 0)
    moved = taken_off(found, kind, level)
    assert len(found.groups) == 600
    np.testing.assert_allclose(moved[1] - moved[0], np.tile(shift[1], (N_GROUPS, 1)), atol=0.6)


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_far_from_the_others_is_aligned_in_many_groups(seed):
    """Further than kinds are from each other, and each batch lacks a kind."""
    rng = np.random.default_rng(seed)
    level = rng.integers(0, 2, 300)
    kind = np.where(level == 1, rng.integers(0, 3, 300), rng.integers(1, 4, 300))
    shift = 6 * np.array([[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    found = fit_alignment(cells(kind, level, shift, seed), level, 10, seed)
    moved = taken_off(found, kind, level)
    np.testing.assert_allclose((moved[1] - moved[0])[1:3], np.tile(shift[1], (2, 1)), atol=1.5)


def test_same_seed_same_bits(drawn):
    kind, level = drawn
    inputs = cells(kind, level, [[0, 0, 0, 0], [1, 2, -3, 4]])
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same = fit_alignment(inputs, level, N_GROUPS, 0), fit_alignment(inputs, level, N_GROUPS, 0)
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    other = fit_alignment(inputs, level, N_GROUPS, 5)
    np.testing.assert_allclose(  # the groups have other numbers, what is taken off is the same
        taken_off(other, kind, level), taken_off(one, kind, level), atol=0.3
    )


def test_inputs_are_not_changed(drawn):
    kind, level = drawn
    inputs = cells(kind, level, [[0, 0, 0, 0], [1, 2, -3, 4]])
    before = inputs.copy()
    fit_alignment(inputs, level, N_GROUPS, 0)
    np.testing.assert_array_equal(inputs, before)


@pytest.mark.parametrize(("n_obs", "n_levels"), [(1, 1), (2, 2), (5, 5)])
def test_tiny_data(n_obs, n_levels):
    level = np.arange(n_obs) % n_levels
    inputs = cells(np.zeros(n_obs, int), level, np.zeros((n_levels, N_COMPONENTS)))
    found = fit_alignment(inputs, level, n_groups_for(n_obs), 0)
    assert found.of_level.shape == (n_levels, 1, N_COMPONENTS)
    assert all(np.isfinite(part).all() for part in found[:3])


@pytest.mark.parametrize(("n_obs", "n_groups"), [(1, 1), (19, 1), (40, 2), (150, 7), (10**6, 10)])
def test_number_of_groups(n_obs, n_groups):
    assert n_groups_for(n_obs) == n_groups


def test_from_parameters(drawn):
    kind, level = drawn
    found = fit_alignment(cells(kind, level, np.zeros((2, 4))), level, N_GROUPS, 0)
    named = {"centroids": found.common, "batch_centroids": found.of_level, "centroid_scale": found.scale}
    again = Alignment.of_arrays(named | {"loading": np.ones(3)})
    for one, other in zip(again[:3], found[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    assert Alignment.of_arrays({"loading": np.ones(3)}) is None


def test_new_batches_are_moved_onto_centroids_that_are_known(drawn):
    kind, level = drawn
    shift = np.array([[2, 0, -2, 0], [1, -1, 2, 2]])
    known = Alignment(CENTRES, CENTRES[None], np.float32(1.0))
    found = align_to(known, cells(kind, level, shift), level)
    np.testing.assert_array_equal(found.common, CENTRES)
    assert found.scale == known.scale and found.of_level.shape == (2, N_GROUPS, N_COMPONENTS)
    moved = taken_off(found, kind, level)
    for b in (0, 1):
        np.testing.assert_allclose(moved[b], np.tile(shift[b], (N_GROUPS, 1)), atol=0.6)
