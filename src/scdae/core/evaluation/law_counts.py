"""How often each count of a gene occurs where the network expects how much of it.

An entry counts for the two levels on either side of its mean, for the nearer one more. Cells of unlike exposure are counted apart, so
that a level says how high a gene is in a cell, as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from flax import nnx

from scdae.core.data.conditions import effect_of
from scdae.core.distributions.components import corrected, level_of
from scdae.core.evaluation.heldout import HeldOut, latent_and_norm
from scdae.core.network.autoencoder import total_effects
from scdae.core.network.principal_axes import project

__all__ = ["Counted", "Means", "count_levels"]

_AT_ONCE = 1e6  # entries at a time
_WIDTH = 0.25  # between levels of the mean, on the log scale
_DEPTHS, _DEPTH_WIDTH = 4, 0.75  # groups of cells by the log of their exposure
_LOW, _HIGH = np.log(1e-4), np.log(1e5)
_TOP = (0.7, 0.9)  # share of the sum of squared means above which entries count less, and not at all
_WHOLE = 4095  # counts up to this are put together where they are equal


class Counted(NamedTuple):
    """How often each count occurs at each level of the mean, gene by gene."""

    zeros: np.ndarray  # float64 (n, n_levels): entries without counts
    start: np.ndarray  # int64 (n + 1,): first row of each gene in what follows
    gene: np.ndarray  # int64 (e,)
    level: np.ndarray  # int64 (e,)
    x: np.ndarray  # float64 (e,): count
    number: np.ndarray  # float64 (e,): entries with it
    mean: np.ndarray  # float64 (n_levels,)
    log_exposure: np.ndarray  # float64 (n_levels,): of the cells whose entries are counted there
    log_share: np.ndarray  # float64 (n,): of each gene in the average cell

    @property
    def height(self) -> np.ndarray:
        """How far each gene lies at each level between low and high, float64 (n, n_levels)."""
        return np.asarray(level_of(np.log(self.mean) - self.log_exposure - self.log_share[:, None]))

    def take(self, genes: np.ndarray) -> Counted:
        """Those of some genes, int (m,) rising, at the levels that these reach."""
        length = np.diff(self.start)[genes]
        start = np.concatenate([[0], np.cumsum(length)])
        rows = np.arange(start[-1]) + np.repeat(self.start[genes] - start[:-1], length)
        gene, zeros = np.repeat(np.arange(len(genes)), length), self.zeros[genes]
        reached = zeros.any(axis=0)
        reached[self.level[rows]] = True
        level = (np.cumsum(reached) - 1)[self.level[rows]]
        of_levels = self.mean[reached], self.log_exposure[reached]
        return Counted(
            zeros[:, reached], start, gene, level, self.x[rows], self.number[rows], *of_levels, self.log_share[genes]
        )

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Compute the sum over the rows of each gene: (..., e) to float64 (..., n)."""
        out = np.zeros((*values.shape[:-1], len(self.start) - 1))
        some = np.diff(self.start) > 0
        if some.any():
            out[..., some] = np.add.reduceat(values, self.start[:-1][some], axis=-1)
        return out

    def expressed(self) -> Counted:
        """Return the entries in which each gene is expressed most, the others with less weight or none.

        A marker of another cell type has too many zeros as well where the network expects some of it, but none in the cells that
        have most of it; dropout takes as much there as anywhere.
        """
        order = np.argsort(-self.mean, kind="stable")
        square = ((self.zeros + self.sum_levels()) * self.mean**2)[:, order]
        above = np.empty_like(square)
        above[:, order] = (square.cumsum(axis=1) - square / 2) / np.maximum(square.sum(axis=1), 1e-300)[:, None]
        weight = np.clip((_TOP[1] - above) / (_TOP[1] - _TOP[0]), 0, 1)
        own = weight[self.gene, self.level]
        some = own > 0
        start = np.concatenate([[0], np.cumsum(np.bincount(self.gene[some], minlength=len(self.zeros)))])
        rest = (self.gene[some], self.level[some], self.x[some], (self.number * own)[some])
        return Counted(self.zeros * weight, start, *rest, *self[6:])

    def sum_levels(self) -> np.ndarray:
        """Return the entries with counts at each level, float64 (n, n_levels)."""
        n_levels = len(self.mean)
        at = self.gene * n_levels + self.level
        return np.bincount(at, self.number, len(self.zeros) * n_levels).reshape(-1, n_levels)


class Means:
    """Means of the network for some cells, gene by gene.

    Parameters
    ----------
    graph, params
        The network.
    shown
        The cells.
    genes
        Genes to look at; None for all.
    log_share, correction
        As for :class:`scdae.core.distributions.laws.Laws`, of these genes: what corrects the network's means; None for nothing.
    """

    def __init__(
        self,
        graph: Any,
        params: Any,
        shown: HeldOut,
        genes: np.ndarray | None = None,
        log_share: np.ndarray | None = None,
        correction: np.ndarray | None = None,
    ):
        self._log_share, self._correction = log_share, correction
        conditions, inputs = shown.data.conditions, project(shown.axes, shown.data)
        by_level = None if log_share is None or correction is None else (np.float32(log_share), correction)
        latent, norm, self._norm_of_all, norm_after = latent_and_norm(graph, params, shown.data, inputs, by_level)
        values = nnx.to_pure_dict(params)
        loading = np.asarray(values["loading"])
        if "turn_loading" in values:  # all that multiplies loadings, side by side
            turned = np.asarray(nnx.merge(graph, params).turned(latent, conditions))
            latent = np.concatenate([latent, turned], axis=1)
            loading = np.concatenate([loading, np.asarray(values["turn_loading"])])
        some = slice(None) if genes is None else genes
        self._latent, self._loading = latent, loading[:, some]
        self._base, self._conditions = np.asarray(values["log_profile"])[some], conditions
        self._effects = total_effects(values, some)
        total = np.asarray(shown.data.counts.sum(axis=1) + shown.counts.sum(axis=1), np.float32).ravel()
        self._of_cell = np.log(np.maximum(total, 1e-6))[:, None] - (norm if by_level is None else norm_after)
        self.log_exposure = np.log(np.maximum(total / shown.data.share, 1e-6), dtype=np.float64)

    def place(self, genes: slice) -> np.ndarray:
        """Place the log mean of all molecules among the levels: float32 (n_cells, width), whole at a level."""
        logs = self._latent @ self._loading[:, genes]
        logs += self._base[genes]
        if self._effects is not None:
            logs += np.asarray(effect_of(self._effects[:, genes], self._conditions))
        if self._correction is not None and self._log_share is not None:
            usual = self._norm_of_all + self._log_share[genes].astype(np.float32)
            logs -= usual
            logs = corrected(logs, self._correction[:, genes])
            logs += self._log_share[genes].astype(np.float32)
        logs += self._of_cell
        logs -= np.float32(_LOW)
        logs *= np.float32(1 / _WIDTH)
        return np.clip(np.nan_to_num(logs, copy=False, nan=0.0), 0, _LEVELS - 1, out=logs)


_LEVELS = int(np.ceil((_HIGH - _LOW) / _WIDTH))
_CENTRES = np.exp(_LOW + _WIDTH * np.arange(_LEVELS))


def count_levels(
    means: Means, counts: sp.csc_matrix, gaps: sp.csc_matrix | None, log_share: np.ndarray | None = None
) -> Counted:
    """Go through the entries, gene by gene.

    Parameters
    ----------
    means
        Of the network.
    counts, gaps
        (n_cells, n): the counts, and Boolean what was not observed.
    log_share
        Of each gene in the average cell, float64 (n,).
    """
    n_cells, n_vars = counts.shape
    group, exposure = _depth_groups(means.log_exposure)
    width = max(1, int(_AT_ONCE / n_cells))
    zeros, rows = np.zeros((n_vars, _LEVELS * len(exposure))), []
    for first in range(0, n_vars, width):
        genes = slice(first, min(first + width, n_vars))
        zeros[genes], with_counts = _block(means, counts, gaps, genes, group, len(exposure))
        rows.append(with_counts)
    gene, level, x, number = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    start = np.concatenate([[0], np.cumsum(np.bincount(gene, minlength=n_vars))])
    mean, depth = np.tile(_CENTRES, len(exposure)), np.repeat(exposure, _LEVELS)
    if log_share is None:
        log_share = np.zeros(n_vars)
    return Counted(zeros, start, gene, level, x, number, mean, depth, log_share)


def _block(
    means: Means,
    counts: sp.csc_matrix,
    gaps: sp.csc_matrix | None,
    genes: slice,
    group: np.ndarray,
    n_groups: int,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the zeros of some genes at each level, float64 (width, n_levels), and their rows of counts."""
    n_levels = n_groups * _LEVELS
    place = means.place(genes)
    below = np.minimum(place.astype(np.int32), _LEVELS - 2)
    beyond = place - below
    below += (group * _LEVELS).astype(np.int32)[:, None]
    at, col = _column_entries(counts, genes)
    x = counts.data[counts.indptr[genes.start] : counts.indptr[genes.stop]]
    rows = _together(genes.start + col, below[at, col], x, beyond[at, col], n_levels)

    below += np.arange(below.shape[1], dtype=np.int32) * np.int32(n_levels)
    length = below.shape[1] * n_levels
    number = np.bincount(below.ravel(), minlength=length)
    share = np.bincount(below.ravel(), beyond.ravel(), length)
    for entries in (counts,) if gaps is None else (counts, gaps):  # these are no zeros
        some = _column_entries(entries, genes)
        number -= np.bincount(below[some], minlength=length)
        share -= np.bincount(below[some], beyond[some], length)
    share = share.reshape(-1, n_levels)
    zeros = number.reshape(-1, n_levels) - share
    zeros[:, 1:] += share[:, :-1]
    return zeros, rows


def _depth_groups(log_exposure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups of cells of like exposure, int64 (n_cells,), and the mean of the logs in each, float64 (n_groups,)."""
    low, high = np.quantile(log_exposure, [0.05, 0.95])
    n = int(np.clip(np.ceil((high - low) / _DEPTH_WIDTH), 1, _DEPTHS))
    group = np.clip((log_exposure - low) / max(high - low, 1e-9) * n, 0, n - 1).astype(np.int64)
    cells = np.bincount(group, minlength=n)
    middle = low + (np.arange(n) + 0.5) / n * (high - low)
    sums = np.bincount(group, log_exposure, n)
    return group, np.where(cells > 0, sums / np.maximum(cells, 1), middle)


def _column_entries(matrix: sp.csc_matrix, genes: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the row, and column within the block, of the stored entries of some columns."""
    ends = matrix.indptr[genes.start : genes.stop + 1]
    return matrix.indices[ends[0] : ends[-1]], np.repeat(np.arange(len(ends) - 1), np.diff(ends))


def _together(
    gene: np.ndarray, level: np.ndarray, x: np.ndarray, beyond: np.ndarray, n_levels: int
) -> tuple[np.ndarray, ...]:
    """Equal counts of a gene at a level, and how many there are; in the order of the genes.

    Entries count for the level below them, `level`, and for the next by as much as they are `beyond` it.
    """
    whole = (x == np.floor(x)) & (x <= _WHOLE)
    key = (gene[whole].astype(np.int64) * n_levels + level[whole]) * (_WHOLE + 1) + x[whole].astype(np.int64)
    key, entry, number = np.unique(key, return_inverse=True, return_counts=True)
    above = np.bincount(entry.ravel(), beyond[whole], len(key))
    key, row = np.unique(np.concatenate([key, key + _WHOLE + 1]), return_inverse=True)  # the next level
    number = np.bincount(row.ravel(), np.concatenate([number - above, above]), len(key))
    gene, level, alone = np.tile(gene[~whole], 2), level[~whole], beyond[~whole].astype(np.float64)
    parts = [
        np.concatenate([key // (_WHOLE + 1) // n_levels, gene]),
        np.concatenate([key // (_WHOLE + 1) % n_levels, level, level + 1]),
        np.concatenate([(key % (_WHOLE + 1)).astype(np.float64), np.tile(x[~whole], 2)]),
        np.concatenate([number, 1 - alone, alone]),
    ]
    order = np.argsort(parts[0], kind="stable")
    order = order[parts[3][order] > 0]
    return tuple(part[order] for part in parts)
