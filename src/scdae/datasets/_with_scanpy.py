"""Real counts that need no network: they come with scanpy."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

__all__ = ["pbmc68k_reduced"]

_TARGET = 1e4  # molecules of a cell after the normalization of the file
_ROUNDING = 0.25  # farthest that a count may lie from a whole number; 0.08 in scanpy's file


def pbmc68k_reduced() -> AnnData:
    """Blood cells of a healthy donor as raw counts, 700 cells and 765 genes: real data without a download.

    The file is part of scanpy (``scanpy.datasets.pbmc68k_reduced``), which holds it as logarithms of counts per 10,000.
    The number of molecules of each cell is in it, too, so the counts can be had back: they are rounded to whole numbers,
    from which none is farther than 0.08.

    Source: a sample of the 68,000 cells of :cite:t:`Zheng2017`, 10x Genomics, CC BY 4.0.

    Returns
    -------
    anndata.AnnData
        700 cells and 765 genes, chosen as variable ones by scanpy's authors. ``X`` : CSR float32, the counts. ``obs`` :
        ``cell_type`` (category), by likeness to sorted cells; ``total_counts`` (int64), molecules of the cell in all of its
        genes.

    Raises
    ------
    ValueError
        When another version of scanpy comes with a file that does not hold these counts.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.pbmc68k_reduced()
    >>> adata.shape, int(adata[:, "CD79A"].X.sum())
    ((700, 765), 993)
    """
    from scanpy.datasets import pbmc68k_reduced as processed

    with warnings.catch_warnings():  # the file is old, and anndata says so
        warnings.simplefilter("ignore")
        adata = processed()
    logs, depth = adata.raw.X.tocoo(), adata.obs["n_counts"].to_numpy(np.float64)
    exact = np.expm1(logs.data.astype(np.float64)) * depth[logs.row] / _TARGET
    counts = np.round(exact)
    off = np.abs(exact - counts)
    if off.max() > _ROUNDING:
        raise ValueError(
            f"scanpy's pbmc68k_reduced does not hold log counts per 10,000 as it did: {np.sum(off > _ROUNDING):,} of "
            f"{len(off):,} entries are no whole counts, the farthest by {off.max():.2f}. Use another version of scanpy, or "
            "scdae.datasets.pbmc3k()."
        )
    matrix = sp.csr_matrix((counts.astype(np.float32), (logs.row, logs.col)), shape=logs.shape)
    obs = pd.DataFrame(
        {"cell_type": adata.obs["bulk_labels"].astype("category"), "total_counts": np.round(depth).astype(np.int64)},
        index=adata.obs_names.rename(None),
    )
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=adata.raw.var_names.rename(None)))
