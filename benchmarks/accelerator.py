"""Training on the device at hand: seconds and cells per second by size, the step against the memory's bandwidth, skill.

    python benchmarks/accelerator.py [--data FOLDER] [--sizes 3000x2000 100000x20000x256 ...] [--precision bfloat16]
    [--scvi]

Needs nothing but the package, so that it can be run where the referee is not.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import anndata as ad
import jax
import numpy as np
import scipy.sparse as sp

import scdae
from scdae.core.minibatches import microbatches as cutting
from scdae.core.training import loop as training
from scdae.metrics import deviance_skill, gene_mean

SIZES = ("3000x2000", "3000x20000", "100000x2000", "100000x20000", "1000000x2000", "1000000x20000")
DATA = {"zeisel_cortex_ercc": 0, "pbmc_1k_v3": 3, "pbmc3k": 3, "sc_mixology_3cl_celseq2": 3}  # least cells of a gene
UNLIKE = 100_000  # cells that are drawn
DENSE = 0.05  # share of the entries above zero


def simulate(n_obs: int, n_vars: int, seed: int = 0) -> ad.AnnData:
    """Counts of about the density wanted, of cells of 100 kinds; more than 100,000 are these several times over."""
    if n_obs > UNLIKE:
        return ad.AnnData(sp.vstack([simulate(UNLIKE, n_vars, seed).X] * (n_obs // UNLIKE), format="csr"))
    rng = np.random.default_rng(seed)
    kinds, per_cell = 100, int(1.5 * DENSE * n_vars)
    logits = rng.normal(0, 1.5, n_vars) + rng.normal(0, 1, (kinds, 8)) @ rng.normal(0, 0.3, (8, n_vars))
    ladders = np.cumsum(np.exp(logits), axis=1)
    ladders /= ladders[:, -1:]
    kind = np.sort(rng.integers(0, kinds, n_obs))
    parts = []
    for k in range(kinds):
        n = int((kind == k).sum())
        columns = np.minimum(np.searchsorted(ladders[k], rng.random((n, per_cell), dtype=np.float32)), n_vars - 1)
        rows = np.repeat(np.arange(n), per_cell)
        part = sp.csr_matrix((np.ones(n * per_cell, np.float32), (rows, columns.ravel())), (n, n_vars))
        parts.append(part)
    return ad.AnnData(sp.vstack(parts, format="csr"))


def measure(adata: ad.AnnData, batch_size: int | None) -> dict:
    """Fit once, compilation included; the time of the training steps alone is that of the compiled calls."""
    import scdae.core.training.fit as fitting

    n_obs, n_vars = adata.shape
    spent, inner = {"train": 0.0}, training.train

    def timed(*args: object, **options: object) -> object:
        start = time.perf_counter()
        found = inner(*args, **options)
        spent["train"] = time.perf_counter() - start
        return found

    fitting.train = timed
    start = time.perf_counter()
    model = scdae.DAE(batch_size=batch_size).fit(adata)
    total = time.perf_counter() - start
    fitting.train = inner
    found = {"cells": n_obs, "genes": n_vars, "entries": int(adata.X.nnz), "batch": batch_size, "fit s": total}
    found |= {"training s": spent["train"], "epochs": model.outcome.n_epochs, "skill": model.outcome.report.skill}
    found["cells/s"] = found["epochs"] * n_obs / spent["train"]
    some = adata[: min(n_obs, 50_000)].copy()
    model.latent(some[:5000].copy())
    start = time.perf_counter()
    model.latent(some)
    return found | {"latent cells/s": some.n_obs / (time.perf_counter() - start)}


def step(n_vars: int, batch_size: int, bandwidth: float | None) -> dict:
    """Seconds of one step on data that are there, and bytes that the compiled step moves, by XLA's own count."""
    adata = simulate(2048, n_vars)
    batches, make = [], cutting.make_batch
    fits, training.fits = training.fits, lambda source: False
    cutting.make_batch = lambda *args: batches.append(make(*args)) or batches[-1]
    outcome = scdae.DAE(max_epochs=1, batch_size=batch_size, likelihood="nb").fit(adata).outcome
    cutting.make_batch, training.fits = make, fits
    params = jax.device_put(outcome.fitted.params)
    batch = jax.device_put(batches[-1])
    loss = jax.jit(jax.value_and_grad(lambda p, b: _loss(outcome.fitted.graph, p, b)))
    compiled = loss.lower(params, batch).compile()
    cost = compiled.cost_analysis() or {}
    jax.block_until_ready(compiled(params, batch))
    repeats = 50
    start = time.perf_counter()
    for _ in range(repeats):
        out = compiled(params, batch)
    jax.block_until_ready(out)
    seconds = (time.perf_counter() - start) / repeats
    moved = float(cost.get("bytes accessed", 0.0))
    found = {"genes": n_vars, "batch": batch_size, "decoder and loss, ms": 1e3 * seconds, "MB moved": moved / 1e6}
    if bandwidth:
        found["share of bandwidth"] = moved / seconds / bandwidth
    return found


def _loss(graph: object, params: object, batch: object) -> jax.Array:
    from flax import nnx

    from scdae.core.network.loss import nb_sum

    model = nnx.merge(graph, params)
    logits = model.decode(model.encode(batch.inputs, batch.conditions), batch.conditions)
    return nb_sum(logits, model.theta(), batch)[0]


def copy_bandwidth() -> float:
    """Bytes a second that a copy of a large array moves, read and written."""
    big = jax.numpy.ones(2**27 if jax.default_backend() != "cpu" else 2**24)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(big))
    start = time.perf_counter()
    for _ in range(20):
        out = copy(big)
    jax.block_until_ready(out)
    return 20 * 2 * big.nbytes / (time.perf_counter() - start)


def skill(path: Path, least: int, seed: int = 0) -> dict:
    """Held-out skill on real counts, from a tenth of the molecules."""
    adata = ad.read_h5ad(path)
    adata = adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= max(least, 1)].copy()
    train, test = scdae.pp.thin(adata, 0.9, seed=seed)
    start = time.perf_counter()
    model = scdae.DAE().fit(train)
    seconds = time.perf_counter() - start
    there = np.asarray(train.X.sum(axis=0)).ravel() > 0
    restored, base = model.impute(train)[:, there] / 9, gene_mean(train.X.toarray())[:, there] / 9
    truth = test.X.toarray()[:, there]
    return {"data": path.stem, "skill": deviance_skill(truth, restored, base, blend=0.01), "fit s": seconds}


def scvi_speed(adata: ad.AnnData) -> dict:
    """One epoch of scVI on the same counts."""
    import scvi

    n_obs, n_vars = adata.shape
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata)
    model.train(max_epochs=1, enable_progress_bar=False)
    start = time.perf_counter()
    model.train(max_epochs=1, enable_progress_bar=False)
    seconds = time.perf_counter() - start
    return {
        "scVI": scvi.__version__,
        "cells": n_obs,
        "genes": n_vars,
        "one epoch s": seconds,
        "cells/s": n_obs / seconds,
    }


def main() -> None:
    """Print one JSON line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with real counts")
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="cells x genes [x cells of a step]")
    parser.add_argument("--precision", help="of matrix products, for JAX: bfloat16, tensorfloat32, float32")
    parser.add_argument("--steps", nargs="*", default=["20000x64", "20000x512"], help="genes x cells of a step")
    parser.add_argument("--scvi", action="store_true", help="one epoch of scVI as well")
    options = parser.parse_args()

    def say(found: dict) -> None:
        short = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in found.items()}
        sys.stdout.write(json.dumps(short) + "\n")
        sys.stdout.flush()

    if options.precision:
        jax.config.update("jax_default_matmul_precision", options.precision)
    bandwidth = copy_bandwidth()
    device = jax.devices()[0]
    say(
        {
            "device": device.device_kind,
            "jax": jax.__version__,
            "precision": options.precision,
            "copy GB/s": bandwidth / 1e9,
        }
    )
    for name, least in DATA.items():
        if options.data and (options.data / f"{name}.h5ad").exists():
            say(skill(options.data / f"{name}.h5ad", least))
    for size in options.steps:
        say(step(*map(int, size.split("x")), bandwidth))
    adata = None
    for size in options.sizes:
        n_obs, n_vars, *batch_size = map(int, size.split("x"))
        if adata is None or adata.shape != (n_obs, n_vars):
            adata = simulate(n_obs, n_vars)
        say(measure(adata, *(batch_size or [None])))
        if options.scvi:
            say(scvi_speed(adata))


if __name__ == "__main__":
    main()
