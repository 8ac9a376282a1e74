"""Some genes of any matrix as a dense array, and its totals: for tables, plots and measures, whatever holds the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.matrices.rows import in_memory, is_dask, open_rows

__all__ = ["as_dense", "columns_of", "gene_means", "totals_of"]


def as_dense(values: Any, name: str = "values") -> np.ndarray:
    """Return all values as a NumPy array: lists and arrays as NumPy reads them; sparse, lazy and stored matrices are worked out.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> as_dense(sp.eye(2, format="coo"))
    array([[1., 0.],
           [0., 1.]])
    """
    if sp.issparse(values):
        return values.toarray()
    stored = is_dask(values) or hasattr(values, "to_memory")
    return columns_of(values, None, name) if stored and len(values.shape) == 2 else np.asarray(values)


def columns_of(matrix: Any, columns: np.ndarray | None, name: str) -> np.ndarray:
    """Return some columns of a matrix, dense, in memory of their own.

    Parameters
    ----------
    matrix
        Whatever :func:`scdae.matrices.rows.open_rows` reads.
    columns
        Positions, int (n,), in any order; None for all.
    name
        What the user calls the matrix, for errors.

    Returns
    -------
    numpy.ndarray
        (n_obs, n), of the dtype of the matrix.
    """
    if in_memory(matrix):
        part: Any = matrix.tocsr() if sp.issparse(matrix) else np.asarray(matrix)
        part = part if columns is None else part[:, columns]
        return part.toarray() if sp.issparse(part) else np.array(part)
    rows = open_rows(matrix, name)
    columns_read = np.empty((rows.shape[0], rows.shape[1] if columns is None else len(columns)), rows.dtype)
    for start, stop in rows.spans():
        block = rows.read(start, stop)
        block = block.tocsr() if sp.issparse(block) else np.asarray(block)
        part = block if columns is None else block[:, columns]
        columns_read[start:stop] = part.toarray() if sp.issparse(part) else part
    return columns_read


def totals_of(matrix: Any, name: str) -> np.ndarray:
    """Sum of each row, float64 (n_obs,), without what is NaN."""
    rows = open_rows(matrix, name)
    totals = np.zeros(rows.shape[0])
    for start, stop in rows.spans():
        totals[start:stop] = np.asarray(_known(rows.read(start, stop)).sum(axis=1)).ravel()
    return totals


def gene_means(matrix: Any, name: str) -> np.ndarray:
    """Mean of each column, float64 (n_vars,); what is NaN counts as zero."""
    rows = open_rows(matrix, name)
    means = np.zeros(rows.shape[1])
    for start, stop in rows.spans():
        means += np.asarray(_known(rows.read(start, stop)).sum(axis=0)).ravel()
    return means / max(rows.shape[0], 1)


def _known(block: Any) -> Any:
    """float64, with zeros in place of NaN."""
    if not sp.issparse(block):
        return np.nan_to_num(np.asarray(block, dtype=np.float64), posinf=np.inf, neginf=-np.inf)
    block = block.tocsr().astype(np.float64)
    block.data = np.nan_to_num(block.data, posinf=np.inf, neginf=-np.inf)
    return block
