"""HDF5 files opened with care: what they say of themselves is held against their length before anything is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py

__all__ = ["check_parts", "open_hdf5"]

_LEAST = 2**28  # bytes that may be read whatever the length of the file
_MOST_PACKED = 4000  # times that a file may grow when it is unpacked
# Registered filters of the HDF Group that hdf5plugin brings
_FILTERS = {
    307: "BZIP2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32014: "FCIDECOMP",
    32015: "Zstd",
    32017: "SZ",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "Sperr",
}


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file for reading, once its parts are found to be of sizes that it can have.

    Raises
    ------
    OSError, RuntimeError
        The library cannot read it.
    ValueError
        A part is larger than the file can hold, or is packed in a way that needs a package.
    """
    file = h5py.File(path, "r")
    try:
        check_parts(file, path.stat().st_size)
    except BaseException:
        file.close()
        raise
    return file


def check_parts(file: Any, size: int) -> None:
    """Look at every dataset of an open file, without reading it.

    Parameters
    ----------
    file
        Opened by h5py.
    size
        Its length in bytes.

    Raises
    ------
    ValueError
        See :func:`open_hdf5`.
    """
    most = max(_LEAST, _MOST_PACKED * size)

    def look(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        known = item.id.get_create_plist()
        for i in range(known.get_nfilters()):
            number, _, _, title = known.get_filter(i)
            _check_filter(number, title, name)
        if item.is_virtual or item.external:  # what they hold lies elsewhere
            return
        stored = _values(item.shape) * item.dtype.itemsize
        chunk = _values(item.chunks) * item.dtype.itemsize if item.chunks else 0
        if max(stored, chunk) > most or (item.chunks is None and item.id.get_storage_size() > size):
            raise ValueError(
                f"it is truncated or damaged ({name} would take {stored:,} bytes, more than a file of {size:,} bytes can hold)"
            )

    file.visititems(look)


def _check_filter(number: int, title: bytes, name: str) -> None:
    """Load the package with the filter if it is there, else say which one it is."""
    if h5py.h5z.filter_avail(number):
        return
    try:
        import hdf5plugin  # noqa: F401  (it registers its filters)
    except ImportError:
        pass
    if not h5py.h5z.filter_avail(number):
        called = _FILTERS.get(number) or title.decode("latin1") or "of an unknown name"
        raise ValueError(
            f"{name} is compressed with filter {number} ({called}), which this HDF5 lacks. Install the package with it: "
            "pip install hdf5plugin"
        )


def _values(shape: tuple[int, ...] | None) -> int:
    return 0 if shape is None else math.prod(shape)
