"""Distribution of the log fold change between two groups: its mean, spread, quantiles, and the chance of a small one.

Either side's fold change is a mixture of Gamma laws, see :mod:`scdae.core.prediction.fold_changes`. Mean and variance of the
log ratio of the two are sums of digamma and trigamma functions, and are exact. Its distribution function is a sum over pairs
of components, of regularized incomplete beta functions. They are worked out by the normal approximation of Paulson (1942):
cube roots of Gamma variables are nearly normal (Wilson and Hilferty, 1931), so that ``P(X <= r Y)`` is the chance that a
difference of two normal variables is negative. Shapes below 2 are raised by the recurrence of the incomplete beta function
first, without an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from scdae.core.prediction.fold_changes import SHAPES, FoldChanges

__all__ = ["LogRatio", "log_ratio", "trigamma"]

_GENES = 8192  # at a time, so that what they need stays in the processor's cache
_SMALL = 2.0  # shapes that are raised above it
_LEAST = 1e-5  # weight of a pair of components with a small shape that is looked at
_STEPS, _QUICK = 60, 5  # of the search for quantiles, and those before some only halve the bounds
_CLOSE, _NEAR = (
    0.02,
    1.0,
)  # normal quantiles that its last step, and its first from a place known before, may have to go
_SHIFT = 6  # of the argument, above which the series of the trigamma function is good to 1e-8
_NORMAL = (
    0.79771783,
    0.03679826,
    -0.00031581,
)  # hyperbolic tangent of this odd polynomial: nearest to the error function


class LogRatio(NamedTuple):
    """Posterior of the natural log of a first fold change over a second, gene by gene: float64 (n_vars,) each."""

    mean: np.ndarray
    sd: np.ndarray
    within: np.ndarray  # probability that it is no further from zero than a given distance
    lower: np.ndarray  # quantiles
    upper: np.ndarray


def log_ratio(changes: FoldChanges, delta: float, lower: float, upper: float) -> LogRatio:
    """Describe the log fold change of the first of two groups over the second.

    Parameters
    ----------
    changes
        Of two groups.
    delta
        Distance from zero, in natural logs, up to which there is no change.
    lower, upper
        Probabilities of the quantiles, between 0 and 1.

    Examples
    --------
    >>> weight = np.zeros((len(SHAPES), 2, 1))
    >>> weight[2] = 1  # a shape of 100
    >>> counted = np.array([[300.0], [100.0]])
    >>> found = log_ratio(FoldChanges(weight, counted, counted * 0 + 100, np.zeros((2, 1))), 0.2, 0.05, 0.95)
    >>> np.round([found.mean, found.lower, found.upper], 2).ravel()
    array([0.69, 0.55, 0.84])
    """
    mean, sd = _moments(changes)
    pairs = _Pairs.of(changes, mean)
    known = [(at, *pairs.below(at)) for at in (-delta - mean, delta - mean)]
    within = np.clip(known[1][1] - known[0][1], 0, 1)
    ends = [mean + _quantile(pairs, chance, sd, known) for chance in (lower, upper)]
    return LogRatio(mean, sd, within, *ends)


def _moments(changes: FoldChanges) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the log ratio."""
    shape = SHAPES[:, None, None]
    after = shape + changes.counted
    means = special.digamma(after) - np.log(shape + changes.base)
    mean = (changes.weight * means).sum(axis=0)
    variance = (changes.weight * ((means - mean) ** 2 + trigamma(after))).sum(axis=(0, 1))
    mean += changes.log_center
    return mean[0] - mean[1], np.sqrt(variance)


def trigamma(value: np.ndarray) -> np.ndarray:
    """Second derivative of the logarithm of the gamma function, for positive numbers: an error below 1e-8.

    Examples
    --------
    >>> abs(float(trigamma(np.array(1.0))) - np.pi**2 / 6) < 1e-8
    True
    """
    total = sum(1 / (value + k) ** 2 for k in range(_SHIFT))
    inverse = 1 / (value + _SHIFT)
    square = inverse**2
    series = 1 / 6 - square * (1 / 30 - square * (1 / 42 - square / 30))
    return np.asarray(total + inverse + square / 2 + square * inverse * series)


class _Small(NamedTuple):
    """Terms by which the distribution function is more than that of raised shapes: ``exp(log + a ln p + b ln(1 - p))``.

    `p` is logistic in the log ratio and `place`. Terms are sorted by gene: (k,) each.
    """

    gene: np.ndarray
    log: np.ndarray
    first: np.ndarray  # a
    second: np.ndarray  # b
    place: np.ndarray
    sign: np.ndarray

    def pick(self, genes: np.ndarray, n: int) -> _Small:
        """Those of some genes out of `n`, numbered anew."""
        new = np.full(n, -1)
        new[genes] = np.arange(len(genes))
        kept = new[self.gene] >= 0
        return _Small(new[self.gene[kept]], *(part[kept] for part in self[1:]))

    def add_to(self, chance: np.ndarray, slope: np.ndarray, value: np.ndarray) -> None:
        """Add what these terms are at `value` (n,), and its derivative."""
        if not len(self.gene):
            return
        odds = np.clip(value[self.gene] + self.place, -700, 700)
        rest = np.exp(-odds)
        p = 1 / (1 + rest)
        terms = self.sign * np.exp(self.log + (self.first + self.second) * np.log(p) - self.second * odds)
        chance += np.bincount(self.gene, terms, len(chance))
        slope += np.bincount(self.gene, terms * (self.first * (1 - p) - self.second * p), len(chance))


class _Pairs(NamedTuple):
    """Cube roots of the fold changes, normal in each component: float32 (len(SHAPES), n) of either group."""

    weight: tuple[np.ndarray, np.ndarray]
    mean: tuple[np.ndarray, np.ndarray]
    variance: tuple[np.ndarray, np.ndarray]
    small: _Small

    @classmethod
    def of(cls, changes: FoldChanges, log_center: np.ndarray) -> _Pairs:
        """Of two groups; `log_center` (n,) is what log ratios are counted from."""
        shape = SHAPES[:, None, None]
        after = shape + changes.counted
        place = changes.log_center - np.log(shape + changes.base)
        place -= place[0, 1]
        place[:, 0] -= log_center
        raised = after + np.ceil(np.maximum(_SMALL - after, 0))
        root, part = np.exp((np.log(raised) + place) / 3), 1 / (9 * raised)
        mean, variance = root * (1 - part), root**2 * part
        weights, means, variances = (
            (of[:, 0].astype(np.float32), of[:, 1].astype(np.float32)) for of in (changes.weight, mean, variance)
        )
        return cls(weights, means, variances, _small(changes.weight, after, raised, place))

    def pick(self, genes: np.ndarray) -> _Pairs:
        """Some of the genes."""
        weight, mean, variance = ((first[:, genes], second[:, genes]) for first, second in self[:3])
        return _Pairs(weight, mean, variance, self.small.pick(genes, self.mean[0].shape[1]))

    def below(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability that the log ratio is at most `value`, (n,), and the density there."""
        chance, slope = np.zeros(len(value)), np.zeros(len(value))
        ratio = np.exp(value / 3).astype(np.float32)
        for start in range(0, len(value), _GENES):
            genes = slice(start, start + _GENES)
            self._add(chance[genes], slope[genes], ratio[genes], genes)
        chance, slope = (chance + 1) / 2, slope / 6
        self.small.add_to(chance, slope, value)
        return chance, slope

    def _add(self, chance: np.ndarray, slope: np.ndarray, ratio: np.ndarray, genes: slice) -> None:
        of_second = self.weight[1][:, genes]
        second, more = ratio * self.mean[1][:, genes], ratio**2 * self.variance[1][:, genes]
        for weight, mean, variance in zip(*(side[0][:, genes] for side in self[:3]), strict=True):
            total = variance + more
            scale = 1 / np.sqrt(total)
            z = second - mean
            z *= scale
            np.clip(z, -8, 8, out=z)
            below, density = _normal(z)
            chance += weight * np.einsum("ij,ij->j", of_second, below)
            z *= more
            z *= scale
            z -= second
            z *= scale
            density *= z
            slope += weight * np.einsum("ij,ij->j", of_second, density)


def _small(weight: np.ndarray, after: np.ndarray, raised: np.ndarray, place: np.ndarray) -> _Small:
    """Terms for shapes that are raised: those of the first group, and then of the second, which count the other way."""
    parts = []
    for side, sign in ((0, 1), (1, -1)):
        for k in np.flatnonzero((raised[:, side] > after[:, side]).any(axis=1)):
            genes = np.flatnonzero((raised[k, side] > after[k, side]) & (weight[k, side] > _LEAST))
            other = after[:, 1, genes] if side == 0 else raised[:, 0, genes]
            own = after[k, side, genes]
            weights = weight[k, side, genes] * weight[:, 1 - side, genes]
            odds = (place[:, 1, genes] - place[k, 0, genes]) if side == 0 else (place[k, 1, genes] - place[:, 0, genes])
            for _ in range(int(_SMALL) + 1):
                j, at = np.nonzero((own < raised[k, side, genes]) & (weights > _LEAST))
                if not len(at):
                    break
                a, b = own[at], other[j, at]
                log = np.log(weights[j, at]) + special.gammaln(a + b) - special.gammaln(a + 1) - special.gammaln(b)
                first, second = (a, b) if side == 0 else (b, a)
                parts.append((genes[at], log, first, second, odds[j, at], np.full(len(at), sign)))
                own = own + 1
    if not parts:
        return _Small(np.zeros(0, int), *np.zeros((5, 0)))
    return _Small(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _quantile(
    pairs: _Pairs, chance: float, sd: np.ndarray, known: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Quantile of the log ratio, (n,): Newton's method on the scale of normal quantiles, between bounds that close in.

    `known` are places, the probability that the log ratio is at most that, and the density there: (n,) each.
    """
    wanted = float(special.ndtri(chance))
    found, best = wanted * sd, np.full(len(sd), _NEAR)
    low, high = np.full(len(sd), -np.inf), np.full(len(sd), np.inf)
    for at, below, slope in known:
        over = below > chance
        low, high = np.where(over, low, np.maximum(low, at)), np.where(over, np.minimum(high, at), high)
        left, step = _newton(wanted, below, slope)
        nearer = np.abs(left) < best
        found[nearer], best = (at + np.clip(step, -sd, sd))[nearer], np.where(nearer, np.abs(left), best)
    bounded = high - low < np.inf
    beside = np.where(bounded, (low + high) / 2, np.where(found <= low, low + 0.5 * sd, high - 0.5 * sd))
    found = np.where((found <= low) | (found >= high), beside, found)
    active = np.arange(len(sd))
    for k in range(_STEPS):
        at, most = found[active], 3 * sd[active]
        below, slope = pairs.below(at)
        over = below > chance
        low[active], high[active] = np.where(over, low[active], at), np.where(over, at, high[active])
        left, step = _newton(wanted, below, slope)
        step = np.where(np.isfinite(step), step, np.where(over, -most, most))
        bounds = low[active], high[active]
        last = np.abs(left) < _CLOSE
        limit = np.where(last, 0.03 * most, most)
        new = at + np.clip(step, -limit, limit)
        outside = (new <= bounds[0]) | (new >= bounds[1])
        new = np.where(outside & last, at, new)
        halve = ~last & (outside | ((k > _QUICK) & (k % 2 == 0))) & (bounds[1] - bounds[0] < np.inf)
        new[halve] = (bounds[0] + bounds[1])[halve] / 2
        found[active] = new
        rest = ~last & (bounds[1] - bounds[0] > 1e-4 * most)
        if not rest.any():
            break
        if not rest.all():
            active, pairs = active[rest], pairs.pick(np.flatnonzero(rest))
    return found


def _newton(wanted: float, below: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much is left up to a quantile of the normal distribution, and the step that would lead there."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        now = special.ndtri(below)
        left = wanted - now
        return left, left * np.exp(-(now**2) / 2) / (np.sqrt(2 * np.pi) * np.maximum(slope, 1e-300))


def _normal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Twice the distribution function of the normal distribution, minus 1, within 4e-5, and twice the derivative of that."""
    first, third, fifth = _NORMAL
    square = z * z
    rise = square * fifth
    rise += third
    rise *= square
    rise += first
    rise *= z
    np.tanh(rise, out=rise)
    density = square * (5 * fifth)
    density += 3 * third
    density *= square
    density += first
    np.multiply(rise, rise, out=square)
    square -= 1
    density *= square
    return rise, density
