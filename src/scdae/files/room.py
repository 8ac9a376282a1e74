"""Room for a file: looked at before time is spent, and reserved before anything is written into it.

The HDF5 library does not survive a disk that fills up while it writes, so it is to find its room there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.core.runtime.again import Passing

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["NoRoom", "bytes_of", "check_room", "free_bytes", "in_words", "release", "reserve"]

_OF_AN_ELEMENT = 4096  # bytes of HDF5's own for a data set or group
_OF_A_TEXT = 48  # bytes of HDF5's own for each text of a list
_SOME = 2**16
_KEEP_SIZE = 1  # flag of fallocate: blocks are taken, and the file stays as long as it is
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(OSError, Passing):
    """A file would not fit where it is to be."""


def in_words(size: float) -> str:
    """Bytes as people read them.

    Examples
    --------
    >>> in_words(900), in_words(2_500_000)
    ('900 bytes', '2.5 MB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"


def free_bytes(folder: str | os.PathLike[str]) -> int | None:
    """Bytes that a file in this folder may have; None where it is not known. A quota is not seen."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    longest = _longest()
    return free if longest is None else min(free, longest)


def check_room(path: str | os.PathLike[str], size: float) -> None:
    """Raise :class:`NoRoom` unless `size` bytes can be written to `path`.

    Parameters
    ----------
    path
        The target, or a file beside it.
    size
        Bytes.
    """
    folder = Path(os.path.realpath(path)).parent
    free, longest = free_bytes(folder), _longest()
    if free is None or size <= free:
        return
    if free == longest:
        raise NoRoom(
            f"{path}: about {in_words(size)} would be written, and a file may have {in_words(longest)} here (ulimit -f). Raise "
            "that limit, or write fewer genes."
        )
    raise NoRoom(
        f"{path}: about {in_words(size)} would be written, and {in_words(free)} are free there. Make room, or choose another place."
    )


def reserve(path: Path, size: int, shown: str | os.PathLike[str]) -> None:
    """Take blocks for a file that is there already, as far as the file system can; :class:`NoRoom` if they are not there.

    Parameters
    ----------
    path
        The file.
    size
        Bytes that it may get.
    shown
        What the user calls it.
    """
    check_room(shown, size)
    take = _library()
    if take is None or not size:
        return
    file = os.open(path, os.O_WRONLY)
    try:
        if take(file, _KEEP_SIZE, 0, size) != 0 and ctypes.get_errno() in _FULL:
            reason = os.strerror(ctypes.get_errno())
            raise NoRoom(
                f"{shown}: the {in_words(size)} that it needs are not free there ({reason}). Make room, or choose another place."
            )
    finally:
        os.close(file)


def release(path: Path) -> None:
    """Give back what was reserved and not used."""
    os.truncate(path, os.stat(path).st_size)


def bytes_of(value: Any) -> int:
    """Bytes that an AnnData or a part of one takes in an .h5ad without compression, rather too many.

    Lazy sparse arrays count as nothing: how much they hold is not known before they are there.

    Examples
    --------
    >>> import anndata
    >>> bytes_of(anndata.AnnData(np.ones((1000, 100), np.float32))) > 400_000
    True
    """
    return int(1.02 * _bytes(value)) + _SOME


def _bytes(value: Any) -> int:
    import pandas as pd
    import scipy.sparse as sp

    if hasattr(value, "obs_names"):
        return _of_anndata(value)
    if isinstance(value, Mapping):
        return _OF_AN_ELEMENT + sum(_bytes(part) for part in value.values())
    if isinstance(value, pd.DataFrame):
        return _OF_AN_ELEMENT + _bytes(value.index) + sum(_bytes(value.iloc[:, i]) for i in range(value.shape[1]))
    if isinstance(value, (pd.Series, pd.Index)):
        if isinstance(value.dtype, pd.CategoricalDtype):
            codes = pd.Categorical(value)
            return 2 * _OF_AN_ELEMENT + codes.codes.nbytes + _bytes(codes.categories)
        if not isinstance(value.dtype, np.dtype):
            return 2 * _OF_AN_ELEMENT + len(value) + _bytes(np.asarray(value, object))
        return _bytes(value.to_numpy())
    if sp.issparse(value):
        parts = [value.data, value.indices, value.indptr] if hasattr(value, "indptr") else []
        return 2 * _OF_AN_ELEMENT + sum(part.nbytes for part in parts)
    if isinstance(value, str):
        return _OF_AN_ELEMENT + 4 * len(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUST":
        letters = sum(len(text) if isinstance(text, str) else 8 for text in value.ravel().tolist())
        return _OF_AN_ELEMENT + letters + _OF_A_TEXT * value.size
    if hasattr(value, "dask") and sp.issparse(getattr(value, "_meta", None)):
        return 2 * _OF_AN_ELEMENT
    size = getattr(value, "nbytes", 0)
    return _OF_AN_ELEMENT + (int(size) if isinstance(size, (int, np.integer)) else 0)


def _of_anndata(adata: AnnData) -> int:
    parts = [adata.obs, adata.var, dict(adata.uns)]
    parts += [dict(getattr(adata, name)) for name in ("obsm", "varm", "obsp", "varp")]
    parts.append({name: layer for name, layer in adata.layers.items() if name is not None})  # anndata 0.13: None is X
    if adata.X is not None:
        parts.append(adata.X)
    if adata.raw is not None:
        parts += [adata.raw.X, adata.raw.var]
    return sum(_bytes(part) for part in parts)


def _longest() -> int | None:
    """Bytes that the system lets a file of this process have, if it says."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


@cache
def _library() -> Any:
    """The system's call that takes blocks."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
    return function
