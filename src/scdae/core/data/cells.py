"""The cells as the model sees them: their counts, what was not measured, their batch and their exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.data.exposure import gene_profile, observed_share
from scdae.core.data.extreme_counts import without_extremes

__all__ = ["CellData", "cell_data", "smoothed_profile"]


@dataclass(frozen=True)
class CellData:
    """Counts of the cells with what the model has to know about each.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars), canonical.
    unobserved
        Boolean CSR of the entries that were not measured, or None.
    conditions
        Batch and covariates of each cell.
    share
        float32 (n_obs,): share of expression that the observed genes of the cell carry; 1 where all were observed.
    """

    counts: sp.csr_matrix
    unobserved: sp.csr_matrix | None
    conditions: Conditions
    share: np.ndarray

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self.counts.shape[0])

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return int(self.counts.shape[1])

    @property
    def exposure(self) -> np.ndarray:
        """Molecules of each cell, had all genes been observed, float32 (n_obs,)."""
        return np.asarray(np.asarray(self.counts.sum(axis=1), np.float32).ravel() / self.share)

    def take(self, cells: np.ndarray) -> CellData:
        """The same for some of the cells, in the order given."""
        hidden = None if self.unobserved is None else self.unobserved[cells]
        return CellData(self.counts[cells], hidden, self.conditions.take(cells), self.share[cells])


def cell_data(
    counts: sp.csr_matrix,
    unobserved: sp.csr_matrix | None,
    conditions: Conditions | None,
    profile: np.ndarray,
    largest: float = np.inf,
) -> CellData:
    """Counts with the exposure share of every cell under `profile`, without single counts beyond `largest`."""
    counts = without_extremes(counts, largest, profile)
    conditions = no_conditions(counts.shape[0]) if conditions is None else conditions
    share = np.maximum(observed_share(profile, unobserved, counts.shape[0]), 1e-6).astype(np.float32)
    return CellData(counts, unobserved, conditions, share)


def smoothed_profile(data: CellData) -> np.ndarray:
    """Share of each gene in the expression of the average cell, as a predictor of counts that were not seen.

    Half a molecule is added to each gene, so that a gene without counts is expected to be rare and not impossible: float64
    (n_vars,), above 0.
    """
    profile = gene_profile(data.counts, data.unobserved)
    molecules = float(data.counts.sum())
    return (profile * molecules + 0.5) / (molecules + 0.5 * data.n_vars)
