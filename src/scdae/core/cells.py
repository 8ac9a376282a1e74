"""The cells as the model sees them: their counts, what was not measured, their batch and their exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scdae.core.conditions import Conditions

__all__ = ["CellData", "entry_rows"]


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

    def take(self, cells: np.ndarray) -> CellData:
        """The same for some of the cells, in the order given."""
        hidden = None if self.unobserved is None else self.unobserved[cells]
        return CellData(self.counts[cells], hidden, self.conditions.take(cells), self.share[cells])


def entry_rows(matrix: sp.csr_matrix) -> np.ndarray:
    """Row of each stored entry: int32 (nnz,)."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
