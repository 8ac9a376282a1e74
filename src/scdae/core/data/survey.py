"""What is kept of a pass over counts that are too many to be held: sums, and some cells drawn at random."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.extreme_counts import largest_count

__all__ = ["Survey"]

_ENTRIES = 2**24  # stored entries that the cells drawn have, about
_CELLS = (2048, 16384)  # fewest and most cells that are drawn


class Survey:
    """Sums over cells and genes, and some cells, from blocks of rows in order.

    Parameters
    ----------
    shape
        (n_obs, n_vars).
    seed
        Seed of the cells that are drawn.
    """

    def __init__(self, shape: tuple[int, int], seed: int):
        self.shape, self.seed = shape, seed
        self.lengths = np.zeros(shape[0], np.int32)
        self.totals = np.zeros(shape[1])
        self._hidden = np.zeros(shape[0], np.int32)
        self._hidden_cells = np.zeros(shape[1], np.int64)
        self._rng = np.random.default_rng([seed, 3])
        self._drawn: np.ndarray | None = None
        self._parts: list[tuple[sp.csr_matrix, sp.csr_matrix | None]] = []

    @property
    def hidden(self) -> np.ndarray | None:
        """Entries of each cell that were not observed, int32 (n_obs,); None where all were."""
        return self._hidden if self._hidden.any() else None

    @property
    def hidden_cells(self) -> np.ndarray | None:
        """Cells in which each gene was not observed, int64 (n_vars,); None where all were."""
        return self._hidden_cells if self._hidden.any() else None

    def add(self, block: sp.csr_matrix, unobserved: sp.csr_matrix | None, start: int) -> None:
        """Look at the rows from `start` on."""
        stop = start + block.shape[0]
        self.lengths[start:stop] = np.diff(block.indptr)
        usual = np.minimum(block.data, largest_count(block))  # one damaged value is not to be all that was counted
        self.totals += np.bincount(block.indices, usual, len(self.totals))
        if unobserved is not None:
            self._hidden[start:stop] = np.diff(unobserved.indptr)
            self._hidden_cells += np.bincount(unobserved.indices, minlength=len(self._hidden_cells))
        drawn = self.draw(self.mean_of(block)) if self._drawn is None else self._drawn
        here = drawn[(drawn >= start) & (drawn < stop)] - start
        if len(here):
            self._parts.append((block[here], None if unobserved is None else unobserved[here]))

    def sample(self) -> tuple[np.ndarray, list[tuple[sp.csr_matrix, sp.csr_matrix | None]]]:
        """Rows of the cells drawn, int64, sorted; and these rows, in parts."""
        return np.zeros(0, np.int64) if self._drawn is None else self._drawn, self._parts

    @staticmethod
    def mean_of(block: sp.csr_matrix) -> float:
        """Mean number of stored entries of a row."""
        return max(block.nnz / max(block.shape[0], 1), 1)

    def draw(self, mean: float) -> np.ndarray:
        """Choose cells, int64, sorted, that have about `mean` entries each: fewer where that is many."""
        number = min(int(np.clip(_ENTRIES / mean, *_CELLS)), len(self.lengths))
        self._drawn = np.sort(self._rng.choice(len(self.lengths), number, replace=False))
        return self._drawn

    def __add__(self, other: Survey) -> Survey:
        """Return what this one and `other`, of later rows, have seen together; they have drawn the same cells."""
        merged = Survey(self.shape, self.seed)
        merged.lengths, merged.totals = self.lengths + other.lengths, self.totals + other.totals
        merged._hidden, merged._drawn = self._hidden + other._hidden, self._drawn
        merged._hidden_cells = self._hidden_cells + other._hidden_cells
        merged._parts = self._parts + other._parts
        return merged
