import jax
import numpy as np
import pytest
import scipy.sparse as sp

import small
from scdae.core.data.cells import CellData
from scdae.core.data.minibatch import Size, among, capacity, observed_mask, paired, scatter, totals
from scdae.core.minibatches import build
from scdae.core.minibatches.build import epoch_order, make_batch, slice_batches, split_batches
from scdae.core.minibatches.corruption import whole
from scdae.core.network.encoder_input import project
from scdae.core.network.principal_axes import fit_axes
from scdae.core.runtime.background import one_behind

N_OBS, N_VARS = 11, 7


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (N_OBS, N_VARS)).astype(np.float32)
    hidden = rng.random((N_OBS, N_VARS)) < 0.3
    hidden[3] = False
    counts[hidden] = 0
    counts[5] = 0
    return CellData(
        counts=sp.csr_matrix(counts),
        unobserved=sp.csr_matrix(hidden),
        conditions=small.of_levels(*rng.integers(0, 3, (2, N_OBS)), values=rng.normal(size=(1, N_OBS))),
        share=rng.uniform(0.5, 1, N_OBS).astype(np.float32),
    )


@pytest.fixture
def axes(data):
    return fit_axes(data, 1.0, 3, np.random.default_rng(0))


def batch_of(data, cells, axes, genes=None):
    part = data.take(cells)
    return make_batch(part, whole(axes, part), Size.of(data, cells[None], genes))


def assert_same(conditions, of_all, cells):
    """Conditions of some cells are those that they have among all."""
    np.testing.assert_array_equal(conditions.levels, of_all.levels[cells])
    np.testing.assert_array_equal(conditions.values, of_all.values[cells])


def as_dense(batch, values, n_cells):
    return np.asarray(scatter(np.asarray(values), batch, n_cells, N_VARS))


def test_epochs_visit_every_cell_equally_often():
    order = epoch_order(N_OBS, 4, 11, np.random.default_rng(0))
    assert order.shape == (11, 4)
    flat = order.ravel()
    for epoch in range(4):
        assert sorted(flat[epoch * N_OBS : (epoch + 1) * N_OBS]) == list(range(N_OBS))
    assert not np.array_equal(flat[:N_OBS], flat[N_OBS : 2 * N_OBS])


def test_capacity_leaves_room_for_one_padded_entry(data):
    groups = np.arange(10).reshape(2, 5)
    assert capacity(np.diff(data.counts.indptr), groups) == 256
    assert capacity(np.array([256, 256]), np.array([[0], [1]])) == 512  # exactly full is not enough
    assert capacity(np.array([20000]), np.array([[0]])) == 32768
    assert capacity(np.array([40000]), np.array([[0]])) == 40960
    assert (
        capacity(np.full(2, 2**31 - 1, np.int32), np.array([[0, 1]])) > 2**32 - 2
    )  # more than the numbers' own dtype holds
    assert capacity(None, groups) == 0


def test_batch_holds_the_cells_asked_for(data, axes):
    cells = np.array([9, 2, 2, 5])
    batch = batch_of(data, cells, axes)
    np.testing.assert_array_equal(as_dense(batch, batch.x_in, 4), data.counts[cells].toarray())
    assert not batch.x_out.any()
    assert_same(batch.conditions, data.conditions, cells)
    np.testing.assert_array_equal(batch.share, data.share[cells])
    np.testing.assert_array_equal(observed_mask(batch, 4, N_VARS), ~data.unobserved[cells].toarray())
    part = data.take(cells)
    np.testing.assert_array_equal(part.counts.toarray(), data.counts[cells].toarray())
    np.testing.assert_array_equal(part.unobserved.toarray(), data.unobserved[cells].toarray())
    assert_same(part.conditions, data.conditions, cells)


def test_shapes_are_those_of_the_size_whatever_the_cells(data, axes):
    order = epoch_order(N_OBS, 3, 9, np.random.default_rng(0))
    size = Size.of(data, order, np.array([True, False] * 3 + [True]))
    batches = [make_batch(data.take(cells), whole(axes, data.take(cells)), size) for cells in order]
    assert len({tuple(np.shape(part) for part in jax.tree.leaves(batch)) for batch in batches}) == 1


def test_chosen_lists_the_entries_of_the_genes(data, axes):
    genes = np.zeros(N_VARS, bool)
    genes[[1, 4]] = True
    cells = np.array([0, 1, 2, 3])
    batch = batch_of(data, cells, axes, genes)
    listed = np.zeros((4, N_VARS), np.float32)
    np.add.at(listed, (batch.rows[batch.chosen], batch.cols[batch.chosen]), batch.x_in[batch.chosen])
    np.testing.assert_array_equal(listed, data.counts[cells].toarray() * genes)


def test_everything_observed_needs_no_mask(data, axes):
    plain = CellData(data.counts, None, data.conditions, data.share)
    assert observed_mask(batch_of(plain, np.arange(4), axes), 4, N_VARS) is None
    assert plain.take(np.arange(2)).unobserved is None


def test_two_matrices_as_parts_of_one():
    one = sp.csr_matrix(np.array([[0.0, 0, 2], [0, 1, 0]], np.float32))
    other = sp.csr_matrix(np.array([[1.0, 0, 3], [0, 0, 4]], np.float32))
    both = paired(one, other)
    np.testing.assert_array_equal(both.indices, [0, 2, 1, 2])
    np.testing.assert_array_equal(both.data.real, [0, 2, 1, 0])
    np.testing.assert_array_equal(both.data.imag, [1, 3, 0, 4])


def test_totals_are_those_of_each_cell(data):
    counts = data.counts.copy()
    counts.data[counts.indptr[3] : counts.indptr[4]] = 0
    counts.eliminate_zeros()  # a cell without entries
    np.testing.assert_array_equal(totals(counts.data, counts), counts.toarray().sum(axis=1))


def test_items_come_when_the_next_has_been_made():
    made = []

    def items():
        for i in range(3):
            made.append(i)
            yield i

    assert [(item, list(made)) for item in one_behind(items())] == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
    assert list(one_behind([])) == []


@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_slices_cover_all_cells_in_order(data, axes, batch_size):
    seen = []
    for rows, batch in slice_batches(data, axes, batch_size):
        values = as_dense(batch, batch.x_in, batch_size)
        n_cells = rows.stop - rows.start
        np.testing.assert_array_equal(values[:n_cells], data.counts[rows].toarray())
        seen.extend(range(rows.start, rows.stop))
    assert seen == list(range(N_OBS))


@pytest.mark.parametrize("together", [1, 8, 1024])
def test_batches_are_the_same_however_many_cells_are_projected_together(data, axes, monkeypatch, together):
    monkeypatch.setattr(build, "_TOGETHER", together)
    for rows, batch in slice_batches(data, axes, 4):
        cells = data.take(np.minimum(np.arange(rows.start, rows.start + 4), N_OBS - 1))
        expected = make_batch(cells, whole(axes, cells), Size.of(data, np.arange(N_OBS)[:, None])._replace(stored=256))
        assert np.array_equal(batch.inputs, expected.inputs)
        for name in ("total_in", "share", "hidden_rows", "hidden_cols"):
            n = len(getattr(expected, name))
            assert np.array_equal(getattr(batch, name)[:n], getattr(expected, name)), name
        assert_same(batch.conditions, cells.conditions, np.arange(4))


def test_entries_of_chosen_genes_are_kept_and_the_totals_are_of_all(data, axes):
    genes = np.array([5, 2, 2])
    size = Size.of(data, np.arange(N_OBS)[None], among(genes, N_VARS))
    batch = make_batch(data, whole(axes, data), size.rounded())
    some = batch.of_chosen()
    only = np.zeros((N_OBS, N_VARS))
    only[:, [2, 5]] = data.counts.toarray()[:, [2, 5]]
    np.testing.assert_array_equal(as_dense(some, some.x_in, N_OBS), only)
    np.testing.assert_array_equal(some.total_in, data.counts.toarray().sum(axis=1))


def test_split_batches_hold_both_halves_and_filling_counts_for_nothing(data, axes):
    rng = np.random.default_rng(2)
    held = rng.poisson(0.5, (N_OBS, N_VARS)) * (data.unobserved.toarray() == 0)
    held[7] = 0
    order = rng.permutation(N_OBS)
    visited = []
    for cells, batch in split_batches(data, sp.csr_matrix(held.astype(np.float32)), axes, order, 4):
        shown, rest = as_dense(batch, batch.x_in, 4), as_dense(batch, batch.x_out, 4)
        np.testing.assert_array_equal(shown[: len(cells)], data.counts[cells].toarray())
        np.testing.assert_array_equal(rest[: len(cells)], held[cells])
        assert not shown[len(cells) :].any() and not rest[len(cells) :].any()
        assert_same(batch.conditions.take(slice(0, len(cells))), data.conditions, cells)
        inputs = project(axes, data.take(cells))
        np.testing.assert_allclose(batch.inputs[: len(cells)], inputs, rtol=1e-5, atol=1e-5)
        visited.extend(cells)
    np.testing.assert_array_equal(visited, order)
