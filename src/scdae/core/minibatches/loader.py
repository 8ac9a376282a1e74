"""Sources of cells for training: memory, or blocks of rows that are read while the network trains.

A source chooses the cells of every step beforehand, so that the arrays of all minibatches have one size. It then yields
the cells of one step after the other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData, cell_data
from scdae.core.data.chunks import Blocks
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Size, capacity
from scdae.core.minibatches.build import epoch_order

__all__ = ["InMemory", "Source", "Stream"]

_ENTRIES = 2**24  # stored entries that are read together, ahead of their use
_CELLS = (1024, 2**16)  # fewest and most cells read together


class Source(Protocol):
    """Cells to train on."""

    @property
    def n_obs(self) -> int:
        """Number of cells."""

    @property
    def n_vars(self) -> int:
        """Number of genes."""

    @property
    def molecules(self) -> float:
        """Molecules of all cells."""

    @property
    def n_stored(self) -> int:
        """Stored entries of all cells."""

    def order(self, batch_size: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
        """Choose the cells of each step, int64 (n_steps, batch_size): every cell once per epoch, in random order."""

    def size(self, order: np.ndarray, genes: np.ndarray | None = None) -> Size:
        """Find capacities that suffice for each step, and for lists of the entries of the genes marked in `genes`."""

    def minibatches(self, order: np.ndarray) -> Generator[CellData, None, None]:
        """Yield the cells of each step."""

    def everything(self) -> Iterator[tuple[np.ndarray, CellData]]:
        """Yield all cells that have counts, in parts: their indices, and their training molecules."""


@dataclass(frozen=True)
class InMemory:
    """Cells that are in memory."""

    data: CellData

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.data.n_obs

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.data.n_vars

    @cached_property
    def molecules(self) -> float:
        """Molecules of all cells."""
        return float(self.data.counts.sum())

    @property
    def n_stored(self) -> int:
        """Stored entries of all cells."""
        return int(self.data.counts.nnz)

    def order(self, batch_size: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
        """Cells of each step."""
        return epoch_order(self.n_obs, batch_size, n_steps, rng)

    def size(self, order: np.ndarray, genes: np.ndarray | None = None) -> Size:
        """Find capacities that suffice for each step."""
        return Size.of(self.data, order, genes)

    def minibatches(self, order: np.ndarray) -> Generator[CellData, None, None]:
        """Yield the cells of each step."""
        for cells in order:
            yield self.data.take(cells)

    def everything(self) -> Iterator[tuple[np.ndarray, CellData]]:
        """Yield all cells."""
        yield np.arange(self.n_obs), self.data


@dataclass(frozen=True)
class Stream:
    """Cells that are read while the network trains, some blocks in advance.

    Parameters
    ----------
    blocks
        All cells.
    genes
        int64 (n_vars,): columns of the genes of the network.
    kept
        Training molecules of the cells that are known (`blocks.rows`, in that order). Of other cells, all molecules are
        used for training.
    conditions
        Batch and covariates of all cells.
    profile
        Fraction of each gene in the average cell, float64 (n_vars,).
    largest
        Largest possible single count.
    """

    blocks: Blocks
    genes: np.ndarray
    kept: CellData
    conditions: Conditions
    profile: np.ndarray
    largest: float = np.inf

    @property
    def n_obs(self) -> int:
        """Number of cells that have counts."""
        return len(self._counted)

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def molecules(self) -> float:
        """Molecules of all cells, including those held out of some cells."""
        return float(self.blocks.totals.sum())

    @property
    def n_stored(self) -> int:
        """Stored entries of all cells."""
        return int(self.blocks.lengths.sum(dtype=np.int64))

    @cached_property
    def _counted(self) -> np.ndarray:
        return np.flatnonzero(self.blocks.lengths)

    def order(self, batch_size: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
        """Choose the cells of each step: blocks in random order, cells in random order within blocks read together."""
        counted, bounds, needed = self._counted, self.blocks.bounds, n_steps * batch_size
        ends = np.searchsorted(counted, bounds)
        parts: list[np.ndarray] = []
        n_cells = 0
        while n_cells < needed:
            shuffled = rng.permutation(len(bounds) - 1)
            epoch = np.concatenate([counted[ends[block] : ends[block + 1]] for block in shuffled])
            parts.append(epoch)
            n_cells += len(epoch)
        flat = np.concatenate(parts)[:needed]
        window = self.window(batch_size)
        for start in range(0, needed, window):
            rng.shuffle(flat[start : start + window])
        return flat.reshape(n_steps, batch_size)

    def size(self, order: np.ndarray, genes: np.ndarray | None = None) -> Size:
        """Find capacities that suffice for each step; for the marked genes, as if each had counts in every cell."""
        lengths, hidden = self.blocks.lengths, self.blocks.hidden
        chosen = None if genes is None else np.minimum(lengths, int(genes.sum()))
        return Size(capacity(lengths, order), capacity(hidden, order), capacity(chosen, order), genes)

    def minibatches(self, order: np.ndarray) -> Generator[CellData, None, None]:
        """Yield the cells of each step; a thread reads the next ones in the meantime."""
        batch_size = order.shape[1]
        n_steps = self.window(batch_size) // batch_size
        windows = [order[start : start + n_steps] for start in range(0, len(order), n_steps)]
        with ThreadPoolExecutor(1, "scdae-reading") as thread:
            coming = thread.submit(self._read, windows[0])
            for i, steps in enumerate(windows):
                cells, data = coming.result()
                if i + 1 < len(windows):
                    coming = thread.submit(self._read, windows[i + 1])
                for step in steps:
                    yield data.take(np.searchsorted(cells, step))

    def everything(self) -> Iterator[tuple[np.ndarray, CellData]]:
        """Yield all cells that have counts, in parts."""
        window = self.window(1)
        for start in range(0, self.n_obs, window):
            yield self._read(self._counted[start : start + window])

    def window(self, batch_size: int) -> int:
        """Choose the number of cells that are read together: those of whole steps."""
        mean = max(self.blocks.lengths.sum() / max(self.n_obs, 1), 1)
        return max(int(np.clip(_ENTRIES / mean, *_CELLS)) // batch_size, 1) * batch_size

    def _read(self, steps: np.ndarray) -> tuple[np.ndarray, CellData]:
        """Read the cells of some steps; return their indices, sorted, and their counts."""
        cells = np.unique(steps)
        known = np.isin(cells, self.blocks.rows, assume_unique=True)
        unread, ends = cells[~known], np.searchsorted(cells[~known], self.blocks.bounds)
        parts: list[tuple[sp.csr_matrix, sp.csr_matrix | None]] = []
        for block in np.flatnonzero(np.diff(ends)):
            wanted = unread[ends[block] : ends[block + 1]]
            start = int(wanted[0])
            read = self.blocks.read(start, int(wanted[-1]) + 1)
            parts.append((_select(read[0], wanted - start, self.genes), _select(read[1], wanted - start, self.genes)))
        rows = np.searchsorted(self.blocks.rows, cells[known])
        parts.append((self.kept.counts[rows], None if self.kept.unobserved is None else self.kept.unobserved[rows]))
        back = np.argsort(np.concatenate([unread, cells[known]]))
        hidden = None
        if self.blocks.hidden is not None:
            gaps = [sp.csr_matrix(counts.shape, dtype=bool) if gap is None else gap for counts, gap in parts]
            hidden = sp.vstack(gaps, format="csr")[back]
        together = sp.vstack([counts for counts, _ in parts], format="csr")[back]
        return cells, cell_data(together, hidden, self.conditions.take(cells), self.profile, self.largest)


def _select(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    """Select rows and columns, in order, of a CSR matrix; None stays None."""
    if matrix is None:
        return None
    part = matrix if len(rows) == matrix.shape[0] else matrix[rows]
    return part if len(columns) == matrix.shape[1] else part[:, columns]
