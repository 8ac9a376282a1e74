"""Are groups of cells restored as they are? Molecules set aside at the markers of each group, and whom its cells are most like.

Markers are chosen by the molecules shown and by the labels, never by a prediction. At their entries that are zero among
the molecules shown, those set aside tell what should have been filled in: inside the group too little, where a method
repeats what was counted; outside it too much, where it takes cells for more alike than they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy import special

from scdae.core.data.cells import CellData
from scdae.core.evaluation.nearest import Nearest

__all__ = ["LEAST_CELLS", "TOP", "GroupSums", "GroupTally", "Markers", "choose_markers", "ratio_interval"]

TOP = 10  # markers of a group
LEAST_CELLS = 10  # of a group that is judged
_CERTAIN = 3.0  # standard errors by which the fold change of a gene is taken for less than it looks
_CHANCE = 0.05  # number of markers by chance, in all groups together, where labels mean nothing
_HALF = 0.5  # molecules that each side has beforehand, at least
_SCARCE = 0.05  # molecules in a cell of average depth, below which it matters little how much a gene is higher


class Markers(NamedTuple):
    """Markers of all groups, those of a group together and the clearest first."""

    gene: np.ndarray  # int64 (k,): columns
    group: np.ndarray  # int64 (k,): of the groups that are judged, ascending


class GroupSums(NamedTuple):
    """Sums over the observed entries of each marker: float64 (2, k) each, inside its group and outside it."""

    n_cells: np.ndarray  # that were observed
    counted: np.ndarray  # molecules shown
    restored: np.ndarray  # of these, expected with the entries' own counts
    decoded: np.ndarray  # and without
    zeros_seen: np.ndarray  # molecules set aside, at entries that are zero among those shown
    zeros_restored: np.ndarray  # expected there, with the entries' own counts
    zeros_decoded: np.ndarray  # and without


class _Moments(NamedTuple):
    """Sums over the observed cells: float64 (n_vars,) each."""

    counted: np.ndarray
    exposure: np.ndarray
    square: np.ndarray  # of what was counted; this and what follows weighted
    cross: np.ndarray  # times exposure
    exposure_square: np.ndarray

    @classmethod
    def of(cls, data: CellData, exposure: np.ndarray, cells: np.ndarray, among: np.ndarray) -> _Moments:
        """Of some `cells`, which are among those whose rate is asked for.

        A cell weighs as in the jackknife: what it holds of all exposure takes as much of its own residual away.
        """
        counts, known = data.counts[cells].astype(np.float64), exposure[cells]
        weight = 1 / np.maximum(1 - known / exposure[among].sum(), 1e-3) ** 2
        square = counts.copy()
        square.data **= 2
        seen, seen_square = np.full(data.n_vars, known.sum()), np.full(data.n_vars, (weight * known**2).sum())
        if data.unobserved is not None:
            hidden = data.unobserved[cells].astype(np.float64)
            seen, seen_square = seen - hidden.T @ known, seen_square - hidden.T @ (weight * known**2)
        counted = np.asarray(counts.sum(axis=0)).ravel()
        return cls(counted, seen, square.T @ weight, counts.T @ (weight * known), seen_square)

    def minus(self, other: _Moments) -> _Moments:
        """Of the other cells."""
        return _Moments(*(whole - part for whole, part in zip(self, other, strict=True)))

    def log_rate(self, unit: float) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm of the molecules for each unit of exposure, and its variance: over cells, and at least Poisson.

        `unit` is the exposure of an average cell.
        """
        molecules = self.counted + np.maximum(_SCARCE * self.exposure / unit, _HALF)
        measured = self.exposure > 1e-6 * np.max(self.exposure, initial=0)
        rate = np.divide(molecules, self.exposure, out=np.ones_like(molecules), where=measured)
        spread = self.square - 2 * rate * self.cross + rate**2 * self.exposure_square
        variance = np.maximum(spread, molecules) / molecules**2
        return np.log(rate), np.where(measured, variance, np.inf)


def choose_markers(data: CellData, group: np.ndarray, judged: np.ndarray, top: int = TOP) -> Markers:
    """Return the genes that tell each group from all other cells most clearly.

    Parameters
    ----------
    data
        Molecules shown.
    group
        int (n_obs,): group of each cell; cells below 0 are left out.
    judged
        int (n_judged,): groups to find markers for.
    top
        Most markers of a group. It has fewer where fewer are higher in it beyond chance.

    Notes
    -----
    Genes are ranked by the fold change of their share, less three standard errors of its logarithm over the cells, and
    are markers if it is beyond chance for as many genes and groups as there are. A gene of few molecules, or of one odd
    cell, is uncertain and ranks low however large its fold change, so that no threshold for expression is needed that
    would have to fit the depth.
    """
    exposure = _exposure(data)
    labeled = np.flatnonzero(group >= 0)
    everyone = _Moments.of(data, exposure, labeled, labeled)
    unit = float(exposure[labeled].mean()) if len(labeled) else 1.0
    beyond = max(_CERTAIN, float(special.ndtri(1 - _CHANCE / max(data.n_vars * len(judged), 1))))
    genes, groups = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, one in enumerate(judged):
        cells = np.flatnonzero(group == one)
        log_in, error_in = _Moments.of(data, exposure, cells, cells).log_rate(unit)
        log_out, error_out = everyone.minus(_Moments.of(data, exposure, cells, labeled)).log_rate(unit)
        error = np.sqrt(error_in + error_out)
        sure = log_in - log_out - _CERTAIN * error
        sure[log_in - log_out <= beyond * error] = -np.inf
        best = np.argsort(-sure, kind="stable")[:top]
        best = best[np.isfinite(sure[best])]
        genes.append(best)
        groups.append(np.full(len(best), i))
    return Markers(np.concatenate(genes), np.concatenate(groups))


def _exposure(data: CellData) -> np.ndarray:
    """Compute the molecules that each cell would have if all genes had been observed: float64 (n_obs,)."""
    return np.asarray(data.counts.sum(axis=1), np.float64).ravel() / np.maximum(data.share, 1e-6)


class GroupTally:
    """Sums of a read-out, block by block.

    Parameters
    ----------
    data
        Molecules shown.
    held_out
        float32 CSR (n_obs, n_vars): those set aside.
    ratio
        Expected molecules set aside for each that is shown.
    group
        int (n_obs,): group of each cell, below 0 for none.
    judged
        int (n_judged,): groups that are judged.
    markers
        Of these groups, from :func:`choose_markers`.
    """

    def __init__(
        self,
        data: CellData,
        held_out: sp.csr_matrix,
        ratio: float,
        group: np.ndarray,
        judged: np.ndarray,
        markers: Markers,
    ):
        self.markers, self.ratio = markers, ratio
        self._n = len(judged)
        self._group = np.full(data.n_obs, -1)  # place among those judged
        for i, one in enumerate(judged):
            self._group[group == one] = i
        self._labeled = group >= 0
        self.n_cells = np.bincount(self._group[self._group >= 0], minlength=self._n)
        self._shown, self._rest = data.counts[:, markers.gene], held_out[:, markers.gene]
        self._hidden = None if data.unobserved is None else data.unobserved[:, markers.gene]
        self.sums = GroupSums(*np.zeros((len(GroupSums._fields), 2, len(markers.gene))))
        self.moments = np.zeros(
            (3, 2, self._n)
        )  # over cells, of what was seen at zeros, of that times expected, of expected
        self.nearest = Nearest(data, _exposure(data), self._group, self._n) if self._n > 1 else None

    def add(self, rows: slice, decoded: np.ndarray, restored: np.ndarray) -> None:
        """Add cells: the molecules expected of them, without and with the entries' own counts, (n, n_vars)."""
        if self.nearest is not None:
            self.nearest.add(rows, restored)
        gene = self.markers.gene
        if not len(gene):
            return
        decoded, restored = decoded[:, gene], restored[:, gene]
        shown, rest = self._shown[rows].toarray().astype(np.float64), self._rest[rows].toarray().astype(np.float64)
        group_of_entry = np.repeat(self._labeled[rows, None], len(gene), axis=1)
        if self._hidden is not None:
            group_of_entry &= ~self._hidden[rows].toarray()
        inside = self._group[rows, None] == self.markers.group
        zero = shown == 0
        for side, at in enumerate((group_of_entry & inside, group_of_entry & ~inside)):
            empty = at & zero
            seen, expected = np.where(empty, rest, 0), np.where(empty, self.ratio * restored, 0)
            parts = (
                at,
                np.where(at, shown, 0),
                np.where(at, restored, 0),
                np.where(at, decoded, 0),
                seen,
                expected,
                np.where(empty, self.ratio * decoded, 0),
            )
            for whole, part in zip(self.sums, parts, strict=True):
                whole[side] += part.sum(axis=0)
            seen, expected = self.by_group(seen), self.by_group(expected)
            for k, product in enumerate((seen**2, seen * expected, expected**2)):
                self.moments[k, side] += product.sum(axis=0)

    def by_group(self, values: np.ndarray) -> np.ndarray:
        """Compute the sums of values by marker (n, k) over the markers of each group: float64 (n, n_judged)."""
        first, start = np.unique(self.markers.group, return_index=True)
        whole = np.zeros((len(values), self._n))
        if len(start):
            whole[:, first] = np.add.reduceat(values, start, axis=1)
        return whole


def ratio_interval(
    expected: np.ndarray, seen: np.ndarray, moments: np.ndarray, level: float = 0.9
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of molecules expected over molecules counted.

    Parameters
    ----------
    expected, seen
        float64 (...): sums over cells.
    moments
        float64 (3, ...): sums over cells of seen squared, seen times expected, and expected squared.
    level
        Probability that the interval holds the ratio.

    Returns
    -------
    tuple
        Lower and upper end; the upper is infinite where nothing was seen. Molecules are Poisson, or vary more than that
        over the cells, by which factor they then count for less.

    Examples
    --------
    >>> import numpy as np
    >>> low, high = ratio_interval(np.array(10.0), np.array(10.0), np.array([10.0, 10.0, 10.0]))
    >>> round(float(low), 2), round(float(high), 2)
    (0.59, 1.84)
    """
    rate = np.divide(seen, expected, out=np.zeros_like(seen), where=expected > 0)
    spread = moments[0] - 2 * rate * moments[1] + rate**2 * moments[2]
    inflation = np.maximum(np.divide(spread, seen, out=np.ones_like(seen), where=seen > 0), 1)
    expected, seen = expected / inflation, seen / inflation
    most, least = (
        special.gammaincinv(seen + 1, (1 + level) / 2),
        special.gammaincinv(np.maximum(seen, 1e-9), (1 - level) / 2),
    )
    high = np.divide(expected, least, out=np.full_like(seen, np.inf), where=(seen > 0) & (least > 0))
    return expected / most, high
