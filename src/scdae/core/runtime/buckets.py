"""Lengths of arrays in a few sizes, so that what is compiled for one data set serves those of about its size."""

from __future__ import annotations

__all__ = ["bucket"]


def bucket(number: int, few: int, steps: int = 8) -> int:
    """`number` rounded up: to a power of two up to `few`, and by one part in `steps` at most beyond.

    Examples
    --------
    >>> bucket(33, 64), bucket(64, 64), bucket(1025, 64)
    (64, 64, 1152)
    >>> bucket(1025, 64, steps=4)
    1280
    """
    power = 1 << max(number - 1, 0).bit_length()  # the least one that suffices
    step = power if power <= few else power // (2 * steps)
    return -(-number // step) * step
