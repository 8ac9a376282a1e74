"""Dask arrays into .zarr, each byte once: what is worked out together is one shard, or whole chunks of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr
from dask.base import get_scheduler
from scipy.sparse import csr_matrix, issparse
from zarr.codecs import BloscCodec

__all__ = ["Ends", "can_write_once", "write_once"]

_CHUNK = 2**18  # values of a chunk, which is read as a whole
_SHARD = 2**22  # values of a shard, which is written as a whole
_TALLEST = 2048  # rows of a chunk
_LEAST = 64  # rows, below which nothing is cut
_ARRAY: dict[str, Any] = {"encoding-type": "array", "encoding-version": "0.2.0"}
# As small as zarr's default (zstd) for restored values and their columns, in half the time of writing and less of reading.
_PACKED = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")


def can_write_once(array: Any) -> bool:
    """Whether :func:`write_once` takes it: a dask array of two axes and known chunks, dense or CSR, not cut along the columns."""
    if type(array) is not da.Array or array.ndim != 2 or len(array.chunks[1]) != 1 or not array.chunks[0]:
        return False
    if np.isnan(array.shape).any() or min(array.shape) == 0 or array.dtype.kind not in "biuf":
        return False
    return not issparse(array._meta) or array._meta.format == "csr"


def write_once(group: zarr.Group, name: str, array: da.Array, *, at_once: int) -> None:
    """Write a dask array as AnnData does, without writing any part of it twice.

    Each chunk of a dense array becomes whole shards, or whole chunks where zarr knows no shards; chunks of several heights are cut anew, to
    the most frequent one. As no two of them share a file, they are written side by side, by threads or the workers of a cluster.

    Parameters
    ----------
    group
        Where it is written.
    name
        Its name there.
    array
        What :func:`can_write_once` takes.
    at_once
        Chunks of a sparse array that are worked out ahead of what is written.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> write_once(group, "a", da.ones((5, 3), chunks=(2, 3)), at_once=1)
    >>> float(group["a"][:].sum())
    15.0
    """
    if issparse(array._meta):
        _write_csr(group, name, array, at_once)
    else:
        _write_dense(group, name, array)


def _write_dense(group: zarr.Group, name: str, array: da.Array) -> None:
    heights = array.chunks[0]
    height = max(set(heights[:-1] or heights), key=heights.count)
    if any(rows != height for rows in heights[:-1]) or heights[-1] > height:
        array = array.rechunk((height, -1))
    most = min(_SHARD // array.shape[1], height // 4)  # zarr holds what it writes at once packed, and packed once more
    together = _divisor(height, most)  # rows of a shard
    rows = _divisor(together, _TALLEST)
    columns = int(np.clip(_CHUNK // rows, 1, array.shape[1]))
    shard = together, -(-array.shape[1] // columns) * columns
    stored = _create(group, name, array.shape, array.dtype, (rows, columns), shard, _ARRAY)
    target: Any = _ByShard(stored, together)
    da.store(array, target, lock=False)


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor up to `most`; the number itself where there is none worth it."""
    found = max(divisor for divisor in range(1, min(number, max(most, 1)) + 1) if number % divisor == 0)
    return number if found < _LEAST else found


class _ByShard:
    """An array of a zarr store that is written one shard after the other: zarr would hold all of them, packed, at the same time."""

    def __init__(self, stored: zarr.Array, height: int):
        self.stored, self.height = stored, height
        self.shape, self.dtype = stored.shape, stored.dtype

    def __setitem__(self, index: tuple[slice, ...], values: np.ndarray) -> None:
        first = index[0].start or 0
        for start in range(0, len(values), self.height):
            part = values[start : start + self.height]
            self.stored[first + start : first + start + len(part)] = part


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...],
    shards: tuple[int, ...],
    attributes: dict[str, Any],
) -> zarr.Array:
    form: dict[str, Any] = {"shards": shards, "compressors": _PACKED} if group.metadata.zarr_format == 3 else {}
    return group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, attributes=attributes, **form)


def _write_csr(group: zarr.Group, name: str, array: da.Array, at_once: int) -> None:
    """Indices have 32 bits where the columns are few enough; pointers have 64, so that there may be any number of entries."""
    kind: dict[str, Any] = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(array.shape)}
    part = group.create_group(name, attributes=kind)
    narrow = array.shape[1] <= np.iinfo(np.int32).max
    ends = [
        Ends(part, "data", array.dtype),
        Ends(part, "indices", np.int32 if narrow else np.int64),
        Ends(part, "indptr", np.int64),
    ]
    ends[2].add(np.zeros(1, np.int64))
    n_stored = 0
    for block in _in_order(array, at_once):
        block = block if getattr(block, "format", "") == "csr" else csr_matrix(block)
        block = block if block.has_sorted_indices else block.sorted_indices()
        for end, values in zip(
            ends, (block.data, block.indices, block.indptr[1:].astype(np.int64) + n_stored), strict=True
        ):
            end.add(values)
        n_stored += int(block.nnz)
    for end in ends:
        end.close()


def _in_order(array: da.Array, at_once: int) -> Iterator[Any]:
    """The chunks of an array, one after the other, some of them worked out ahead."""
    blocks = [array.blocks[i] for i in range(array.numblocks[0])]
    client = _client()
    if client is None:
        yield from _beside(blocks, at_once)
        return
    n_threads, waiting = max(sum(client.nthreads().values()), 1), deque[Any]()
    some = 2 * n_threads  # what all chunks share, such as a model, is sent along with each lot of them
    try:
        for start in range(0, len(blocks), some):
            while len(waiting) > n_threads:
                yield waiting.popleft().result()
            waiting.extend(client.compute(blocks[start : start + some]))
        while waiting:
            yield waiting.popleft().result()
    finally:
        client.cancel(list(waiting))


def _beside(blocks: list[Any], at_once: int) -> Iterator[Any]:
    """The same by threads, which work on while the caller writes: at most one block more is held than they work out."""
    if get_scheduler() is dask.get:  # asked for: no thread but the caller's
        yield from (block.compute() for block in blocks)
        return
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="scdae-ahead")
    try:
        waiting: deque[Any] = deque()
        for block in blocks:
            if len(waiting) > at_once:
                yield waiting.popleft().result()
            waiting.append(threads.submit(block.compute, num_workers=1))
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def _client() -> Any:
    """Return the client of a cluster, where that works out dask arrays; None elsewhere."""
    owner = getattr(get_scheduler(), "__self__", None)
    return owner if hasattr(owner, "nthreads") and hasattr(owner, "cancel") else None


class Ends:
    """A one-dimensional array of a zarr store that grows at its end, by whole shards until it is closed.

    Parameters
    ----------
    group, name, dtype
        Where it is made, and of what.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> end = Ends(group, "a", np.int64)
    >>> end.add(np.arange(3))
    >>> end.add(np.arange(2))
    >>> end.close()
    >>> group["a"][:].tolist()
    [0, 1, 2, 0, 1]
    """

    def __init__(self, group: zarr.Group, name: str, dtype: Any):
        self._array = _create(group, name, (0,), dtype, (_CHUNK,), (_SHARD,), _ARRAY)
        self._waiting: list[np.ndarray] = []
        self._n_waiting = self._n_written = 0

    def add(self, values: np.ndarray) -> None:
        """Put values at the end; they are written when a shard is full, and not to be changed before."""
        self._waiting.append(values)
        self._n_waiting += len(values)
        if self._n_waiting >= _SHARD:
            values = self._taken()
            whole = len(values) // _SHARD * _SHARD
            for start in range(0, whole, _SHARD):
                self._write(values[start : start + _SHARD])
            if len(values) > whole:
                self.add(values[whole:].copy())

    def close(self) -> None:
        """Write what is left."""
        if self._n_waiting:
            self._write(self._taken())

    def _taken(self) -> np.ndarray:
        values = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        return values

    def _write(self, values: np.ndarray) -> None:
        start, stop = self._n_written, self._n_written + len(values)
        self._array.resize((stop,))
        self._array[start:stop] = values
        self._n_written = stop
