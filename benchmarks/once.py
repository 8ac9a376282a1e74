"""What writing a lazy layer to .zarr costs: bytes written over bytes of the layer, files written twice, memory held.

    python benchmarks/once.py                                             # 6,000 cells x 1,000 genes in chunks of about 8 MiB
    python benchmarks/once.py --cells 50000 --genes 5000 --chunk 16777216  # as large as they are outside of this script

Each way of writing is tried with one thread. Memory is what Python and NumPy hold beyond what was held before (tracemalloc), in
chunks of the layer: while one chunk is restored, and while the layer is restored and written. JAX's own buffers, which hold some hundred
cells, are not in it.
"""

import argparse
import shutil
import tempfile
import tracemalloc
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import anndata as ad
import dask
import numpy as np
from zarr.storage import LocalStore

import scdae
import scdae.model.lazy
from scdae.files import closing_store, zarr_once
from scdae.io import write
from scdae.matrices import chunk_sizes

NO_DATA = (".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class Count:
    """Bytes and number of writes of each file of a layer, whichever copy of a store writes it: dask makes some."""

    sizes: ClassVar[dict[str, int]] = {}
    times: ClassVar[dict[str, int]] = {}

    def _count(self, key, value):
        if "layers/" in key and not key.endswith(NO_DATA):
            Count.sizes[key] = Count.sizes.get(key, 0) + len(value)
            Count.times[key] = Count.times.get(key, 0) + 1

    def set_sync(self, key, value):
        self._count(key, value)
        super().set_sync(key, value)

    async def set(self, key, value):
        self._count(key, value)
        await super().set(key, value)


class Ours(Count, closing_store.ClosingStore):
    """The store of `write_atomic`."""


class Theirs(Count, LocalStore):
    """The store of `write_zarr`."""


def ours(adata, path):
    plain, write.ClosingStore = write.ClosingStore, Ours
    try:
        write.write_atomic(adata, path)
    finally:
        write.ClosingStore = plain


def theirs(adata, path):
    adata.write_zarr(Theirs(path))


def blocks_as_before(spans, shape, n_columns, dtype):
    """Chunks that do not look at what a store has: those of scdae before shards."""
    height = max(chunk_sizes.CHUNK_VALUES // shape[1], 1)
    return [(first, min(first + height, shape[0])) for first in range(0, shape[0], height)]


def measure(adata, way, folder):
    layer = adata.layers["scdae"]
    layer.blocks[0].compute(scheduler="synchronous")  # what is compiled is not counted
    tracemalloc.start()
    layer.blocks[0].compute(scheduler="synchronous")
    alone = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    Count.sizes.clear()
    Count.times.clear()
    path = Path(folder) / "a.zarr"
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        way(adata, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    read = ad.read_zarr(path).layers["scdae"]
    size = read.nbytes if isinstance(read, np.ndarray) else read.data.nbytes * 2 + 8 * len(read.indptr)
    shutil.rmtree(path)
    chunk = 4 * max(layer.chunks[0]) * layer.shape[1]
    twice = sum(times > 1 for times in Count.times.values())
    return sum(Count.sizes.values()) / size, twice, len(Count.times), alone / chunk, peak / chunk, chunk / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=6_000)
    parser.add_argument("--genes", type=int, default=1_000)
    parser.add_argument("--chunk", type=int, default=2**21, help="values of a chunk, about")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    chunk_sizes.CHUNK_VALUES = options.chunk
    zarr_once._SHARD = options.chunk // 4  # as outside of this script
    adata = scdae.datasets.simulate(options.cells, options.genes, depth=2000, seed=0)
    model = scdae.DAE(max_epochs=2).fit(adata[:400].copy())
    print(f"{options.cells:,} cells x {options.genes:,} genes; anndata {version('anndata')}, zarr {version('zarr')}")
    print(
        f"{'layer':8s}{'written by':42s}{'bytes':>7s}{'files':>7s}{'twice':>7s}{'restoring':>10s}{'in all':>8s}{'chunk':>9s}"
    )
    aligned = scdae.model.lazy.row_spans
    for form, threshold in (("dense", None), ("CSR", 0.05)):
        for name, way, spans in (
            ("scdae.io.write.write_atomic", ours, aligned),
            ("adata.write_zarr", theirs, aligned),
            ("adata.write_zarr, chunks as before", theirs, blocks_as_before),
        ):
            scdae.model.lazy.row_spans = spans
            part = ad.AnnData(obs=adata.obs.copy(), var=adata.var.copy())
            part.layers["scdae"] = model.impute(adata, lazy=True, threshold=threshold)
            with tempfile.TemporaryDirectory() as folder:
                share, twice, files, alone, peak, chunk = measure(part, way, folder)
            print(
                f"{form:8s}{name:42s}{share:7.2f}{files:7d}{twice:7d}{alone:10.2f}{peak:8.2f}{chunk:5.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
