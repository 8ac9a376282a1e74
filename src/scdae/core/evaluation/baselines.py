"""What a denoiser has to beat: the counts themselves, the gene means, and a low-rank fit of chosen rank.

Each baseline expects, for any cells, the counts at the depth that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd

from scdae.core.data.cells import CellData, smoothed_profile
from scdae.core.data.thinning import thin
from scdae.core.network.encoder_input import TARGET

__all__ = ["Baseline", "GeneMean", "LowRank", "Raw"]

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
_CHOSEN_ON = 512  # cells that the rank is chosen on
_INNER = 0.8  # share of the molecules that the fits of the choice get
_LARGEST = 15.0  # log of counts per 10,000, beyond any cell's


class Baseline(Protocol):
    """Expected counts of some cells."""

    def expect(self, rows: slice, ratio: float = 1.0) -> np.ndarray:
        """Compute `ratio` times the expected counts, a new array: float64 (n_rows, n_vars)."""
        ...


class Raw:
    """The counts themselves: no denoising."""

    def __init__(self, data: CellData):
        self.counts = data.counts

    def expect(self, rows: slice, ratio: float = 1.0) -> np.ndarray:
        """Return `ratio` times the counts of the cells."""
        return np.asarray((self.counts[rows].astype(np.float64) * ratio).toarray())


class GeneMean:
    """Share of each gene in the average cell, times the exposure of the cell."""

    def __init__(self, data: CellData):
        self.profile = smoothed_profile(data)
        total = np.asarray(data.counts.sum(axis=1), dtype=np.float64).ravel()
        self.exposure = total / np.maximum(data.share, 1e-6)

    def expect(self, rows: slice, ratio: float = 1.0) -> np.ndarray:
        """Compute the means of the genes at `ratio` times the exposure of the cells."""
        return np.asarray((ratio * self.exposure[rows, None]) * self.profile)


@dataclass
class _Factors:
    left: np.ndarray  # (n_obs, rank)
    right: np.ndarray  # (rank, n_vars)

    def values(self, rows: slice | np.ndarray, rank: int) -> np.ndarray:
        """What is fitted, no logs any more, up to a factor for each cell: float32."""
        logs = self.left[rows, :rank] @ self.right[:rank]
        np.clip(logs, 0, _LARGEST, out=logs)
        return np.asarray(np.expm1(logs, out=logs))

    def expect(self, rows: slice | np.ndarray, rank: int, total: np.ndarray) -> np.ndarray:
        values = self.values(rows, rank)
        size = values.sum(axis=1, keepdims=True, dtype=np.float64)
        return np.asarray(values * np.divide(total[rows, None], size, out=np.zeros_like(size), where=size > 0))


class LowRank:
    """Truncated SVD of log counts per 10,000, its rank chosen by molecular cross-validation.

    A fifth of the molecules is set aside; of the fits to the others, the rank whose expected counts predict those set
    aside best (Poisson likelihood) is kept, and all molecules are fitted with it. Gene totals are those counted.

    Parameters
    ----------
    data
        Counts. Entries that were not observed count as zeros, for which the method has no other place.
    rng
        Source of random numbers.
    """

    def __init__(self, data: CellData, rng: np.random.Generator):
        counts = data.counts
        largest = min(RANKS[-1], min(counts.shape) - 1)
        ranks = [rank for rank in RANKS if rank <= largest] or [1]
        self.rank = _best_rank(counts, ranks, rng) if len(ranks) > 1 else ranks[0]
        self._total = _totals(counts)
        self._factors = _factorize(counts, self.rank, rng)
        fitted = np.zeros(counts.shape[1])
        for start in range(0, counts.shape[0], 256):
            fitted += self._factors.expect(slice(start, start + 256), self.rank, self._total).sum(axis=0)
        counted = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
        self._scale = np.divide(counted, fitted, out=np.ones_like(counted), where=fitted > 0)

    def expect(self, rows: slice, ratio: float = 1.0) -> np.ndarray:
        """Compute the low-rank fit at `ratio` times the depth of the cells."""
        value = self._factors.expect(rows, self.rank, ratio * self._total)
        value *= self._scale
        return value


def _totals(counts: sp.csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def _factorize(counts: sp.csr_matrix, rank: int, rng: np.random.Generator) -> _Factors:
    scale = TARGET / np.maximum(_totals(counts), 1e-12)
    logs = counts.astype(np.float32)
    logs.data = np.log1p(logs.data * np.repeat(scale, np.diff(logs.indptr)).astype(np.float32))
    left, strength, right = randomized_svd(logs, rank, n_iter=4, random_state=int(rng.integers(2**31)))
    return _Factors(left * strength, right)


def _best_rank(counts: sp.csr_matrix, ranks: list[int], rng: np.random.Generator) -> int:
    shown, rest = thin(counts, _INNER, rng)
    factors, total = _factorize(shown, ranks[-1], rng), _totals(shown)
    cells = np.sort(rng.choice(counts.shape[0], min(counts.shape[0], _CHOSEN_ON), replace=False))
    ratio = (1 - _INNER) / _INNER
    counted = np.asarray(shown[cells].sum(axis=0), dtype=np.float64).ravel()
    base = total[cells, None] * (counted / max(counted.sum(), 1.0))
    y = rest[cells].tocoo()
    base_of_y = 0.01 * base[y.row, y.col]
    score = []
    for rank in ranks:
        values = factors.values(cells, rank)
        size = values.sum(axis=1, dtype=np.float64)
        depth = np.divide(total[cells], size, out=np.zeros_like(size), where=size > 0)
        fitted = (depth.astype(np.float32) @ values).astype(np.float64)
        scale = np.divide(counted, fitted, out=np.ones_like(fitted), where=fitted > 0)
        mean = ratio * (0.99 * values[y.row, y.col] * depth[y.row] * scale[y.col] + base_of_y)
        expected = (
            ratio * 0.99 * counted[fitted > 0].sum()
        )  # of all entries; the gene means' part is the same for all ranks
        score.append(float((y.data * np.log(np.maximum(mean, 1e-12))).sum() - expected))
    return ranks[int(np.argmax(score))]
