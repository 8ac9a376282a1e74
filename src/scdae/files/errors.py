"""Whatever goes wrong when a file is read becomes one line that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["first_line", "reading"]

_LONGEST = 250  # letters of a message of another package


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in every failure to read it.

    Parameters
    ----------
    path
        The file or folder that is read within.

    Raises
    ------
    ValueError
        In place of any exception but that there is no such file, no memory, or no right to read it.
    """
    path = os.fspath(path)
    try:
        yield
    except (PermissionError, MemoryError):
        raise
    except FileNotFoundError as error:
        if not os.path.exists(path):
            raise
        raise ValueError(_damaged(path, error)) from error
    except ValueError as error:
        text = first_line(error)
        if path in text:
            raise ValueError(text + ".") from error
        raise ValueError(f"{path} cannot be read: {text}.") from error
    except Exception as error:  # damaged files end in any kind of exception of h5py, zarr, anndata, pandas and SciPy
        raise ValueError(_damaged(path, error)) from error


def first_line(error: BaseException) -> str:
    """Return the first line of a message, shortened, without its period."""
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".") if lines and lines[0].strip() else type(error).__name__
    return text if len(text) <= _LONGEST or isinstance(error, ValueError) else text[:_LONGEST] + " ..."


def _damaged(path: str, error: Exception) -> str:
    return f"{path} cannot be read: it is truncated or damaged ({first_line(error)})."
