"""scdae and its peers on the same split of the same counts: held-out skill, seconds, memory; recorded and drawn.

Needs nothing but the network, for peers are installed from PyPI and data are fetched; without one, simulated counts are
left.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from compared import METHODS, RECORD
from peers import environment_of

import scdae
from scdae.metrics import deviance_skill, gene_mean, log_normalize, rmse

HERE = Path(__file__).resolve().parent
DATA = ("simulated", "pbmc3k", "paul15")
LEAST = 3  # cells of a gene
SHOWN = 0.9  # share of the molecules that a method sees


def counts_of(name: str, shared: Path) -> ad.AnnData:
    """Counts of a data set, simulated, from `shared`, or fetched."""
    if name == "simulated":
        adata = scdae.datasets.simulate(2000, 2000, seed=0)
    elif (shared / f"data/{name}.h5ad").exists():
        adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
    else:
        adata = getattr(scdae.datasets, name)()
    return adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= LEAST].copy()


def split(adata: ad.AnnData) -> tuple[ad.AnnData, ad.AnnData]:
    """Molecules that are shown and those that are held out, for genes of which some are shown."""
    train, test = scdae.pp.thin(adata, SHOWN, seed=0)
    if "truth" in adata.layers:
        train.layers["truth"] = adata.layers["truth"]
    shown = np.asarray(train.X.sum(axis=0)).ravel() > 0
    return train[:, shown].copy(), test[:, shown].copy()


def run(method: str, train: ad.AnnData) -> tuple[np.ndarray, dict]:
    """Restored counts, and what the process took: seconds with imports and reading, GiB at its peak, versions."""
    environment = METHODS[method][1]
    python = sys.executable if environment is None else environment_of(environment)
    with tempfile.TemporaryDirectory(prefix="scdae-compare-") as folder:
        sp.save_npz(f"{folder}/train.npz", sp.csr_matrix(train.X))
        np.save(f"{folder}/genes.npy", train.var_names.to_numpy(dtype=str))
        environ = os.environ | {"SCDAE_COMPILED": str(HERE / "output/compiled")}
        with open(f"{folder}/log", "w") as log:
            start = time.perf_counter()
            process = subprocess.Popen(
                [python, HERE / "compare_worker.py", method, folder], stdout=log, stderr=log, cwd=folder, env=environ
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise RuntimeError(Path(folder, "log").read_text()[-1500:])
        took = {"seconds": round(seconds, 1), "processor": round(usage.ru_utime + usage.ru_stime, 1)}
        took |= json.loads(Path(folder, "report.json").read_text())
        return np.load(f"{folder}/restored.npy"), took


def score(restored: np.ndarray, train: ad.AnnData, test: ad.AnnData) -> dict:
    """Held-out deviance skill, and for simulated counts the error of the log expression."""
    base = gene_mean(train.X.toarray())
    held = (1 - SHOWN) / SHOWN
    found = {"skill": round(deviance_skill(test.X.toarray(), restored * held, base * held, blend=0.01), 4)}
    if "truth" in train.layers:
        found["error"] = round(rmse(log_normalize(np.maximum(restored, 0)), log_normalize(train.layers["truth"])), 4)
    return found


def machine() -> dict:
    """What the numbers were measured on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "gib": round(memory), "system": platform.system()}


def compare(shared: Path, names: list[str], methods: list[str]) -> None:
    """Run the methods on the data sets in turn; print, record and draw what came out."""
    from render import render  # with matplotlib, which a comparison that fails early need not wait for

    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    print("\nScdae and peers: a tenth of the molecules held out; whole processes in turn")
    print(f"{'data':12s}{'method':34s}{'skill':>8s}{'error':>8s}{'s':>8s}{'CPU s':>8s}{'GiB':>7s}")
    for name in names or DATA:
        try:
            train, test = split(counts_of(name, shared))
        except ConnectionError as reason:
            print(f"{name:12s}left out: {reason}", flush=True)
            continue
        entry = record.setdefault(name, {"methods": {}})
        entry |= {"cells": train.n_obs, "genes": train.n_vars}
        for method in methods or METHODS:
            try:
                if method == "scdae_again":
                    run(method, train)  # compiles
                restored, took = run(method, train)
            except (RuntimeError, subprocess.CalledProcessError) as reason:
                print(f"{name:12s}{METHODS[method][0]:34s}failed: {reason}", flush=True)
                continue
            found = score(restored, train, test) | took | {"machine": machine(), "date": f"{date.today()}"}
            entry["methods"][method] = found
            error = f"{found['error']:8.4f}" if "error" in found else " " * 8
            print(
                f"{name:12s}{METHODS[method][0]:34s}{found['skill']:8.4f}{error}{found['seconds']:8.1f}"
                f"{found['processor']:8.1f}"
                f"{found['gib']:7.2f}",
                flush=True,
            )
            RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    if RECORD.exists():
        render(json.loads(RECORD.read_text()))  # in the order in which it is kept
