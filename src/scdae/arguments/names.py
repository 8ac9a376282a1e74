"""Names of layers and columns: those that files can hold."""

from __future__ import annotations

import os

__all__ = ["check_name", "fit_for_files"]

_MOST = 200  # bytes: in a zarr store a name is that of a folder, with what belongs to it behind it


def check_name(value: object, argument: str) -> None:
    """Raise ValueError unless `value` can be the name of a layer or a column."""
    if not isinstance(value, str) or not fit_for_files(value):
        raise ValueError(
            f"{argument}={value!r}: use a name without '/', not empty, '.' or '..'; it becomes the name of what is written."
        )
    if len(os.fsencode(value)) > _MOST:
        raise ValueError(
            f"{argument}={value[:20]!r}...: use a name of at most {_MOST} bytes, not {len(os.fsencode(value))}; it becomes the name "
            "of what is written."
        )


def fit_for_files(name: object) -> bool:
    """Return whether .h5ad and .zarr files can hold an entry of that name, which must not be a path."""
    return isinstance(name, str) and "/" not in name and "\0" not in name and name not in ("", ".", "..")
