"""The counts of two platforms without their noise, by one model of both."""

from __future__ import annotations

import logging
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae._log import get_logger
from scdae.model import DAE

__all__ = ["denoised"]

_PER_GENE = 5.0  # molecules that a cell is scaled to, for each gene


def denoised(
    spatial: np.ndarray, reference: np.ndarray, settings: dict[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a model to the shared genes of both sides, with the platform as batch, and restore both.

    Parameters
    ----------
    spatial, reference
        Counts, float (n_obs, n_shared) and (n_reference, n_shared).
    settings
        Settings of the model.
    seed
        Its seed.

    Returns
    -------
    tuple
        log1p of restored counts, at five molecules a gene: float64, shapes as given.
    """
    counts = sp.vstack([sp.csr_matrix(reference), sp.csr_matrix(spatial)], format="csr", dtype=np.float32)
    platform = np.repeat(["reference", "spatial"], [len(reference), len(spatial)])
    obs = pd.DataFrame({"platform": platform}, index=[f"cell {i}" for i in range(counts.shape[0])])
    var = pd.DataFrame(index=[f"gene {i}" for i in range(counts.shape[1])])
    joint = anndata.AnnData(counts, obs=obs, var=var)
    logger = get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # what would be said names cells and genes of a part of the data, five times
    try:
        model = DAE(seed=seed, **settings).fit(joint, batch_key="platform")
        rate = np.asarray(model.impute(joint, output="rate"), np.float64)
    finally:
        logger.setLevel(level)
    logs = np.log1p(rate * counts.shape[1] * _PER_GENE)
    return logs[len(reference) :], logs[: len(reference)]
