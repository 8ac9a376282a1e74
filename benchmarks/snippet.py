"""The README's snippet step by step in one process, beside an older build; and marker genes beside scanpy's Wilcoxon test."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import scdae

SOURCE = Path(scdae.__file__).resolve().parents[1]
_STEPS = ("impute", "log1p layer", "evaluate", "rank_genes")
_SECOND = ("impute, another seed", "impute, 20 cells and genes fewer")
_PEAK = "peak memory after impute, MiB"
_AGAIN = ("rank_genes, model given, again", "scanpy's Wilcoxon test, again")
_JOB = """
import resource, sys, time, warnings
import anndata as ad, jax, scanpy as sc, scdae
warnings.simplefilter("ignore")
adata = ad.read_h5ad(sys.argv[1])
sc.pp.filter_genes(adata, min_cells=3)
label = sys.argv[2]
scdae.DAE, scdae.pp.impute, scdae.tl.evaluate, scdae.tl.rank_genes  # imported when they are first asked for
def step(name, call):
    wall, used = time.perf_counter(), time.process_time()
    call()
    print(f"{name}\\t{time.perf_counter() - wall}\\t{time.process_time() - used}", flush=True)
step("impute", lambda: scdae.pp.impute(adata))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"peak memory after impute, MiB\\t{peak}\\t{peak}", flush=True)
step("log1p layer", lambda: scdae.pp.impute(adata, output="log1p", key_added="scdae_log1p"))
step("evaluate", lambda: scdae.tl.evaluate(adata))
step("rank_genes", lambda: scdae.tl.rank_genes(adata, label))
step("impute, another seed", lambda: scdae.pp.impute(adata, seed=1, key_added="again"))
fewer = adata[20:, 20:].copy()
step("impute, 20 cells and genes fewer", lambda: scdae.pp.impute(fewer, key_added="fewer"))
if hasattr(scdae.get, "model"):
    model = scdae.get.model(adata)
    scdae.tl.rank_genes(adata, label, model=model, overwrite=True)
    step("rank_genes, model given, again", lambda: scdae.tl.rank_genes(adata, label, model=model, overwrite=True))
sc.pp.normalize_total(adata)
sc.pp.log1p(adata)
sc.tl.rank_genes_groups(adata, label, method="wilcoxon")
step("scanpy's Wilcoxon test, again", lambda: sc.tl.rank_genes_groups(adata, label, method="wilcoxon"))
"""


def snippet(shared: Path, old: Path | None, runs: int) -> None:
    """Print medians of wall and processor seconds of each step on pbmc3k, imports left out, of this build and of `old`, by turns."""
    builds = {"this": SOURCE} | ({} if old is None else {"old": old})
    found: dict[str, dict[str, list[tuple[float, float]]]] = {build: {} for build in builds}
    for _ in range(runs):
        for build, source in builds.items():
            for name, *seconds in _run(source, shared / "data/pbmc3k.h5ad"):
                found[build].setdefault(name, []).append((float(seconds[0]), float(seconds[1])))
    print(f"\nThe README's snippet on pbmc3k, one process, imports left out: medians of {runs} runs")
    print(f"{'':34s}" + "".join(f"{build + ': wall s':>14s}{'processor s':>13s}" for build in builds))
    medians = {
        build: {name: [statistics.median(part) for part in zip(*values, strict=True)] for name, values in steps.items()}
        for build, steps in found.items()
    }
    for steps in medians.values():
        steps["sum of the first four"] = [sum(steps[name][k] for name in _STEPS) for k in (0, 1)]
    for name in (*_STEPS, "sum of the first four", *_SECOND, *_AGAIN):
        of_builds = [steps.get(name, [float("nan")] * 2) for steps in medians.values()]
        print(f"{name:34s}" + "".join(f"{wall:14.2f}{used:13.2f}" for wall, used in of_builds))
    peaks = [steps[_PEAK][0] for steps in medians.values()]
    print(f"{_PEAK:34s}" + "".join(f"{peak:14.0f}{'':13s}" for peak in peaks))
    if old is not None:
        this, other = (medians[build]["sum of the first four"] for build in ("this", "old"))
        print(f"{'this over old, of the sum':34s}{this[0] / other[0]:14.2f}{this[1] / other[1]:13.2f}   (goal 0.40)")
        print(f"{'this over old, of the peak':34s}{peaks[0] / peaks[1]:14.2f}{'':13s}   (goal 0.8)")
    first, *later = (medians["this"][name] for name in ("impute", *_SECOND))
    for name, (wall, used) in zip(_SECOND, later, strict=True):
        print(f"{name + ', over the first':42s}{wall / first[0]:6.2f}{used / first[1]:13.2f}   (goal 0.4)")
    ours, theirs = (medians["this"][name] for name in _AGAIN)
    print(f"{'rank_genes over Wilcoxon':34s}{ours[0] / theirs[0]:14.2f}{ours[1] / theirs[1]:13.2f}   (goal 1.0)")


def _run(source: Path, data: Path) -> list[list[str]]:
    """Name, wall and processor seconds of each step."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", _JOB, str(data), "cell_type"],
        env=environment | {"PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
