"""Minibatches of one shape from sparse counts, so that the training step is compiled once.

A batch lists the stored entries of its cells as (row, column, value) triples, padded with zeros to a capacity that no
batch of the run exceeds. Padding has value zero, so it adds nothing to any sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.minibatch import Batch, Size, capacity, entries_of_cells, padded, paired, totals
from scdae.core.data.non_zeros import entry_rows
from scdae.core.minibatches.corruption import Halves, split, whole
from scdae.core.network.encoder_input import Axes
from scdae.core.runtime.platforms import on_accelerator

__all__ = ["cells_at_once", "epoch_order", "make_batch", "slice_batches", "slices", "split_batches"]


# Entries of a dense array of cells by genes. On a CPU, a program then needs less than 32 MiB. For larger blocks glibc
# asks the kernel for new, cleared memory at every call, and clearing takes as long as the work itself.
_VALUES, _VALUES_ON_ACCELERATOR = 1e6, 8e6
_TOGETHER = 1024  # cells, about, that are projected on the axes in one go
T = TypeVar("T")


def epoch_order(n_obs: int, batch_size: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Choose the cells of each step: a new random order in every epoch, cut into full batches.

    Returns
    -------
    numpy.ndarray
        int64 (n_steps, batch_size). A batch may span two epochs, so that there is no small last batch.
    """
    needed = n_steps * batch_size
    order = np.concatenate([rng.permutation(n_obs) for _ in range(-(-needed // n_obs))])
    return order[:needed].reshape(n_steps, batch_size)


def make_batch(cells: CellData, halves: Halves, size: Size) -> Batch:
    """Pad some cells, split into input and target, to the capacities in `size`."""
    counts, k, u = cells.counts, size.stored, size.hidden
    hidden_rows = hidden_cols = np.zeros(0, np.int32)
    if cells.unobserved is not None:
        hidden_rows, hidden_cols = entry_rows(cells.unobserved), cells.unobserved.indices
    chosen = np.zeros(0, np.int32) if size.genes is None else np.flatnonzero(size.genes[counts.indices])
    return Batch(
        inputs=halves.inputs,
        rows=padded(entry_rows(counts), k),
        cols=padded(counts.indices, k),
        x_in=padded(halves.x_in, k),
        x_out=padded(halves.x_out, k),
        total_in=totals(halves.x_in, counts),
        total_out=totals(halves.x_out, counts),
        conditions=cells.conditions,
        share=cells.share,
        hidden_rows=padded(hidden_rows, u),
        hidden_cols=padded(hidden_cols, u, fill=cells.n_vars),
        chosen=padded(chosen.astype(np.int32), size.chosen, fill=k - 1),
        scored=halves.scored,
    )


def cells_at_once(n_obs: int, n_vars: int) -> int:
    """Choose the number of cells in a batch for evaluation: with many genes fewer, so that arrays stay small.

    It is at most the next power of two above the number of cells, so that one compiled program serves most small data
    sets; the batch is padded.
    """
    values = _VALUES_ON_ACCELERATOR if on_accelerator() else _VALUES
    return min(int(np.clip(values / n_vars, 16, 256)), 1 << max(n_obs - 1, 0).bit_length())


def slice_batches(
    data: CellData, axes: Axes, batch_size: int, size: Size | None = None
) -> Iterator[tuple[slice, Batch]]:
    """Yield all cells in order, in batches of one shape; the last is padded with repeats of its last cell.

    Cells are projected on the axes some hundred at a time, which takes a third of the time that it takes batch by batch.

    Capacities are those that the cells need, or `size`, which may be that of more cells.

    Yields
    ------
    tuple
        The slice of cells in the batch, and the batch; rows beyond the slice are padding.
    """
    groups = slices(data.n_obs, batch_size)
    size = Size.of(data, groups).rounded() if size is None else size
    together = max(_TOGETHER // batch_size, 1)
    for first in range(0, len(groups), together):
        some = data.take(groups[first : first + together].ravel())
        halves, ends = whole(axes, some), some.counts.indptr
        for i in range(len(groups[first : first + together])):
            rows = slice(i * batch_size, (i + 1) * batch_size)
            entries = slice(ends[rows.start], ends[rows.stop])
            part = Halves(halves.inputs[rows], halves.x_in[entries], halves.x_out[entries])
            start = (first + i) * batch_size
            yield slice(start, min(start + batch_size, data.n_obs)), make_batch(some.rows(rows), part, size)


def split_batches(
    data: CellData, held_out: sp.csr_matrix, axes: Axes, order: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield all cells in the given order, with the training molecules as input and the held-out ones as output.

    Yields
    ------
    tuple
        The indices of the cells in the batch, and the batch; rows beyond them are padding without counts.
    """
    groups = order[slices(data.n_obs, batch_size)]
    in_both = data.counts.multiply(held_out).getnnz(axis=1)  # entries with molecules in both parts
    lengths = np.diff(data.counts.indptr) + np.diff(held_out.indptr) - in_both
    size = Size(capacity(lengths, groups), capacity(entries_of_cells(data.unobserved), groups)).rounded()
    for i, group in enumerate(groups):
        real = min(batch_size, data.n_obs - i * batch_size)
        cells = data.take(group)
        both = paired(cells.counts, held_out[group])
        both.data[both.indptr[real] :] = 0  # padding
        shown, rest = both.data.real.copy(), both.data.imag.copy()
        cells = replace(cells, counts=sp.csr_matrix((shown + rest, both.indices, both.indptr), shape=both.shape))
        yield group[:real], make_batch(cells, split(axes, cells, shown), size)


def slices(n_obs: int, batch_size: int) -> np.ndarray:
    """Arrange cells in order, in rows of `batch_size`; the last row is padded with the last cell."""
    n_groups = -(-n_obs // batch_size)
    return np.minimum(np.arange(n_groups * batch_size), n_obs - 1).reshape(n_groups, batch_size)
