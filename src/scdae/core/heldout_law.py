"""Law of the molecules set aside, given those shown: in NumPy, for judging a fitted model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from scdae.core.posterior import dropout_probability

__all__ = ["HeldOutLaw", "log_prob", "log_prob_zero", "predictive_law", "predictive_pit"]


@dataclass(frozen=True)
class HeldOutLaw:
    """Negative binomial, or zero for certain after a dropout; float64 arrays of one shape, or that broadcast."""

    mean: np.ndarray  # of the negative binomial
    shape: np.ndarray  # its inverse dispersion; infinite for Poisson
    lost: np.ndarray  # probability that the entry was lost to dropout

    @property
    def expected(self) -> np.ndarray:
        """Expected molecules."""
        return (1 - self.lost) * self.mean

    def at(self, *index: np.ndarray) -> HeldOutLaw:
        """The law of some entries."""
        where = np.broadcast_shapes(self.mean.shape, self.shape.shape, self.lost.shape)
        return HeldOutLaw(*(np.broadcast_to(part, where)[index] for part in (self.mean, self.shape, self.lost)))


def predictive_law(
    x: npt.ArrayLike, prior: npt.ArrayLike, theta: npt.ArrayLike, pi: npt.ArrayLike | None, ratio: float
) -> HeldOutLaw:
    """Law of molecules set aside, given those shown.

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
    >>> from scdae.core.heldout_law import predictive_law
    >>> law = predictive_law(6.0, 3.0, 1.5, None, 0.5)
    >>> float(law.mean), float(law.shape)
    (2.5, 7.5)
    """
    x, prior, theta = (np.asarray(part, dtype=np.float64) for part in (x, prior, theta))
    factor = (1 + x / theta) / (1 + prior / theta)
    lost = np.zeros(1)
    if pi is not None and np.any(pi):
        lost = np.asarray(dropout_probability(x, prior, theta, pi), dtype=np.float64)
    return HeldOutLaw(ratio * prior * factor, theta + x, lost)


def log_prob_zero(law: HeldOutLaw) -> np.ndarray:
    """Log probability of no molecule; cheap, for whole blocks of zeros."""
    value = -_ratio_log1p(law.mean, law.shape)
    return np.log(law.lost + (1 - law.lost) * np.exp(value)) if law.lost.any() else value


def log_prob(y: np.ndarray, law: HeldOutLaw) -> np.ndarray:
    """Log probability of counts `y`, zero or more.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.heldout_law import log_prob, predictive_law
    >>> float(log_prob(np.array(2.0), predictive_law(5.0, 3.0, 1.5, None, 1.0)).round(4))
    -1.9594
    """
    mean = np.maximum(law.mean, 1e-12)
    poisson = np.isinf(law.shape)
    shape = np.where(poisson, 1.0, law.shape)
    extra = np.where(poisson, np.log(mean), np.log(mean / (shape + mean)))
    value = y * extra - _ratio_log1p(mean, law.shape) - special.gammaln(y + 1)
    value = value + np.where(poisson, 0, special.gammaln(shape + y) - special.gammaln(shape))
    if not law.lost.any():
        return value
    return np.where(y > 0, np.log1p(-law.lost) + value, log_prob_zero(law))


def predictive_pit(y: np.ndarray, law: HeldOutLaw, rng: np.random.Generator) -> np.ndarray:
    """Randomised probability integral transform: uniform from 0 to 1 where the law is right.

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

    poisson = np.isinf(law.shape)
    shape = np.where(poisson, 1.0, law.shape)

    def up_to(count: np.ndarray) -> np.ndarray:
        nb = stats.nbinom.cdf(count, shape, shape / (shape + law.mean))
        kept = np.where(poisson, stats.poisson.cdf(count, law.mean), nb)
        return np.where(count >= 0, law.lost + (1 - law.lost) * kept, 0.0)

    lower, upper = up_to(y - 1), up_to(y)
    return lower + (upper - lower) * rng.random(y.shape)


def _ratio_log1p(mean: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """``shape * log(1 + mean / shape)``, which is `mean` for an infinite shape."""
    finite = np.where(np.isinf(shape), 1.0, shape)
    return np.where(np.isinf(shape), mean, finite * np.log1p(mean / finite))
