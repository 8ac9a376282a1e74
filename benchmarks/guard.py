"""Guard of cells: scdae's anomaly score beside what is at hand without it, on cells whose state is known.

Cells of each data set are split: 56 % of the normal ones train (model and baselines), 24 % calibrate, 20 % are judged
beside the anomalous ones. Doublets of real data are found among the cells themselves, nothing being known of any.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import scdae

MOST, DRAWS = 300, 10  # anomalous cells of a data set; draws of calibrating cells
TAG = 30  # hashtag counts from which a cell has a tag, and
OTHER_TAG = 0.2  # share of its first tag that makes a second
METHODS = ["scdae", "rarity alone", "deviance alone", "library size", "genes", "PCA error", "PCA neighbors", "forest"]


def split(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that train, calibrate and are judged."""
    order, a, b = rng.permutation(n), int(0.56 * n), int(0.8 * n)
    return order[:a], order[a:b], order[b:]


def baselines(query: ad.AnnData, train: ad.AnnData) -> dict[str, np.ndarray]:
    """Scores of cells by baselines that know the training cells; higher is more anomalous."""
    of_query, of_train = (
        sc.pp.log1p(sc.pp.normalize_total(part, 1e4, copy=True), copy=True) for part in (query, train)
    )
    sc.pp.highly_variable_genes(of_train, n_top_genes=2000)
    genes = of_train.var["highly_variable"].to_numpy()
    x, known = of_query.X[:, genes].toarray(), of_train.X[:, genes].toarray()
    pca = PCA(30, random_state=0).fit(known)
    places, known_places = pca.transform(x), pca.transform(known)
    near = NearestNeighbors(n_neighbors=10).fit(known_places)
    return {
        "library size": np.asarray(query.X.sum(axis=1)).ravel(),
        "genes": np.asarray((query.X > 0).sum(axis=1)).ravel(),
        "PCA error": ((x - pca.inverse_transform(places)) ** 2).sum(axis=1),
        "PCA neighbors": near.kneighbors(places)[0].mean(axis=1),
        "forest": -IsolationForest(n_estimators=200, random_state=0).fit(known_places).score_samples(places),
    }


def ours(query: ad.AnnData, model: scdae.DAE, normal: ad.AnnData | None) -> dict[str, np.ndarray]:
    """scdae's score, its two parts and its p-value."""
    found = scdae.tl.anomaly_score(query, model, normal=normal, copy=True).obs
    names = {"scdae": "anomaly", "rarity alone": "anomaly_rarity", "deviance alone": "anomaly_deviance"}
    return {name: found[column].to_numpy() for name, column in names.items()} | {
        "p": found["anomaly_pvalue"].to_numpy()
    }


def judged(odd: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """ROC-AUC, and precision among as many cells as are anomalous. Library size and genes count in the better direction."""
    found = {}
    for name, score in scores.items():
        signs = (1, -1) if name in ("library size", "genes") else (1,)
        found[name] = max(
            (roc_auc_score(odd, sign * score), odd[np.argsort(-sign * score, kind="stable")[: odd.sum()]].mean())
            for sign in signs
        )
    return found


def report(title: str, found: dict[str, tuple[float, float]]) -> None:
    line = "".join(f"{found[name][0]:9.3f} {found[name][1]:4.2f}" if name in found else " " * 14 for name in METHODS)
    print(f"{title:34s}{line}", flush=True)


def left_out(shared: Path, name: str, column: str, skip: tuple[str, ...] = ()) -> None:
    """(a) Each type of cells in turn unknown to the reference."""
    adata = read(shared, name)
    kinds = adata.obs[column].astype(str).to_numpy()
    every = []
    for kind in sorted(set(kinds) - set(skip)):
        rng = np.random.default_rng(0)
        normal, odd = np.flatnonzero((kinds != kind) & ~np.isin(kinds, skip)), np.flatnonzero(kinds == kind)
        train, calibrate, rest = (normal[part] for part in split(len(normal), rng))
        rows = np.concatenate([rest, rng.permutation(odd)[:MOST]])
        query, model = adata[rows].copy(), scdae.DAE().fit(adata[train])
        scores = ours(query, model, adata[calibrate].copy()) | baselines(query, adata[train].copy())
        every.append(judged(np.arange(len(rows)) >= len(rest), scores))
        report(f"{name} {kind}", every[-1])
    report(f"{name}: mean", {m: tuple(np.mean([one[m] for one in every], axis=0)) for m in METHODS})


def mixed(shared: Path) -> None:
    """(c) Cells whose molecules were in part replaced by those of the measured soup; (d) p-values of normal cells."""
    adata, rng = read(shared, "pbmc4k_ambient"), np.random.default_rng(0)
    train, calibrate, rest = split(adata.n_obs, rng)
    model, soup = scdae.DAE().fit(adata[train]), adata.var["soup_fraction"].to_numpy()
    normal, clean = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    for share in (0.1, 0.3, 0.5):
        kept = adata.X[clean].copy()
        lost = rng.binomial(kept.data.astype(int), share)
        kept.data = kept.data - lost
        gained = [
            rng.multinomial(n, soup / soup.sum()) for n in np.bincount(rows_of(kept), lost, len(clean)).astype(int)
        ]
        odd = sp.csr_matrix(kept.toarray() + np.array(gained), dtype=np.float32)
        query = ad.AnnData(sp.vstack([adata.X[normal], odd]).tocsr(), var=adata.var)
        scores = ours(query, model, adata[calibrate].copy()) | baselines(query, adata[train].copy())
        report(f"pbmc4k, {share:.0%} soup", judged(np.arange(query.n_obs) >= len(normal), scores))
    uniform("pbmc4k", adata[np.concatenate([calibrate, rest])].copy(), model)


def labelled(shared: Path) -> Iterator[tuple[str, ad.AnnData, np.ndarray]]:
    """Sets whose doublets are known by genotype or by hashtag: name, counts, and which cells are doublets."""
    for name in ("sc_mixology_3cl_celseq2", "sc_mixology_3cl_dropseq", "citeseq_hto_pbmc_eccite"):
        adata = read(shared, name)
        if "HTO" in adata.obsm:
            tags = np.sort(np.asarray(adata.obsm["HTO"], float), axis=1)
            odd = (tags[:, -2] >= TAG) & (tags[:, -2] >= OTHER_TAG * tags[:, -1])
        else:
            odd = (adata.obs["demuxlet_cls"] == "DBL").to_numpy()
        yield name, adata, odd


def doublets(shared: Path) -> None:
    """(b) Doublets: simulated from sorted cells, then real ones by genotype and by hashtag."""
    adata, rng = read(shared, "pbmc_facs"), np.random.default_rng(0)
    kinds = adata.obs["subpop"].astype(str).to_numpy()
    train, calibrate, rest = split(adata.n_obs, rng)
    model, normal, pool = scdae.DAE().fit(adata[train]), rest[: len(rest) // 2], rest[len(rest) // 2 :]
    pairs = [pair for pair in rng.choice(pool, (2000, 2)) if kinds[pair[0]] != kinds[pair[1]]][:MOST]
    both = (adata.X[[pair[0] for pair in pairs]] + adata.X[[pair[1] for pair in pairs]]).tocsr()
    half = both.copy()
    half.data = rng.binomial(both.data.astype(int), 0.5).astype(np.float32)
    for name, odd in (("as they are", both), ("at the depth of one", half)):
        query = ad.AnnData(sp.vstack([adata.X[normal], odd]).tocsr(), var=adata.var)
        scores = ours(query, model, adata[calibrate].copy()) | baselines(query, adata[train].copy())
        report(f"pbmc_facs doublets, {name}", judged(np.arange(query.n_obs) >= len(normal), scores))
    uniform("pbmc_facs", adata[np.concatenate([calibrate, rest])].copy(), model)

    for name, adata, odd in labelled(shared):
        scores = ours(adata, scdae.DAE().fit(adata), None) | baselines(adata, adata.copy())
        found = judged(odd, scores)
        report(f"{name} ({odd.sum()} of {len(odd)})", found)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sc.pp.scrublet(adata, threshold=0.5, random_state=0, verbose=False)
        scrublet = judged(odd, {"Scrublet": adata.obs["doublet_score"].to_numpy()})["Scrublet"]
        print(f"{'  Scrublet':34s}{scrublet[0]:9.3f} {scrublet[1]:4.2f}")


def null(shared: Path) -> None:
    """(d) Droplets that all hold the same RNA."""
    adata = read(shared, "ercc_droplets_10x")
    train, calibrate, rest = split(adata.n_obs, np.random.default_rng(0))
    model = scdae.DAE().fit(adata[train])
    uniform("ercc_droplets_10x", adata[np.concatenate([calibrate, rest])].copy(), model)


def uniform(name: str, unseen: ad.AnnData, model: scdae.DAE) -> None:
    """P-values of normal cells, those that calibrate and those that are judged being drawn anew ten times."""
    low, lower, alike = [], [], []
    for seed in range(DRAWS):
        normal = np.random.default_rng(seed).permutation(unseen.n_obs) < 0.55 * unseen.n_obs
        found = scdae.tl.anomaly_score(unseen, model, normal=normal, copy=True).obs
        p, score = found["anomaly_pvalue"][~normal], found["anomaly"]
        low.append(np.mean(p <= 0.05))
        lower.append(np.mean(p <= 0.01))
        alike.append(stats.ks_2samp(score[normal], score[~normal]).pvalue)
    print(
        f"  {name}, p-values of normal cells, mean of {DRAWS} draws: {np.mean(low):.3f} are at most 0.05, {np.mean(lower):.3f} at "
        f"most 0.01; Kolmogorov-Smirnov P from {min(alike):.2f} to {max(alike):.2f}, {np.mean(np.array(alike) < 0.05):.0%} below 0.05",
        flush=True,
    )


def read(shared: Path, name: str) -> ad.AnnData:
    adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    return adata


def rows_of(matrix: sp.csr_matrix) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def guard(shared: Path) -> None:
    """Print ROC-AUC and precision at the true rate."""
    sc.settings.verbosity = 0
    print("\nCells unlike normal ones: ROC-AUC and precision among as many cells as are anomalous")
    print(f"{'':34s}" + "".join(f"{name:>14s}" for name in METHODS))
    mixed(shared)
    null(shared)
    doublets(shared)
    left_out(shared, "pbmc3k", "cell_type", skip=("filtered_out",))
    left_out(shared, "pbmc_facs", "facs_celltype")
