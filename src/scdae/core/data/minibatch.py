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

    stored: int  # stored entries; at least one more than any batch has
    hidden: int = 0  # entries that were not observed
    chosen: int = 0  # stored entries of the genes in `genes`
    genes: np.ndarray | None = None  # bool (n_vars,): genes whose entries are listed in `chosen`

    @classmethod
    def of(cls, data: CellData, groups: np.ndarray, genes: np.ndarray | None = None) -> Size:
        """Capacities that suffice for each row of `groups` (cell numbers)."""
        chosen = None if genes is None else data.counts[:, np.flatnonzero(genes)]
        stored, hidden, some = (capacity(entries_of_cells(x), groups) for x in (data.counts, data.unobserved, chosen))
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


def capacity(numbers: np.ndarray | None, groups: np.ndarray) -> int:
    """Entries that suffice for the fullest of `groups` (rows of cell numbers), and for one more.

    They are rounded up, to a power of two where they are few and by an eighth at most where they are many, so that what
    is compiled for one data set serves those of about its size.

    Parameters
    ----------
    numbers
        Entries of each cell, int (n_obs,); None where there are no such entries at all.
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
    """Stored entries of each cell, int (n_obs,)."""
    return None if matrix is None else np.diff(matrix.indptr)


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


def paired(one: sp.csr_matrix, other: sp.csr_matrix) -> sp.csr_matrix:
    """Two float32 CSR matrices as real and imaginary part of one, complex64: both at the entries that either has."""
    both = (one.astype(np.complex64) + np.complex64(1j) * other.astype(np.complex64)).tocsr()
    both.sort_indices()
    return both


def padded(values: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
    """Values, as float or int32, followed by `fill` up to `length`."""
    out = np.full(length, fill, dtype=values.dtype if values.dtype.kind == "f" else np.int32)
    out[: len(values)] = values
    return out
