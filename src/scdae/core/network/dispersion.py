"""Dispersion of genes by the method of moments, without the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.network.parameters import values_of

__all__ = ["flat_theta", "moment_theta"]


_THETA_RANGE = (1e-2, 1e4)


_TYPICAL = 0.1  # dispersion if that of no gene differs significantly from zero


def flat_theta(profile: np.ndarray, params: Any, data: CellData) -> np.ndarray:
    """Estimate the inverse dispersion of each gene around its mean in cells of the same levels: float64 (n_vars,)."""
    values = values_of(params)
    profiles = profile[None]
    row = np.zeros(data.n_obs, np.int64)
    if "batch_start" in values:
        seen, row = np.unique(data.conditions.levels, axis=0, return_inverse=True)
        profiles = profile * np.exp(np.asarray(values["batch_start"], np.float64)[seen].sum(axis=1))
        profiles /= profiles.sum(axis=1, keepdims=True)
    return moment_theta(data.counts, profiles, data.share, row.ravel())


def moment_theta(
    counts: sp.csr_matrix, profile: np.ndarray, share: np.ndarray, row: np.ndarray | None = None
) -> np.ndarray:
    """Estimate the inverse dispersion of each gene around the gene means, by moments and pooling: float64 (n_vars,).

    The dispersion of a gene is ``sum((x - mu)^2 - mu) / sum(mu^2)``, with ``mu`` the exposure times the gene's
    fraction. Its standard error is about ``sqrt(sum(2 mu^2 + mu)) / sum(mu^2)``, that of Poisson counts. The estimate
    is averaged, weighted by precision, with the typical dispersion of genes whose dispersion is significantly above
    zero. A gene with few counts thus gets a typical dispersion, not zero. Missing values are treated as observed, which
    is accurate enough here. With `row`, (n_obs,), each cell has the gene means of that row of `profile`, (n_profiles,
    n_vars).
    """
    exposure = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel() / np.maximum(share, 1e-6)
    x = counts.astype(np.float64)
    square = np.asarray(x.multiply(x).sum(axis=0)).ravel()
    profiles, row = np.atleast_2d(profile), np.zeros(counts.shape[0], np.int64) if row is None else row
    member = sp.csr_matrix((exposure, (row, np.arange(len(row)))), shape=(len(profiles), len(row)))
    cross = np.asarray((member @ x).multiply(profiles).sum(axis=0)).ravel()
    mean = np.bincount(row, exposure, len(profiles)) @ profiles
    mean_square = np.maximum(np.bincount(row, exposure**2, len(profiles)) @ profiles**2, 1e-12)
    dispersion = (square - 2 * cross + mean_square - mean) / mean_square
    error = np.sqrt(2 * mean_square + mean) / mean_square
    clear = dispersion > 2 * error
    typical = float(np.median(dispersion[clear])) if clear.any() else _TYPICAL
    own, others = 1 / error**2, 1 / typical**2
    pooled = (own * np.maximum(dispersion, 0) + others * typical) / (own + others)
    return np.clip(1 / np.maximum(pooled, 1e-12), *_THETA_RANGE)
