"""Entries that were not measured: hide some that were, fill them, compare; also genes that imaging did not measure."""

from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from peers import restore
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import nan_euclidean_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

import scdae
from scdae.core.data.exposure import gene_profile
from scdae.metrics import poisson_deviance

LEAST = 3  # cells of a gene
IMAGED = 1500  # cells of osmFISH, drawn by lot


def hidden_entries(shared: Path, case: str, rng: np.random.Generator) -> tuple[ad.AnnData, np.ndarray]:
    """Counts, and what is observed of them."""
    if case == "c: pbmc v2 + v3":
        parts = [ad.read_h5ad(shared / f"data/pbmc_1k_{v}.h5ad") for v in ("v2", "v3")]
        adata = ad.concat(parts, label="batch", keys=["v2", "v3"], index_unique="-")
    else:
        adata = ad.read_h5ad(shared / f"data/{case.split()[1]}.h5ad")
    adata = adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= LEAST].copy()
    counts = adata.X.toarray()
    observed = np.ones(counts.shape, bool)
    if case.startswith("a"):  # a tenth of the positive entries
        observed[(counts > 0) & (rng.random(counts.shape) < 0.1)] = False
        return adata, observed
    number = 500 if case.startswith("c") else 100
    most = np.argsort(-counts.sum(axis=0))[: 4000 if counts.shape[1] > 4000 else None]
    genes = rng.choice(most, number, replace=False)
    if case.startswith("c"):
        cells = np.flatnonzero(adata.obs["batch"] == "v2")
    else:
        cells = rng.choice(len(counts), len(counts) // 2, replace=False)
    observed[np.ix_(cells, genes)] = False
    return adata, observed


def gene_means(counts: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected counts by the gene's share of what was observed, and the exposure of each cell."""
    shown = sp.csr_matrix(np.where(observed, counts, 0))
    profile = gene_profile(shown, sp.csr_matrix(~observed))
    exposure = np.asarray(shown.sum(axis=1)).ravel() / np.maximum(observed @ profile, 1e-9)
    return exposure[:, None] * profile, exposure


def _logs(counts: np.ndarray, observed: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    return np.where(observed, np.log1p(1e4 * counts / np.maximum(exposure, 1e-9)[:, None]), np.nan)


def knn(counts: np.ndarray, observed: np.ndarray, number: int = 15) -> np.ndarray:
    """Mean share of the gene in the nearest cells that have it, by scikit-learn's distance for data with gaps.

    scikit-learn's KNNImputer would average logarithms, whose inverse is far below the mean of the counts.
    """
    _, exposure = gene_means(counts, observed)
    distance = nan_euclidean_distances(_logs(counts, observed, exposure))
    np.fill_diagonal(distance, np.inf)
    share = np.where(observed, counts / np.maximum(exposure, 1e-9)[:, None], 0)
    order = np.argsort(distance, axis=1)
    filled = np.zeros_like(share)
    for gene in np.flatnonzero(~observed.all(axis=0)):
        seen = observed[:, gene]
        for cell in np.flatnonzero(~seen):
            near = order[cell][seen[order[cell]]][:number]
            filled[cell, gene] = share[near, gene].mean() if len(near) else 0
    return filled * exposure[:, None]


def iterative_pca(counts: np.ndarray, observed: np.ndarray, rank: int = 10, n_iter: int = 20) -> np.ndarray:
    """Fill, fit a truncated SVD, fill again with it: on log counts per 10,000."""
    _, exposure = gene_means(counts, observed)
    logs = _logs(counts, observed, exposure)
    mean = np.nan_to_num(np.nanmean(logs, axis=0))
    filled = np.where(observed, logs, mean)
    for _ in range(n_iter):
        center = filled.mean(axis=0)
        left, strength, right = randomized_svd(filled - center, rank, random_state=0)
        fit = center + (left * strength) @ right
        filled = np.where(observed, logs, fit)
    return np.expm1(np.clip(fit, 0, 10)) * exposure[:, None] / 1e4


def level(values: np.ndarray, counts: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The same with the gene totals of the observed entries put right, in favor of methods that work on logarithms."""
    fitted = np.where(observed, np.maximum(values, 0), 0).sum(axis=0)
    counted = np.where(observed, counts, 0).sum(axis=0)
    return values * np.divide(counted, fitted, out=np.ones_like(fitted), where=fitted > 0)


def missing(shared: Path, names: list[str]) -> None:
    """Print the share of the gene means' Poisson deviance, on the hidden entries, that each method removes."""
    print("\nHidden entries: share of the Poisson deviance of the gene means that is removed (1 % of these blended in)")
    print("Gene totals of iterative PCA and MAGIC are put right on the observed entries, in their favor.")
    print("a: a tenth of the positive entries; b: 100 genes in half of the cells; c: 500 genes in one of two batches")
    print(f"{'case':24s}{'hidden':>9s}{'scdae':>9s}{'one pass':>10s}{'kNN':>9s}{'iter. PCA':>11s}{'MAGIC':>9s}   gaps")
    cases = ["a zeisel_cortex_ercc", "a pbmc_1k_v3", "b zeisel_cortex_ercc", "b pbmc_1k_v3", "c: pbmc v2 + v3"]
    for case in cases:
        if names and not any(name in case for name in names):
            continue
        adata, observed = hidden_entries(shared, case, np.random.default_rng(0))
        counts, gap = adata.X.toarray().astype(float), ~observed
        base, _ = gene_means(counts, observed)
        total = poisson_deviance(counts[gap], np.maximum(base[gap], 1e-9)).sum()

        def skill(values: np.ndarray, gap=gap, base=base, counts=counts, total=total) -> float:
            mean = 0.99 * np.maximum(values[gap], 0) + 0.01 * np.maximum(base[gap], 1e-9)
            return 1 - poisson_deviance(counts[gap], mean).sum() / total

        key = "batch" if case.startswith("c") else None
        scdae.pp.impute(adata, mask=observed, batch_key=key)
        model = scdae.DAE(gap_max_iter=0).fit(adata, mask=observed, batch_key=key)
        ours, one = adata.layers["scdae"], model.impute(adata, mask=observed)
        shown = sp.csr_matrix(np.where(observed, counts, 0))
        magic = restore(shared, "MAGIC", shown, adata.var_names)
        report = adata.uns["scdae"]["missing"]
        print(
            f"{case:24s}{gap.sum():9,d}{skill(ours):9.4f}{skill(one):10.4f}{skill(knn(counts, observed)):9.4f}"
            f"{skill(level(iterative_pca(counts, observed), counts, observed)):11.4f}"
            f"{skill(level(magic, counts, observed)):9.4f}   {report['n_unconverged']} unconverged, "
            f"{report['n_iter']} iterations, contraction {report['contraction']:.2f}",
            flush=True,
        )
    if not names or any(name in "osmfish_cortex" for name in names):
        imaging(shared)


def neighbors(reference: np.ndarray, query: np.ndarray, gene: int, number: int = 15) -> np.ndarray:
    """Counts of a gene: its mean ratio to the others in the reference cells nearest in these, log-normalized."""

    def logs(counts: np.ndarray) -> np.ndarray:
        others = np.delete(counts, gene, axis=1)
        total = others.sum(axis=1, keepdims=True)
        return np.log1p(np.median(total[total > 0]) * others / np.maximum(total, 1))

    near = NearestNeighbors(n_neighbors=number).fit(logs(reference)).kneighbors(logs(query))[1]
    exposure = [np.delete(counts, gene, axis=1).sum(axis=1) for counts in (reference, query)]
    return (reference[:, gene] / np.maximum(exposure[0], 1))[near].mean(axis=1) * exposure[1]


def imaging(shared: Path) -> None:
    """Genes hidden in osmFISH cells and filled from sequenced cells; print the correlation with what was measured."""
    paths = [shared / f"data/{name}.h5ad" for name in ("zeisel_cortex_ercc", "osmfish_cortex")]
    if not all(path.exists() for path in paths):
        return
    reference, imaged = map(ad.read_h5ad, paths)
    genes = [gene for gene in imaged.var_names if gene in reference.var_names]
    cells = np.sort(np.random.default_rng(0).choice(imaged.n_obs, IMAGED, replace=False))
    parts = [reference[:, genes], imaged[cells, genes]]
    parts = [ad.AnnData(sp.csr_matrix(part.X, dtype=np.float32), part.obs[[]], part.var[[]]) for part in parts]
    joined = ad.concat(parts, label="batch", keys=["sequenced", "imaged"], index_unique="-")
    query = (joined.obs["batch"] == "imaged").to_numpy()
    counts = joined.X.toarray()
    print(
        f"\nosmFISH, one gene at a time hidden in {IMAGED} cells and filled from zeisel_cortex_ercc: correlation over cells"
    )
    print(f"{len(genes)} of the {imaged.n_vars} genes are in both. Pearson's of log counts, Spearman's")
    print(f"{'gene':10s}{'scdae':>16s}{'kNN':>16s}")
    for i, gene in enumerate(genes):
        observed = np.ones(counts.shape, bool)
        observed[query, i] = False
        scdae.pp.impute(joined, mask=observed, batch_key="batch", overwrite=True)
        print(f"{gene:10s}", end="")
        for filled in (joined.layers["scdae"][query, i], neighbors(counts[~query], counts[query], i)):
            measured = counts[query, i]
            log = np.corrcoef(np.log1p(measured), np.log1p(filled))[0, 1]
            print(f"{log:9.3f}{spearmanr(measured, filled).statistic:7.3f}", end="")
        print(flush=True)
