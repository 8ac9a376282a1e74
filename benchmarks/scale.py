"""How time and memory grow with the number of cells, and a million cells on disk under a limit of memory.

The parts are run one by one in processes of their own, so that each peak is its own:

    python benchmarks/scale.py simulate PATH N_OBS N_VARS
    python benchmarks/scale.py fit PATH
    python benchmarks/scale.py atlas PATH OUT N_GENES GIB
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZES = (1000, 4000, 16000, 64000, 200000)
N_VARS, MOLECULES, KINDS, AT_ONCE, UNLIKE = 20000, 1500, 300, 5000, 50_000
MILLION, WRITTEN, LIMIT = 1_000_000, 2000, 8  # cells, genes of the output, GiB


def simulate(path: str, n_obs: int, n_vars: int = N_VARS, seed: int = 0) -> None:
    """Write counts to .h5ad, some cells at a time: cells of many kinds in ten dimensions, about 5 % of entries above zero.

    Of more than 50,000 cells the others are these again.
    """
    import anndata as ad
    import h5py
    import scipy.sparse as sp
    from anndata.io import sparse_dataset, write_elem

    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.0, n_vars) + rng.normal(0, 1, (KINDS, 10)) @ rng.normal(0, 0.25, (10, n_vars))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    ladders = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
    with h5py.File(path, "w") as file:
        frame = ad.AnnData(sp.csr_matrix((1, n_vars), dtype=np.float32))
        frame.var_names = [f"gene_{j}" for j in range(n_vars)]
        write_elem(file, "/", frame)
        drawn: list[sp.csr_matrix] = []
        for start in range(0, n_obs, AT_ONCE):
            n = min(AT_ONCE, n_obs - start)
            if start >= UNLIKE:
                sparse_dataset(file["X"]).append(drawn[start // AT_ONCE % len(drawn)][:n])
                continue
            kind, depth = rng.integers(0, KINDS, n), rng.poisson(MOLECULES * np.exp(rng.normal(0, 0.3, n)))
            rows, cols = np.repeat(np.arange(n), depth), np.empty(int(depth.sum()), np.int32)
            ends = np.concatenate([[0], np.cumsum(depth)])
            for i in range(n):
                cols[ends[i] : ends[i + 1]] = np.searchsorted(ladders[kind[i]], rng.random(depth[i]))
            block = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, np.minimum(cols, n_vars - 1))), (n, n_vars))
            block.sum_duplicates()
            drawn.append(block)
            if start:
                sparse_dataset(file["X"]).append(block)
            else:
                del file["X"]
                write_elem(file, "X", block, dataset_kwargs={"indptr_dtype": np.int64})
        del file["obs"]
        write_elem(file, "obs", ad.AnnData(np.zeros((n_obs, 1), np.float32)).obs)


def fit(path: str) -> None:
    """Fit to counts in memory; print seconds, and the peak beyond what the counts take."""
    import anndata as ad

    import scdae

    adata = ad.read_h5ad(path)
    before, start = _peak(), time.perf_counter()
    model = scdae.DAE().fit(adata)
    own = adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes
    found = {"cells": adata.n_obs, "entries": int(adata.X.nnz), "seconds": time.perf_counter() - start}
    found |= {"peak": _peak(), "before": before, "own": own / 2**30, "epochs": model.outcome.n_epochs}
    sys.stdout.write(json.dumps(found | {"skill": model.outcome.report.skill}) + "\n")


def atlas(path: str, out: str, n_genes: int, gib: float) -> None:
    """Fit to counts on disk for one epoch, place all cells, and write some genes as a sparse layer; in so much memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30), int(gib * 2**30)))
    import anndata as ad

    from scdae.io.on_disk import open_on_disk
    from scdae.io.write import write_atomic
    from scdae.model import DAE

    laps, last = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        laps[name], last = now - last, now
        sys.stderr.write(f"{name} {laps[name]:.1f} s, peak {_peak():.2f} GiB\n")

    adata = open_on_disk(path)
    lap("opening")
    model = DAE(max_epochs=1).fit(adata)
    lap("fit, one epoch")
    layer = model.impute(adata, lazy=True)
    lap("a lazy layer of all")
    layer[adata.n_obs // 2 : adata.n_obs // 2 + 10].compute()
    lap("ten cells of it")
    latent = model.latent(adata)
    lap("latent space of all")
    genes = model.impute(adata, lazy=True, genes=np.arange(n_genes), threshold=0.01)
    part = ad.AnnData(obs=adata.obs, var=adata.var[:n_genes], obsm={"X_scdae": latent}, layers={"scdae": genes})
    write_atomic(part, out, overwrite=True)
    lap(f"{n_genes} genes of all, sparse, to disk")
    found = {"laps": laps, "peak": _peak(), "skill": model.outcome.report.skill, "bytes": os.path.getsize(out)}
    sys.stdout.write(json.dumps(found) + "\n")


def _peak() -> float:
    """Most memory that this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _call(*arguments: object) -> dict:
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}


def scale(output: Path, sizes: tuple[int, ...] = SIZES) -> None:
    """Print time and memory by number of cells, and the slope of log time on log entries."""
    print(f"\nTraining by number of cells: simulated, {N_VARS:,} genes, about 5 % above zero; {os.cpu_count()} cores")
    print(
        f"{'cells':>9s}{'entries':>14s}{'seconds':>9s}{'epochs':>8s}{'skill':>8s}{'input GiB':>11s}{'peak GiB':>10s}{'beyond both':>13s}"
    )
    rows = []
    for n_obs in sizes:
        path = output / f"scale_{n_obs}.h5ad"
        _call("simulate", path, n_obs, N_VARS)
        row = _call("fit", path)
        path.unlink()
        rows.append(row)
        beyond = row["peak"] - row["own"]
        print(
            f"{row['cells']:9,d}{row['entries']:14,d}{row['seconds']:9.1f}{row['epochs']:8.1f}{row['skill']:8.3f}",
            end="",
        )
        print(f"{row['own']:11.2f}{row['peak']:10.2f}{beyond:13.2f}", flush=True)
    if len(rows) > 1:
        x, y = (np.log([row[name] for row in rows]) for name in ("entries", "seconds"))
        print(f"slope of log time on log entries {np.polyfit(x, y, 1)[0]:.2f} (goal: at most 1)")


def million(output: Path, n_obs: int = MILLION) -> None:
    """Print what a million cells on disk cost."""
    path, out = output / f"atlas_{n_obs}.h5ad", output / "atlas_out.h5ad"
    if not path.exists():
        _call("simulate", path, n_obs, N_VARS)
    found = _call("atlas", path, out, WRITTEN, LIMIT)
    print(
        f"\n{n_obs:,} cells x {N_VARS:,} genes on disk ({path.stat().st_size / 2**30:.1f} GiB), at most {LIMIT} GiB of data in memory"
    )
    for name, seconds in found["laps"].items():
        print(f"{name:45s}{seconds:9.1f} s")
    print(f"peak {found['peak']:.2f} GiB; output {found['bytes'] / 2**30:.2f} GiB; held-out skill {found['skill']:.3f}")
    out.unlink()


if __name__ == "__main__":
    part, *arguments = sys.argv[1:]
    if part == "simulate":
        simulate(arguments[0], int(arguments[1]), int(arguments[2]))
    elif part == "fit":
        fit(arguments[0])
    else:
        atlas(arguments[0], arguments[1], int(arguments[2]), float(arguments[3]))
