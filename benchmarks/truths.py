"""Data with a truth of their own: mixed RNA, cells measured deeply, surface proteins."""

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from calibration import residuals
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


def fit(counts: sp.csr_matrix) -> tuple[scdae.DAE, ad.AnnData]:
    """Defaults only."""
    adata = ad.AnnData(counts.astype(np.float32))
    return scdae.DAE().fit(adata), adata


def peers(shared: Path, counts: sp.csr_matrix, genes: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and restored counts of each peer."""
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
    center = truth.mean(axis=0)

    print(f"\nRNA mixtures, {genes.sum():,} genes: spread (standard deviation of log profiles) within a mixture, and")
    print(
        "correlation of each mixed profile with the weighted mean of the pure ones, as it is and around the mean profile"
    )
    print(f"{'method':20s}{'spread':>9s}{'r':>9s}{'r centered':>11s}")

    def row(name: str, values: np.ndarray) -> None:
        logs = log_normalize(np.maximum(values, 0))[:, genes]
        spread = np.mean([logs[mix == m].std(axis=0).mean() for m in np.unique(mix)])
        r = gene_correlation(logs[mixed].T, truth[mixed].T).mean()
        centered = gene_correlation((logs - center)[mixed].T, (truth - center)[mixed].T).mean()
        print(f"{name:20s}{spread:9.4f}{r:9.4f}{centered:11.4f}", flush=True)

    row("raw", adata.X.toarray())
    model, counts = fit(adata.X)
    row("scdae", model.impute(counts))
    row("scdae, output=prior", model.impute(counts, output="prior"))
    for name, values in peers(shared, adata.X.tocsr(), adata.var_names):
        row(name, values)


def reference(shared: Path, names: list[str]) -> None:
    """Cells measured deeply, thinned and restored: correlation with what they were."""
    adata = ad.read_h5ad(shared / "data/zeisel_cortex_saver_ref.h5ad")
    truth = log_normalize(adata.X.toarray())
    print("\nDeeply measured cells, thinned: mean correlation with the reference by gene and by cell (log scale), and")
    print("share of the reference's counts in their 90 % predictive interval")
    print(f"{'thinned to':12s}{'method':20s}{'by gene':>9s}{'by cell':>9s}{'inside':>9s}")
    for percent in (5, 10, 25):
        train, rest = scdae.pp.thin(adata, percent / 100, seed=0)

        def row(name: str, values: np.ndarray, inside: str = "", percent: int = percent) -> None:
            logs = log_normalize(np.maximum(values, 0))
            by_gene = np.nanmean(gene_correlation(logs, truth))
            by_cell = np.nanmean(gene_correlation(logs.T, truth.T))
            print(f"{percent:4d} %      {name:20s}{by_gene:9.4f}{by_cell:9.4f}{inside:>9s}", flush=True)

        row("raw", train.X.toarray())
        model, counts = fit(train.X)
        ratio = (100 - percent) / percent
        value = residuals(model.posterior(counts), rest.X.toarray(), np.random.default_rng(0), ratio, 0.0)
        row("scdae", model.impute(counts), f"{np.mean((value > 0.05) & (value < 0.95)):.4f}")
        for name, values in peers(shared, train.X.tocsr(), adata.var_names):
            row(name, values)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def proteins(shared: Path, names: list[str]) -> None:
    """Surface proteins: rank correlation with their mRNA, like with like.

    Counts of the cell against counts of the cell, as they are; and shares of the cell's mRNA against centered log
    ratios of its proteins. (Shares against counts would mix in the size of the cell, which one has and the other has
    not.)
    """
    print("\nSurface proteins: Spearman correlation with their mRNA, raw and restored")
    for name, place in PANELS.items():
        if names and name not in names:
            continue
        adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
        panel = adata.obsm[place]
        scdae.pp.impute(adata)
        size = np.asarray(adata.X.sum(axis=1)).ravel()
        protein = panel.to_numpy(float)
        ratio = np.log1p(protein) - np.log1p(protein).mean(axis=1, keepdims=True)
        rows = []
        for j, called in enumerate(panel.columns):
            gene = ENCODED.get(called.removesuffix("_TotalSeqB"))
            if gene not in adata.var_names or adata[:, gene].X.sum() == 0:
                continue
            raw = adata[:, gene].X.toarray().ravel()
            restored = np.asarray(adata[:, gene].layers["scdae"]).ravel()
            counts = [_spearman(values, protein[:, j]) for values in (raw, restored)]
            shares = [_spearman(values / size, ratio[:, j]) for values in (raw, restored)]
            rows.append((called, gene, int(raw.sum()), *counts, *shares))
            print(f"  {called:22s}{gene:10s}{rows[-1][2]:7d}" + "".join(f"{value:8.3f}" for value in rows[-1][3:]))
        r = np.array([row[3:] for row in rows])
        for what, (before, after) in (("counts", r[:, :2].T), ("shares", r[:, 2:].T)):
            print(
                f"{name:26s}{what}: higher in {(after > before).sum()} of {len(rows)} pairs (goal 3 of 4), mean "
                f"{before.mean():.3f} -> {after.mean():.3f}",
                flush=True,
            )


def groups(shared: Path, names: list[str]) -> None:
    """Differential expression: simulated truth, groups drawn by lot, and a stimulus with known response."""
    print("\nDifferential expression (scdae.tl.rank_genes, delta 0.25, 5 % expected false discoveries)")
    adata = scdae.datasets.simulate(1500, 1000, n_types=4, trajectory=False, dropout=0.0, seed=3)
    model = scdae.DAE().fit(adata)
    scdae.tl.rank_genes(adata, "cell_type", model)
    truth = np.asarray(adata.layers["truth"], float)
    share, total = truth / truth.sum(axis=1, keepdims=True), np.asarray(adata.X.sum(axis=1)).ravel()
    own = adata.X.toarray() / total[:, None]
    draws = [draw / draw.sum(axis=1, keepdims=True) for draw in scdae.tl.sample(adata, model, n=100)]
    inside, naive, false, called, error = [], [], [], 0, []
    for group in adata.obs["cell_type"].cat.categories:
        at = (adata.obs["cell_type"] == group).to_numpy()
        table = scdae.get.rank_genes(adata, group).loc[adata.var_names]
        lfc = np.log2(share[at].mean(axis=0) / share[~at].mean(axis=0))
        raw = np.log2((own[at].mean(axis=0) + 1e-6) / (own[~at].mean(axis=0) + 1e-6))
        inside.append(((lfc >= table["lfc_lower"]) & (lfc <= table["lfc_upper"])).mean())
        averaged = [np.log2(draw[at].mean(axis=0) / draw[~at].mean(axis=0)) for draw in draws]
        low, high = np.quantile(averaged, [0.05, 0.95], axis=0)
        naive.append(((lfc >= low) & (lfc <= high)).mean())
        chosen = (table["expected_fdr"] <= 0.05).to_numpy()
        called += int(chosen.sum())
        false.append((np.abs(lfc[chosen]) <= 0.25).sum())
        error.append([np.sqrt(np.nanmean((value - lfc) ** 2)) for value in (table["logfoldchanges"], raw)])
    ours, raw = np.mean(error, axis=0)
    print(
        f"simulated: 90 % intervals hold {np.mean(inside):.1%} of the true fold changes; {called} called, {sum(false)} of "
        f"them ({sum(false) / called:.1%}) below delta; root mean squared error {ours:.3f} (raw means {raw:.3f})"
    )
    print(f"           intervals of posterior draws averaged over the groups would hold {np.mean(naive):.1%}")
    for name in ("ercc_droplets_10x", "kang_pbmc_ifnb", "pbmc3k"):
        adata = ad.read_h5ad(shared / f"data/{name}.h5ad")
        adata.obs["lot"] = np.random.default_rng(0).choice(["a", "b"], adata.n_obs)
        scdae.tl.rank_genes(adata, "lot", groups="a", reference="b")
        table = scdae.get.rank_genes(adata, "a")
        outside = ((table["lfc_lower"] > 0) | (table["lfc_upper"] < 0)).mean()
        print(
            f"{name}, groups by lot: {(table['expected_fdr'] <= 0.05).sum()} called; 0 outside of {outside:.2%} of intervals"
        )
    adata = ad.read_h5ad(shared / "data/kang_pbmc_ifnb.h5ad")
    scdae.tl.rank_genes(adata, "condition", groups="stim", reference="ctrl")
    table = scdae.get.rank_genes(adata, "stim")
    print(
        f"kang_pbmc_ifnb, stimulated: {(table['expected_fdr'] <= 0.05).sum()} called, first {', '.join(table.index[:12])}"
    )
