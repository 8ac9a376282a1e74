"""How large chunks are, how many are worked out side by side, and what is too large to be held."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import anndata
import numpy as np
import zarr

from scdae._log import get_logger
from scdae.core.runtime.memory import available_memory
from scdae.core.runtime.threads import usable_cores

__all__ = ["CHUNK_VALUES", "choose_lazy", "chunks_at_once", "row_spans", "stored_rows", "whole_chunks", "zarr_version"]


CHUNK_VALUES = 2**24  # values of a chunk, about
_ALIGNED = 3  # times as many a chunk may have, so that it ends where a part of a zarr store does
_EVEN = 64  # rows of which a chunk has a multiple, so that it can be cut into smaller ones
_SHARD = 10**9  # bytes of a shard that anndata asks zarr for
_COPIES = 5  # of a chunk, while it is worked out
_SHARE = 0.5  # of the memory that is free, beyond which a layer is not held


@contextmanager
def whole_chunks() -> Iterator[None]:
    """Have anndata write .zarr files without shards, if it knows of them.

    A shard holds several chunks in one file, which is written anew for each chunk of a dask array that reaches it: five
    times the bytes, and more memory than the chunk. anndata 0.13 chooses shards by itself.
    """
    if not hasattr(anndata.settings, "auto_shard_zarr_v3"):
        yield
        return
    with anndata.settings.override(auto_shard_zarr_v3=False):
        yield


def row_spans(
    source: Sequence[tuple[int, int]], shape: tuple[int, int], n_columns: int, dtype: Any
) -> list[tuple[int, int]]:
    """First and last (excluded) row of each chunk of a lazy layer.

    Chunks have about :data:`CHUNK_VALUES` values of all genes. Where the counts can be cut anywhere they are all of one height, and end
    where ``write_zarr`` has a shard end, or a chunk of the store where shards are too large: each of them is then written once. Where the
    counts are in blocks of different heights, as those of several files, these are joined, or cut.

    Parameters
    ----------
    source
        First and last row of the blocks in which counts are read.
    shape
        Cells, genes of the counts.
    n_columns
        Genes of the layer.
    dtype
        Of a dense layer; None for a sparse one.

    Examples
    --------
    >>> row_spans([(0, 20_000)], (20_000, 2_000), 2_000, None)
    [(0, 8388), (8388, 16776), (16776, 20000)]
    """
    height = max(CHUNK_VALUES // max(shape[1], 1), 1)
    if len({stop - start for start, stop in source[:-1]}) <= 1:
        if dtype is not None and shape[0] > height:
            height = _aligned(height, (shape[0], n_columns), dtype)
        return [(first, min(first + height, shape[0])) for first in range(0, shape[0], height)]
    spans: list[tuple[int, int]] = []
    for start, stop in source:
        if spans and stop - spans[-1][0] <= height:
            spans[-1] = spans[-1][0], stop
            continue
        spans += [(first, min(first + height, stop)) for first in range(start, stop, height)]
    return spans


def _aligned(height: int, shape: tuple[int, int], dtype: Any) -> int:
    """Return a height near the one given that ends with a shard, or at least with a chunk of a zarr store."""
    for rows in reversed(stored_rows(shape, dtype)):
        if rows <= 8 * height and rows * shape[1] <= _ALIGNED * CHUNK_VALUES:
            return rows * max(height // rows, 1)
    return height - height % _EVEN if height > _EVEN else height


def stored_rows(shape: tuple[int, int], dtype: Any) -> tuple[int, int]:
    """Rows of a chunk and of a shard of a dense array in the .zarr store that anndata writes with its settings as they are.

    Examples
    --------
    >>> chunk, shard = stored_rows((40_000, 500), "float32")
    >>> shard % chunk
    0
    """
    size = zarr.config.get("array.target_shard_size_bytes", None)
    with zarr.config.set({"array.target_shard_size_bytes": size or _SHARD}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how shards are chosen may change: it is asked for each time
        version = zarr_version()
        sharded = version == 3 and getattr(anndata.settings, "auto_shard_zarr_v3", False)
        form: dict[str, Any] = {"shards": "auto"} if sharded else {}
        array = zarr.create_array({}, shape=shape, dtype=np.dtype(dtype), chunks="auto", zarr_format=version, **form)
    whole = getattr(array, "shards", None) or array.chunks
    return int(array.chunks[0]), int(whole[0])


def zarr_version() -> Literal[2, 3]:
    """Format of the .zarr stores that anndata writes with its settings as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the setting goes away: then it is 3
        return 2 if getattr(anndata.settings, "zarr_write_format", 3) == 2 else 3


def chunks_at_once(array: Any = None) -> int:
    """Chunks of a dask array that threads work out side by side: as many as there are cores to use, and memory for.

    Of about :data:`CHUNK_VALUES` values where no array is given.
    """
    free = available_memory()
    most = usable_cores()
    values = CHUNK_VALUES if array is None else max(CHUNK_VALUES, max(array.chunks[0]) * array.shape[1])
    return most if free is None else max(min(most, int(_SHARE * free / (_COPIES * 4 * values))), 1)


def choose_lazy(wanted: bool | None, n_bytes: int, *, quiet: bool = False) -> bool:
    """Return whether layers of that size are to be lazy: as asked, or where they would take more than half of the free memory."""
    if wanted is not None:
        return wanted
    free = available_memory()
    if free is None or n_bytes <= _SHARE * free:
        return False
    if quiet:
        return True
    get_logger().warning(
        f"scdae: the output would take {n_bytes / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB of memory are free, so it is a "
        "dask array that is worked out where it is looked at. lazy=False holds it all the same; threshold= leaves out "
        "what is next to nothing."
    )
    return True
