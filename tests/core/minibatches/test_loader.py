import threading

import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.data.cells import cell_data
from scdae.core.data.chunks import Blocks
from scdae.core.data.conditions import Conditions
from scdae.core.minibatches import loader as module
from scdae.core.minibatches.loader import InMemory, Stream

N_OBS, N_VARS = 90, 12
BOUNDS = np.array([0, 7, 20, 21, 50, 90])


def everything(masked):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, (N_OBS, N_VARS)).astype(np.float32)
    counts[[4, 20, 33]] = 0  # one of them a block of its own
    hidden = np.zeros(counts.shape, bool)
    if masked:
        hidden[10:40, :3] = True
        counts[hidden] = 0
    return sp.csr_matrix(counts), sp.csr_matrix(hidden)


def stream(masked=False, genes=None, known=(0, 5, 30, 31, 89), reads=None):
    counts, hidden = everything(masked)
    genes = np.arange(N_VARS) if genes is None else genes
    known = np.array(known)

    def read(start, stop):
        if reads is not None:
            reads.append((start, stop, threading.current_thread().name))
        gaps = hidden[start:stop]
        return counts[start:stop], gaps if gaps.nnz else None  # a block in which all was observed says None

    lengths = np.diff(counts.indptr)
    totals = np.asarray(counts.sum(axis=0), float).ravel()
    blocks = Blocks(BOUNDS, read, lengths, np.diff(hidden.indptr) if masked else None, totals, known)
    profile = totals[genes] / totals[genes].sum()
    kept = counts[known][:, genes]
    kept.data[:] = 1  # so that they are told from those that were read
    conditions = Conditions(np.arange(N_OBS, dtype=np.int32)[:, None], np.zeros((N_OBS, 0), np.float32))
    data = cell_data(kept, hidden[known][:, genes] if masked else None, conditions.take(known), profile)
    return Stream(blocks, genes, data, conditions, profile), counts, hidden


@pytest.mark.parametrize("batch_size", [5, 16])
def test_every_cell_with_counts_comes_once_in_an_epoch(batch_size):
    source, counts, _ = stream()
    counted = np.flatnonzero(np.diff(counts.indptr))
    assert source.n_obs == len(counted) == 87
    order = source.order(batch_size, 3 * 87 // batch_size, np.random.default_rng(1))
    flat = order.ravel()
    assert sorted(flat[:87]) == counted.tolist() or len(np.unique(flat)) == 87
    times = np.bincount(flat, minlength=N_OBS)
    assert times[counted].min() >= 2 and times[counted].max() <= 3 and times.sum() == times[counted].sum()
    again = source.order(batch_size, 3 * 87 // batch_size, np.random.default_rng(1))
    np.testing.assert_array_equal(order, again)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("genes", [None, np.array([0, 2, 3, 11])])
@pytest.mark.parametrize("cells", [(1, 10), (1024, 2**16)])
def test_the_cells_of_a_step_are_those_of_the_order(monkeypatch, masked, genes, cells):
    """Whatever is read together; known cells come with their training molecules, all others as they are."""
    monkeypatch.setattr(module, "_CELLS", cells)
    source, counts, hidden = stream(masked, genes)
    columns = np.arange(N_VARS) if genes is None else genes
    order = source.order(8, 25, np.random.default_rng(2))
    size, n_steps = source.size(order), 0
    for cells, data in zip(order, source.minibatches(order), strict=True):
        expected = counts[cells][:, columns].toarray()
        known = np.isin(cells, source.blocks.rows)
        np.testing.assert_array_equal(data.counts.toarray()[~known], expected[~known])
        np.testing.assert_array_equal(data.counts.toarray()[known], (expected > 0)[known])
        np.testing.assert_array_equal(data.conditions.levels[:, 0], cells)
        assert data.counts.has_sorted_indices and data.counts.nnz < size.stored
        if masked:
            np.testing.assert_array_equal(data.unobserved.toarray(), hidden[cells][:, columns].toarray())
            np.testing.assert_allclose(data.share, 1 - data.unobserved @ source.profile, atol=1e-6)
            assert data.unobserved.nnz < size.hidden
        else:
            assert data.unobserved is None and size.hidden == 0
        n_steps += 1
    assert n_steps == 25


def test_cells_are_read_ahead_by_another_thread_and_never_twice_in_a_window():
    reads = []
    source, *_ = stream(reads=reads)
    order = source.order(8, 11, np.random.default_rng(3))  # one epoch and a cell more, in one window
    steps = source.minibatches(order)
    next(steps)
    assert all(name.startswith("scdae-reading") for _, _, name in reads)
    starts = [start for start, _, _ in reads]
    assert len(starts) == len(set(starts)) <= len(BOUNDS) - 1
    steps.close()


def test_a_failure_to_read_reaches_the_caller():
    source, counts, _ = stream()

    def broken(start, stop):
        raise OSError("gone")

    object.__setattr__(source, "blocks", source.blocks.__class__(**{**vars(source.blocks), "read": broken}))
    order = source.order(8, 11, np.random.default_rng(3))
    with pytest.raises(OSError, match="gone"):
        next(source.minibatches(order))


def test_windows_are_small_where_cells_have_many_counts(monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", 60)
    monkeypatch.setattr(module, "_CELLS", (1, 1000))
    source, counts, _ = stream()
    mean = counts.nnz / source.n_obs
    assert source.window(4) == int(60 / mean) // 4 * 4
    assert source.window(50) == 50


def test_the_listed_entries_of_some_genes_fit():
    source, counts, _ = stream()
    order = source.order(8, 11, np.random.default_rng(3))
    genes = np.arange(N_VARS) < 2
    size = source.size(order, genes)
    assert size.genes is genes
    assert max(counts[cells][:, :2].nnz for cells in order) < size.chosen


def test_in_memory():
    counts, _ = everything(False)
    profile = np.full(N_VARS, 1 / N_VARS)
    source = InMemory(cell_data(counts, None, None, profile))
    assert (source.n_obs, source.n_vars, source.molecules) == (N_OBS, N_VARS, counts.sum())
    order = source.order(9, 10, np.random.default_rng(0))
    assert sorted(order.ravel()) == list(range(N_OBS))
    for cells, data in zip(order, source.minibatches(order), strict=True):
        np.testing.assert_array_equal(data.counts.toarray(), counts[cells].toarray())
        assert data.counts.nnz < source.size(order).stored
