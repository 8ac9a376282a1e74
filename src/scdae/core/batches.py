"""Minibatches of one fixed shape from sparse counts, so that the compiled step is compiled once.

A batch lists the stored entries of its cells as (row, column, value) triples, padded with zeros to a capacity that no
batch of the run exceeds. A padded entry adds nothing to any sum: its value is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.axes import Axes
from scdae.core.cells import CellData, entry_rows
from scdae.core.conditions import Conditions
from scdae.core.halves import Halves, split, whole

__all__ = [
    "Batch",
    "Size",
    "capacity",
    "cells_at_once",
    "epoch_order",
    "make_batch",
    "observed_mask",
    "padded",
    "scatter",
    "slice_batches",
    "slices",
    "split_batches",
    "totals",
    "values_at",
]


_VALUES = 2e6  # entries of a dense array of cells by genes
Array = Any  # NumPy outside of compiled functions, JAX within


class Size(NamedTuple):
    """Capacities of the lists of a batch."""

    stored: int  # stored entries; at least one more than any batch has
    hidden: int = 0  # entries that were not observed
    chosen: int = 0  # stored entries of the genes in `genes`
    genes: np.ndarray | None = None  # bool (n_vars,): genes whose entries are listed in `chosen`

    @classmethod
    def of(cls, data: CellData, groups: np.ndarray, genes: np.ndarray | None = None) -> Size:
        """Capacities that suffice for each row of `groups` (cell numbers)."""
        chosen = None if genes is None else data.counts[:, np.flatnonzero(genes)]
        stored, hidden, some = (capacity(_entries(x), groups) for x in (data.counts, data.unobserved, chosen))
        return cls(stored, hidden, some, genes)

    def rounded(self) -> Size:
        """Capacities rounded up to powers of two, so that what is compiled for some cells serves most others."""
        stored, hidden = (1 << (number - 1).bit_length() if number else 0 for number in (self.stored, self.hidden))
        return self._replace(stored=stored, hidden=hidden)


class Batch(NamedTuple):
    """Arrays of one minibatch: `b` cells, `k` padded entries, `u` padded entries that were not observed."""

    inputs: Array  # float32 (b, n_components): what the encoder gets
    rows: Array  # int32 (k,): cell within the batch
    cols: Array  # int32 (k,): gene
    x_in: Array  # float32 (k,): molecules that the encoder sees
    x_out: Array  # float32 (k,): molecules that it has to predict
    total_in: Array  # float32 (b,): sum of `x_in` in each cell
    total_out: Array  # float32 (b,)
    conditions: Conditions
    share: Array  # float32 (b,)
    hidden_rows: Array  # int32 (u,): entries that were not observed; u is 0 where all were
    hidden_cols: Array  # int32 (u,); padding points one past the last gene
    chosen: Array  # int32 (c,): places in the list of entries of some genes; padding points to a padded entry
    scored: Array | None = None  # bool (b, n_vars): entries to predict; None for all that were observed


def epoch_order(n_obs: int, batch_size: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Cells of each step: the cells in a new random order in every epoch, cut into full batches.

    Returns
    -------
    numpy.ndarray
        int64 (n_steps, batch_size). Epochs run on into one another, so that there is no small last batch.
    """
    needed = n_steps * batch_size
    order = np.concatenate([rng.permutation(n_obs) for _ in range(-(-needed // n_obs))])
    return order[:needed].reshape(n_steps, batch_size)


def capacity(numbers: np.ndarray | None, groups: np.ndarray) -> int:
    """Entries in the fullest of `groups` (rows of cell numbers), rounded up to one more at least.

    `numbers` are those of each cell, int (n_obs,); None where there are no such entries at all.
    """
    if numbers is None:
        return 0
    fullest = int(numbers[groups].sum(axis=1, dtype=np.int64).max())
    step = 256 if fullest < 16384 else 4096
    return (fullest // step + 1) * step


def _entries(matrix: sp.csr_matrix | None) -> np.ndarray | None:
    """Stored entries of each cell, int (n_obs,)."""
    return None if matrix is None else np.diff(matrix.indptr)


def make_batch(cells: CellData, halves: Halves, size: Size) -> Batch:
    """Pad some cells and what is shown of them to the capacities in `size`."""
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


def totals(values: np.ndarray, cells: sp.csr_matrix) -> np.ndarray:
    """Sum of `values` at the stored entries of each cell: float32 (n_obs,)."""
    ends = np.cumsum(values, dtype=np.float64)
    return np.diff(np.append(0, ends)[cells.indptr]).astype(np.float32)


def observed_mask(batch: Batch, n_cells: int, n_vars: int) -> jax.Array | None:
    """Boolean (n_cells, n_vars), True where measured; None where everything was."""
    if batch.hidden_rows.shape[0] == 0:
        return None
    everything = jnp.ones((n_cells, n_vars), bool)
    return everything.at[batch.hidden_rows, batch.hidden_cols].set(False, mode="drop")


def scatter(values: jax.Array, batch: Batch, n_cells: int, n_vars: int) -> jax.Array:
    """Dense (n_cells, n_vars) array with `values` (k,) at the entries of `batch`; padding adds its zeros."""
    flat = jnp.zeros(n_cells * n_vars, values.dtype)
    flat = flat.at[batch.rows * n_vars + batch.cols].add(values, mode="promise_in_bounds")
    return flat.reshape(n_cells, n_vars)


def cells_at_once(n_obs: int, n_vars: int) -> int:
    """Cells in a batch that is only looked at: fewer where there are many genes, so that its arrays stay small."""
    return min(int(np.clip(_VALUES / n_vars, 16, 256)), n_obs)


def slice_batches(
    data: CellData, axes: Axes, batch_size: int, size: Size | None = None
) -> Iterator[tuple[slice, Batch]]:
    """All cells in order, in batches of one shape; the last is filled up with repeats of its last cell.

    Capacities are what the cells need, unless `size` says that they are those of more cells than these.

    Yields
    ------
    tuple
        The cells that the batch stands for, and the batch; rows beyond the slice are filling.
    """
    groups = slices(data.n_obs, batch_size)
    size = Size.of(data, groups) if size is None else size
    for i, group in enumerate(groups):
        start = i * batch_size
        cells = data.take(group)
        yield slice(start, min(start + batch_size, data.n_obs)), make_batch(cells, whole(axes, cells), size)


def split_batches(
    data: CellData, held_out: sp.csr_matrix, axes: Axes, order: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """All cells in the given order, with the training molecules as input and the held-out ones as output.

    Yields
    ------
    tuple
        The numbers of the cells in the batch, and the batch; rows beyond them are filling without any counts.
    """
    total = (data.counts + held_out).tocsr()
    total.sort_indices()
    both = CellData(total, data.unobserved, data.conditions, data.share)
    groups = order[slices(data.n_obs, batch_size)]
    size = Size.of(both, groups)
    for i, group in enumerate(groups):
        real = min(batch_size, data.n_obs - i * batch_size)
        cells = both.take(group)
        filling = entry_rows(cells.counts) >= real
        cells.counts.data[filling] = 0
        x_in = np.where(filling, 0, values_at(data.counts[group], cells.counts))
        yield group[:real], make_batch(cells, split(axes, cells, x_in), size)


def slices(n_obs: int, batch_size: int) -> np.ndarray:
    """Cells in order, in rows of `batch_size`; the last row ends in repeats of the last cell."""
    n_groups = -(-n_obs // batch_size)
    return np.minimum(np.arange(n_groups * batch_size), n_obs - 1).reshape(n_groups, batch_size)


def values_at(part: sp.csr_matrix, all_of_it: sp.csr_matrix) -> np.ndarray:
    """Values of `part` at the stored entries of `all_of_it`, whose pattern contains that of `part`."""
    columns = all_of_it.shape[1]
    places = entry_rows(all_of_it).astype(np.int64) * columns + all_of_it.indices
    values = np.zeros(all_of_it.nnz, np.float32)
    values[np.searchsorted(places, entry_rows(part).astype(np.int64) * columns + part.indices)] = part.data
    return values


def padded(values: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    """Values, as float or int32, followed by `fill` up to `length`."""
    out = np.full(length, fill, dtype=values.dtype if values.dtype.kind == "f" else np.int32)
    out[: len(values)] = values
    return out
