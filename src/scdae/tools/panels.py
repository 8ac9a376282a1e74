"""The counts of two platforms without their noise, and of genes that one of them lacks, by one model of both."""

from __future__ import annotations

import logging
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae._log import get_logger
from scdae.model import DAE

__all__ = ["restored"]

_PER_GENE = 5.0  # molecules that a cell is scaled to, for each gene


def restored(
    spatial: np.ndarray, reference: np.ndarray, targets: sp.csr_matrix | None, settings: dict[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Fit a model to both sides, with the platform as batch, and restore both.

    Genes that the panel lacks are missing values of its cells: the model learns them from the reference, and fills them
    by self-consistency.

    Parameters
    ----------
    spatial, reference
        Counts of the shared genes, float (n_obs, n_shared) and (n_reference, n_shared).
    targets
        Counts of the reference in genes that the panel lacks, CSR (n_reference, n_targets); None for none.
    settings
        Settings of the model.
    seed
        Its seed.

    Returns
    -------
    tuple
        log1p of restored counts of the shared genes, at five molecules a gene: float64, shapes as given. Then that of
        the missing genes in the panel's cells, float64 (n_obs, n_targets), at the median total of the reference in the
        shared genes; None without `targets`.
    """
    (n_points, n_shared), n_targets = reference.shape, 0 if targets is None else targets.shape[1]
    known = sp.csr_matrix(reference) if targets is None else sp.hstack([reference, targets])
    panel = sp.hstack([sp.csr_matrix(spatial), sp.csr_matrix((len(spatial), n_targets))])
    counts = sp.vstack([known, panel], format="csr", dtype=np.float32)
    platform = np.repeat(["reference", "spatial"], [n_points, len(spatial)])
    obs = pd.DataFrame({"platform": platform}, index=[f"cell {i}" for i in range(counts.shape[0])])
    var = pd.DataFrame(index=[f"gene {i}" for i in range(counts.shape[1])])
    joint = anndata.AnnData(counts, obs=obs, var=var)
    observed = None
    if targets is not None:
        observed = np.ones(joint.shape, bool)
        observed[n_points:, n_shared:] = False
    logger = get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # what would be said names cells and genes of a part of the data, five times
    try:
        model = DAE(seed=seed, **settings).fit(joint, mask=observed, batch_key="platform")
        rate = np.asarray(model.impute(joint, mask=observed, output="rate"), np.float64)
    finally:
        logger.setLevel(level)
    rate /= np.maximum(rate[:, :n_shared].sum(axis=1, keepdims=True), 1e-12)
    logs = np.log1p(rate[:, :n_shared] * n_shared * _PER_GENE)
    median = np.median(reference.sum(axis=1))
    own = None if targets is None else np.log1p(rate[n_points:, n_shared:] * median)
    return logs[n_points:], logs[:n_points], own
