"""Posterior of single entries under the laws of their genes: mixtures of Gamma laws, in NumPy.

Each component of a gene's law, see :mod:`scdae.core.distributions.laws`, keeps the shape of its posterior: Gamma, with the count weighed in
if it was not lost, and as it was if a zero was. Only the weights of the components change, by how likely each made the count.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from scdae.core.distributions.components import Components
from scdae.core.distributions.zeros import nb_zero_chance_numpy

__all__ = ["Mixture", "given_counts", "log_counts", "log_rising", "zero_chance"]

_LEAST = 1e-9  # weight of a component that quantiles look at
_STEPS, _CLOSE = 100, 1e-8
_TABLE = 4096  # counts whose gamma functions are kept
_LOWEST, _HIGHEST = np.log(1e-60), np.log(1e12)  # quantiles in units of the mean; those below are zero


class Mixture(NamedTuple):
    """Gamma laws, and how much each counts: float64 (c, ...) each."""

    weight: np.ndarray
    shape: np.ndarray
    mean: np.ndarray

    def expected(self) -> np.ndarray:
        """Compute the mean, float64."""
        return np.asarray((self.weight * self.mean).sum(axis=0))

    def sd(self) -> np.ndarray:
        """Compute the standard deviation, float64."""
        apart = self.weight * ((self.mean - self.expected()) ** 2 + self.mean**2 / self.shape)
        return np.asarray(np.sqrt(apart.sum(axis=0)))

    def quantile(self, q: npt.ArrayLike) -> np.ndarray:
        """Compute the quantile `q`, from 0 to 1, of every entry, float64; `q` broadcasts with the entries."""
        q = np.asarray(q, np.float64)
        entries = self.weight.shape[1:]
        shape = np.broadcast_shapes(q.shape, entries)
        chance = np.broadcast_to(q, shape).ravel()
        aligned = (len(self.weight), *[1] * (len(shape) - len(entries)), *entries)
        parts = [
            np.broadcast_to(part.reshape(aligned), (len(part), *shape)).reshape(len(part), -1)
            for part in (self.weight, self.shape, self.mean)
        ]
        return _quantile(chance, *parts).reshape(shape)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """One draw of each entry, float64."""
        chance = self.weight.cumsum(axis=0)
        chosen = (rng.random(chance.shape[1:]) * chance[-1] > chance[:-1]).sum(axis=0)[None]
        shape, mean = (np.take_along_axis(np.broadcast_to(part, chance.shape), chosen, 0)[0] for part in self[1:])
        return np.asarray(rng.standard_gamma(shape) * (mean / shape))


def log_counts(x: np.ndarray, mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Compute log probabilities of counts under negative binomial laws, float64; 0 for a zero under a mean of zero."""
    shape = np.where(np.isinf(theta), 1.0, theta)
    safe = np.maximum(mean, 1e-300)
    nb = special.gammaln(shape + x) - special.gammaln(shape) - (shape + x) * np.log1p(mean / shape)
    nb += special.xlogy(x, safe / shape)
    return np.asarray(np.where(np.isinf(theta), special.xlogy(x, safe) - mean, nb) - special.gammaln(x + 1))


def log_rising(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Compute ``lgamma(theta + x) - lgamma(theta) - x log(theta)`` for counts (k,) and finite `theta` (c, 1): float64 (c, k).

    Small whole numbers are looked up: gamma functions of each entry take several times as long.

    Examples
    --------
    >>> log_rising(np.array([0.0, 1.0, 3.0]), np.array([[2.0]])).round(4).tolist()
    [[0.0, 0.0, 1.0986]]
    """
    top = x.max(initial=0)
    if top < _TABLE and (x == np.rint(x)).all():
        size = 1 << int(top).bit_length()
        return _table(tuple(theta.ravel().tolist()), size).take(x.astype(np.intp), axis=1)
    return np.asarray(special.gammaln(theta + x) - special.gammaln(theta) - x * np.log(theta))


@lru_cache(maxsize=16)
def _table(theta: tuple[float, ...], size: int) -> np.ndarray:
    """Of the counts below `size`."""
    x, shape = np.arange(size), np.array(theta)[:, None]
    return np.asarray(special.gammaln(shape + x) - special.gammaln(shape) - x * np.log(shape))


def zero_chance(
    laws: Components, mean: np.ndarray, given: np.ndarray | None = None, level: np.ndarray | None = None
) -> np.ndarray:
    """Compute the probability that entries of expected counts `mean`, (..., n), have no counts, in the dtype of `mean`.

    With `given`, (..., n), that there are none beside as many expected ones of which there were none either. Entries are of that
    `level`, (..., n), see :meth:`scdae.core.distributions.components.Components.level`.
    """
    total, before = np.zeros_like(mean), np.zeros_like(mean)
    for theta, weight, scale, lost in laws.one_by_one(level, mean.dtype):
        if given is None:
            total += weight * (lost + (1 - lost) * nb_zero_chance_numpy(mean * scale, theta))
        else:
            total += weight * (lost + (1 - lost) * nb_zero_chance_numpy((mean + given) * scale, theta))
            before += weight * (lost + (1 - lost) * nb_zero_chance_numpy(given * scale, theta))
    return total if given is None else total / before


def given_counts(laws: Components, x: np.ndarray, mean: np.ndarray, observed: np.ndarray | None = None) -> Mixture:
    """Compute the posterior of entries.

    Parameters
    ----------
    laws
        Components at each entry, or arrays that broadcast to that: (c, ...).
    x
        Counts (...).
    mean
        Expected counts before the count is known (...), had none been lost.
    observed
        bool (...): where it is False, the count says nothing; None for everywhere.

    Returns
    -------
    Mixture
        Float64. Where `x` is zero, and there may be dropout, each component is there twice: as it is when the count was kept, and
        when it was lost.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.distributions.components import Components
    >>> one = Components(*(np.array([[value]]) for value in (1.5, 1.0, 1.0, 0.0)))
    >>> given_counts(one, np.array([6.0]), np.array([3.0])).expected()
    array([5.])
    """
    x, mean = np.asarray(x, np.float64), np.asarray(mean, np.float64)
    theta, weight, scale, lost = laws[:4]
    inner = mean * scale
    shape, after = theta + x, _updated(x, inner, theta)
    with np.errstate(divide="ignore"):
        log = np.log(weight * (1 - lost)) + log_counts(x, inner, theta)
        gone = np.log(weight * lost) + np.where(x > 0, -np.inf, 0.0)
    if not np.any(lost):
        log, shapes, means = log, shape, after
    else:
        losing = (weight * lost).reshape(len(theta), -1).any(axis=1)
        log = np.concatenate([log, np.broadcast_to(gone, log.shape)[losing]])
        shapes = np.concatenate(
            [np.broadcast_to(part, after.shape)[some] for part, some in ((shape, ...), (theta, losing))]
        )
        means = np.concatenate([after, np.broadcast_to(inner, after.shape)[losing]])
    top = log.max(axis=0)
    chance = np.exp(log - np.where(np.isfinite(top), top, 0))
    total = chance.sum(axis=0)
    chance = np.divide(chance, total, out=np.full_like(chance, 1 / len(chance)), where=total > 0)
    if observed is not None and not np.all(observed):
        before = np.broadcast_to(
            np.concatenate([weight, np.zeros((len(chance) - len(weight), *weight.shape[1:]))]), chance.shape
        )
        n = len(weight)
        chance = np.where(observed, chance, before)
        shapes, means = (np.array(np.broadcast_to(part, chance.shape)) for part in (shapes, means))
        shapes[:n], means[:n] = np.where(observed, shapes[:n], theta), np.where(observed, means[:n], inner)
    return Mixture(chance, np.broadcast_to(shapes, chance.shape), np.broadcast_to(means, chance.shape))


def _updated(x: np.ndarray, mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return np.asarray(mean * (1 + x / theta) / (1 + mean / theta))


def _quantile(q: np.ndarray, weight: np.ndarray, shape: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Find the quantile of each entry, (n,), by Newton's method for the log odds on the log scale, between bounds."""
    out = (weight * mean).sum(axis=0)
    finite = np.flatnonzero(np.isfinite(out) & (out > 0) & (q > 0) & (q < 1))
    out[q <= 0] *= 0  # NaN stays NaN
    out[q >= 1] *= np.inf
    if not len(finite):
        return out
    scale = out[finite]
    q, weight, shape, mean = q[finite], weight[:, finite], shape[:, finite], mean[:, finite] / scale
    rate = shape / np.maximum(mean, 1e-300)
    low, high = np.full(len(q), _LOWEST), np.full(len(q), _HIGHEST)
    spread = (weight * ((mean - 1) ** 2 + mean**2 / shape)).sum(axis=0)  # of a Gamma law that starts the search
    value, odds = np.clip(_start(q, 1 / np.maximum(spread, 1e-9)), low + 1, high - 1), special.logit(q)
    active = np.arange(len(q))
    for k in range(_STEPS):
        at = value[active]
        below, slope = _chance(np.exp(at), weight[:, active], shape[:, active], rate[:, active], mean[:, active])
        over = below > q[active]
        low[active], high[active] = np.where(over, low[active], at), np.where(over, at, high[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            new = at - (special.logit(below) - odds[active]) * below * (1 - below) / slope
        inside = (new > low[active]) & (new < high[active])
        if k % 3 == 2:  # so that a flat stretch cannot hold it up
            inside &= np.abs(new - at) < 0.01
        new = np.where(inside, new, (low[active] + high[active]) / 2)
        value[active] = new
        active = active[(np.abs(new - at) > _CLOSE) & (high[active] - low[active] > _CLOSE)]
        if not len(active):
            break
    out[finite] = np.where(value > _LOWEST + 1e-6, np.exp(value), 0) * scale
    return out


def _start(q: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Guess log quantiles of Gamma distributions of mean 1: by Wilson and Hilferty (1931), or the lower tail."""
    part = 1 / (9 * shape)
    cube = 1 - part + special.ndtri(q) * np.sqrt(part)
    tail = (np.log(q) + special.gammaln(shape + 1)) / shape - np.log(shape)
    return np.where(cube > 0.3, 3 * np.log(np.maximum(cube, 0.3)), np.minimum(tail, 0))


def _chance(
    value: np.ndarray, weight: np.ndarray, shape: np.ndarray, rate: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the distribution function of the mixtures at `value`, (n,), and its slope in the logarithm of that."""
    below, slope = np.zeros(len(value)), np.zeros(len(value))
    for w, a, r, m in zip(weight, shape, rate, mean, strict=True):
        step = np.isinf(a)
        below[step] += w[step] * (value[step] >= m[step])
        i = np.flatnonzero((w > _LEAST) & ~step)
        z = value[i] * r[i]
        below[i] += w[i] * special.gammainc(a[i], z)
        slope[i] += w[i] * np.exp(special.xlogy(a[i], z) - z - special.gammaln(a[i]))
    return below, slope
