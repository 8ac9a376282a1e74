"""What `scdae batch` asks a scheduler for, beside what the job takes: ten data sets of 200 to 200,000 cells."""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

# cells, genes, molecules of a cell
SETS = (
    (200, 400, 500),
    (500, 1000, 800),
    (1000, 20_000, 3000),
    (2000, 2000, 1000),
    (5000, 5000, 1500),
    (10_000, 3000, 1000),
    (20_000, 2000, 500),
    (20_000, 20_000, 2500),
    (60_000, 2000, 300),
    (200_000, 1000, 150),
)
_SPARSE = 100_000  # cells from which on small values are left out of the layer
_LEAST, _MOST = 1.1, 2.0  # asked memory over the peak
# As the job itself runs, and then what the system says of it.
_WORKER = """
import sys
from scdae.cli import main
try:
    main()
finally:
    for line in open("/proc/self/status"):
        if line.startswith(("VmHWM", "VmPeak")):
            print("took", *line.split()[:2], file=sys.stderr)
"""


def asked(runs: tuple[tuple[int, int, int], ...] = SETS) -> int:
    """Print a table and return how many jobs got less than 1.1 or more than twice the memory they took.

    The layer of the last is sparse, those of the others are dense, or lazy where they are too large for the job. Each job compiles anew, and has the limit on its memory that SLURM sets (RLIMIT_RSS), by which it chooses how to work.
    """
    print("\nMemory that `scdae batch` asks for, and that the job takes, compiled programs and all (one epoch)")
    print(
        f"{'cells x genes':>18s}{'entries':>12s}{'asked MiB':>11s}{'took':>7s}{'ratio':>7s}{'cores':>7s}{'addresses':>11s}{'s':>7s}"
    )
    wrong = 0
    for n_obs, n_vars, each in runs:
        with tempfile.TemporaryDirectory(prefix="asked-") as folder:
            place = Path(folder)
            (place / "samples").mkdir()
            adata = made(n_obs, n_vars, each)
            adata.write_h5ad(place / "samples/one.h5ad")
            stored = adata.X.nnz
            del adata
            own = ["--threshold", "0.01"] if n_obs >= _SPARSE else []
            memory, cores, took, addresses, seconds = _run(place, own)
            right = _LEAST <= memory / took <= _MOST
            wrong += not right
            print(
                f"{f'{n_obs:,} x {n_vars:,}':>18s}{stored:12,d}{memory:11,d}{took:7,.0f}{memory / took:7.2f}{cores:7d}{addresses:11,.0f}"
                f"{seconds:7.0f}{'' if right else '  outside of 1.1 to 2'}",
                flush=True,
            )
    print(f"{wrong} of {len(runs)} outside of 1.1 to 2")
    return wrong


def made(n_obs: int, n_vars: int, each: int) -> ad.AnnData:
    """Cells of five types, `each` molecules a cell."""
    rng = np.random.default_rng(0)
    base = rng.dirichlet(np.full(n_vars, 0.3))
    columns = []
    for rows in np.array_split(np.arange(n_obs), 5):
        profile = base * np.exp(rng.normal(0, 0.7, n_vars))
        columns.append(rng.choice(n_vars, len(rows) * each, p=profile / profile.sum()).astype(np.int32))
    counts = sp.csr_matrix(
        (np.ones(n_obs * each, np.float32), np.concatenate(columns), np.arange(0, n_obs * each + 1, each)),
        (n_obs, n_vars),
    )
    counts.sum_duplicates()
    return ad.AnnData(counts)


def _run(place: Path, own: list[str]) -> tuple[int, int, float, float, float]:
    """MiB asked for, cores, MiB of the peak, MiB of addresses, and seconds of the job."""
    words = [sys.executable, "-m", "scdae", "batch", "samples", "jobs", "--", "--max-epochs", "1", *own]
    subprocess.run(words, cwd=place, check=True, capture_output=True)
    script = (place / "jobs/array.slurm").read_text()
    memory, cores = (int(re.search(rf"--{name}=(\d+)", script)[1]) for name in ("mem", "cpus-per-task"))
    job = shlex.split((place / "jobs/commands.txt").read_text())[3:]  # after: python -m scdae
    environment = os.environ | {
        "OMP_NUM_THREADS": str(cores),
        "JAX_COMPILATION_CACHE_DIR": str(place / "jobs/compiled"),
    }
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, *job],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_RSS, (memory * 2**20, memory * 2**20)),
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = dict(re.findall(r"took (\w+): (\d+)", done.stderr))
    return memory, cores, int(found["VmHWM"]) / 1024, int(found["VmPeak"]) / 1024, time.monotonic() - began
