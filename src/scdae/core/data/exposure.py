"""Profile of the genes (fractions in the average cell) and exposure of cells, of which some genes may be missing."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

__all__ = ["gene_profile", "observed_share"]


def gene_profile(counts: sp.csr_matrix, unobserved: sp.csr_matrix | None, *, n_iter: int = 20) -> np.ndarray:
    """Estimate the fraction of each gene in the expression of the average cell.

    A gene's fraction is taken over the cells in which it was observed. A cell's exposure is its total divided by the
    summed fractions of the genes observed in it. Each is estimated given the other, in turn.

    Returns
    -------
    numpy.ndarray
        float64 (n_vars,), summing to 1; 0 for genes without counts.
    """
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    of_gene = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    profile = of_gene / of_gene.sum()
    if unobserved is None:
        return profile
    for _ in range(n_iter):
        exposure = totals / np.maximum(observed_share(profile, unobserved), 1e-12)
        seen = exposure.sum() - unobserved.T.astype(np.float64) @ exposure
        profile = np.divide(of_gene, seen, out=np.zeros_like(of_gene), where=seen > 0)
        profile /= profile.sum()
    return profile


def observed_share(profile: np.ndarray, unobserved: sp.csr_matrix | None, n_obs: int | None = None) -> np.ndarray:
    """Sum `profile` over the genes observed in each cell: float64 (n_obs,)."""
    if unobserved is None:
        return np.ones(n_obs or 0)
    return np.maximum(1 - unobserved.astype(np.float64) @ profile, 0)
