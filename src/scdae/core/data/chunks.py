"""Counts that are read in blocks of rows, and what is known about them beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

__all__ = ["Blocks"]


@dataclass(frozen=True)
class Blocks:
    """Counts that are read in blocks of rows, some of whose cells are known already.

    Parameters
    ----------
    bounds
        int64 (n_blocks + 1,): block k holds the rows from `bounds[k]` up to, not including, `bounds[k + 1]`.
    read
        ``read(start, stop)`` returns the counts of these rows, float32 CSR, canonical, and their missing values,
        boolean CSR or None.
    lengths
        int (n_obs,): stored entries of each cell.
    hidden
        int (n_obs,): missing values of each cell; None if there are none.
    totals
        float64 (n_vars,): molecules of each gene.
    rows
        int64 (n_known,), sorted: the cells that are known.
    hidden_cells
        int (n_vars,): cells in which each gene is missing; None if there are none.
    """

    bounds: np.ndarray
    read: Callable[[int, int], tuple[sp.csr_matrix, sp.csr_matrix | None]]
    lengths: np.ndarray
    hidden: np.ndarray | None
    totals: np.ndarray
    rows: np.ndarray
    hidden_cells: np.ndarray | None = None

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.lengths)
