"""HDF5 files looked through in a process of its own, since damaged ones can kill or hang the library itself."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["probe"]

_CPU_SECONDS = 10  # a sound file takes a fraction of one, however slow the disk is
_SMALL = 2**20  # bytes of a dataset that is read
_SOME = 100_000  # texts of a dataset that are read


def probe(path: Path) -> None:
    """Open an HDF5 file, and look at its attributes, texts and small arrays, in a fork of this process.

    It costs some milliseconds. Nothing is done where a fork is not safe: when JAX has started, or on Windows. What is
    an error and no more is left to the reader, which has better words for it.

    Parameters
    ----------
    path
        Anything; other files than HDF5 are left alone.

    Raises
    ------
    ValueError
        The library died of the file, or did not come to an end.
    """
    if "jax" in sys.modules or not hasattr(os, "fork") or not path.is_file():
        return
    import h5py  # before the fork, which then has it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's idle threads, which a fork does without
        child = os.fork()
    if child == 0:
        try:
            _limit()
            if h5py.is_hdf5(path):
                _look_through(path)
        finally:
            os._exit(0)  # no handlers, no output: only how it died matters
    _, status, used = os.wait4(child, 0)
    if os.WIFSIGNALED(status) and _of_the_library(os.WTERMSIG(status), used.ru_utime + used.ru_stime):
        raise ValueError(
            f"{path} cannot be read: it is truncated or damaged (the HDF5 library fails on it, signal {os.WTERMSIG(status)})."
        )


def _of_the_library(number: int, seconds: float) -> bool:
    """Return whether this signal is a crash or a time limit, and not one that was sent to the whole job."""
    if number == signal.SIGXCPU:
        return seconds > _CPU_SECONDS / 2
    return number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _CPU_SECONDS
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most == resource.RLIM_INFINITY or seconds < most:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def _look_through(path: Path) -> None:
    import h5py

    def look(_: str, item: Any) -> None:
        try:
            for key in item.attrs:
                item.attrs.get(key)
            if not isinstance(item, h5py.Dataset) or item.shape is None:
                return
            if item.chunks:
                item.id.get_num_chunks()
            if item.size and item.dtype.kind == "O":
                item[: max(1, _SOME * len(item) // item.size)] if item.shape else item[()]
            elif item.size and item.size * item.dtype.itemsize <= _SMALL:
                item[()]
        except Exception:  # noqa: BLE001  (the reader will meet it, too)
            return

    with h5py.File(path, "r") as file:
        look("/", file)
        file.visititems(look)
