"""A matrix that lies on disk by columns, copied to disk by rows, so that it can be read by cells."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.runtime.stopping import before_stop
from scdae.files.replacing import is_alive, this_machine
from scdae.files.room import NoRoom, in_words, reserve

__all__ = ["RowMajorCopy"]

_AT_ONCE = 2**22  # stored entries that are read at a time


class RowMajorCopy:
    """Rows of a CSC matrix on disk, from a copy in the folder for temporary files (``TMPDIR``).

    The copy is made at once, in two passes over the stored entries, of which a few million are in memory at a time. It
    goes when the object does.

    Parameters
    ----------
    matrix
        Sparse dataset of anndata, of format ``"csc"``.

    Raises
    ------
    OSError
        There is no room for the copy; the message says how much it needs.
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
        _tidy_up()
        try:
            self._folder = tempfile.mkdtemp(prefix=f"scdae-{this_machine()}-{os.getpid()}-")
        except OSError as error:
            raise _no_room(stored * (self.dtype.itemsize + 4), error.strerror or str(error)) from error
        before_stop(weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True))
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
            target = np.repeat(free - rows.indptr[:-1], number) + np.arange(rows.nnz)
            self._values[target], self._columns[target] = rows.data, rows.indices + column
            free += number
            column = until

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        start, stop, _ = rows.indices(self.shape[0])
        part = slice(int(self._ends[start]), int(self._ends[stop]))
        ends = self._ends[start : stop + 1] - self._ends[start]
        values, columns = np.array(self._values[part]), np.array(self._columns[part])
        return sp.csr_matrix((values, columns, ends), shape=(stop - start, self.shape[1]))

    def _array(self, name: str, dtype: np.dtype[Any], length: int) -> np.ndarray:
        """Return an array in a file whose blocks are there: a disk that fills up under a map kills the process."""
        path, size = Path(self._folder) / name, max(length, 1) * dtype.itemsize
        try:
            path.touch()
            reserve(path, size, path)
            with path.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            reason = "" if isinstance(error, NoRoom) else error.strerror or str(error)
            raise _no_room(int(self._ends[-1]) * (self.dtype.itemsize + 4), reason) from error
        return np.memmap(path, dtype, "r+", shape=(max(length, 1),))


def _no_room(size: int, reason: str) -> OSError:
    folder = tempfile.gettempdir()
    try:
        free = f", where {in_words(shutil.disk_usage(folder).free)} are free"
    except OSError:
        free = ""
    return OSError(
        f"These counts are stored by columns, and a copy by rows needs {in_words(size)} in the folder for temporary files, "
        f"{folder}{free}{f' ({reason})' if reason else ''}. Set TMPDIR to a folder with more room, or store the counts by rows (CSR)."
    )


def _tidy_up() -> None:
    """Remove copies of processes of this machine that are no more."""
    folder = tempfile.gettempdir()
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        match = re.fullmatch(rf"scdae-{this_machine()}-(\d+)-\w+", name)
        if match and not is_alive(int(match[1])):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
