"""Data with a truth of their own: mixed RNA, cells measured deeply, surface proteins."""

from collections.abc import Callable, Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from peers import PEERS, restore
from scipy.stats import rankdata

import scdae
from scdae.metrics import gene_correlation, log_normalize

LEAST_SHARE = 2e-5  # of all molecules: genes looked at in the mixtures
PANELS = {  # data set: where its proteins are, least cells of a gene
    "citeseq_hto_pbmc_eccite": "ADT",
    "citeseq_pbmc5k_200": "protein",
}
# protein: gene that encodes it, or its first chain
ENCODED = {
    "B7-H1 (PD-L1)": "CD274", "C-kit (CD117)": "KIT", "CCR7": "CCR7", "CD11b": "ITGAM", "CD11c": "ITGAX",
    "CD138": "SDC1", "CD14": "CD14", "CD16": "FCGR3A", "CD19": "CD19", "CD1a": "CD1A", "CD2": "CD2",
    "CD223 (lag3)": "LAG3", "CD24": "CD24", "CD26 (Adenosine)": "DPP4", "CD27": "CD27", "CD28": "CD28", "CD3": "CD3E",
    "CD34": "CD34", "CD366 (tim3)": "HAVCR2", "CD4": "CD4", "CD44": "CD44", "CD45": "PTPRC", "CD5": "CD5",
    "CD56": "NCAM1", "CD62L": "SELL", "CD66b": "CEACAM8", "CD69": "CD69", "CD7": "CD7", "CD8": "CD8A", "CD8a": "CD8A",
    "CTLA4": "CTLA4", "EpCAM (CD326)": "EPCAM", "HLA-A,B,C": "HLA-A", "IL7Ralpha (CD127)": "IL7R", "LAMP1": "LAMP1",
    "MHCII (HLA-DR)": "HLA-DRA", "Ox40 (CD134)": "TNFRSF4", "PD-1 (CD279)": "PDCD1", "PD-L1 (CD274)": "CD274",
    "PD1 (CD279)": "PDCD1", "PECAM (CD31)": "PECAM1", "Siglec-8": "SIGLEC8", "TCRb": "TRBC1", "TCRg": "TRGC1",
    "CD15": "FUT4", "CD20": "MS4A1", "CD25": "IL2RA", "CD80": "CD80", "CD86": "CD86", "CD127": "IL7R",
    "CD137": "TNFRSF9", "CD197": "CCR7", "CD274": "CD274", "CD278": "ICOS", "CD335": "NCR1", "PD-1": "PDCD1",
    "HLA-DR": "HLA-DRA", "TIGIT": "TIGIT",
}  # fmt: skip
# Left out: CD45RA and CD45RO are splice forms of one gene, CD77 is a lipid, B220 is of the mouse, IgG are controls.


def methods(shared: Path, counts: sp.csr_matrix, genes: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and restored counts: raw, scdae, then the peers one by one."""
    yield "raw", counts.toarray()
    adata = ad.AnnData(counts.astype(np.float32))
    adata.var_names = np.asarray(genes, str)
    yield "scdae", scdae.DAE().fit(adata).impute(adata)
    for name in PEERS:
        yield name, restore(shared, name, counts.astype(np.float64), genes)


def mixtures(shared: Path, names: list[str]) -> None:
    """RNA of three cell lines in known proportions: replicates are the same, and what they should be is known."""
    adata = ad.read_h5ad(shared / "data/sc_mixology_rnamix_celseq2.h5ad")
    shares = ["H2228_prop", "H1975_prop", "HCC827_prop"]
    mix, proportion = adata.obs["mix"].to_numpy(), adata.obs[shares].to_numpy(float)
    total = np.asarray(adata.X.sum(axis=0)).ravel()
    genes = (total >= LEAST_SHARE * total.sum()) & ~adata.var["is_ercc"].to_numpy(bool)
    pure = [np.asarray(adata.X[proportion[:, k] == 1].sum(axis=0)).ravel() for k in range(3)]
    pure = np.stack([p / p.sum() for p in pure])
    truth = np.log1p(1e4 * proportion @ pure)[:, genes]
    mixed = proportion.max(axis=1) < 1
    centre = truth.mean(axis=0)

    print(f"\nRNA mixtures, {genes.sum():,} genes: spread (standard deviation of log profiles) within a mixture, and")
    print(
        "correlation of each mixed profile with the weighted mean of the pure ones, as it is and around the mean profile"
    )
    print(f"{'method':20s}{'spread':>9s}{'r':>9s}{'r centred':>11s}")
    for name, values in methods(shared, adata.X.tocsr(), adata.var_names):
        logs = log_normalize(np.maximum(values, 0))[:, genes]
        spread = np.mean([logs[mix == m].std(axis=0).mean() for m in np.unique(mix)])
        r = gene_correlation(logs[mixed].T, truth[mixed].T).mean()
        centred = gene_correlation((logs - centre)[mixed].T, (truth - centre)[mixed].T).mean()
        print(f"{name:20s}{spread:9.4f}{r:9.4f}{centred:11.4f}", flush=True)


def reference(shared: Path, names: list[str]) -> None:
    """Cells measured deeply, thinned and restored: correlation with what they were."""
    adata = ad.read_h5ad(shared / "data/zeisel_cortex_saver_ref.h5ad")
    truth = log_normalize(adata.X.toarray())
    print("\nDeeply measured cells, thinned: mean correlation with the reference by gene and by cell (log scale), and")
    print("share of the reference's counts in their 90 % predictive interval")
    print(f"{'thinned to':12s}{'method':20s}{'by gene':>9s}{'by cell':>9s}{'inside':>9s}")
    for percent in (5, 10, 25):
        train, rest = scdae.pp.thin(adata, percent / 100, seed=0)
        for name, values in methods(shared, train.X.tocsr(), adata.var_names):
            logs = log_normalize(np.maximum(values, 0))
            by_gene = np.nanmean(gene_correlation(logs, truth))
            by_cell = np.nanmean(gene_correlation(logs.T, truth.T))
            print(f"{percent:9d} % {name:21s}{by_gene:9.4f}{by_cell:9.4f}", flush=True)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def proteins(shared: Path, names: list[str]) -> None:
    """Surface proteins: rank correlation with their mRNA, raw and restored."""
    print("\nSurface proteins: Spearman correlation with their mRNA per 10,000 molecules, raw and restored")
    for name, place in PANELS.items():
        if names and name not in names:
            continue
        adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
        panel = adata.obsm[place]
        scdae.pp.impute(adata)
        size = np.asarray(adata.X.sum(axis=1)).ravel()
        rows = []
        for protein in panel.columns:
            gene = ENCODED.get(protein.removesuffix("_TotalSeqB"))
            if gene not in adata.var_names or adata[:, gene].X.sum() == 0:
                continue
            counts, y = adata[:, gene].X.toarray().ravel() / size, panel[protein].to_numpy(float)
            values = np.asarray(adata[:, gene].layers["scdae"]).ravel() / size
            rows.append((protein, gene, _spearman(counts, y), _spearman(values, y)))
        better = sum(after > before for *_, before, after in rows)
        for protein, gene, before, after in rows:
            print(f"  {protein:22s}{gene:10s}{before:8.3f}{after:8.3f}")
        means = np.mean([r[2:] for r in rows], axis=0)
        print(
            f"{name:26s} higher in {better} of {len(rows)} pairs (goal 3 of 4), mean {means[0]:.3f} -> {means[1]:.3f}"
        )


TRUTHS: dict[str, Callable[[Path, list[str]], None]] = {
    "mixtures": mixtures,
    "reference": reference,
    "proteins": proteins,
}
