"""What is kept from a pass over counts that do not fit in memory: sums, and some cells drawn at random."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.extreme_counts import largest_count

__all__ = ["Survey"]

_ENTRIES = 2**24  # stored entries of the cells drawn, approximately
_CELLS = (2048, 16384)  # fewest and most cells drawn


class Survey:
    """Sums over cells and genes, and some of the cells, from blocks of rows in order.

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
        """Missing values of each cell, int32 (n_obs,); None if there are none."""
        return self._hidden if self._hidden.any() else None

    @property
    def hidden_cells(self) -> np.ndarray | None:
        """Cells in which each gene is missing, int64 (n_vars,); None if there are none."""
        return self._hidden_cells if self._hidden.any() else None

    def add(self, block: sp.csr_matrix, unobserved: sp.csr_matrix | None, start: int) -> None:
        """Add a block of rows, the first of which is row `start`."""
        stop = start + block.shape[0]
        self.lengths[start:stop] = np.diff(block.indptr)
        usual = np.minimum(block.data, largest_count(block))  # one damaged value must not dominate the sums
        self.totals += np.bincount(block.indices, usual, len(self.totals))
        if unobserved is not None:
            self._hidden[start:stop] = np.diff(unobserved.indptr)
            self._hidden_cells += np.bincount(unobserved.indices, minlength=len(self._hidden_cells))
        drawn = self.draw(self.mean_of(block)) if self._drawn is None else self._drawn
        here = drawn[(drawn >= start) & (drawn < stop)] - start
        if len(here):
            self._parts.append((block[here], None if unobserved is None else unobserved[here]))

    def sample(self) -> tuple[np.ndarray, list[tuple[sp.csr_matrix, sp.csr_matrix | None]]]:
        """Return the indices of the cells drawn, int64, sorted, and their rows, in parts."""
        return np.zeros(0, np.int64) if self._drawn is None else self._drawn, self._parts

    @staticmethod
    def mean_of(block: sp.csr_matrix) -> float:
        """Return the mean number of stored entries of a row."""
        return max(block.nnz / max(block.shape[0], 1), 1)

    def draw(self, mean: float) -> np.ndarray:
        """Draw cells, int64, sorted: fewer if the mean number of entries of a cell, `mean`, is large."""
        number = min(int(np.clip(_ENTRIES / mean, *_CELLS)), len(self.lengths))
        self._drawn = np.sort(self._rng.choice(len(self.lengths), number, replace=False))
        return self._drawn

    def __add__(self, other: Survey) -> Survey:
        """Merge this survey with `other`, of later rows, which has drawn the same cells."""
        merged = Survey(self.shape, self.seed)
        merged.lengths, merged.totals = self.lengths + other.lengths, self.totals + other.totals
        merged._hidden, merged._drawn = self._hidden + other._hidden, self._drawn
        merged._hidden_cells = self._hidden_cells + other._hidden_cells
        merged._parts = self._parts + other._parts
        return merged
