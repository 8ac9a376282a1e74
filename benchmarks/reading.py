"""Cells per second that are read for training: annbatch beside our own reader, on the same shuffled collection.

    python benchmarks/run.py reading                          # needs annbatch, which is no dependency; Python 3.12 and later

A minibatch is a CSR matrix of the counts of so many cells, float32, in an order of its own each epoch.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scale

N_OBS, CELLS, ROUNDS = 20_000, (64, 256, 512), 3
_HELD = 1_000_000  # entries that a fit may hold: of few of the cells, so that next to all are read


def reading(output: Path, n_obs: int = N_OBS) -> None:
    """Print medians of cells per second for minibatches of several sizes, by turns."""
    try:
        import annbatch
    except ImportError:
        print("\nreading: annbatch is not there; pip install annbatch (Python 3.12 and later)")
        return
    import anndata as ad

    warnings.simplefilter("ignore")
    counts, place = output / f"scale_{n_obs}.h5ad", output / "collection.zarr"
    if not counts.exists():
        scale.simulate(str(counts), n_obs)
    shutil.rmtree(place, ignore_errors=True)
    collection = annbatch.DatasetCollection(str(place))
    begun = time.perf_counter()
    collection.add_adatas([str(counts)], rng=np.random.default_rng(0))
    made = time.perf_counter() - begun
    parts = sorted(place.glob("dataset_*"))
    n_vars = ad.read_h5ad(counts, backed="r").n_vars
    print(
        f"\nReading minibatches of {n_obs:,} cells x {n_vars:,} genes; annbatch {annbatch.__version__}; collection made in {made:.1f} s"
    )
    own = _own(parts)
    readers: dict[str, Callable[[int, int], Iterable[Any]]] = {
        "scdae": own,
        "annbatch": lambda size, seed: _theirs(collection, size, seed),
    }
    print(
        f"{'cells per minibatch':21s}" + "".join(f"{name + ': cells/s':>20s}{'processor s':>13s}" for name in readers)
    )
    for size in CELLS:
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for seed in range(ROUNDS):
            for name, reader in readers.items():
                wall, used, n_read = time.perf_counter(), time.process_time(), 0
                for matrix in reader(size, seed):
                    n_read += matrix.shape[0]
                seconds = time.perf_counter() - wall
                rates[name].append((n_read / seconds, time.process_time() - used))
                if n_read < n_obs - size:
                    raise SystemExit(f"{name} read {n_read:,} of {n_obs:,} cells")
        medians = (np.median(values, axis=0) for values in rates.values())
        print(f"{size:<21d}" + "".join(f"{rate:20,.0f}{used:13.1f}" for rate, used in medians), flush=True)
    shutil.rmtree(place)


def _own(parts: list[Path]) -> Callable[[int, int], Iterable[Any]]:
    """Minibatches as a fit reads them from disk; what it looks at beforehand is not counted."""
    from scdae.core.data.cells import cell_data
    from scdae.core.data.conditions import no_conditions
    from scdae.core.minibatches.loader import Stream
    from scdae.inputs.counts import open_counts
    from scdae.io.on_disk import join_files, open_on_disk

    adata = open_on_disk(parts[0]) if len(parts) == 1 else join_files(parts)
    found = open_counts(adata, most=_HELD)
    blocks, n_vars = found.blocks, found.shape[1]
    profile = blocks.totals / blocks.totals.sum()
    kept = cell_data(found.sample.matrix, None, None, profile)
    source = Stream(blocks, np.arange(n_vars), kept, no_conditions(blocks.n_obs), profile)

    def minibatches(size: int, seed: int) -> Iterable[Any]:
        order = source.order(size, blocks.n_obs // size, np.random.default_rng(seed))
        return (cells.counts for cells in source.minibatches(order))

    return minibatches


def _theirs(collection: Any, size: int, seed: int) -> Iterable[Any]:
    from annbatch import Loader

    loader = Loader(
        batch_size=size, chunk_size=max(size, 256), preload_nchunks=16, shuffle=True, rng=np.random.default_rng(seed)
    ).use_collection(collection)
    return (batch["X"] for batch in loader)
