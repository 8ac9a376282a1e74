"""Memory that was freed, given back to the system.

The C library keeps what was freed for what is asked for next. A fit compiles programs and makes up batches in several threads,
after which that is some 200 MB, in pieces that are too small for the layer that is written next.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

__all__ = ["give_back"]


def give_back() -> None:
    """Give freed memory back, where the C library can be asked to (glibc); takes some hundredths of a second."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
