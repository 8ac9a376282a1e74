"""Doublets by genotype and by hashtag, nothing known of any cell: scdae's score beside Scrublet and the number of genes."""

import warnings
from pathlib import Path

import numpy as np
import scanpy as sc
from guard import labelled
from sklearn.metrics import average_precision_score, roc_auc_score

import scdae

SEEDS = 3


def doublets(shared: Path) -> None:
    """Print the mean and the standard deviation over seeds of AUPRC and AUROC."""
    print(f"\nDoublets: AUPRC and AUROC, mean and standard deviation over {SEEDS} seeds")
    for name, adata, odd in labelled(shared):
        found: dict[str, list] = {"doublet_score": [], "its probability": [], "Scrublet": [], "number of genes": []}
        for seed in range(SEEDS):
            scdae.tl.doublet_score(adata, seed=seed, key_added="ours")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sc.pp.scrublet(adata, threshold=0.5, random_state=seed, verbose=False)
            genes = np.asarray((adata.X > 0).sum(axis=1)).ravel()
            scores = adata.obs["ours"], adata.obs["ours_probability"], adata.obs["doublet_score"], genes
            for method, score in zip(found, scores, strict=True):
                found[method].append((average_precision_score(odd, score), roc_auc_score(odd, score)))
        print(f"{name} ({odd.sum()} of {len(odd)})")
        for method, values in found.items():
            (pr, roc), (pr_sd, roc_sd) = np.mean(values, axis=0), np.std(values, axis=0)
            print(f"  {method:18s}{pr:7.3f} ±{pr_sd:5.3f}{roc:8.3f} ±{roc_sd:5.3f}", flush=True)
