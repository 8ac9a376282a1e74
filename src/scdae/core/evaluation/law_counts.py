"""How often each count of a gene occurs where the network expects how much of it.

An entry counts for the two levels on either side of its mean, for the nearer one more. Cells of unlike exposure are counted apart, so
that a level says how high a gene is in a cell, as well.

All counts are looked at. Zeros are by far the most entries, and say little where a gene is rare: of these genes some of the cells show
where they have how many.
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

_AT_ONCE = 2e5  # entries at a time
_RARE = (
    0.1  # share of the cells with counts of a gene up to which a part of the cells shows how many zeros it has where
)
_ENTRIES = 1.2e7  # cells times genes of that part
_FEWEST = 512  # cells at least
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
        latent, norm, of_all, norm_after = latent_and_norm(graph, params, shown.data, inputs, by_level)
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
        norm = norm if by_level is None else norm_after
        self._of_cell, self._norm_of_all = np.log(np.maximum(total, 1e-6)) - norm[:, 0], of_all[:, 0]
        self.log_exposure = np.log(np.maximum(total / shown.data.share, 1e-6), dtype=np.float64)

    def logits(self, genes: slice) -> np.ndarray:
        """Compute what the decoder says of some genes, before it is divided by the sum of all: float32 (n_cells, width)."""
        logs = self._latent @ self._loading[:, genes]
        logs += self._base[genes]
        if self._effects is not None:
            logs += np.asarray(effect_of(self._effects[:, genes], self._conditions))
        return np.asarray(logs)

    def place(self, logits: np.ndarray, genes: slice, cells: Any, cols: Any) -> np.ndarray:
        """Place the log mean of all molecules among the levels, where a whole number is a level.

        Parameters
        ----------
        logits
            Of some entries, float32, of any shape; written over.
        genes
            Those that the logits were computed of.
        cells, cols
            The cell of each entry and its gene among `genes`: slices, and `logits` are (n_cells, width), or int (e,).

        Returns
        -------
        numpy.ndarray
            float32, of the shape of `logits`.
        """
        by_cell = (lambda of: of[cells][:, None]) if logits.ndim == 2 else (lambda of: of[cells])
        if self._correction is not None and self._log_share is not None:
            share = self._log_share[genes].astype(np.float32)[cols]
            logits -= by_cell(self._norm_of_all)
            logits -= share
            logits = corrected(logits, self._correction[:, genes], genes=cols)
            logits += share
        logits += by_cell(self._of_cell)
        logits -= np.float32(_LOW)
        logits *= np.float32(1 / _WIDTH)
        return np.clip(np.nan_to_num(logits, copy=False, nan=0.0), 0, _LEVELS - 1, out=logits)


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
    first_level = (group * _LEVELS).astype(np.int32)
    frequent = np.diff(counts.indptr) > _RARE * n_cells
    width = max(1, int(_AT_ONCE / n_cells))
    zeros, rows = np.zeros((n_vars, _LEVELS * len(exposure))), []
    for first in range(0, n_vars, width):
        genes = slice(first, min(first + width, n_vars))
        zeros[genes], with_counts = _block(means, counts, gaps, genes, first_level, zeros.shape[1], frequent[genes])
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
    first_level: np.ndarray,
    n_levels: int,
    frequent: np.ndarray,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the zeros of some genes at each level, float64 (width, n_levels), and their rows of counts.

    Zeros of genes that are not `frequent` are those of the first cells, as many times as there are more cells.
    """
    n_cells, n_vars = counts.shape
    some, everything = min(max(_FEWEST, int(_ENTRIES / n_vars)), n_cells), slice(None)
    logits = means.logits(genes)

    def placed(logits: np.ndarray, cells: Any, cols: Any) -> tuple[np.ndarray, np.ndarray]:
        """The level below each entry, and how far it is beyond, from 0 to 1."""
        beyond = means.place(logits, genes, cells, cols)
        below = np.minimum(beyond.astype(np.int32), _LEVELS - 2)
        beyond -= below
        below += first_level[cells] if below.ndim == 1 else first_level[cells][:, None]
        return below, beyond

    def at_levels(cols: np.ndarray, below: np.ndarray, beyond: np.ndarray) -> np.ndarray:
        """How many entries of each gene are at each level: float64 (width, n_levels)."""
        at, length = (below + (cols * n_levels).astype(np.int32)).ravel(), len(frequent) * n_levels
        # Of no entries at all NumPy makes integers.
        share = np.bincount(at, beyond.ravel(), length).astype(np.float64).reshape(-1, n_levels)
        number = np.bincount(at, minlength=length).reshape(-1, n_levels) - share
        number[:, 1:] += share[:, :-1]
        return number

    at, col = _column_entries(counts, genes)
    below, beyond = placed(logits[at, col], at, col)
    x = counts.data[counts.indptr[genes.start] : counts.indptr[genes.stop]]
    rows = _together(genes.start, counts.indptr[genes.start : genes.stop + 1], below, x, beyond, n_levels)

    no_zeros = [(at, col, below, beyond)]
    if gaps is not None:
        at, col = _column_entries(gaps, genes)
        no_zeros.append((at, col, *placed(logits[at, col], at, col)))
    zeros = -sum(
        at_levels(*(part[(at < some) | frequent[col]] for part in (col, *level))) for at, col, *level in no_zeros
    )
    cols = np.flatnonzero(frequent)
    if some < n_cells and len(cols):
        zeros += at_levels(cols, *placed(logits[some:, cols], slice(some, None), cols))
    zeros += at_levels(np.arange(len(frequent)), *placed(logits[:some], slice(some), everything))
    zeros[~frequent] *= n_cells / some
    return np.maximum(zeros, 0), rows


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
    first: int, start: np.ndarray, level: np.ndarray, x: np.ndarray, beyond: np.ndarray, n_levels: int
) -> tuple[np.ndarray, ...]:
    """Equal counts of a gene at a level, and how many there are; in the order of the genes.

    Entries, those of gene `first` and the next from `start` on, count for the level below them, `level`, and for the next by as much
    as they are `beyond` it.
    """
    n, step, start = len(start) - 1, _WHOLE + 1, start - start[0]
    whole = (x == np.floor(x)) & (x <= _WHOLE)
    alone = ~whole
    of_whole = np.concatenate([[0], np.cumsum(whole)])[start]
    key = level[whole] * np.int32(step) + x[whole].astype(np.int32)
    shape = (n, (n_levels + 1) * step)
    own = beyond[whole].astype(np.float64)
    shares = sp.csr_matrix((1 - own + 1j * own, key, of_whole), shape)
    shares.sum_duplicates()
    next_level = sp.csr_matrix((shares.data.imag.copy(), shares.indices + np.int32(step), shares.indptr), shape)
    both = sp.csr_matrix((shares.data.real.copy(), shares.indices, shares.indptr), shape) + next_level
    gene = np.repeat(np.arange(n), np.diff(both.indptr))
    found = [gene, both.indices // step, (both.indices % step).astype(np.float64), both.data]
    if alone.any():
        gene, levels = np.tile(np.repeat(np.arange(n), np.diff(start))[alone], 2), level[alone]
        number = np.concatenate([1 - beyond[alone], beyond[alone]])
        more = gene, np.concatenate([levels, levels + 1]), np.tile(x[alone], 2), number
        found = [np.concatenate(parts) for parts in zip(found, more, strict=True)]
        order = np.argsort(found[0], kind="stable")
        found = [part[order] for part in found]
    some = found[3] > 0
    gene, level, x, number = (part[some] for part in found)
    return gene + first, level, x, number
