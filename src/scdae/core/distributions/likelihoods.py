"""Log probabilities of counts: Poisson, negative binomial and its zero-inflated form.

Every function is elementwise and unreduced, broadcasts as NumPy does, and keeps the dtype of its inputs. Each is
compiled, so that a call on a large array needs no array for every step of the formula.

The textbook formulas take differences of log gamma values that grow like ``x log x``; in float32 that leaves an
error of several units at a count of a million. Here each factorial is written as Stirling's leading part plus a
small remainder (:func:`_stirling_remainder`), and the leading parts are gathered on paper into deviances, which
are sums of terms of one sign (Loader 2000, Fast and Accurate Computation of Binomial Probabilities). The rounding
error is then some float32 roundings of the result, for any dispersion from very small to the Poisson limit.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from scdae.core.distributions.zeros import nb_zero_loss

__all__ = [
    "nb_log_prob",
    "nb_log_prob_zero",
    "nb_log_weight",
    "poisson_log_prob",
    "zinb_log_prob",
    "zinb_log_prob_zero",
]

MEAN_FLOOR = 1e-24  # a positive count under a mean of zero is scored as under this mean: very low, but finite
THETA_RANGE = (1e-10, 1e30)  # the upper end is the Poisson law to the last bit, so theta = inf is allowed


@jax.jit
def poisson_log_prob(x: ArrayLike, mean: ArrayLike) -> jax.Array:
    """Compute the log probability of a Poisson count.

    Parameters
    ----------
    x
        Counts, zero or more; fractional values are scored with the gamma function in place of the factorial.
    mean
        Expected counts, zero or more. Where it is zero, a count of zero has log probability 0, and a positive count
        is scored as under a mean of 1e-24.

    Returns
    -------
    jax.Array
        Natural log probability, of the broadcast shape. Differentiable in `mean`, not in `x`.

    Examples
    --------
    >>> from scdae.core.distributions.likelihoods import poisson_log_prob
    >>> round(float(poisson_log_prob(2.0, 3.0)), 4)
    -1.4959
    """
    x, mean = jnp.asarray(x), jnp.asarray(mean)
    count, rate = jnp.where(x > 0, x, 1), jnp.maximum(mean, MEAN_FLOOR)
    positive = -count * _excess((rate - count) / count, rate / count) - _stirling_remainder(count)
    return jnp.where(x > 0, positive, -mean)


@jax.jit
def nb_log_prob(x: ArrayLike, mean: ArrayLike, theta: ArrayLike) -> jax.Array:
    """Compute the log probability of a negative binomial count with a given mean and inverse dispersion.

    The count is Poisson with a Gamma distributed rate of expectation `mean` and shape `theta`, so its variance is
    ``mean + mean**2 / theta``.

    Parameters
    ----------
    x
        Counts, zero or more; fractional values are scored with the gamma function in place of the factorial.
    mean
        Expected counts, zero or more; zero is handled as in :func:`poisson_log_prob`.
    theta
        Inverse dispersion, positive; ``inf`` is the Poisson law. Values below 1e-10 count as 1e-10.

    Returns
    -------
    jax.Array
        Natural log probability, of the broadcast shape. Differentiable in `mean` and `theta`, not in `x`.

    Examples
    --------
    >>> from scdae.core.distributions.likelihoods import nb_log_prob
    >>> round(float(nb_log_prob(2.0, 3.0, 1.5)), 4)
    -1.8302
    """
    x, mean, theta = jnp.asarray(x), jnp.asarray(mean), bounded_theta(theta)
    count, rate = jnp.where(x > 0, x, 1), jnp.maximum(mean, MEAN_FLOOR)
    factorials = _stirling_remainder(theta + count) - _stirling_remainder(theta) - _stirling_remainder(count)
    positive = factorials - jnp.log1p(count / theta) - _half_deviance(count, rate, theta)
    return jnp.where(x > 0, positive, nb_log_prob_zero(mean, theta))


def nb_log_weight(x: jax.Array, mean: jax.Array, theta: jax.Array, chance: jax.Array) -> jax.Array:
    """Compute ``log(chance) + nb_log_prob(x, mean, theta)`` of counts above zero, but for a term that depends on `x` only.

    The term is Stirling's remainder of `x`, which cancels between distributions of the same count. With it fall the case of a zero
    and six of ten logarithms.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from scdae.core.distributions.likelihoods import nb_log_prob, nb_log_weight
    >>> x, mean, theta = jnp.asarray([3.0, 3.0]), jnp.asarray([1.0, 5.0]), jnp.asarray([0.5, 4.0])
    >>> less, full = nb_log_weight(x, mean, theta, jnp.ones(2)), nb_log_prob(x, mean, theta)
    >>> round(float((less - full)[0]), 4) == round(float((less - full)[1]), 4)
    True
    """
    count, rate = jnp.where(x > 0, x, 1), jnp.maximum(mean, MEAN_FLOOR)
    of_sum, factor, series = _stirling_parts(theta + count)
    logs = jnp.log(factor * (chance * (theta / (theta + count))))
    return of_sum + series + logs - _stirling_remainder(theta) - _half_deviance(count, rate, theta)


@jax.jit
def nb_log_prob_zero(mean: ArrayLike, theta: ArrayLike) -> jax.Array:
    """Compute log probabilities of a negative binomial zero: ``-theta log(1 + mean / theta)``, one logarithm.

    Parameters
    ----------
    mean, theta
        As in :func:`nb_log_prob`.

    Returns
    -------
    jax.Array
        Natural log probability of the count 0, of the broadcast shape.

    Examples
    --------
    >>> from scdae.core.distributions.likelihoods import nb_log_prob_zero
    >>> round(float(nb_log_prob_zero(3.0, 1.5)), 4)
    -1.6479
    """
    theta = bounded_theta(theta)
    return -nb_zero_loss(jnp.asarray(mean), theta)


@jax.jit
def zinb_log_prob(x: ArrayLike, mean: ArrayLike, theta: ArrayLike, pi: ArrayLike) -> jax.Array:
    """Compute the log probability of a zero-inflated negative binomial count.

    With probability `pi` the count is lost and reads zero (dropout); otherwise it follows :func:`nb_log_prob`.

    Parameters
    ----------
    x, mean, theta
        As in :func:`nb_log_prob`; `mean` is the expectation before dropout.
    pi
        Probability of dropout, from 0 to 1, both ends included.

    Returns
    -------
    jax.Array
        Natural log probability, of the broadcast shape; ``-inf`` for a positive count where `pi` is 1. Differentiable
        in `mean`, `theta` and `pi`, not in `x`. At exactly 0 or 1 the derivative of ``log(pi)`` or ``log(1 - pi)`` is
        taken as zero, so that no gradient is infinite.

    Examples
    --------
    >>> from scdae.core.distributions.likelihoods import zinb_log_prob
    >>> round(float(zinb_log_prob(0.0, 3.0, 1.5, 0.25)), 3)
    -0.931
    """
    return mix_dropout(jnp.asarray(x), nb_log_prob(x, mean, theta), *log_dropout(pi))


@jax.jit
def zinb_log_prob_zero(mean: ArrayLike, theta: ArrayLike, pi: ArrayLike) -> jax.Array:
    """Compute the log probability of a zero under the zero-inflated negative binomial.

    Parameters
    ----------
    mean, theta, pi
        As in :func:`zinb_log_prob`.

    Returns
    -------
    jax.Array
        Natural log probability of the count 0, of the broadcast shape.

    Examples
    --------
    >>> from scdae.core.distributions.likelihoods import zinb_log_prob_zero
    >>> round(float(zinb_log_prob_zero(3.0, 1.5, 0.25)), 3)
    -0.931
    """
    log_drop, log_keep = log_dropout(pi)
    return jnp.logaddexp(log_drop, log_keep + nb_log_prob_zero(mean, theta))


def bounded_theta(theta: ArrayLike) -> jax.Array:
    """Limit the inverse dispersion to the range in which the formulas here are free of overflow."""
    return jnp.clip(jnp.asarray(theta), *THETA_RANGE)


def log_dropout(pi: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Log of `pi` and of ``1 - pi``; ``-inf`` with a zero gradient where the probability is zero."""
    pi = jnp.asarray(pi)
    log_drop = jnp.where(pi > 0, jnp.log(jnp.where(pi > 0, pi, 1)), -jnp.inf)
    log_keep = jnp.where(pi < 1, jnp.log1p(-jnp.where(pi < 1, pi, 0)), -jnp.inf)
    return log_drop, log_keep


def mix_dropout(x: jax.Array, log_prob: jax.Array, log_drop: jax.Array, log_keep: jax.Array) -> jax.Array:
    """Compute log probabilities of `x`, zero with probability ``exp(log_drop)`` and has `log_prob` otherwise."""
    kept = log_keep + log_prob
    return jnp.where(x > 0, kept, jnp.logaddexp(log_drop, kept))


@jax.custom_jvp
def _half_deviance(x: jax.Array, mean: jax.Array, theta: jax.Array) -> jax.Array:
    """Compute half the deviance of a count, ``x log(x / mean) - (theta + x) log((theta + x) / (theta + mean))``, `x` > 0."""
    width = theta + mean
    apart, ratio = (mean - x) / width, (theta + x) / width
    return x * _excess(theta * (apart / x), mean / x * ratio) + theta * _excess(-apart, ratio)


@_half_deviance.defjvp
def _half_deviance_slope(values: tuple[jax.Array, ...], changes: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    x, mean, theta = values
    width = theta + mean
    of_mean, of_theta = theta / width * ((mean - x) / mean), _excess((x - mean) / width, (theta + x) / width)
    return _half_deviance(x, mean, theta), of_mean * changes[1] + of_theta * changes[2]


def _excess(t: jax.Array, ratio: jax.Array) -> jax.Array:
    """Compute ``t - log(1 + t)``, zero or more, with a small relative error; `ratio` is ``1 + t``, near zero or not.

    Near zero by ``log(1 + t) = 2 artanh(r)`` with ``r = t / (2 + t)`` (Abramowitz and Stegun 4.1.27), of which the first term
    cancels against ``t`` on paper.
    """
    near = jnp.abs(t) < 0.25
    small = jnp.where(near, t, 0)
    r = small / (2 + small)
    rr = r * r
    terms = 1 / 3 + rr * (1 / 5 + rr * (1 / 7 + rr * (1 / 9 + rr * (1 / 11 + rr * (1 / 13 + rr / 15)))))
    return jnp.where(near, r * (small - 2 * rr * terms), t - jnp.log(jnp.where(near, 1, ratio)))


def _stirling_remainder(a: jax.Array) -> jax.Array:
    """Compute ``lgamma(a + 1) - (a log a - a)`` for positive `a`, with an absolute error of a few epsilon."""
    first, factor, series = _stirling_parts(a)
    return first + jnp.log(factor) + series


def _stirling_parts(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the parts of :func:`_stirling_remainder`: the first, the second, of which the logarithm is to be taken, and the third.

    The recurrence of the gamma function moves the argument up by 6, where Stirling's series with five terms (Abramowitz
    and Stegun 6.1.41) is good to 5e-12. The product that undoes the move is written in ``u = 1 / (a + 6)``.
    """
    u = 1 / (a + 6)
    shifted = (1 - u) * (1 - 2 * u) * (1 - 3 * u) * (1 - 4 * u) * (1 - 5 * u)
    uu = u * u
    series = u * (1 / 12 - uu * (1 / 360 - uu * (1 / 1260 - uu * (1 / 1680 - uu / 1188))))
    return a * jnp.log1p(6 / a) - 6, jnp.sqrt(2 * math.pi * (a + 6)) / shifted, series
