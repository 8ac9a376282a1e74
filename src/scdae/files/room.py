"""Room for a file: looked at before time is spent, and reserved before anything is written into it.

The HDF5 library does not survive a disk that fills up while it writes, so it is to find its room there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from scdae.core.runtime.again import Passing

__all__ = ["NoRoom", "check_room", "free_bytes", "in_words", "release", "reserve"]

_KEEP_SIZE = 1  # flag of fallocate: blocks are taken, and the file stays as long as it is
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(OSError, Passing):
    """A file would not fit where it is to be."""


def in_words(size: float) -> str:
    """Format a number of bytes for people.

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
    """Return the bytes that a file in this folder may take; None where that is unknown. A quota is not seen."""
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


def _longest() -> int | None:
    """Return the largest size that the system allows a file of this process, if it tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


@cache
def _library() -> Any:
    """Return the system's call that takes blocks."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
    return function
