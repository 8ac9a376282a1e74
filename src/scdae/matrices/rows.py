"""Rows of a matrix, whatever holds it: memory, a file, or a dask graph.

Everything here reads; nothing writes to the caller's arrays, and a matrix is never made dense as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp

from scdae._settings import settings
from scdae.matrices.csc_rows import RowMajorCopy

BLOCK_VALUES = 2**22
"""Values (rows times columns) that one block of rows may have: 16 MiB of float32 where it is dense. Stored values, where the
matrix is sparse; then up to 16 times as many rows times columns."""


@dataclass(frozen=True)
class Rows:
    """A matrix that is read by blocks of rows.

    Parameters
    ----------
    shape
        (n_obs, n_vars).
    dtype
        As stored.
    bounds
        int, (n_blocks + 1,): block k holds the rows `bounds[k]` to `bounds[k + 1]`, the latter excluded.
    read
        `read(start, stop)` gives these rows, as a dense array or a SciPy sparse matrix. They may share memory with
        the caller's matrix, so they are to be looked at only.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    bounds: np.ndarray
    read: Callable[[int, int], Any]

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last (excluded) row of each block."""
        for k in range(len(self.bounds) - 1):
            yield int(self.bounds[k]), int(self.bounds[k + 1])


def open_rows(matrix: Any, name: str) -> Rows:
    """Prepare a matrix to be read by rows.

    Parameters
    ----------
    matrix
        Dense array; SciPy sparse matrix or array; dataset of a file that AnnData, h5py or zarr opened; dask array.
        Booleans and real numbers of any width.
    name
        What the user calls it, for the messages.

    Raises
    ------
    TypeError
        The container or the dtype is none of these.
    ValueError
        The matrix is not two-dimensional, or a sparse matrix is damaged.

    Examples
    --------
    >>> import numpy as np
    >>> rows = open_rows(np.eye(3), "X")
    >>> [rows.read(start, stop).shape for start, stop in rows.spans()]
    [(3, 3)]
    """
    if isinstance(matrix, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a NumPy masked array. Pass its values and, as mask=, where they were observed: "
            "mask=~numpy.ma.getmaskarray(...)."
        )
    if sp.issparse(matrix):
        return _sparse_rows(matrix, name)
    if isinstance(matrix, np.ndarray):
        return _sliced_rows(np.asarray(matrix), name)
    if is_dask(matrix):
        return _dask_rows(plain_dask(matrix), name)
    homes = {home.__module__.partition(".")[0] for home in type(matrix).__mro__}
    if homes & {"h5py", "zarr"}:
        return _sliced_rows(matrix, name)
    if "anndata" in homes and hasattr(matrix, "to_memory"):
        stored = int(matrix.group["data"].shape[0])
        if getattr(matrix, "format", None) == "csr":
            return _sliced_rows(matrix, name, stored)
        if stored > settings.max_entries:
            return _sliced_rows(RowMajorCopy(matrix), name, stored)
        return _sparse_rows(matrix.to_memory(), name)
    raise TypeError(
        f"{name} is held in a {type(matrix).__module__}.{type(matrix).__qualname__}, which scdae cannot read. "
        "Convert it to a scipy.sparse.csr_matrix or a numpy.ndarray."
    )


def in_memory(matrix: Any) -> bool:
    """Return whether the values of a matrix are there, not in a file or a dask graph."""
    return sp.issparse(matrix) or isinstance(matrix, np.ndarray)


def is_dask(matrix: Any) -> bool:
    """Return whether it is a dask array, or a part of one that anndata made; dask is not imported for that."""
    return any(home.__module__.partition(".")[0] == "dask" for home in type(matrix).__mro__)


def plain_dask(matrix: Any) -> Any:
    """Return the array itself: the subclass that anndata makes of a part of one loses its type once it is sliced or pickled."""
    if type(matrix) is da.Array:
        return matrix
    return da.Array(matrix.dask, matrix.name, matrix.chunks, dtype=matrix.dtype, meta=matrix._meta)


def canonical_csr(block: Any) -> sp.csr_matrix:
    """Same values as sorted, summed CSR without stored zeros.

    The result may share memory with `block` where that is canonical already: copy before changing it. Repeated
    entries are added up in float64, so that small integers do not overflow; other values keep their dtype, except
    float16, which SciPy cannot hold and which becomes float32.
    """
    if not sp.issparse(block):
        return sp.csr_matrix(_plain_values(np.asarray(block)))
    csr = _as_csr(block)
    if not csr.has_canonical_format:
        csr = sp.csr_matrix((csr.data.astype(np.float64), csr.indices.copy(), csr.indptr.copy()), shape=csr.shape)
        csr.sum_duplicates()
    stored = csr.data != 0
    if not stored.all():
        ends = np.concatenate([[0], np.cumsum(stored)])[csr.indptr]
        csr = sp.csr_matrix((csr.data[stored], csr.indices[stored], ends), shape=csr.shape)
        csr.has_canonical_format = True
    return csr


def _sparse_rows(matrix: Any, name: str) -> Rows:
    try:
        csr = _as_csr(matrix)
    except ValueError as error:
        raise ValueError(f"{name} is a damaged sparse matrix ({error}). Read or build it again.") from error
    return _sliced_rows(csr, name, csr.nnz)


def _sliced_rows(matrix: Any, name: str, stored: int | None = None) -> Rows:
    shape = _checked_shape(matrix, name)
    step = BLOCK_VALUES // max(1, shape[1])
    if stored is not None:
        step = min(BLOCK_VALUES * shape[0] // max(1, stored), 16 * step)
    step = max(1, step)
    bounds = np.append(np.arange(0, shape[0], step), shape[0])
    return Rows(shape, np.dtype(matrix.dtype), bounds, partial(_read_slice, matrix, name))


def _read_slice(matrix: Any, name: str, start: int, stop: int) -> Any:
    home = getattr(matrix, "group", matrix)
    if type(home).__module__.startswith("h5py") and not home:
        raise OSError(
            f"{name} lies in a file that has been closed since. Open it again and make the layer anew, and keep the file "
            "open as long as a lazy layer of it is looked at: to_memory() of a part closes it, for example."
        )
    return matrix[start:stop]


def _dask_rows(matrix: Any, name: str) -> Rows:
    if any(np.isnan(side) for side in matrix.shape):
        matrix = matrix.compute_chunk_sizes()
    shape = _checked_shape(matrix, name)
    bounds = np.concatenate([[0], np.cumsum(matrix.chunks[0])]).astype(np.int64)
    return Rows(shape, np.dtype(matrix.dtype), bounds, partial(_read_dask, matrix))


def _read_dask(matrix: Any, start: int, stop: int) -> Any:
    # one piece for each chunk of columns: joining sparse chunks is left to SciPy
    column_bounds = np.concatenate([[0], np.cumsum(matrix.chunks[1])]).astype(np.int64)
    lazy = [matrix[start:stop, a:b] for a, b in zip(column_bounds[:-1], column_bounds[1:], strict=True)]
    pieces = dask.compute(*lazy, **({"scheduler": "synchronous"} if _on_worker() else {}))
    if len(pieces) == 1:
        return pieces[0]
    return sp.hstack(pieces, format="csr") if any(map(sp.issparse, pieces)) else np.hstack(pieces)


def _on_worker() -> bool:
    """Whether this is a task of a dask cluster, which would wait for itself if it handed on work to the cluster."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except (AttributeError, ValueError):  # there is none here
        return False
    return True


def _checked_shape(matrix: Any, name: str) -> tuple[int, int]:
    if len(matrix.shape) != 2:
        raise ValueError(f"{name} has {len(matrix.shape)} dimension(s); two are needed: cells, genes.")
    if np.dtype(matrix.dtype).kind not in "biuf":
        raise TypeError(
            f"{name} has dtype {matrix.dtype}, which does not hold counts. Convert it, for example with "
            ".astype('float32')."
        )
    return int(matrix.shape[0]), int(matrix.shape[1])


def _as_csr(matrix: Any) -> sp.csr_matrix:
    """CSR over the same memory where possible; a new object in any case, so the caller's keeps its flags."""
    if matrix.format not in ("csr", "csc"):
        matrix = matrix.tocoo()
        # SciPy adds up repeated entries on the way from COO, in the dtype of the values
        values = matrix.data if matrix.dtype.kind not in "biuf" else matrix.data.astype(np.float64)
        return sp.coo_matrix((values, (matrix.row, matrix.col)), shape=matrix.shape).tocsr()
    kind = sp.csr_matrix if matrix.format == "csr" else sp.csc_matrix
    shared = kind((_plain_values(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)
    shared.check_format(full_check=True)
    return shared.tocsr()


def _plain_values(values: np.ndarray) -> np.ndarray:
    """Values in a dtype that SciPy's sparse code works with: this machine's byte order, no float16."""
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
