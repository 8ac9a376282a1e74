"""A trained model on other data: applied as it is, and adapted."""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
from sklearn.neighbors import NearestNeighbors

import scdae
from scdae.metrics import deviance_skill, gene_mean

LEAST = 3  # cells of a gene
REFERENCE, QUERIES = "pbmc_1k_v3", ("pbmc_1k_v2", "pbmc3k")


def read(shared: Path, name: str) -> ad.AnnData:
    """Counts of the genes that a few cells have."""
    adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
    return adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= LEAST].copy()


def mixing(first: np.ndarray, second: np.ndarray, number: int = 30) -> float:
    """Share of neighbors from the other data, over that of cells drawn by lot."""
    both = np.concatenate([first, second])
    label = np.repeat([0, 1], [len(first), len(second)])
    near = NearestNeighbors(n_neighbors=number + 1).fit(both).kneighbors(both)[1][:, 1:]
    other = (label[near] != label[:, None]).mean()
    return float(other / (2 * np.mean(label) * (1 - np.mean(label))))


def reuse(shared: Path, names: list[str]) -> None:
    """Print held-out skill on each query, over the genes that the reference knows."""
    reference = read(shared, REFERENCE)
    model = scdae.DAE().fit(reference)
    before, latent = model.impute(reference), model.latent(reference)
    print(f"\nA model of {REFERENCE} on other data: held-out skill over the genes that both have")
    print(f"{'query':14s}{'own fit':>9s}{'applied':>9s}{'share':>8s}{'adapted':>9s}{'share':>8s}{'mixing':>8s}")
    for name in QUERIES:
        if names and name not in names:
            continue
        train, test = scdae.pp.thin(read(shared, name), 0.9, seed=0)
        both = np.isin(train.var_names, reference.var_names) & (np.asarray(train.X.sum(axis=0)).ravel() > 0)
        truth, base = test.X.toarray()[:, both], gene_mean(train.X.toarray())[:, both] / 9

        def skill(restored, truth=truth, base=base, both=both):
            return deviance_skill(truth, restored[:, both] / 9, base, blend=0.01)

        adapted = model.adapt(train)
        own, applied = skill(scdae.DAE().fit(train).impute(train)), skill(model.impute(train))
        now = skill(adapted.impute(train))
        print(f"{name:14s}{own:9.4f}{applied:9.4f}{applied / own:8.1%}{now:9.4f}{now / own:8.1%}", end="")
        print(f"{mixing(latent, adapted.latent(train)):8.2f}")
        sys.stdout.flush()
    same = np.array_equal(before, model.impute(reference)) and np.array_equal(latent, model.latent(reference))
    print(f"the reference's own results have {'not moved, bit by bit' if same else 'MOVED'}")
