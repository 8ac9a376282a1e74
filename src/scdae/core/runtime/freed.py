"""Memory that was freed: given back to the system after a fit, and kept while a result is worked out.

The C library keeps what was freed for what is asked for next. A fit compiles programs and makes up batches in several threads,
after which that is some 200 MB, in pieces that are too small for the layer that is written next.

Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``, by which freed memory goes back at once. With it glibc no longer
raises the size from which an array gets pages of its own, 128 KiB, either. Each array of each block of cells then comes in pages
that the kernel clears first, which takes as long as all the rest of restoring.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = ["give_back", "kept"]

_TRIM, _MAP = -1, -3  # what mallopt calls them
_TRIM_AT, _MAP_AT = 64 * 2**20, 32 * 2**20  # bytes: where glibc comes to by itself
_FIRST_MAP_AT = 128 * 2**10  # and where it begins
_ENVIRONMENT = Path("/proc/self/environ")  # as the process was started, which is what the C library read
_lock = threading.Lock()
_inside = 0


def give_back() -> None:
    """Give freed memory back, where the C library can be asked to (glibc); takes some hundredths of a second."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory within, where the environment has it given back at once; up to 64 MiB, which go back afterwards."""
    told = _told()
    option = None if told is None else _function("mallopt")
    if told is None or option is None:
        yield
        return
    _enter(option, 1)
    try:
        yield
    finally:
        _enter(option, -1, told)


def _enter(option: Callable[..., int], change: int, told: tuple[int, int] | None = None) -> None:
    """Count the threads that are within; the first sets the sizes, and the last sets them back."""
    global _inside
    with _lock:
        before, _inside = _inside, _inside + change
        if before == 0:
            option(_TRIM, _TRIM_AT)
            option(_MAP, _MAP_AT)
        elif _inside == 0 and told is not None:
            option(_TRIM, told[0])
            option(_MAP, told[1])


@cache
def _told() -> tuple[int, int] | None:
    """Bytes beyond which freed memory is given back, and from which arrays have pages of their own, if the environment says so."""
    try:
        pairs = (entry.partition(b"=") for entry in _ENVIRONMENT.read_bytes().split(b"\0"))
        said = {name: int(value) for name, _, value in pairs if name.startswith(b"MALLOC_") and value.isdigit()}
    except OSError:
        return None
    trim, own_pages = said.get(b"MALLOC_TRIM_THRESHOLD_"), said.get(b"MALLOC_MMAP_THRESHOLD_")
    return None if trim is None or trim >= _TRIM_AT or own_pages is not None else (trim, _FIRST_MAP_AT)


@cache
def _function(name: str) -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None), name, None)  # other C libraries have none
    if function is not None:
        function.argtypes, function.restype = (
            [ctypes.c_size_t] if name == "malloc_trim" else [ctypes.c_int] * 2,
            ctypes.c_int,
        )
    return function
