"""A minibatch: the non-zeros of some cells as arrays of one shape for the whole run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.runtime.buckets import bucket

__all__ = [
    "Array",
    "Batch",
    "Size",
    "among",
    "capacity",
    "entries_of_cells",
    "observed_mask",
    "padded",
    "paired",
    "scatter",
    "totals",
]


_FEWEST, _FEW = 256, 2**15  # entries

Array = Any  # NumPy outside of compiled functions, JAX within


class Size(NamedTuple):
    """Capacities of the lists of a batch."""

    stored: int  # stored entries: at least one more than any batch has
    hidden: int = 0  # missing values
    chosen: int = 0  # stored entries of the genes in `genes`
    genes: np.ndarray | None = None  # bool (n_vars,): genes whose entries are listed in `chosen`

    @classmethod
    def of(cls, data: CellData, groups: np.ndarray, genes: np.ndarray | None = None) -> Size:
        """Find capacities that suffice for each row of `groups` (indices of cells)."""
        chosen = None if genes is None else _entries_among(data.counts, genes)
        numbers = entries_of_cells(data.counts), entries_of_cells(data.unobserved), chosen
        stored, hidden, some = (capacity(number, groups) for number in numbers)
        return cls(stored, hidden, some, genes)

    def rounded(self) -> Size:
        """Round capacities up, many by a quarter at most, so that one compiled program serves most selections of cells."""
        numbers = self.stored, self.hidden, self.chosen
        stored, hidden, chosen = (bucket(number, _FEW, steps=4) if number else 0 for number in numbers)
        return Size(stored, hidden, chosen, self.genes)


class Batch(NamedTuple):
    """Arrays of one minibatch: `b` cells, `k` entries and `u` missing values, both padded."""

    inputs: Array  # float32 (b, n_components): input of the encoder
    rows: Array  # int32 (k,): cell within the batch
    cols: Array  # int32 (k,): gene
    x_in: Array  # float32 (k,): molecules that the encoder sees
    x_out: Array  # float32 (k,): molecules to predict
    total_in: Array  # float32 (b,): sum of `x_in` in each cell
    total_out: Array  # float32 (b,)
    conditions: Conditions
    share: Array  # float32 (b,)
    hidden_rows: Array  # int32 (u,): missing values; u is 0 if there are none
    hidden_cols: Array  # int32 (u,); padding points one past the last gene
    chosen: Array  # int32 (c,): positions of the entries of some genes; padding points to a padded entry
    scored: Array | None = None  # bool (b, n_vars): entries to predict; None for all that were observed

    def of_chosen(self) -> Batch:
        """Keep the entries in `chosen`, and of the others what they add to the sums of the cells."""
        rows, cols, x_in, x_out = (values[self.chosen] for values in (self.rows, self.cols, self.x_in, self.x_out))
        return self._replace(rows=rows, cols=cols, x_in=x_in, x_out=x_out)


def among(genes: np.ndarray | None, n_vars: int) -> np.ndarray | None:
    """Mark `genes`, int (n,), among all: bool (n_vars,); None stays None.

    Examples
    --------
    >>> among(np.array([2, 0, 2]), 4).tolist()
    [True, False, True, False]
    """
    if genes is None:
        return None
    marks = np.zeros(n_vars, bool)
    marks[genes] = True
    return marks


def capacity(numbers: np.ndarray | None, groups: np.ndarray) -> int:
    """Return a capacity for the entries of any of `groups` (rows of indices of cells), and one more.

    Few entries are rounded up to a power of two, many by at most an eighth, so that one compiled program serves data
    sets of similar size.

    Parameters
    ----------
    numbers
        Entries of each cell, int (n_obs,); None if no cell has any.
    groups
        int (n_groups, b).

    Examples
    --------
    >>> import numpy as np
    >>> capacity(np.array([1000, 1001]), np.array([[0], [1]])), capacity(np.array([40_000]), np.array([[0]]))
    (1024, 40960)
    """
    if numbers is None:
        return 0
    least = int(numbers[groups].sum(axis=1, dtype=np.int64).max()) + 1
    return max(bucket(least, _FEW), _FEWEST)


def entries_of_cells(matrix: sp.csr_matrix | None) -> np.ndarray | None:
    """Count the stored entries of each cell: int (n_obs,)."""
    return None if matrix is None else np.diff(matrix.indptr)


def _entries_among(matrix: sp.csr_matrix, genes: np.ndarray) -> np.ndarray:
    """The same for the genes that are marked, bool (n_vars,). Taking their columns out of the matrix takes several times as long."""
    before = np.concatenate([[0], np.cumsum(genes[matrix.indices], dtype=np.int64)])
    return np.asarray(np.diff(before[matrix.indptr]))


def totals(values: np.ndarray, cells: sp.csr_matrix) -> np.ndarray:
    """Sum `values`, float32 (k,), over the stored entries of each cell: float32 (n_obs,)."""
    part = sp.csr_matrix((values, cells.indices, cells.indptr), shape=cells.shape)
    return np.asarray(part @ np.ones(cells.shape[1], np.float32))


def observed_mask(batch: Batch, n_cells: int, n_vars: int) -> jax.Array | None:
    """Return a boolean array (n_cells, n_vars), True where observed; None if no value is missing."""
    if batch.hidden_rows.shape[0] == 0:
        return None
    everything = jnp.ones((n_cells, n_vars), bool)
    return everything.at[batch.hidden_rows, batch.hidden_cols].set(False, mode="drop")


def scatter(values: jax.Array, batch: Batch, n_cells: int, n_vars: int) -> jax.Array:
    """Place `values` (k,) at the entries of `batch` in a dense (n_cells, n_vars) array; padding adds zeros."""
    flat = jnp.zeros(n_cells * n_vars, values.dtype)
    flat = flat.at[batch.rows * n_vars + batch.cols].add(values, mode="promise_in_bounds")
    return flat.reshape(n_cells, n_vars)


def paired(one: sp.csr_matrix, other: sp.csr_matrix) -> sp.csr_matrix:
    """Combine two float32 CSR matrices as real and imaginary part of a complex64 one, with the entries of both."""
    both = (one.astype(np.complex64) + np.complex64(1j) * other.astype(np.complex64)).tocsr()
    both.sort_indices()
    return both


def padded(values: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    """Convert values to float32 or int32, and append `fill` up to `length`."""
    out = np.full(length, fill, dtype=values.dtype if values.dtype.kind == "f" else np.int32)
    out[: len(values)] = values
    return out
