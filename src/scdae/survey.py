"""What is kept of a pass over counts that are too many to be held: sums, and some cells drawn at random."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

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
        self.lengths = np.zeros(shape[0], np.int32)
        self.totals = np.zeros(shape[1])
        self._hidden = np.zeros(shape[0], np.int32)
        self._rng = np.random.default_rng([seed, 3])
        self._drawn: np.ndarray | None = None
        self._parts: list[tuple[sp.csr_matrix, sp.csr_matrix | None]] = []

    @property
    def hidden(self) -> np.ndarray | None:
        """Entries of each cell that were not observed, int32 (n_obs,); None where all were."""
        return self._hidden if self._hidden.any() else None

    def add(self, block: sp.csr_matrix, unobserved: sp.csr_matrix | None, start: int) -> None:
        """Look at the rows from `start` on."""
        stop = start + block.shape[0]
        self.lengths[start:stop] = np.diff(block.indptr)
        self.totals += np.bincount(block.indices, block.data, len(self.totals))
        if unobserved is not None:
            self._hidden[start:stop] = np.diff(unobserved.indptr)
        if self._drawn is None:
            self._drawn = self._draw(block)
        here = self._drawn[(self._drawn >= start) & (self._drawn < stop)] - start
        if len(here):
            self._parts.append((block[here], None if unobserved is None else unobserved[here]))

    def sample(self) -> tuple[np.ndarray, list[tuple[sp.csr_matrix, sp.csr_matrix | None]]]:
        """Rows of the cells drawn, int64, sorted; and these rows, in parts."""
        return np.zeros(0, np.int64) if self._drawn is None else self._drawn, self._parts

    def _draw(self, block: sp.csr_matrix) -> np.ndarray:
        """Choose cells: fewer where the first ones have many entries."""
        mean = max(block.nnz / max(block.shape[0], 1), 1)
        number = min(int(np.clip(_ENTRIES / mean, *_CELLS)), len(self.lengths))
        return np.sort(self._rng.choice(len(self.lengths), number, replace=False))
