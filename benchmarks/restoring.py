"""Seconds of restoring some genes of many cells to a sparse layer in .zarr, beside an older build, by turns; and by Dask workers.

python benchmarks/run.py restoring --old SRC              # 20,000 cells x 20,000 genes, of which 2,000 are wanted
python benchmarks/run.py workers                          # 60,000 such cells, by one worker process of Dask and by two
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import scale

import scdae

SOURCE = Path(scdae.__file__).resolve().parents[1]
N_OBS, WANTED, THRESHOLD = 20_000, 2000, 0.01
_FIT = """
import sys, warnings
warnings.simplefilter("ignore")
import anndata as ad, scdae
scdae.DAE().fit(ad.read_h5ad(sys.argv[1])).save(sys.argv[2])
"""
_JOB = """
import resource, sys, time, warnings
warnings.simplefilter("ignore")
import anndata as ad, numpy as np, scdae
try:
    from scdae.io.on_disk import open_on_disk
    from scdae.io.write import write_atomic
except ImportError:  # where they were in the first builds
    from scdae.ondisk import open_on_disk
    from scdae.output import write_atomic
path, model, out, n, threshold = sys.argv[1:]
model, n = scdae.DAE.load(model), int(n)
wall, used = time.perf_counter(), time.process_time()
adata = open_on_disk(path)
layer = model.impute(adata, lazy=True, genes=np.arange(n), threshold=float(threshold))
write_atomic(ad.AnnData(obs=adata.obs, var=adata.var[:n], layers={"scdae": layer}), out, overwrite=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"\\t{time.perf_counter() - wall}\\t{time.process_time() - used}\\t{peak}")
"""
_BY_WORKERS = """
import shutil, sys, time, warnings
warnings.simplefilter("ignore")
import anndata as ad, numpy as np, scdae
from dask.distributed import Client, LocalCluster
from scdae.io.on_disk import open_on_disk
from scdae.io.write import write_atomic

def main():
    path, model, out, n, threshold, workers = sys.argv[1:]
    adata, few = open_on_disk(path), int(n)
    layer = scdae.DAE.load(model).impute(adata, lazy=True, genes=np.arange(few), threshold=float(threshold))
    settings = {"n_workers": int(workers), "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        for k, address in enumerate(client.scheduler_info()["workers"]):  # each imports and compiles before the clock is started
            client.compute(layer.blocks[k], workers=[address], allow_other_workers=False).result()
        wall = time.perf_counter()
        write_atomic(ad.AnnData(obs=adata.obs, var=adata.var[:few], layers={"scdae": layer}), out)
        print(f"\\t{time.perf_counter() - wall}")
    shutil.rmtree(out)

if __name__ == "__main__":
    main()
"""
N_BY_WORKERS = 60_000


def workers(output: Path, runs: int) -> None:
    """Print seconds of one worker of Dask and of two, of one thread each, by turns; workers have been started and have compiled."""
    counts, model, script = (
        output / f"scale_{N_BY_WORKERS}.h5ad",
        output / "restoring_this.scdae",
        output / "by_workers.py",
    )
    if not counts.exists():
        scale.simulate(str(counts), N_BY_WORKERS)
    script.write_text(_BY_WORKERS)
    _run(SOURCE, _FIT, counts, model)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(runs):
        for number, found in seconds.items():
            out = output / "by_workers.zarr"
            line = _run(SOURCE, script, counts, model, out, WANTED, THRESHOLD, number)
            found.append(float(line.split("\t")[-1]))
    one, two = (statistics.median(found) for found in seconds.values())
    print(
        f"\n{WANTED:,} of {scale.N_VARS:,} genes of {N_BY_WORKERS:,} cells to a sparse layer in .zarr: medians of {runs} runs"
    )
    print(f"one worker process of one thread {one:.1f} s, two {two:.1f} s: {one / two:.2f} times as fast   (goal 1.7)")


def restoring(output: Path, old: Path | None, runs: int, n_obs: int = N_OBS) -> None:
    """Print medians of wall and processor seconds and of peak memory; each build restores with a model of its own, loaded before."""
    counts = output / f"scale_{n_obs}.h5ad"
    if not counts.exists():
        scale.simulate(str(counts), n_obs)
    builds = {"this": SOURCE} | ({} if old is None else {"old": old})
    found: dict[str, list[list[float]]] = {build: [] for build in builds}
    for build, source in builds.items():
        _run(source, _FIT, counts, output / f"restoring_{build}.scdae")
    for _ in range(runs):
        for build, source in builds.items():
            files = counts, output / f"restoring_{build}.scdae", output / "restoring.zarr"
            line = _run(source, _JOB, *files, WANTED, THRESHOLD)
            found[build].append(list(map(float, line.split("\t")[1:])))
    print(
        f"\n{WANTED:,} of {scale.N_VARS:,} genes of {n_obs:,} cells to a sparse layer in .zarr: medians of {runs} runs"
    )
    print(f"{'build':8s}{'wall s':>9s}{'processor s':>13s}{'peak GiB':>10s}")
    medians = {b: [statistics.median(part) for part in zip(*rows, strict=True)] for b, rows in found.items()}
    for build, (wall, used, peak) in medians.items():
        print(f"{build:8s}{wall:9.1f}{used:13.1f}{peak:10.2f}")
    if old is not None:
        ratios = [x / y for x, y in zip(medians["this"], medians["old"], strict=True)]
        print(f"{'ratio':8s}{ratios[0]:9.2f}{ratios[1]:13.2f}{ratios[2]:10.2f}   (goal 0.5 of the seconds)")


def _run(source: Path, job: str | Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *(["-c", job] if isinstance(job, str) else [str(job)]), *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=str(source)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return done.stdout.strip("\n")
