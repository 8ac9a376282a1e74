"""Cells as the model sees them: counts, missing values, batch and exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.data.exposure import gene_profile, observed_share
from scdae.core.data.extreme_counts import without_extremes

__all__ = ["CellData", "adjacent_rows", "cell_data", "smoothed_profile"]


@dataclass(frozen=True)
class CellData:
    """Counts of cells, with what the model needs to know about each cell.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars), canonical.
    unobserved
        Boolean CSR, True at missing values; None if there are none.
    conditions
        Batch and covariates of each cell.
    share
        float32 (n_obs,): fraction of the expression that the observed genes of the cell carry; 1 if all are observed.
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
        """Molecules that each cell would have if all genes had been observed, float32 (n_obs,)."""
        return np.asarray(np.asarray(self.counts.sum(axis=1), np.float32).ravel() / self.share)

    def take(self, cells: np.ndarray) -> CellData:
        """Select some of the cells, in the given order."""
        hidden = None if self.unobserved is None else self.unobserved[cells]
        return CellData(self.counts[cells], hidden, self.conditions.take(cells), self.share[cells])

    def rows(self, cells: slice) -> CellData:
        """Select cells that lie next to each other: the same as :meth:`take` of a slice, sharing memory where that is possible."""
        hidden = None if self.unobserved is None else self.unobserved[cells]
        counts = adjacent_rows(self.counts, cells.start, cells.stop)
        return CellData(counts, hidden, self.conditions.take(cells), self.share[cells])


def adjacent_rows(matrix: sp.csr_matrix, start: int, stop: int) -> sp.csr_matrix:
    """Select rows of a canonical CSR matrix that lie next to each other; they share its values and columns.

    Examples
    --------
    >>> adjacent_rows(sp.csr_matrix(np.eye(3)), 1, 3).toarray().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    first, last = int(matrix.indptr[start]), int(matrix.indptr[stop])
    part = sp.csr_matrix((stop - start, matrix.shape[1]), dtype=matrix.dtype)
    part.data, part.indices = matrix.data[first:last], matrix.indices[first:last]
    part.indptr = matrix.indptr[start : stop + 1] - first
    part.has_canonical_format = True
    return part


def cell_data(
    counts: sp.csr_matrix,
    unobserved: sp.csr_matrix | None,
    conditions: Conditions | None,
    profile: np.ndarray,
    largest: float = np.inf,
) -> CellData:
    """Add the observed fraction of `profile` to the counts of each cell, and replace single counts above `largest`."""
    counts = without_extremes(counts, largest, profile)
    conditions = no_conditions(counts.shape[0]) if conditions is None else conditions
    share = np.maximum(observed_share(profile, unobserved, counts.shape[0]), 1e-6).astype(np.float32)
    return CellData(counts, unobserved, conditions, share)


def smoothed_profile(data: CellData) -> np.ndarray:
    """Estimate the fraction of each gene in the expression of the average cell, to predict unseen counts.

    Half a molecule is added to each gene, so that a gene without counts is expected to be rare, not impossible. Returns
    float64 (n_vars,), above 0.
    """
    profile = gene_profile(data.counts, data.unobserved)
    molecules = float(data.counts.sum())
    return (profile * molecules + 0.5) / (molecules + 0.5 * data.n_vars)
