"""Law of the molecules set aside, given those shown: in NumPy, for judging a fitted model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.components import Components
from scdae.core.distributions.mixtures import given_counts, zero_chance
from scdae.core.distributions.posterior import dropout_probability
from scdae.core.distributions.zeros import nb_zero_chance_numpy, nb_zero_loss_numpy

__all__ = ["BlockLaw", "HeldOutLaw", "law_of_entries", "log_prob", "log_prob_zero", "predictive_law", "predictive_pit"]

_ENTRIES = 1 << 16  # of whole blocks, at a time


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

    def log_zero(self) -> np.ndarray:
        """As :func:`log_prob_zero`."""
        return log_prob_zero(self)

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
        Components of the genes, (c, n).
    counts
        CSR (b, n): molecules shown; None for what is known without them.
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
        counts: sp.csr_matrix | None,
        prior: np.ndarray,
        ratio: float,
        level: np.ndarray | None = None,
    ):
        self._laws, self._prior, self._ratio, self._level = laws, prior.astype(np.float64), ratio, level
        self._x: Any = None if counts is None else counts.toarray()

    @cached_property
    def _with_counts(self) -> tuple[tuple[np.ndarray, ...], HeldOutLaw]:
        """Row and column of the entries with molecules shown, and their law."""
        at = self._x.nonzero()
        return at, self.at(*at)

    @property
    def _parts(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
        """Rows, expected molecules and levels of a few cells at a time, which stay in the processor's cache."""
        n_cells, n = self._prior.shape
        size = max(1, _ENTRIES // max(n, 1))
        for start in range(0, n_cells, size):
            rows = slice(start, start + size)
            yield rows, self._prior[rows], None if self._level is None else self._level[rows]

    @cached_property
    def _after_zero(self) -> tuple[np.ndarray, np.ndarray]:
        """Molecules expected again, and the probability of none, had none been shown: (b, n)."""
        value, chance = np.empty_like(self._prior), np.empty_like(self._prior)
        for rows, prior, level in self._parts:
            before, again, expected = np.zeros((3, *prior.shape))
            for theta, weight, scale, lost in self._laws.one_by_one(level, np.float64):
                inner = prior * scale
                if lost.any():
                    gone, weight = weight * lost, weight * (1 - lost)
                    before += gone
                    again += gone
                none = nb_zero_chance_numpy(inner, theta)
                none *= weight
                before += none
                none *= inner
                both = nb_zero_chance_numpy(inner * (1 + self._ratio), theta)
                both *= weight
                again += both
                inner /= theta
                inner += 1
                none /= inner
                expected += none
            value[rows], chance[rows] = expected / before, again / before
        return value, chance

    @cached_property
    def expected(self) -> np.ndarray:
        """Expected molecules, (b, n)."""
        if self._x is None:
            return np.asarray(self._ratio * self._prior * self._laws.kept)
        at, law = self._with_counts
        value = self._ratio * self._after_zero[0]
        value[at] = law.expected
        return value

    def log_zero(self) -> np.ndarray:
        """Compute the log probability of no molecule, (b, n)."""
        if self._x is None:
            parts = [zero_chance(self._laws, self._ratio * prior, level=level) for _, prior, level in self._parts]
            return np.log(np.concatenate(parts)) if parts else np.zeros_like(self._prior)
        value = np.log(self._after_zero[1])
        at, law = self._with_counts
        value[at] = log_prob_zero(law)
        return np.asarray(value)

    def at(self, *index: np.ndarray) -> HeldOutLaw:
        """Return the law of some entries: of rows and columns, or where a boolean (b, n) is True."""
        at = index[0].nonzero() if len(index) == 1 else index
        laws = self._laws.at(at[1], None if self._level is None else self._level[at])
        x = None if self._x is None else self._x[at]
        return law_of_entries(laws, x, self._prior[at], self._ratio)


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


def predictive_pit(y: np.ndarray, law: HeldOutLaw, rng: np.random.Generator) -> np.ndarray:
    """Randomized probability integral transform: uniform from 0 to 1 where the law is right.

    Parameters
    ----------
    y
        Molecules that were set aside.
    law
        Their law, arrays of the same shape.
    rng
        Draws a place within the step that the distribution function makes at `y`.

    Returns
    -------
    numpy.ndarray
        float64, of the shape of `y`.

    Notes
    -----
    For counts: Czado, Gneiting and Held (2009).
    """
    from scipy import stats  # slow to import, and training needs none of it

    def component(count: np.ndarray, one: HeldOutLaw) -> np.ndarray:
        poisson = np.isinf(one.shape)
        shape = np.where(poisson, 1.0, one.shape)
        nb = stats.nbinom.cdf(count, shape, shape / (shape + one.mean))
        return np.asarray(np.where(poisson, stats.poisson.cdf(count, one.mean), nb) if poisson.any() else nb)

    def up_to(count: np.ndarray) -> np.ndarray:
        kept = sum((np.exp(log) * component(count, one) for log, one in law.parts), np.zeros(1))
        return np.where(count >= 0, law.lost + (1 - law.lost) * kept, 0.0)

    lower, upper = up_to(y - 1), up_to(y)
    return lower + (upper - lower) * rng.random(y.shape)
