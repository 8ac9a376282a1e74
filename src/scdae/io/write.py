"""Files out, complete or not at all."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scdae.core.runtime import stopping
from scdae.files.replacing import in_place, tidy_up
from scdae.files.room import NoRoom, bytes_of, free_bytes, in_words, release, reserve
from scdae.files.writable import nullable_strings

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "WriteError",
    "check_in_place",
    "check_target",
    "is_result_alone",
    "is_store",
    "same_place",
    "write_atomic",
    "write_text",
    "writes",
]

_STORE = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")  # one of these lies at the root of a zarr store
_LEAST = 2**23  # bytes that are to be free before a further block is restored and written
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
        There is something, and `overwrite` is False, or it is a folder where a file is to be written, or a folder that is no
        zarr store.
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
        _check_replaceable(path)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f"The folder {folder} cannot be written to ({error.strerror}).") from error


def is_store(folder: Path) -> bool:
    """Whether a folder is a zarr store."""
    return any((folder / name).is_file() for name in _STORE)


def same_place(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to the same file or folder, by whatever names."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def is_result_alone(path: str | os.PathLike[str]) -> bool:
    """Whether an AnnData file holds results without counts, as an earlier run wrote them."""
    from scdae.io.stored import open_group

    try:
        return "X" not in open_group(Path(path))
    except (OSError, ValueError):
        return False


def check_in_place(source: str | os.PathLike[str], target: str | os.PathLike[str], *, alone: bool) -> None:
    """Raise unless the counts outlive the result: where the results alone are written, OUTPUT cannot be INPUT.

    Parameters
    ----------
    source
        INPUT: a path, or a pattern of several.
    target
        OUTPUT.
    alone
        Whether OUTPUT will hold the results and not what INPUT holds.

    Raises
    ------
    ValueError
        They are the same file or store, by whatever names, or one lies in the other.
    """
    if not alone:
        return
    several = not os.path.exists(source)
    end = os.path.realpath(target)
    for file in glob(os.fspath(source)) if several else [source]:
        if several and same_place(file, target) and is_result_alone(target):
            continue  # of an earlier run: the pattern does not take it in
        if same_place(file, target) or end.startswith(os.path.realpath(file) + os.sep):
            raise ValueError(
                f"{target} is INPUT, and the results are written alone here, without the counts, which would be lost. Choose "
                "another OUTPUT."
            )


def write_atomic(adata: AnnData, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write an AnnData so that `path` holds all of it or, after any failure, what it held before.

    It is written under a name of its own next to the target and renamed when complete, so jobs that share a folder do
    not meet, and whoever looks finds the old one or the new one. A link is followed, and the mode of what is replaced is kept.
    `adata` is not changed.

    Parameters
    ----------
    adata
        What to write.
    path
        Ends in .h5ad or .zarr, which decides how it is written.
    overwrite
        Whether something that is there may be replaced.

    Raises
    ------
    ValueError, FileExistsError, FileNotFoundError, PermissionError
        See `check_target`.
    WriteError
        The disk is full, or something else went wrong there.

    Examples
    --------
    >>> import anndata, numpy as np, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(anndata.AnnData(np.ones((3, 2))), folder + "/a.h5ad")
    ...     os.listdir(folder)
    ['a.h5ad']
    """
    from scdae.matrices.chunk_sizes import whole_chunks

    check_target(path, overwrite=overwrite)
    as_zarr = Path(path).suffix == ".zarr"
    with writes(path), in_place(path, overwrite=overwrite) as (complete, shield):
        with (
            shield.open(),
            _ending_threads(path, guarded=not as_zarr and _has_unknown(adata)),
            whole_chunks(),
            nullable_strings(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # names that repeat, format versions: nothing the user can act on here
            if as_zarr:
                adata.write_zarr(complete, convert_strings_to_categoricals=False)
            else:
                _write_h5ad(adata, complete, path)
        if overwrite and Path(path).exists():
            _check_replaceable(Path(path))


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
    """Call what goes wrong with the disk by the name of the file that was to be written."""
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
    """The system's number of an error, also where HDF5 has put it into words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None


def _check_replaceable(path: Path) -> None:
    if path.is_dir() != (path.suffix == ".zarr"):
        kind = "a folder" if path.is_dir() else "a file"
        raise FileExistsError(f"{path} is {kind}, so it is not replaced. Choose another name.")
    if path.is_dir() and not is_store(path):
        raise FileExistsError(
            f"{path} is a folder, but no zarr store, so it is not replaced. Choose another name, or remove it yourself."
        )


def _write_h5ad(adata: AnnData, complete: Path, path: str | os.PathLike[str]) -> None:
    """Write into room that was reserved: HDF5 takes the process down where it cannot write what it has in its caches."""
    import anndata
    import h5py
    import pandas as pd

    if adata.isbacked or not isinstance(adata.obs, pd.DataFrame) or not isinstance(adata.var, pd.DataFrame):
        adata.write_h5ad(complete, convert_strings_to_categoricals=False)
        return
    with h5py.File(complete, "w") as file:
        file.flush()
        reserve(complete, bytes_of(adata), path)
        anndata.io.write_elem(file, "/", adata)
    release(complete)


def _has_unknown(adata: AnnData) -> bool:
    """Whether there are lazy sparse layers, of which nobody knows how much they hold."""
    from scipy.sparse import issparse

    layers = [adata.X, *(layer for name, layer in adata.layers.items() if name is not None)]
    return any(issparse(getattr(layer, "_meta", None)) for layer in layers)


@contextmanager
def _ending_threads(path: str | os.PathLike[str], *, guarded: bool) -> Iterator[None]:
    """Look before each block of a lazy layer, and have no thread still writing when this ends.

    Where `guarded`, for room as well: for HDF5, and layers whose room could not be reserved.
    """
    if "dask" not in sys.modules:
        yield
        return
    import dask
    from dask.callbacks import Callback

    from scdae.matrices.chunk_sizes import chunks_at_once

    folder = os.path.dirname(os.path.realpath(path))

    def look(*_: Any) -> None:
        stopping.stop_if_asked()
        free = free_bytes(folder) if guarded else None
        if free is not None and free < _LEAST:
            raise NoRoom(f"{path}: {in_words(free)} are left there. Make room, or choose another place.")

    with Callback(pretask=look):
        if not stopping.is_noting() or dask.config.get("pool", None) or dask.config.get("scheduler", None):
            yield
            return
        pool = ThreadPoolExecutor(dask.config.get("num_workers", None) or chunks_at_once())
        try:
            with dask.config.set(pool=pool):
                yield
        finally:
            pool.shutdown(cancel_futures=True)
