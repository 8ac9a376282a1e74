"""Batches: mixing and conservation of cell types by scib-metrics, beside scVI and Harmony; held-out skill with the key."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from peers import CACHE, environment_of
from sklearn.decomposition import PCA

import scdae
from scdae.metrics import deviance_skill, gene_mean

HERE = Path(__file__).resolve().parent
LEAST = 10  # cells of a gene
MARKERS = {
    "T": ["CD3D", "CD3E", "IL7R", "TRAC", "LTB"],
    "NK": ["NKG7", "GNLY", "KLRD1", "PRF1", "KLRF1"],
    "B": ["CD79A", "MS4A1", "CD79B", "BANK1"],
    "monocyte": ["LYZ", "S100A9", "S100A8", "FCN1", "CST3", "CTSS"],
}
PAIRS = {
    "3cl, CEL-seq2 and Drop-seq": ("sc_mixology_3cl_celseq2", "sc_mixology_3cl_dropseq"),
    "pbmc v2 and v3": ("pbmc_1k_v2", "pbmc_1k_v3"),
    "the same, no B cells in v2": ("pbmc_1k_v2", "pbmc_1k_v3"),
    "kang, control and stimulated": ("kang_pbmc_ifnb",),
}


def joined(shared: Path, pair: str) -> ad.AnnData:
    """Both data sets over the genes of both, with `batch` and `cell_type` in obs."""
    parts = [ad.read_h5ad(shared / f"data/{name}.h5ad") for name in PAIRS[pair]]
    parts = [ad.AnnData(part.X, obs=part.obs, var=part.var[[]]) for part in parts]
    adata = parts[0]
    if len(parts) == 2:
        adata = ad.concat(dict(zip("12", parts, strict=True)), label="batch", index_unique="-")
    else:
        adata.obs["batch"] = adata.obs["condition"].astype(str)
    adata.obs["batch"] = adata.obs["batch"].astype("category")
    if "cell_line" in adata.obs:
        adata.obs["cell_type"] = adata.obs["cell_line"].astype(str)
    else:
        adata.obs["cell_type"] = marker_types(adata)
    if "no B" in pair:
        adata = adata[~((adata.obs["batch"] == "1") & (adata.obs["cell_type"] == "B"))]
    return adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= LEAST].copy()


def marker_types(adata: ad.AnnData) -> np.ndarray:
    """Coarse type of blood cells, within each batch: the markers that stand out most from the cell's other genes."""
    types = np.empty(adata.n_obs, object)
    for batch in adata.obs["batch"].cat.categories:
        here = (adata.obs["batch"] == batch).to_numpy()
        counts = adata[here].X
        share = counts.multiply(1e4 / np.asarray(counts.sum(axis=1))).tocsr()
        scores = []
        for genes in MARKERS.values():
            values = np.log1p(share[:, np.flatnonzero(adata.var_names.isin(genes))].toarray()).mean(axis=1)
            scores.append((values - values.mean()) / values.std())
        types[here] = np.array(list(MARKERS))[np.argmax(scores, axis=0)]
    return types


def embed(adata: ad.AnnData, quick: bool) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Embedding by each method, and held-out skill of scdae without and with the key."""
    train, test = scdae.pp.thin(adata, 0.9, seed=0)
    base = gene_mean(train.X.toarray()) / 9
    skill = {}
    for key in (None, "batch"):
        restored = scdae.DAE().fit(train, batch_key=key).impute(train)
        skill["with" if key else "without"] = deviance_skill(test.X.toarray(), restored / 9, base, blend=0.01)

    chosen = log_pca(adata)
    model = scdae.DAE().fit(adata, batch_key="batch")
    found = {"PCA, nothing corrected": chosen.obsm["X_pca"]}
    counts = adata[:, chosen.var_names].copy()
    counts.obsm["X_pca"] = chosen.obsm["X_pca"]
    for name, venv in (("Harmony", "scib"), ("scVI", "base")):
        embedding = _embedding(venv, name, counts, only_kept=quick and name == "scVI")
        if embedding is not None:
            found[name] = embedding
    found["scdae, latent"] = model.latent(adata)
    layer = model.impute(adata, transform_batch="average")
    logs = np.log1p(1e4 * layer / layer.sum(axis=1, keepdims=True))
    found["scdae, PCA of layer"] = PCA(30, random_state=0).fit_transform(
        logs[:, adata.var_names.isin(chosen.var_names)]
    )
    return found, skill


def log_pca(adata: ad.AnnData) -> ad.AnnData:
    """The usual way in scanpy: log-normalized, 2,000 variable genes, 30 components."""
    found = adata.copy()
    sc.pp.normalize_total(found, target_sum=1e4)
    sc.pp.log1p(found)
    sc.pp.highly_variable_genes(found, n_top_genes=2000, batch_key="batch")
    found = found[:, found.var["highly_variable"]].copy()
    sc.pp.pca(found, n_comps=30)
    return found


def _embedding(venv: str, name: str, counts: ad.AnnData, *, only_kept: bool) -> np.ndarray | None:
    """Embedding by a peer, kept for a later run on the same counts."""
    digest = hashlib.sha256(np.ascontiguousarray(counts.X.data).tobytes() + counts.X.indices.tobytes()).hexdigest()[:16]
    kept = CACHE / f"batches-{name}-{digest}.npy"
    if only_kept and not kept.exists():
        return None
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="scdae-batches-") as folder:
            counts.write_h5ad(f"{folder}/in.h5ad")
            _peer(venv, name, f"{folder}/in.h5ad", str(kept))
    return np.load(kept)


def _peer(venv: str, task: str, source: str, target: str) -> None:
    command = [environment_of(venv), HERE / "batches_worker.py", task, source, target]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def score(adata: ad.AnnData, embeddings: dict[str, np.ndarray]) -> pd.DataFrame:
    """Metrics of scib-metrics, computed in an environment of its own."""
    plain = ad.AnnData(obs=adata.obs[["batch", "cell_type"]], obsm={k: np.asarray(v) for k, v in embeddings.items()})
    with tempfile.TemporaryDirectory(prefix="scdae-batches-") as folder:
        plain.write_h5ad(f"{folder}/in.h5ad")
        _peer("scib", "score", f"{folder}/in.h5ad", f"{folder}/out.csv")
        return pd.read_csv(f"{folder}/out.csv", index_col=0)


def batches(shared: Path, names: list[str], *, quick: bool) -> None:
    """Print a table for each pair; `quick` leaves scVI out, unless its result is kept."""
    for pair in PAIRS:
        if names and not any(name in pair for name in names):
            continue
        adata = joined(shared, pair)
        embeddings, skill = embed(adata, quick)
        table = score(adata, embeddings)
        print(f"\n{pair}: {adata.n_obs:,} cells, {adata.n_vars:,} genes, {adata.obs['cell_type'].nunique()} types")
        print(f"held-out skill {skill['without']:.4f} without the key, {skill['with']:.4f} with it")
        print(f"{'':26s}" + "".join(f"{column:>10s}" for column in table.columns))
        for method, row in table.iterrows():
            print(f"{method:26s}" + "".join(f"{value:10.3f}" for value in row))
        sys.stdout.flush()
