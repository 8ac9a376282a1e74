"""What the referee calls: ``denoise(counts, genes, seed)``.

It gives the posterior mean and, beside it, the decoder mean and the expected log counts at the depth of the held-out
molecules, on a count scale.
"""

import anndata as ad
import numpy as np
import pandas as pd

import scdae

HELD_OUT = 1 / 9  # molecules held out for each that is shown: the referee's split


def denoise(counts, genes, seed):
    """Defaults only."""
    adata = ad.AnnData(counts.astype("float32"), var=pd.DataFrame(index=genes.astype(str)))
    model = scdae.DAE(seed=seed).fit(adata)
    depth = np.maximum(np.asarray(counts.sum(axis=1)).ravel() * HELD_OUT, 1)
    logs = model.impute(adata, output="log1p", depth=depth)
    return {"": model.impute(adata), "prior": model.impute(adata, output="prior"), "log1p": on_count_scale(logs)}


def on_count_scale(logs):
    """Counts per 10,000 of which the logarithm, after scaling each cell to 10,000, is that given.

    Undoing an expected logarithm leaves less than 10,000 in a cell, and scaling would lift all genes. What is missing
    goes to the cell's largest entry, the one whose logarithm it moves least.
    """
    values = np.expm1(logs)
    cells = np.arange(len(values))
    values[cells, values.argmax(axis=1)] += np.maximum(1e4 - values.sum(axis=1), 0)
    return values


def versions():
    """Recorded by the referee."""
    return {"scdae": scdae.__version__}
