"""A matrix in a file, found again by its path: what reads it can be sent to other processes, and no file stays open for long."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from scdae.containers import Rows, open_rows

__all__ = ["Place", "SPARSE", "on_disk", "open_group", "rows_of"]

SPARSE = ("csr_matrix", "csc_matrix")


class Place(NamedTuple):
    """Where a matrix is."""

    path: str
    element: str  # such as "X" or "layers/counts"
    changed: int  # when the file was, in ns: another content is another place


def rows_of(path: Path, element: str, name: str) -> Rows:
    """Rows of a matrix in a file, which is opened when they are read, by each process that reads them."""
    place = Place(os.path.abspath(path), element, path.stat().st_mtime_ns)
    found = _opened(place, name)
    return Rows(found.shape, found.dtype, found.bounds, partial(_read, place, name))


def _read(place: Place, name: str, start: int, stop: int) -> Any:
    if not os.path.exists(place.path) or os.stat(place.path).st_mtime_ns != place.changed:
        raise OSError(f"{place.path} was moved or changed since it was joined. Join the files again.")
    try:
        return _opened(place, name).read(start, stop)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{place.path}: rows {start:,} to {stop - 1:,} of {place.element} cannot be read ({error}). The file is damaged, or "
            "lies on storage that failed."
        ) from error


@lru_cache(maxsize=64)  # files that are open at the same time
def _opened(place: Place, name: str) -> Rows:
    return open_rows(on_disk(open_group(Path(place.path))[place.element]), name)


def open_group(path: Path) -> Any:
    """Root of a .zarr or .h5ad file, read-only."""
    if path.is_dir():
        import zarr

        return zarr.open_group(path, mode="r")
    import h5py

    return h5py.File(path, "r")


def on_disk(element: Any) -> Any:
    """A sparse dataset of anndata, or a dask array."""
    from anndata.experimental import read_elem_lazy
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if element.attrs.get("encoding-type") in SPARSE else read_elem_lazy(element)
