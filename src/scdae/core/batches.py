"""Minibatches of one fixed shape from sparse counts, so that the compiled step is compiled once.

A batch lists the stored entries of its cells as (row, column, value) triples, padded with zeros to a capacity that no
batch of the run exceeds. A padded entry adds nothing to any sum: its value is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

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
    "on_accelerator",
    "one_behind",
    "padded",
    "paired",
    "scatter",
    "slice_batches",
    "slices",
    "split_batches",
    "totals",
]


# Entries of a dense array of cells by genes. On a CPU all that a program needs for these stays within the 32 MiB beyond which
# glibc has the kernel clear new memory at every call, which takes as long as the work itself.
_VALUES, _VALUES_ON_ACCELERATOR = 1e6, 8e6
T = TypeVar("T")
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
    """Sum of `values`, float32 (k,), at the stored entries of each cell: float32 (n_obs,)."""
    part = sp.csr_matrix((values, cells.indices, cells.indptr), shape=cells.shape)
    return np.asarray(part @ np.ones(cells.shape[1], np.float32))


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


def on_accelerator() -> bool:
    """Whether JAX's default device is none of the host's processors."""
    return jax.default_backend() != "cpu"


def cells_at_once(n_obs: int, n_vars: int) -> int:
    """Cells in a batch that is only looked at: fewer where there are many genes, so that its arrays stay small."""
    values = _VALUES_ON_ACCELERATOR if on_accelerator() else _VALUES
    return min(int(np.clip(values / n_vars, 16, 256)), n_obs)


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
    groups = order[slices(data.n_obs, batch_size)]
    lengths = np.diff(data.counts.indptr) + np.diff(held_out.indptr)  # an entry may have molecules in both
    size = Size(capacity(lengths, groups), capacity(_entries(data.unobserved), groups))
    for i, group in enumerate(groups):
        real = min(batch_size, data.n_obs - i * batch_size)
        cells = data.take(group)
        both = paired(cells.counts, held_out[group])
        both.data[both.indptr[real] :] = 0  # filling
        shown, rest = both.data.real.copy(), both.data.imag.copy()
        cells = replace(cells, counts=sp.csr_matrix((shown + rest, both.indices, both.indptr), shape=both.shape))
        yield group[:real], make_batch(cells, split(axes, cells, shown), size)


def slices(n_obs: int, batch_size: int) -> np.ndarray:
    """Cells in order, in rows of `batch_size`; the last row ends in repeats of the last cell."""
    n_groups = -(-n_obs // batch_size)
    return np.minimum(np.arange(n_groups * batch_size), n_obs - 1).reshape(n_groups, batch_size)


def paired(one: sp.csr_matrix, other: sp.csr_matrix) -> sp.csr_matrix:
    """Two float32 CSR matrices as real and imaginary part of one, complex64: both at the entries that either has."""
    both = (one.astype(np.complex64) + np.complex64(1j) * other.astype(np.complex64)).tocsr()
    both.sort_indices()
    return both


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """The same, each when the next has been made.

    JAX computes in the background, so what an item waits for goes on while the next is prepared.
    """
    before: list[T] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def padded(values: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    """Values, as float or int32, followed by `fill` up to `length`."""
    out = np.full(length, fill, dtype=values.dtype if values.dtype.kind == "f" else np.int32)
    out[: len(values)] = values
    return out
