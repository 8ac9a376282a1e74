"""What of the batch benchmark runs in a peer's environment: ``batches_worker.py TASK IN OUT``."""

import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd

# column shown, and scib-metrics' name for it
BATCH = {"iLISI": "iLISI", "kBET": "KBET", "graph": "Graph connectivity", "sil.batch": "Silhouette batch"}
TYPE = {"cLISI": "cLISI", "NMI": "KMeans NMI", "ARI": "KMeans ARI", "sil.type": "Silhouette label"}


def harmony(adata):
    """Harmony on the principal components."""
    import harmonypy

    found = np.asarray(harmonypy.run_harmony(adata.obsm["X_pca"], adata.obs, "batch", verbose=False).Z_corr)
    return found if len(found) == adata.n_obs else found.T


def scvi(adata):
    """scVI with its defaults, given the batch, until its validation loss stops falling."""
    import scvi
    import torch

    torch.set_num_threads(1)  # two are many times slower wherever another process wants a core
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata)
    model.train(accelerator="cpu", early_stopping=True, enable_progress_bar=False)
    return model.get_latent_representation()


def score(adata):
    """Metrics by embedding, as they come, not rescaled among the methods."""
    from scib_metrics.benchmark import Benchmarker

    keys = list(adata.obsm)
    run = Benchmarker(
        adata,
        batch_key="batch",
        label_key="cell_type",
        embedding_obsm_keys=keys,
        pre_integrated_embedding_obsm_key=keys[0],
        n_jobs=2,
    )
    run.benchmark()
    table = run.get_results(min_max_scale=False)
    names = {old: new for group in (BATCH, TYPE) for new, old in group.items() if old in table.columns}
    names |= {"BRAS": "sil.batch"} if "Silhouette batch" not in table.columns else {}
    names |= {"Batch correction": "mixing", "Bio conservation": "types", "Total": "total"}
    kept = table.drop(index="Metric Type", errors="ignore")[[name for name in names if name in table.columns]]
    return kept.rename(columns=names).astype(float)


def main():
    """Run one task."""
    warnings.filterwarnings("ignore")
    task, source, target = sys.argv[1:]
    adata = ad.read_h5ad(source)
    found = {"Harmony": harmony, "scVI": scvi, "score": score}[task](adata)
    if isinstance(found, pd.DataFrame):
        found.to_csv(target)
    else:
        np.save(target, np.asarray(found, np.float32))


if __name__ == "__main__":
    main()
