"""Single counts that cannot be: one that holds more molecules than ten ordinary cells, and more than the rest of its own.

Such a count (a damaged value, a total in the place of a gene) would be most of the molecules that a network is trained
on, and the molecules of all other cells would be expected there. The network gets to see what the gene's mean expects
in its place; the count itself comes back as it is.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.non_zeros import entry_rows

__all__ = ["extreme_entries", "largest_count", "put_back", "without_extremes"]

_CELLS = 10.0  # ordinary cells


def largest_count(counts: sp.csr_matrix) -> float:
    """Most molecules that a single count can have: ten times the median library size of the cells that have counts."""
    depth = np.asarray(counts.sum(axis=1), np.float64).ravel()
    depth = depth[depth > 0]
    return _CELLS * float(np.median(depth)) if len(depth) else np.inf


def extreme_entries(counts: sp.csr_matrix, largest: float) -> np.ndarray:
    """Positions, in the data of a CSR matrix, of counts above `largest` and above the sum of their cell's others.

    Others are those up to `largest`. int64 (n,), empty in ordinary data.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> extreme_entries(sp.csr_matrix(np.array([[5.0, 900.0], [800.0, 900.0]])), 700)
    array([1, 2, 3])
    """
    above = np.flatnonzero(counts.data > largest)
    if not len(above):
        return above
    row = entry_rows(counts)
    rest = np.bincount(row, np.where(counts.data > largest, 0, counts.data), counts.shape[0])
    return above[counts.data[above] > rest[row[above]]]


def without_extremes(counts: sp.csr_matrix, largest: float, profile: np.ndarray) -> sp.csr_matrix:
    """Counts with the extreme ones replaced by what the gene means expect beside the rest of their cell.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars).
    largest
        As from :func:`largest_count`.
    profile
        Share of each gene in the average cell, (n_vars,).

    Returns
    -------
    scipy.sparse.csr_matrix
        The same object where there are none.
    """
    extreme = extreme_entries(counts, largest)
    if not len(extreme):
        return counts
    row, column = entry_rows(counts)[extreme], counts.indices[extreme]
    tamed = counts.copy()
    tamed.data[extreme] = 0
    rest = np.asarray(tamed.sum(axis=1), np.float64).ravel()[row]
    share = np.minimum(np.asarray(profile)[column], 0.5)
    tamed.data[extreme] = np.maximum(np.rint(rest * share / (1 - share)), 1)
    return tamed


def put_back(
    values: np.ndarray, counts: sp.csr_matrix, extreme: np.ndarray, rows: slice, genes: np.ndarray | None = None
) -> np.ndarray:
    """Values with the extreme counts of some cells as they were counted; the same object where there are none.

    Parameters
    ----------
    values
        float32 (n, n_genes), of the cells in `rows`.
    counts
        CSR (n_obs, n_vars).
    extreme
        As from :func:`extreme_entries`.
    rows
        Which cells `values` are of.
    genes
        Which genes they are of, int (n_genes,); None for all.
    """
    row, column = entry_rows(counts)[extreme], counts.indices[extreme]
    here = (row >= rows.start) & (row < rows.stop)
    if not here.any():
        return values
    values = values.copy()
    for i, j, count in zip(row[here] - rows.start, column[here], counts.data[extreme][here], strict=True):
        values[i, j if genes is None else np.flatnonzero(genes == j)] = count
    return values
