"""Many jobs side by side on two cores, beside an older build: an array of small samples, and two fits with batches."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

import scdae

SOURCE = Path(scdae.__file__).resolve().parents[1]
_PART = 4  # jobs of one build, before those of the other


def arrays(old: Path | None, *, n_samples: int = 20, rounds: int = 1) -> None:
    """Print wall and user seconds of both, with this build and, by turns, with that whose `src` is `old`.

    The old build has the environment that its scripts had: no cache of compiled programs, and as many threads as there are cores.
    This one has what `scdae batch` writes: one cache for all, and for the array the cores of a job. The fits run a second time with
    the programs that they have kept.
    """
    builds = {"this": SOURCE} | ({} if old is None else {"old": old})
    with tempfile.TemporaryDirectory(prefix="arrays-") as folder:
        place = Path(folder)
        alike(place / "alike", n_samples)
        batches(place / "batches")
        found: dict[str, dict[str, list[float]]] = {}

        def add(name: str, build: str, seconds: tuple[float, float]) -> None:
            found.setdefault(name, {}).setdefault(build, []).extend(seconds)
            print(f"{name:30s}{build:>8s}{seconds[0]:9.1f}{seconds[1]:9.1f}", flush=True)

        print(f"{'':30s}{'build':>8s}{'wall s':>9s}{'user s':>9s}")
        samples = sorted((place / "alike").glob("*.h5ad"))
        for i in range(rounds):
            kept = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            kept["JAX_COMPILATION_CACHE_DIR"] = str(place / f"of-fits-{i}")
            for name, some in (("two fits with --batch-key", builds), ("  programs kept", {"this": SOURCE})):
                for build, source in some.items():
                    files = [place / f"{build}-{i}-{j}.scdae" for j in range(2)]
                    words = ["fit", str(place / "batches/*.h5ad"), "--batch-key", "sample", "--overwrite"]
                    fits = [[*words, str(file)] for file in files]
                    add(name, build, run(fits, source, kept if build == "this" else {}))
            kept |= {"JAX_COMPILATION_CACHE_DIR": str(place / f"of-array-{i}"), "OMP_NUM_THREADS": "1"}
            for first in range(0, n_samples, _PART):
                for build, source in builds.items():
                    jobs = [
                        ["impute", str(path), str(place / f"{build}-{i}-{path.stem}.h5ad"), "--quiet"]
                        for path in samples[first : first + _PART]
                    ]
                    seconds = run(jobs, source, kept if build == "this" else {})
                    add(f"  samples {first + 1} to {min(first + _PART, n_samples)}", build, seconds)
    array: dict[str, list[float]] = {}
    for name in [name for name in found if name.startswith("  samples")]:
        for build, values in found.pop(name).items():
            array.setdefault(build, []).extend(values)
    found = {
        f"array of {n_samples} samples": {b: list(np.reshape(v, (-1, 2)).sum(0) / rounds) for b, v in array.items()}
    } | found
    print(f"\n{'two at a time':30s}{'build':>8s}{'wall s':>9s}{'user s':>9s}")
    for name, of_build in found.items():
        means = {build: np.reshape(values, (-1, 2)).mean(axis=0) for build, values in of_build.items()}
        for build, (wall, user) in means.items():
            print(f"{name:30s}{build:>8s}{wall:9.1f}{user:9.1f}")
        if "old" in means:
            print(f"{'':30s}{'ratio':>8s}" + "".join(f"{x:9.2f}" for x in means["this"] / means["old"]))


def run(jobs: Sequence[list[str]], source: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Wall and user seconds of some jobs, of which two run at a time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "OMP_", "OPENBLAS_"))}
    kept |= environment | {"PYTHONPATH": str(source)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.monotonic()
    waiting, running = list(jobs), []
    while waiting or running:
        while waiting and len(running) < 2:
            words = [sys.executable, "-m", "scdae", *waiting.pop(0)]
            running.append(subprocess.Popen(words, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for job in running:
            if job.poll():
                raise SystemExit(f"{' '.join(job.args)} ended with {job.returncode}")
        running = [job for job in running if job.poll() is None]
        time.sleep(0.05)
    return time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def alike(folder: Path, number: int) -> None:
    """Samples of one study: the same 500 genes, and 300 to 400 cells."""
    folder.mkdir()
    for i in range(number):
        adata = scdae.datasets.simulate(n_cells=300 + 5 * i, n_genes=500, seed=i)
        adata.write_h5ad(folder / f"s{i:02d}.h5ad")


def batches(folder: Path) -> None:
    """Three files of 300 cells x 400 genes, with a fold change of their own each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    base = scdae.datasets.simulate(n_cells=900, n_genes=400, seed=0)
    for i in range(3):
        adata = base[300 * i : 300 * (i + 1)].copy()
        thinned = rng.binomial(np.asarray(sp.csr_matrix(adata.X).toarray(), np.int64), rng.uniform(0.5, 1, 400))
        adata.X = sp.csr_matrix(thinned.astype(np.float32))
        adata.write_h5ad(folder / f"b{i}.h5ad")
