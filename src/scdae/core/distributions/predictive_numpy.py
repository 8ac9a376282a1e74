"""Law of the molecules set aside, given those shown: in NumPy, for judging a fitted model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.components import Components
from scdae.core.distributions.mixtures import given_counts
from scdae.core.distributions.posterior import dropout_probability
from scdae.core.distributions.zeros import nb_zero_loss_numpy

__all__ = ["HeldOutLaw", "law_of_entries", "log_prob", "log_prob_zero", "predictive_law", "predictive_pit"]

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
        value, at = log_prob_zero(self), y.tocoo().coords
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
