"""A matrix in a file, found again by its path: what reads it can be sent to other processes, and no file stays open for long."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from scdae.io.stored import on_disk, open_group
from scdae.matrices.rows import Rows, open_rows

__all__ = ["Place", "rows_of"]


class Place(NamedTuple):
    """Where a matrix is."""

    path: str
    element: str  # such as "X" or "layers/counts"
    changed: int  # when the file was, in ns: another content is another place


def rows_of(path: Path, element: str, name: str) -> Rows:
    """Rows of a matrix in a file, which is opened when they are read, by each process that reads them."""
    place = Place(os.path.abspath(path), element, path.stat().st_mtime_ns)
    rows = _opened(place, name)
    return Rows(rows.shape, rows.dtype, rows.bounds, partial(_read, place, name))


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
