"""Files out, complete or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from scdae.writable import nullable_strings

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_target", "write_atomic", "write_text"]


def check_target(
    path: str | os.PathLike[str], *, overwrite: bool = False, endings: tuple[str, ...] = (".h5ad", ".zarr")
) -> None:
    """Find out whether a result can be written to `path`, before time is spent on computing it.

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
        There is something, and `overwrite` is False or it is a folder where a file is to be written.
    FileNotFoundError, PermissionError
        The folder around it does not exist, or cannot be written to.
    """
    path = Path(path)
    if path.suffix not in endings:
        raise ValueError(f"{path} has to end in {' or '.join(endings)}, which says how to write it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} for {path.name} does not exist. Make it first.")
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists. Choose another name, or pass overwrite=True to replace it.")
        if path.is_dir() != (path.suffix == ".zarr"):
            kind = "a folder" if path.is_dir() else "a file"
            raise FileExistsError(f"{path} is {kind}, so it is not replaced. Choose another name.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PermissionError(f"The folder {path.parent} cannot be written to ({error.strerror}).") from error


def write_atomic(adata: AnnData, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write an AnnData so that `path` holds all of it or, after any failure, what it held before.

    It is written under a name of its own next to the target and renamed when complete, so jobs that share a folder do
    not meet. `adata` is not changed.

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

    Examples
    --------
    >>> import anndata, numpy as np, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(anndata.AnnData(np.ones((3, 2))), folder + "/a.h5ad")
    ...     os.listdir(folder)
    ['a.h5ad']
    """
    from scdae.lazy import whole_chunks

    check_target(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    complete, former = Path(f"{beside}.tmp"), Path(f"{beside}.old")
    write = adata.write_h5ad if target.suffix == ".h5ad" else adata.write_zarr
    try:
        with whole_chunks(), nullable_strings(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that repeat, format versions: nothing the user can act on here
            write(complete, convert_strings_to_categoricals=False)
        if target.is_dir():  # a folder cannot be replaced in one step
            os.replace(target, former)
            try:
                os.replace(complete, target)
            except BaseException:
                os.replace(former, target)
                raise
        else:
            os.replace(complete, target)
    finally:
        _remove(complete)
        _remove(former)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text so that `path` holds all of it or, after any failure, what it held before.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(folder + "/a.json", "{}")
    ...     os.listdir(folder)
    ['a.json']
    """
    target = Path(os.path.realpath(path))
    complete = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        complete.write_text(text, encoding="utf-8")
        os.replace(complete, target)
    finally:
        _remove(complete)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
