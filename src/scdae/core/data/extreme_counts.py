"""Impossible single counts: more molecules than in ten ordinary cells, and more than in the rest of the cell.

Such a count (a damaged value, or a total in place of a gene) would dominate the molecules that the network is trained
on, and the network would expect the molecules of all other cells in that gene. It therefore sees the expectation from
the gene's mean instead, and the count itself is returned unchanged.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.non_zeros import entry_rows

__all__ = ["extreme_entries", "largest_count", "put_back", "without_extremes"]

_CELLS = 10.0  # ordinary cells


def largest_count(counts: sp.csr_matrix) -> float:
    """Return the largest count taken as possible: ten times the median library size of cells with counts."""
    depth = np.asarray(counts.sum(axis=1), np.float64).ravel()
    depth = depth[depth > 0]
    return _CELLS * float(np.median(depth)) if len(depth) else np.inf


def extreme_entries(counts: sp.csr_matrix, largest: float) -> np.ndarray:
    """Find counts above `largest` that also exceed the sum of their cell's counts up to `largest`.

    Returns positions in the data of the CSR matrix, int64 (n,); empty in ordinary data.

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
    """Replace extreme counts by what the gene means predict, given the rest of the cell.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars).
    largest
        As from :func:`largest_count`.
    profile
        Fraction of each gene in the average cell, (n_vars,).

    Returns
    -------
    scipy.sparse.csr_matrix
        `counts` itself if none are extreme.
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
    """Put extreme counts back into the values of some cells. Returns `values` itself if there are none.

    Parameters
    ----------
    values
        float32 (n, n_genes), of the cells in `rows`.
    counts
        CSR (n_obs, n_vars).
    extreme
        As from :func:`extreme_entries`.
    rows
        Cells of `values`.
    genes
        Genes of `values`, int (n_genes,); None for all.
    """
    row, column = entry_rows(counts)[extreme], counts.indices[extreme]
    here = (row >= rows.start) & (row < rows.stop)
    if not here.any():
        return values
    values = values.copy()
    for i, j, count in zip(row[here] - rows.start, column[here], counts.data[extreme][here], strict=True):
        values[i, j if genes is None else np.flatnonzero(genes == j)] = count
    return values
