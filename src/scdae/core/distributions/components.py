"""Laws of some genes side by side, in NumPy: what a mixture of Gamma laws is made of, entry by entry.

The weights of a gene's components may depend on how much of the gene an entry is expected to have. What the decoder expects of a marker
outside its cell type is an average of many cells without any and a few with much, and inside it is not. So a gene has weights for
entries where it is low and for those where it is high, and in between they change linearly with the log fold change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["HIGH", "KNOTS", "LOW", "Components", "corrected", "level_of"]

LOW, HIGH = -2.0, 0.5  # log fold change against the average cell up to which a gene is low, and from which it is high
_WIDTH = 0.5
KNOTS = tuple(-4.5 + _WIDTH * k for k in range(13))  # log fold changes at which log proportions are corrected


def level_of(log_fold: Any, xp: Any = np) -> Any:
    """How far entries lie between where their gene is low and where it is high, from 0 to 1.

    Parameters
    ----------
    log_fold
        Logarithm of the share of a gene in a cell over that in the average cell, any shape.
    xp
        NumPy or jax.numpy.

    Examples
    --------
    >>> level_of(np.array([-3.0, -0.75, 2.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return xp.clip((log_fold - LOW) / (HIGH - LOW), 0, 1)


def corrected(log_fold: Any, correction: Any, xp: Any = np, genes: Any = slice(None)) -> Any:
    """Compute the log fold changes with the correction of their genes added.

    Parameters
    ----------
    log_fold
        Logarithm of the share of a gene in a cell over that in the average cell, (b, n).
    correction
        What is added at the :data:`KNOTS`, (len(KNOTS), n): linear in between, constant beyond.
    xp
        NumPy or jax.numpy.
    genes
        Column of `correction` of the entries in each column of `log_fold`, or of each entry, if this is (e,); for NumPy alone.

    Examples
    --------
    >>> at_knots = np.where(np.array(KNOTS) < -2, -1.0, 0.0)[:, None]
    >>> corrected(np.array([[-9.0], [-2.5], [-2.25], [0.0]]), at_knots).ravel().tolist()
    [-10.0, -3.5, -2.75, 0.0]
    """
    if xp is np:
        n = correction.shape[1]
        place = np.clip((log_fold - KNOTS[0]) / _WIDTH, 0, len(KNOTS) - 1)
        below = np.minimum(place.astype(np.int32), len(KNOTS) - 2)
        place -= below
        below *= n
        below += np.arange(n, dtype=np.int32)[genes]
        flat, rise = correction.ravel(), np.diff(correction, axis=0).ravel()
        return log_fold + flat.take(below) + place * rise.take(below)
    total = log_fold + correction[0][None, :]
    for k, knot in enumerate(KNOTS[:-1]):  # sums fuse into one pass where entries would have to be looked up
        total = total + (correction[k + 1] - correction[k])[None, :] * xp.clip((log_fold - knot) / _WIDTH, 0, 1)
    return total


_AVERAGE = float(level_of(0.0))  # where a gene is expected to have its share of the average cell


class Components(NamedTuple):
    """Components of some genes side by side: float64 (c, n) each."""

    theta: np.ndarray
    weight: np.ndarray  # where the gene is low, if there is another for where it is high
    scale: np.ndarray
    lost: np.ndarray
    high: np.ndarray | None = None  # weight where the gene is high; None: the same everywhere
    usual: np.ndarray | None = None  # float64 (n,): prior mean over the cell's exposure in the average cell

    @property
    def dispersion(self) -> np.ndarray:
        """Variance of g, (n,), where the gene has its average share: ``1 / theta`` where there is one component."""
        if len(self.theta) == 1:
            return np.asarray(1 / self.theta[0])
        weight = self.average
        second = (weight * self.scale**2 * (1 + 1 / self.theta)).sum(axis=0)
        return np.maximum(second - (weight * self.scale).sum(axis=0) ** 2, 0)

    @property
    def average(self) -> np.ndarray:
        """Weights where the gene has its average share, (c, n)."""
        return self.weight if self.high is None else self.weight + _AVERAGE * (self.high - self.weight)

    @property
    def dropout(self) -> np.ndarray:
        """Probability that a count is lost, (n,)."""
        return (self.weight * self.lost).sum(axis=0)

    @property
    def kept(self) -> np.ndarray:
        """Share of the expected counts that is not lost, (n,)."""
        return (self.weight * self.scale * (1 - self.lost)).sum(axis=0)

    def kept_square(self, level: np.ndarray | None = None) -> np.ndarray:
        """Expected square of g where nothing is lost, times the probability of that: (n,), or the shape of `level`."""
        factor = self.scale**2 * (1 - self.lost) * (1 + 1 / self.theta)
        low = (self.weight * factor).sum(axis=0)
        if level is None or self.high is None:
            return np.asarray((self.average * factor).sum(axis=0))
        return np.asarray(low + level * ((self.high * factor).sum(axis=0) - low))

    def level(self, prior: np.ndarray, exposure: np.ndarray) -> np.ndarray | None:
        """Compute the level of entries, see :func:`level_of`; None if weights are the same everywhere.

        Parameters
        ----------
        prior
            (b, n): expected counts before an entry's own count is known, had none been lost.
        exposure
            (b,): molecules of each cell, over the share of expression that its observed genes carry.
        """
        if self.usual is None:
            return None
        log_exposure = np.log(np.maximum(exposure, 1e-12), dtype=np.float64)
        log_usual = np.log(np.maximum(self.usual, 1e-30), dtype=np.float64)
        fold = np.fmax(prior, prior.dtype.type(1e-30))  # of a missing value as well
        np.log(fold, out=fold)  # all in the precision of `prior`: that of the genes would take three times as long
        fold -= log_exposure.astype(fold.dtype)[:, None]
        fold -= log_usual.astype(fold.dtype)
        return np.asarray(level_of(fold))

    def at(self, genes: Any, level: np.ndarray | None = None) -> Components:
        """Select genes, each as often as given: ``(c, *shape of genes)``; entries if their `level` is given."""
        some = [None if part is None else part[..., genes] for part in self]
        found = Components(*some)  # type: ignore[arg-type]
        return found if level is None or found.high is None else found._at_level(level)

    def over_cells(self, level: np.ndarray | None = None) -> Components:
        """Return the same with an axis of cells, (c, 1, n), or (c, b, n) with the `level` (b, n) of entries."""
        theta, weight, scale, lost = (part[:, None] for part in self[:4])
        by_cell = Components(theta, weight, scale, lost, None if self.high is None else self.high[:, None])
        return by_cell if level is None or self.high is None else by_cell._at_level(level)

    def _at_level(self, level: np.ndarray) -> Components:
        if self.high is None:
            return self
        return Components(self.theta, self.weight + level * (self.high - self.weight), self.scale, self.lost)

    def one_by_one(self, level: np.ndarray | None, dtype: Any) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield theta, weight, scale and lost of each component with any weight: (n,) each, the weight as `level`, (b, n)."""
        for k in range(len(self.theta)):
            weight = self.weight[k].astype(dtype)
            if level is not None and self.high is not None:
                weight = weight + level.astype(dtype) * (self.high[k] - self.weight[k]).astype(dtype)
            if weight.any():
                yield self.theta[k].astype(dtype), weight, self.scale[k].astype(dtype), self.lost[k].astype(dtype)
