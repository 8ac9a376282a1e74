"""Law of the molecules set aside, given those shown: in NumPy, for judging a fitted model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.components import Components
from scdae.core.distributions.law_sums import Again
from scdae.core.distributions.mixtures import given_counts, log_rising
from scdae.core.distributions.posterior import dropout_probability
from scdae.core.distributions.zeros import nb_zero_loss_numpy

__all__ = ["BlockLaw", "HeldOutLaw", "law_of_entries", "log_prob", "log_prob_zero", "predictive_law", "predictive_pit"]

_ENTRIES = 1 << 12  # at a time
_UNLIKELY = -10.0  # log probability of a zero
_NEXT_TO_NONE = np.log(1e-12)  # weight of a component


@dataclass(frozen=True)
class HeldOutLaw:
    """Negative binomial, or zero for certain after a dropout; float64 arrays of one shape, or that broadcast.

    With `weight` a mixture of negative binomial laws: then `weight`, `mean` and `shape` have an axis of components in front.
    """

    mean: np.ndarray  # of the negative binomial
    shape: np.ndarray  # its inverse dispersion; infinite for Poisson
    lost: np.ndarray  # probability that the entry was lost to dropout
    weight: np.ndarray | None = None  # of the components, if it was not

    @property
    def expected(self) -> np.ndarray:
        """Expected molecules."""
        mean = self.mean if self.weight is None else (self.weight * self.mean).sum(axis=0)
        return np.asarray((1 - self.lost) * mean)

    def at(self, *index: np.ndarray) -> HeldOutLaw:
        """Return the law of some entries."""
        if self.weight is not None:
            some: Any = (slice(None), *index)
            return HeldOutLaw(self.mean[some], self.shape[some], self.lost[index], self.weight[some])
        where = np.broadcast_shapes(self.mean.shape, self.shape.shape, self.lost.shape)
        return HeldOutLaw(*(np.broadcast_to(part, where)[index] for part in (self.mean, self.shape, self.lost)))

    def log_prob(self, y: sp.csr_matrix) -> np.ndarray:
        """Compute the log probability of every entry of `y`, CSR (b, n) without stored zeros: float64 (b, n)."""
        value, at = log_prob_zero(self), _places(y)
        value[at] = log_prob(y.data.astype(np.float64), self.at(*at))
        return value

    @property
    def parts(self) -> list[tuple[np.ndarray, HeldOutLaw]]:
        """Logarithm of the weight of each component, and the component, which loses nothing."""
        if self.weight is None:
            return [(np.zeros(1), HeldOutLaw(self.mean, self.shape, np.zeros(1)))]
        with np.errstate(divide="ignore"):
            logs = np.log(self.weight)
        laws = zip(self.mean, self.shape, strict=True)
        return [(log, HeldOutLaw(mean, shape, np.zeros(1))) for log, (mean, shape) in zip(logs, laws, strict=True)]


class BlockLaw:
    """Law of the molecules set aside of whole cells under laws of several components, worked out where it is asked for.

    Parameters
    ----------
    laws
        Components of the genes, (c, n), which all have the same inverse dispersions.
    again
        What :func:`scdae.core.distributions.law_sums.zero_again` says of the entries, in at least as many rows: for those without molecules.
    counts
        CSR (b, n): molecules shown, without stored zeros; None for what is known without them.
    prior
        float32 (b, n): expected molecules among them by the model, before dropout.
    ratio
        Molecules set aside for each that is shown.
    level
        (b, n): levels of the entries, or None.
    """

    def __init__(
        self,
        laws: Components,
        again: Again,
        counts: sp.csr_matrix | None,
        prior: np.ndarray,
        ratio: float,
        level: np.ndarray | None = None,
    ):
        self._laws, self._again, self._prior, self._ratio, self._level = laws, again, prior, ratio, level
        self._counts = counts
        self._at = None if counts is None else _places(counts)
        self._even = bool((laws.scale == 1).all())
        self._loses = bool(laws.lost.any())

    @cached_property
    def _x(self) -> np.ndarray | None:
        return None if self._counts is None else self._counts.toarray()

    @cached_property
    def _shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Expected molecules, and log probability of none, at the entries with molecules shown: (k,) each."""
        counts, at = self._counts, self._at
        expected, log_zero = np.empty((2, 0 if counts is None else counts.nnz))
        for some in _some(len(expected)):
            x, entries = counts.data[some].astype(np.float64), self._entries(at[0][some], at[1][some])
            log, terms = entries.log_sum(x, 1.0)
            inner = entries.prior * entries.scale
            expected[some] = (terms * inner * (entries.theta + x) / (entries.theta + inner)).sum(axis=0) / terms.sum(axis=0)
            log_zero[some] = entries.log_sum(x, 1 + self._ratio)[0] - log
        return self._ratio * expected, log_zero

    @cached_property
    def expected(self) -> np.ndarray:
        """Expected molecules, float64 (b, n)."""
        if self._counts is None:
            return np.asarray((self._ratio * self._laws.kept) * self._prior)
        value = np.asarray(self._again.expected)[: len(self._prior)].astype(np.float64)
        value[self._at] = self._shown[0]
        return value

    def log_zero(self) -> np.ndarray:
        """Compute the log probability of no molecule, float32 (b, n)."""
        alone = self._counts is None
        value = np.array((self._again.log_zero_alone if alone else self._again.log_zero)[: len(self._prior)])
        if not alone:
            value[self._at] = self._shown[1]
        few = np.flatnonzero(value.min(axis=0, initial=0) < _UNLIKELY)  # genes
        if len(few):  # beyond what float32 can tell from no chance at all
            rows, cols = (value[:, few] < _UNLIKELY).nonzero()
            value[rows, few[cols]] = log_prob_zero(self.at(rows, few[cols]))
        return value

    def log_prob(self, y: sp.csr_matrix) -> np.ndarray:
        """Compute the log probability of every entry of `y`, CSR (b, n) without stored zeros: float32 (b, n)."""
        value, at = self.log_zero(), _places(y)
        found = np.empty(y.nnz)
        for some in _some(y.nnz):
            rows, cols, own = at[0][some], at[1][some], y.data[some].astype(np.float64)
            entries = self._entries(rows, cols)
            found[some] = special.xlogy(own, np.maximum(self._ratio * entries.prior, 1e-12)) - special.gammaln(own + 1)
            if self._x is None:
                found[some] += entries.log_sum(own, self._ratio)[0]
                continue
            x = self._x[rows, cols].astype(np.float64)
            before = entries.log_sum(x, 1.0)[0]
            if self._loses:
                before = np.where(x > 0, before, np.logaddexp(before, entries.log_lost))
            found[some] += entries.log_sum(x + own, 1 + self._ratio)[0] - before
        value[at] = found
        return value

    def at(self, *index: np.ndarray) -> HeldOutLaw:
        """Return the law of some entries: of rows and columns, or where a boolean (b, n) is True."""
        at = index[0].nonzero() if len(index) == 1 else index
        laws = self._laws.at(at[1], None if self._level is None else self._level[at])
        x = None if self._x is None else self._x[at]
        return law_of_entries(laws, x, self._prior[at], self._ratio)

    def _entries(self, rows: np.ndarray, cols: np.ndarray) -> _Entries:
        laws = self._laws
        weight = laws.weight.take(cols, axis=1)
        if laws.high is not None and self._level is not None:
            weight += self._level[rows, cols] * (laws.high.take(cols, axis=1) - weight)
        scale = np.ones((1, 1)) if self._even else laws.scale.take(cols, axis=1)
        lost = laws.lost.take(cols, axis=1) if self._loses else np.zeros((1, 1))
        return _Entries(laws.theta[:, :1], weight, scale, lost, self._prior[rows, cols].astype(np.float64))


class _Entries(NamedTuple):
    """Some entries, and the components of their genes: float64 (c, k) each, or what broadcasts to that."""

    theta: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    lost: np.ndarray
    prior: np.ndarray  # (k,)

    @property
    def log_lost(self) -> np.ndarray:
        """Log probability of dropout, (k,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log((self.weight * self.lost).sum(axis=0)))

    def log_sum(self, x: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Log probability that nothing is lost and `x` (k,) molecules are counted in all, of `depth` times as many expected ones.

        Left out is what does not depend on the component: the log of ``(depth * prior) ** x / x!``. Also returned are the shares of the
        components in it, (c, k), up to a factor for each entry.
        """
        log = log_rising(x, self.theta)
        rate = np.log1p(self.prior * (depth * self.scale) / self.theta)
        rate *= self.theta + x
        log -= rate
        with np.errstate(divide="ignore"):
            log += np.log(self.weight * (1 - self.lost))
        if self.scale.size > 1:
            log += x * np.log(self.scale)
        top = log.max(axis=0)
        top[~np.isfinite(top)] = 0
        log -= top
        terms = np.exp(log, out=log)
        with np.errstate(divide="ignore"):
            return np.log(terms.sum(axis=0)) + top, terms


def _places(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored entry, (nnz,) each, in the order of the data."""
    entries = matrix.tocoo(copy=False)
    return entries.row, entries.col


def _some(n: int) -> Iterator[slice]:
    """Entries that stay in the processor's cache with their components, up to `n`."""
    for start in range(0, n, _ENTRIES):
        yield slice(start, min(start + _ENTRIES, n))


def law_of_entries(
    laws: Components, x: np.ndarray | None, prior: np.ndarray, ratio: float, observed: np.ndarray | None = None
) -> HeldOutLaw:
    """Compute the law of molecules set aside, given those shown, under laws of several components.

    Parameters
    ----------
    laws
        Components at each entry, (c, ...).
    x
        Molecules shown (...), None for what is known without them.
    prior, ratio
        As for :func:`predictive_law`.
    observed
        bool (...), or None for everywhere: what was not observed is lost for certain.
    """
    prior = np.asarray(prior, np.float64)
    if x is None:
        lost = (laws.weight * laws.lost).sum(axis=0)
        weight, shape, mean = laws.weight * (1 - laws.lost), laws.theta, prior * laws.scale
    else:
        posterior, n = given_counts(laws, x, prior), len(laws.theta)
        lost, (weight, shape, mean) = posterior.weight[n:].sum(axis=0), (part[:n] for part in posterior)
    kept = np.maximum(weight.sum(axis=0), 1e-300)
    mean, shape = np.broadcast_arrays(ratio * mean, shape)
    lost = np.broadcast_to(lost, mean.shape[1:])
    return HeldOutLaw(mean, shape, lost if observed is None else np.where(observed, lost, 1.0), weight / kept)


def predictive_law(
    x: npt.ArrayLike, prior: npt.ArrayLike, theta: npt.ArrayLike, pi: npt.ArrayLike | None, ratio: float
) -> HeldOutLaw:
    """Compute the law of molecules set aside, given those shown.

    Parameters
    ----------
    x
        Molecules shown, zero or more.
    prior
        Expected molecules among them by the model, before dropout.
    theta, pi
        Inverse dispersion, positive or ``inf``, and probability of dropout, or None.
    ratio
        Molecules set aside for each that is shown.

    Returns
    -------
    HeldOutLaw
        Of the broadcast shape. A positive `x` rules a dropout out, and a dropout hits shown and held-out molecules alike.

    Examples
    --------
    >>> from scdae.core.distributions.predictive_numpy import predictive_law
    >>> law = predictive_law(6.0, 3.0, 1.5, None, 0.5)
    >>> float(law.mean), float(law.shape)
    (2.5, 7.5)
    """
    x, prior, theta = (np.asarray(part, dtype=np.float64) for part in (x, prior, theta))
    factor = (1 + x / theta) / (1 + prior / theta)
    lost = np.zeros(1)
    if pi is not None and np.any(pi):
        lost = np.asarray(dropout_probability(*np.broadcast_arrays(x, prior, theta, pi)), dtype=np.float64)
    return HeldOutLaw(ratio * prior * factor, theta + x, lost)


def log_prob_zero(law: HeldOutLaw) -> np.ndarray:
    """Compute the log probability of no molecule; cheap, for whole blocks of zeros."""
    if law.weight is not None:
        value = special.logsumexp([log + log_prob_zero(part) for log, part in law.parts], axis=0)
    else:
        value = -nb_zero_loss_numpy(law.mean, law.shape)
    return np.log(law.lost + (1 - law.lost) * np.exp(value)) if law.lost.any() else value


def log_prob(y: np.ndarray, law: HeldOutLaw) -> np.ndarray:
    """Compute the log probability of counts `y`, zero or more.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.distributions.predictive_numpy import log_prob, predictive_law
    >>> float(log_prob(np.array(2.0), predictive_law(5.0, 3.0, 1.5, None, 1.0)).round(4))
    -1.9594
    """
    if law.weight is not None:
        value = special.logsumexp([log + log_prob(y, part) for log, part in law.parts], axis=0)
        return np.where(y > 0, np.log1p(-law.lost) + value, log_prob_zero(law)) if law.lost.any() else value
    mean = np.maximum(law.mean, 1e-12)
    poisson = np.isinf(law.shape)
    shape = np.where(poisson, 1.0, law.shape)
    extra = np.where(poisson, np.log(mean), np.log(mean / (shape + mean)))
    value = y * extra - nb_zero_loss_numpy(mean, law.shape) - special.gammaln(y + 1)
    value = value + np.where(poisson, 0, special.gammaln(shape + y) - special.gammaln(shape))
    if not law.lost.any():
        return value
    return np.where(y > 0, np.log1p(-law.lost) + value, log_prob_zero(law))


def predictive_pit(
    y: np.ndarray, law: HeldOutLaw, rng: np.random.Generator, chance: np.ndarray | None = None
) -> np.ndarray:
    """Randomized probability integral transform: uniform from 0 to 1 where the law is right.

    Parameters
    ----------
    y
        Molecules that were set aside.
    law
        Their law, arrays of the same shape.
    rng
        Draws a place within the step that the distribution function makes at `y`.
    chance
        Probability of `y`, where it is known.

    Returns
    -------
    numpy.ndarray
        float64, of the shape of `y`.

    Notes
    -----
    For counts: Czado, Gneiting and Held (2009).
    """

    upper = np.zeros(y.shape)
    for log, one in law.parts:
        some = np.broadcast_to(log > _NEXT_TO_NONE, y.shape)
        parts = np.broadcast_arrays(y, log, one.mean, one.shape)
        upper[some] += np.exp(parts[1][some]) * _up_to(*(parts[k][some] for k in (0, 2, 3)))
    upper = law.lost + (1 - law.lost) * upper
    if chance is None:
        chance = np.exp(log_prob(y, law))
    return np.asarray(upper - chance * (1 - rng.random(y.shape)))


def _up_to(y: np.ndarray, mean: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Compute the distribution function of negative binomial laws at `y`, (k,) each."""
    poisson = np.isinf(shape)
    finite = np.where(poisson, 1.0, shape)
    below = special.betainc(finite, y + 1, finite / (finite + mean))
    return np.asarray(np.where(poisson, special.pdtr(y, mean), below) if poisson.any() else below)
