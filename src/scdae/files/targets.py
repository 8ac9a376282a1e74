"""Where a file is to be written: looked at before time is spent, and written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scdae.files.replacing import in_place, tidy_up
from scdae.files.room import NoRoom

__all__ = ["WriteError", "check_replaceable", "check_target", "is_store", "same_place", "write_text", "writes"]

_STORE = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")  # one of these lies at the root of a zarr store
_NUMBER = re.compile(r"\b(?:errno = |Errno )(\d+)")  # in what HDF5 says


class WriteError(OSError):
    """A result could not be written; the message begins with its name."""


def check_target(
    path: str | os.PathLike[str], *, overwrite: bool = False, endings: tuple[str, ...] = (".h5ad", ".zarr")
) -> None:
    """Find out whether a result can be written to `path`, before time is spent on computing it.

    What a job that was killed has left beside it is removed, and what that had moved aside is put back.

    Parameters
    ----------
    path
        Ends in one of `endings`.
    overwrite
        Whether something that is there may be replaced.
    endings
        What the name may end in.

    Raises
    ------
    ValueError
        The ending is another one.
    FileExistsError
        There is something, and `overwrite` is False, or it is a folder where a file is to be written, or a folder that
        is not a zarr store.
    FileNotFoundError, PermissionError
        The folder around it does not exist, or cannot be written to.
    """
    path = Path(path)
    if path.suffix not in endings:
        raise ValueError(f"{path} has to end in {' or '.join(endings)}, which says how to write it.")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} for {path.name} does not exist. Make it first.")
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(path.name)) > longest:
        raise ValueError(f"{path.name[:40]}...: this name is longer than the {longest} bytes that the system takes.")
    tidy_up(path)
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists. Choose another name, or pass overwrite=True to replace it.")
        check_replaceable(path)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f"The folder {folder} cannot be written to ({error.strerror}).") from error


def is_store(folder: Path) -> bool:
    """Return whether a folder is a zarr store."""
    return any((folder / name).is_file() for name in _STORE)


def same_place(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths lead to the same file or folder, by whatever names."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = True) -> None:
    """Write text so that `path` holds all of it or, after any failure, what it held before.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(folder + "/a.json", "{}")
    ...     os.listdir(folder)
    ['a.json']
    """
    with writes(path), in_place(path, overwrite=overwrite) as (complete, shield):
        with shield.open():
            complete.write_text(text, encoding="utf-8")


@contextmanager
def writes(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file that was to be written in errors of the disk."""
    try:
        yield
    except (WriteError, FileExistsError):
        raise
    except NoRoom as error:
        raise WriteError(str(error)) from error
    except (OSError, RuntimeError) as error:
        number = _number(error)
        if number is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(number) if number is not None else " ".join(str(error).split())[:100]
        raise WriteError(
            f"{path} could not be written: {reason}. What was there before, if anything, is unchanged."
        ) from error


def _number(error: BaseException) -> int | None:
    """Return the system's number of an error, also where HDF5 has put it into words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _NUMBER.search(str(error))
    return int(match[1]) if match else None


def check_replaceable(path: Path) -> None:
    """Raise FileExistsError where something of another kind is in the place of a result."""
    if path.is_dir() != (path.suffix == ".zarr"):
        kind = "a folder" if path.is_dir() else "a file"
        raise FileExistsError(f"{path} is {kind}, so it is not replaced. Choose another name.")
    if path.is_dir() and not is_store(path):
        raise FileExistsError(
            f"{path} is a folder, but no zarr store, so it is not replaced. Choose another name, or remove it yourself."
        )
