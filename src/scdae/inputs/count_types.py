"""Counts as the package works with them: in memory, read by blocks, or not yet looked at.

All three have a shape, names, and ``read(start, stop)`` over the rows of their `spans`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp

from scdae.core.data.chunks import Blocks

__all__ = ["AnyCounts", "CountBlocks", "Counts", "UnreadCounts"]


@dataclass(frozen=True)
class Counts:
    """Counts that were checked, in memory of their own.

    Parameters
    ----------
    matrix
        float32 CSR (n_obs, n_vars): sorted, without repeated entries and stored zeros. Entries that were not observed
        are absent.
    unobserved
        Boolean CSR (n_obs, n_vars) that stores True where nothing was measured; None where everything was.
    obs_names, var_names
        str, (n_obs,) and (n_vars,).
    fractional
        Whether any value is not a whole number.
    """

    matrix: sp.csr_matrix
    unobserved: sp.csr_matrix | None
    obs_names: np.ndarray
    var_names: np.ndarray
    fractional: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, genes."""
        return self.matrix.shape

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last (excluded) row of each block in which they are to be read out: all at once."""
        return [(0, self.shape[0])]

    def read(self, start: int, stop: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        """Counts of some rows, and what was not observed in them."""
        if (start, stop) == (0, self.shape[0]):
            return self.matrix, self.unobserved
        return self.matrix[start:stop], None if self.unobserved is None else self.unobserved[start:stop]


@dataclass(frozen=True)
class CountBlocks:
    """Counts that were checked and are too many to be held; the parameters are those of :class:`Counts`, but for these.

    Parameters
    ----------
    blocks
        How to read them, and how many there are in each cell and gene.
    sample
        The counts of the cells in ``blocks.rows``, drawn at random.
    """

    blocks: Blocks
    sample: Counts
    obs_names: np.ndarray
    var_names: np.ndarray
    fractional: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, genes."""
        return len(self.obs_names), len(self.var_names)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last (excluded) row of each block."""
        bounds = self.blocks.bounds.tolist()
        return list(zip(bounds[:-1], bounds[1:], strict=True))

    def read(self, start: int, stop: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        """Counts of some rows, and what was not observed in them."""
        return self.blocks.read(start, stop)


@dataclass(frozen=True)
class UnreadCounts:
    """Counts that are looked at when they are read, and not before.

    Parameters
    ----------
    spans
        First and last (excluded) row of each block.
    read
        ``read(start, stop)`` gives the counts of these rows and what was not observed in them; it raises a ValueError
        if they are not counts.
    obs_names, var_names
        str, (n_obs,) and (n_vars,).
    """

    spans: list[tuple[int, int]]
    read: Callable[[int, int], tuple[sp.csr_matrix, sp.csr_matrix | None]]
    obs_names: np.ndarray
    var_names: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, genes."""
        return len(self.obs_names), len(self.var_names)


AnyCounts: TypeAlias = Counts | CountBlocks | UnreadCounts
