"""Each byte once: what is written to a zarr store, and what is held meanwhile."""

import threading
import tracemalloc

import anndata as ad
import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from zarr.storage import LocalStore

from scdae.files import zarr_once
from scdae.files.zarr_once import can_write_once, write_once
from scdae.matrices import chunk_sizes
from scdae.matrices.chunk_sizes import row_spans, stored_rows

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2", "ignore:.*[Cc]onsolidated metadata")


class Counting(LocalStore):
    """A folder that knows how many bytes were written to each of its files, and how often."""

    def __init__(self, root):
        super().__init__(root)
        self.sizes, self.times = {}, {}

    def _count(self, key, value):
        if not key.endswith((".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")):
            self.sizes[key] = self.sizes.get(key, 0) + len(value)
            self.times[key] = self.times.get(key, 0) + 1

    def set_sync(self, key, value):
        self._count(key, value)
        super().set_sync(key, value)

    async def set(self, key, value):
        self._count(key, value)
        await super().set(key, value)


def dense(n_obs, n_vars, height):
    values = np.random.default_rng(0).gamma(1, 1, (n_obs, n_vars)).astype(np.float32)
    return values, da.from_array(values, chunks=(height, -1))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("heights", [512, (500, 512, 512, 300, 700), (3000,)])
def test_dense_chunks_are_written_once_whatever_their_heights(tmp_path, monkeypatch, version, heights):
    monkeypatch.setattr(zarr_once, "_SHARD", 2**14)
    monkeypatch.setattr(zarr_once, "_CHUNK", 2**12)
    n_obs = 3000 if heights == 512 else sum(heights)
    values, array = dense(n_obs, 101, heights)
    store = Counting(tmp_path / "a.zarr")
    group = zarr.open_group(store, mode="w", zarr_format=version)
    assert can_write_once(array)
    write_once(group, "a", array, at_once=2)
    assert set(store.times.values()) == {1} and len(store.times) > 3
    assert sum(store.sizes.values()) < 1.2 * values.nbytes
    np.testing.assert_array_equal(ad.io.read_elem(group["a"]), values)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shard", [2**22, 1000])
def test_sparse_chunks_are_written_once(tmp_path, monkeypatch, version, shard):
    monkeypatch.setattr(zarr_once, "_SHARD", shard)
    monkeypatch.setattr(zarr_once, "_CHUNK", min(shard, 2**18) // 10 * 10 if shard == 1000 else 2**18)
    values = sp.random(700, 60, 0.2, "csr", np.float32, np.random.default_rng(0))
    values = sp.vstack([values[:300], sp.csr_matrix((100, 60), dtype=np.float32), values[400:]], format="csr")
    array = da.from_array(values, chunks=(100, -1), asarray=False)
    array = da.Array(array.dask, array.name, array.chunks, meta=sp.csr_matrix((0, 0), dtype=np.float32))
    store = Counting(tmp_path / "a.zarr")
    group = zarr.open_group(store, mode="w", zarr_format=version)
    write_once(group, "a", array, at_once=3)
    assert set(store.times.values()) == {1}
    assert sum(store.sizes.values()) < 1.2 * (8 * values.nnz + 8 * 701)
    found = ad.io.read_elem(group["a"])
    assert found.format == "csr" and (found != values).nnz == 0
    assert group["a/indptr"].dtype == np.int64 and group["a/indices"].dtype == np.int32
    backed = ad.io.sparse_dataset(group["a"])
    assert (backed[295:405] != values[295:405]).nnz == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_at_most_two_chunks_are_held(tmp_path, dtype):
    values = np.random.default_rng(0).random((8192, 1024), np.float32).astype(dtype)
    made = da.map_blocks(
        lambda block_id: values[block_id[0] * 4096 :][:4096].copy(),
        chunks=((4096, 4096), (1024,)),
        dtype=dtype,
        meta=np.zeros((0, 0), dtype),
    )
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    write_once(group, "first", made[:64, :64].rechunk(-1), at_once=1)  # what is imported and cached at first
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        write_once(group, "a", made, at_once=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * values[:4096].nbytes


def counted_blocks(n, seen):
    """A lazy CSR array of `n` blocks, each of which calls `seen` with its number."""

    def block(block_info=None):
        i = block_info[None]["chunk-location"][0]
        seen(i)
        return sp.csr_matrix(np.full((2, 3), i + 1, np.float32))

    return da.map_blocks(block, chunks=((2,) * n, (3,)), dtype=np.float32, meta=sp.csr_matrix((0, 0), dtype=np.float32))


@pytest.mark.parametrize("at_once", [1, 2])
def test_blocks_are_worked_out_while_one_is_written_and_one_more_is_held(at_once):
    started, begun = [], threading.Semaphore(0)

    def seen(i):
        started.append(i)
        begun.release()

    for i, block in enumerate(zarr_once._in_order(counted_blocks(7, seen), at_once)):
        # while this one is written, the next are worked out, and no more
        for _ in range(at_once + 1 if i == 0 else 1 if i + at_once < 7 else 0):
            assert begun.acquire(timeout=60)
        assert block.toarray()[0, 0] == i + 1
        assert max(started) <= i + at_once
    assert sorted(started) == list(range(7))


def test_a_block_that_fails_ends_the_writing_and_its_threads():
    def seen(i):
        if i == 2:
            raise ArithmeticError("block 2")

    with pytest.raises(ArithmeticError, match="block 2"):
        write_once(zarr.open_group({}, mode="w"), "a", counted_blocks(6, seen), at_once=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scdae-ahead")]


def test_without_threads_there_are_none():
    names = []
    with dask.config.set(scheduler="synchronous"):
        list(zarr_once._in_order(counted_blocks(3, lambda i: names.append(threading.current_thread().name)), 2))
    assert set(names) == {threading.current_thread().name}


def test_what_is_left_to_anndata():
    cut = da.ones((10, 10), chunks=(5, 5))
    assert not can_write_once(cut) and can_write_once(cut.rechunk((5, -1)))
    assert (
        not can_write_once(np.ones((3, 3))) and not can_write_once(da.ones(5)) and not can_write_once(da.ones((0, 3)))
    )
    unknown = da.ones((10, 3), chunks=(5, -1))
    assert not can_write_once(unknown[unknown[:, 0] > 0])


@pytest.mark.parametrize("shape", [(5000, 1000), (10_000, 500), (4321, 2500)])
def test_lazy_layers_end_where_anndata_ends_a_shard(tmp_path, monkeypatch, shape):
    """So that its own `write_zarr` writes each of them once, with the settings that it comes with."""
    monkeypatch.setattr(chunk_sizes, "CHUNK_VALUES", 2**22)
    spans = row_spans([(0, shape[0])], shape, shape[1], np.float32)
    heights = tuple(stop - start for start, stop in spans)
    chunk, shard = stored_rows(shape, np.float32)
    assert len(heights) > 1 and heights[0] % shard == 0 and heights[0] % chunk == 0
    values, array = dense(*shape, heights)
    store = Counting(tmp_path / "a.zarr")
    ad.AnnData(array).write_zarr(store)
    written = sum(size for key, size in store.sizes.items() if key.startswith("X/"))
    assert written < 1.2 * values.nbytes
    assert {times for key, times in store.times.items() if key.startswith("X/")} == {1}
