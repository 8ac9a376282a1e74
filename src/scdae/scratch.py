"""A matrix that lies on disk by columns, copied to disk by rows, so that it can be read by cells."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = ["RowMajorCopy"]

_AT_ONCE = 2**22  # stored entries that are read at a time


class RowMajorCopy:
    """Rows of a CSC matrix on disk, from a copy in the folder for temporary files (``TMPDIR``).

    The copy is made at once, in two passes over the stored entries, of which a few million are in memory at a time. It goes
    when the object does.

    Parameters
    ----------
    matrix
        Sparse dataset of anndata, of format ``"csc"``.
    """

    def __init__(self, matrix: Any):
        self.shape, self.dtype = tuple(matrix.shape), np.dtype(matrix.dtype)
        group = matrix.group
        starts = np.asarray(group["indptr"][:], np.int64)
        stored = int(starts[-1])
        lengths = np.zeros(self.shape[0], np.int64)
        for start in range(0, stored, _AT_ONCE):
            lengths += np.bincount(group["indices"][start : min(start + _AT_ONCE, stored)], minlength=self.shape[0])
        self._ends = np.concatenate([[0], np.cumsum(lengths)])
        self._folder = tempfile.mkdtemp(prefix="scdae-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._values = self._array("values", self.dtype, stored)
        self._columns = self._array("columns", np.dtype(np.int32), stored)
        free = self._ends[:-1].copy()
        column = 0
        while column < self.shape[1]:
            until = int(np.searchsorted(starts, starts[column] + _AT_ONCE, side="right")) - 1
            until = min(max(until, column + 1), self.shape[1])
            part = slice(int(starts[column]), int(starts[until]))
            ends = starts[column : until + 1] - starts[column]
            shape = (self.shape[0], until - column)
            rows = sp.csc_matrix((group["data"][part], group["indices"][part], ends), shape=shape).tocsr()
            number = np.diff(rows.indptr)
            place = np.repeat(free - rows.indptr[:-1], number) + np.arange(rows.nnz)
            self._values[place], self._columns[place] = rows.data, rows.indices + column
            free += number
            column = until

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        start, stop, _ = rows.indices(self.shape[0])
        part = slice(int(self._ends[start]), int(self._ends[stop]))
        ends = self._ends[start : stop + 1] - self._ends[start]
        values, columns = np.array(self._values[part]), np.array(self._columns[part])
        return sp.csr_matrix((values, columns, ends), shape=(stop - start, self.shape[1]))

    def _array(self, name: str, dtype: np.dtype[Any], length: int) -> np.ndarray:
        path = Path(self._folder) / name
        return np.memmap(path, dtype, "w+", shape=(max(length, 1),))
