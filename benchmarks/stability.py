"""Whether results depend on the order of the cells or genes, or on the seed: restored counts, and which genes have dropout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np

import scdae

# name, cells, genes, dropout, seed of the simulated ones; then those of the folder, with the least cells of a gene
SIMULATED = {
    "simulated, dropout .1": (1000, 300, 0.1, 0),
    "simulated, dropout .2": (600, 400, 0.2, 2),
    "simulated, dropout .05": (1500, 300, 0.05, 3),
}
MEASURED = {"zeisel_cortex_ercc": 0, "pbmc3k": 3}
FLOOR = 1e-3  # counts below it are compared as it
GOALS = "correlation of logs at least .995, Jaccard index at least .85, none beyond 5-fold; pbmc3k: 99 % within .15"


def fitted(adata: ad.AnnData, cells: np.ndarray, genes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Restored counts and the probability of dropout by gene, in the order of `adata`, fitted in another."""
    some = adata[cells][:, genes].copy()
    scdae.pp.impute(some, seed=seed)
    back = np.ix_(np.argsort(cells), np.argsort(genes))
    chance = some.var["scdae_zero_inflated_probability"].to_numpy()
    return np.asarray(some.layers["scdae"])[back], chance[np.argsort(genes)]


def data(shared: Path, names: list[str]) -> Iterator[tuple[str, ad.AnnData]]:
    """Simulated and measured cells."""
    for name, (n_cells, n_genes, dropout, seed) in SIMULATED.items():
        if not names or name in names or "simulated" in names:
            yield name, scdae.datasets.simulate(n_cells, n_genes, dropout=dropout, seed=seed)
    for name, least in MEASURED.items():
        if not names or name in names:
            adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
            yield name, adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= least].copy()


def stability(shared: Path, names: list[str]) -> None:
    """Print the table."""
    print(f"\nThe same counts in another order, and by another seed ({GOALS})")
    print(f"{'data':26s}{'against':12s}{'r of logs':>10s}{'99 %':>8s}{'largest':>9s}{'called':>12s}{'Jaccard':>9s}")
    for name, adata in data(shared, names):
        cells, genes = np.arange(adata.n_obs), np.arange(adata.n_vars)
        rng = np.random.default_rng(0)
        before, chance = fitted(adata, cells, genes, 0)
        ways = {
            "cells": (rng.permutation(cells), genes, 0),
            "genes": (cells, rng.permutation(genes), 0),
            "seed": (cells, genes, 1),
        }
        for way, how in ways.items():
            after, again = fitted(adata, *how)
            one, other = (np.log(np.maximum(values, FLOOR)).ravel() for values in (before, after))
            apart = np.abs(one - other)
            both, any_ = ((chance > 0.5) & (again > 0.5)).sum(), ((chance > 0.5) | (again > 0.5)).sum()
            called = f"{(chance > 0.5).sum()}, {(again > 0.5).sum()}"
            print(
                f"{name:26s}{way:12s}{np.corrcoef(one, other)[0, 1]:10.4f}{np.quantile(apart, 0.99):8.3f}"
                f"{np.exp(apart.max()):8.1f}x{called:>12s}{both / any_ if any_ else 1:9.2f}",
                flush=True,
            )
