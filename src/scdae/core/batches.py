"""Minibatches of one fixed shape from sparse counts, so that the compiled step is compiled once.

A batch lists the stored entries of its cells as (row, column, value) triples, padded with zeros to a capacity that no
batch of the run exceeds. A padded entry adds nothing to any sum: its value is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.thinning import thin_values

__all__ = [
    "Batch",
    "CellData",
    "Size",
    "capacity",
    "cells_at_once",
    "epoch_order",
    "make_batch",
    "observed_mask",
    "scatter",
    "slice_batches",
    "split_batches",
]


_VALUES = 2e6  # entries of a dense array of cells by genes
Array = Any  # NumPy outside of compiled functions, JAX within


@dataclass(frozen=True)
class CellData:
    """Counts of the cells with what the model has to know about each.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars), canonical.
    unobserved
        Boolean CSR of the entries that were not measured, or None.
    codes
        int32 (n_obs,): batch of each cell; all zero without batches.
    share
        float32 (n_obs,): share of expression that the observed genes of the cell carry; 1 where all were observed.
    """

    counts: sp.csr_matrix
    unobserved: sp.csr_matrix | None
    codes: np.ndarray
    share: np.ndarray

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self.counts.shape[0])

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return int(self.counts.shape[1])

    def take(self, cells: np.ndarray) -> CellData:
        """The same for some of the cells, in the order given."""
        hidden = None if self.unobserved is None else self.unobserved[cells]
        return CellData(self.counts[cells], hidden, self.codes[cells], self.share[cells])


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
        return cls(capacity(data.counts, groups), capacity(data.unobserved, groups), capacity(chosen, groups), genes)


class Batch(NamedTuple):
    """Arrays of one minibatch: `b` cells, `k` padded entries, `u` padded entries that were not observed."""

    rows: Array  # int32 (k,): cell within the batch
    cols: Array  # int32 (k,): gene
    x_in: Array  # float32 (k,): molecules that the encoder sees
    x_out: Array  # float32 (k,): molecules that it has to predict
    codes: Array  # int32 (b,)
    share: Array  # float32 (b,)
    hidden_rows: Array  # int32 (u,): entries that were not observed; u is 0 where all were
    hidden_cols: Array  # int32 (u,); padding points one past the last gene
    chosen: Array  # int32 (c,): places in the list of entries of some genes; padding points to a padded entry


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


def capacity(matrix: sp.csr_matrix | None, groups: np.ndarray) -> int:
    """Number of stored entries in the fullest of `groups` (rows of cell numbers), rounded up to one more at least."""
    if matrix is None:
        return 0
    fullest = int(np.diff(matrix.indptr)[groups].sum(axis=1).max())
    step = 256 if fullest < 16384 else 4096
    return (fullest // step + 1) * step


def make_batch(
    data: CellData,
    cells: np.ndarray,
    size: Size,
    *,
    kept_share: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Collect `cells` into a padded batch.

    Parameters
    ----------
    data
        Counts to draw from.
    cells
        Cell numbers, (b,).
    size
        Capacities.
    kept_share
        (b,): share of each cell's molecules that goes to the input, the rest to the output, by binomial thinning with
        `rng`. None: all molecules are input.
    """
    part = data.counts[cells]
    rows = np.repeat(np.arange(len(cells), dtype=np.int32), np.diff(part.indptr))
    x_in, x_out = part.data, np.zeros(0, np.float32)
    if kept_share is not None and rng is not None:
        x_in = thin_values(part.data, kept_share[rows], rng)
        x_out = part.data - x_in
    hidden_rows = hidden_cols = np.zeros(0, np.int32)
    if data.unobserved is not None:
        hidden = data.unobserved[cells]
        hidden_rows = np.repeat(np.arange(len(cells), dtype=np.int32), np.diff(hidden.indptr))
        hidden_cols = hidden.indices
    chosen = np.zeros(0, np.int32) if size.genes is None else np.flatnonzero(size.genes[part.indices])
    k, u = size.stored, size.hidden
    return Batch(
        rows=_padded(rows, k),
        cols=_padded(part.indices, k),
        x_in=_padded(x_in, k),
        x_out=_padded(x_out, k),
        codes=data.codes[cells],
        share=data.share[cells],
        hidden_rows=_padded(hidden_rows, u),
        hidden_cols=_padded(hidden_cols, u, fill=data.n_vars),
        chosen=_padded(chosen.astype(np.int32), size.chosen, fill=k - 1),
    )


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


def slice_batches(data: CellData, batch_size: int) -> Iterator[tuple[slice, Batch]]:
    """All cells in order, in batches of one shape; the last is filled up with repeats of its last cell.

    Yields
    ------
    tuple
        The cells that the batch stands for, and the batch; rows beyond the slice are filling.
    """
    groups = _slices(data.n_obs, batch_size)
    size = Size.of(data, groups)
    for i, cells in enumerate(groups):
        start = i * batch_size
        yield slice(start, min(start + batch_size, data.n_obs)), make_batch(data, cells, size)


def split_batches(
    data: CellData, held_out: sp.csr_matrix, order: np.ndarray, batch_size: int, genes: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """All cells in the given order, with the training molecules as input and the held-out ones as output.

    Yields
    ------
    tuple
        The numbers of the cells in the batch, and the batch; rows beyond them are filling without any counts.
    """
    total = (data.counts + held_out).tocsr()
    total.sort_indices()
    both = CellData(total, data.unobserved, data.codes, data.share)
    groups = order[_slices(data.n_obs, batch_size)]
    size = Size.of(both, groups, genes)
    for i, cells in enumerate(groups):
        real = min(batch_size, data.n_obs - i * batch_size)
        batch = make_batch(both, cells, size)
        x_in = _padded(_values_at(data.counts[cells], total[cells]), size.stored)
        filling = batch.rows >= real
        x_out = np.where(filling, 0, batch.x_in - x_in)
        yield cells[:real], batch._replace(x_in=np.where(filling, 0, x_in), x_out=x_out)


def _slices(n_obs: int, batch_size: int) -> np.ndarray:
    """Cells in order, in rows of `batch_size`; the last row ends in repeats of the last cell."""
    n_groups = -(-n_obs // batch_size)
    return np.minimum(np.arange(n_groups * batch_size), n_obs - 1).reshape(n_groups, batch_size)


def _values_at(part: sp.csr_matrix, whole: sp.csr_matrix) -> np.ndarray:
    """Values of `part` at the stored entries of `whole`, whose pattern contains that of `part`."""
    columns = whole.shape[1]
    rows = np.repeat(np.arange(whole.shape[0], dtype=np.int64), np.diff(whole.indptr))
    part_rows = np.repeat(np.arange(part.shape[0], dtype=np.int64), np.diff(part.indptr))
    values = np.zeros(whole.nnz, np.float32)
    values[np.searchsorted(rows * columns + whole.indices, part_rows * columns + part.indices)] = part.data
    return values


def _padded(values: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    out = np.full(length, fill, dtype=values.dtype if values.dtype.kind == "f" else np.int32)
    out[: len(values)] = values
    return out
