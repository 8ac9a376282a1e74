"""AnnData out, complete or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import h5py
import pandas as pd
import zarr
from anndata import AnnData
from anndata.experimental import write_dispatched
from dask.callbacks import Callback
from scipy.sparse import issparse

from scdae.core.runtime import stopping
from scdae.files.closing_store import ClosingStore
from scdae.files.plain_text import write_text_plainly
from scdae.files.replacing import in_place
from scdae.files.room import NoRoom, free_bytes, in_words, release, reserve
from scdae.files.sizes import bytes_of
from scdae.files.targets import check_replaceable, check_target, same_place, writes
from scdae.files.writable import nullable_strings
from scdae.files.zarr_once import can_write_once, write_once
from scdae.io.on_disk import find_files
from scdae.io.stored import open_group
from scdae.matrices.chunk_sizes import chunks_at_once, whole_chunks, zarr_version
from scdae.matrices.rows import is_dask, plain_dask

__all__ = ["check_in_place", "is_result_alone", "write_atomic"]

_LEAST = 2**23  # bytes that are to be free before a further block is restored and written


def is_result_alone(path: str | os.PathLike[str]) -> bool:
    """Return whether an AnnData file holds results without counts, as an earlier run wrote them."""
    try:
        return "X" not in open_group(Path(path))
    except (OSError, ValueError):
        return False


def check_in_place(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    alone: bool,
    whole: bool = True,
    named: str = "INPUT",
) -> None:
    """Raise unless what was read outlives the result: OUTPUT can be INPUT only where it will hold all that INPUT does.

    Parameters
    ----------
    source
        INPUT: a path, or a pattern of several.
    target
        OUTPUT.
    alone
        Whether OUTPUT will hold the results and not what INPUT holds.
    whole
        Whether all of INPUT was read, not only its genes, its ``.raw`` or one genome.
    named
        What `source` is called.

    Raises
    ------
    ValueError
        OUTPUT would take the place of INPUT and hold less, by whatever names; or one lies in the other.
    """
    several = not os.path.exists(source)
    end = os.path.realpath(target)
    for file in find_files(source):
        start = os.path.realpath(file)
        if start.startswith(end + os.sep):
            raise ValueError(f"{target} holds {named}, {file}, and would be replaced. Choose another OUTPUT.")
        if several and same_place(file, target) and is_result_alone(target):
            continue  # of an earlier run: the pattern does not take it in
        if alone and (same_place(file, target) or end.startswith(start + os.sep)):
            raise ValueError(
                f"{target} is {named}, and the results are written alone here, without the counts, which would be lost. Choose "
                "another OUTPUT."
            )
        if not whole and same_place(file, target):
            raise ValueError(
                f"{target} is {named}, of which a part was read, and the rest would be lost. Choose another OUTPUT."
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
    check_target(path, overwrite=overwrite)
    as_zarr = Path(path).suffix == ".zarr"
    with writes(path), in_place(path, overwrite=overwrite) as (complete, shield):
        with (
            shield.open(),
            _ending_threads(path, guarded=not as_zarr and _has_unknown(adata), at_once=_at_once(adata)),
            whole_chunks(),
            nullable_strings(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # names that repeat, format versions: nothing the user can act on here
            if as_zarr:
                _write_zarr(adata, complete)
            else:
                _write_h5ad(adata, complete, path)
        if overwrite and Path(path).exists():
            check_replaceable(Path(path))


def _write_zarr(adata: AnnData, complete: Path) -> None:
    """Write, and have no thread of zarr's still writing when this ends, however it does."""
    store = ClosingStore(complete)

    def write(function: Any, group: Any, name: str, part: Any, *, dataset_kwargs: Any, iospec: Any) -> None:
        lazy = plain_dask(part) if is_dask(part) else part
        if can_write_once(lazy):
            write_once(group, name, lazy, at_once=chunks_at_once(lazy))
        else:
            write_text_plainly(function, group, name, part, dataset_kwargs=dataset_kwargs)

    try:
        root = zarr.open_group(store, mode="w", zarr_format=zarr_version())
        write_dispatched(root, "/", adata, callback=write)
        zarr.consolidate_metadata(root.store)
    finally:
        store.end()


def _write_h5ad(adata: AnnData, complete: Path, path: str | os.PathLike[str]) -> None:
    """Write into room that was reserved: HDF5 takes the process down where it cannot write what it has in its caches."""
    if adata.isbacked or not isinstance(adata.obs, pd.DataFrame) or not isinstance(adata.var, pd.DataFrame):
        adata.write_h5ad(complete, convert_strings_to_categoricals=False)
        return
    with h5py.File(complete, "w") as file:
        file.flush()
        reserve(complete, bytes_of(adata), path)
        write_dispatched(file, "/", adata, callback=write_text_plainly)
    release(complete)


def _has_unknown(adata: AnnData) -> bool:
    """Return whether there are lazy sparse layers, whose numbers of non-zeros are unknown."""
    layers = [adata.X, *(layer for name, layer in adata.layers.items() if name is not None)]
    return any(issparse(getattr(layer, "_meta", None)) for layer in layers)


def _at_once(adata: AnnData) -> int:
    """Chunks of its lazy layers that fit side by side, the largest among them."""
    layers = [adata.X, *(layer for name, layer in adata.layers.items() if name is not None)]
    return min([chunks_at_once(), *(chunks_at_once(layer) for layer in layers if is_dask(layer))])


@contextmanager
def _ending_threads(path: str | os.PathLike[str], *, guarded: bool, at_once: int) -> Iterator[None]:
    """Look before each block of a lazy layer, and have no thread still writing when this ends.

    Where `guarded`, for room as well: for HDF5, and layers whose room could not be reserved.
    """
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
        pool = ThreadPoolExecutor(dask.config.get("num_workers", None) or at_once)
        try:
            with dask.config.set(pool=pool):
                yield
        finally:
            pool.shutdown(cancel_futures=True)
