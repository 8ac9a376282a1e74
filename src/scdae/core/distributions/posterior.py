"""Posterior of the expected count of a gene in a cell, given its count.

The model's mean for an entry is ``mean`` (exposure times expected proportion); the expected count is ``mean * g`` with
``g`` Gamma distributed with shape and rate `theta`. Having seen a count `x` that was not lost to dropout, the expected
count is Gamma with shape ``theta + x`` and rate ``(theta + mean) / mean``; having seen a zero that was lost, it keeps
its prior, Gamma with shape `theta` and rate ``theta / mean``. A zero is one or the other, so its posterior mixes the
two. An infinite `theta` is the Poisson model, in which the expected count is `mean` for certain.

Mean, standard deviation and dropout probability are JAX functions; quantiles and draws use NumPy and SciPy.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike
from scipy import special

from scdae.core.distributions.likelihoods import log_dropout, nb_log_prob_zero
from scdae.core.distributions.zeros import nb_zero_loss_numpy

__all__ = [
    "check_probabilities",
    "dropout_probability",
    "posterior_mean",
    "posterior_quantile",
    "posterior_sample",
    "posterior_sd",
]


@jax.jit
def dropout_probability(x: ArrayLike, mean: ArrayLike, theta: ArrayLike, pi: ArrayLike) -> jax.Array:
    """Compute the probability that an entry was lost to dropout, given its count.

    Parameters
    ----------
    x
        Counts. A positive count was certainly not lost.
    mean
        Expected counts under the model, before dropout, zero or more.
    theta
        Inverse dispersion, positive or ``inf``.
    pi
        Prior probability of dropout, from 0 to 1.

    Returns
    -------
    jax.Array
        Probabilities, of the broadcast shape: 0 where `x` is positive.

    Examples
    --------
    >>> from scdae.core.distributions.posterior import dropout_probability
    >>> round(float(dropout_probability(0.0, 3.0, 1.5, 0.25)), 4)
    0.634
    """
    log_drop, log_keep = log_dropout(pi)
    lost = jax.nn.sigmoid(log_drop - log_keep - nb_log_prob_zero(mean, theta))
    return jnp.where(jnp.asarray(x) > 0, 0, lost)


@jax.jit
def posterior_mean(x: ArrayLike, mean: ArrayLike, theta: ArrayLike, pi: ArrayLike | None = None) -> jax.Array:
    """Compute the expected count of each entry given its observed count.

    Parameters
    ----------
    x
        Counts, shape and dtype as `mean` or broadcasting with it.
    mean
        Expected counts under the model, before dropout, zero or more.
    theta
        Inverse dispersion, positive; ``inf`` returns `mean`.
    pi
        Prior probability of dropout; None for a model without dropout.

    Returns
    -------
    jax.Array
        Posterior means, in counts at the exposure of `mean`; 0 where `mean` is 0.

    Examples
    --------
    >>> from scdae.core.distributions.posterior import posterior_mean
    >>> round(float(posterior_mean(6.0, 3.0, 1.5)), 4)
    5.0
    """
    mean = jnp.asarray(mean)
    factor, _ = _kept_moments(x, mean, theta)
    if pi is None:
        return mean * factor
    return mean * (factor + dropout_probability(x, mean, theta, pi) * (1 - factor))


@jax.jit
def posterior_sd(x: ArrayLike, mean: ArrayLike, theta: ArrayLike, pi: ArrayLike | None = None) -> jax.Array:
    """Compute the standard deviation of the expected count of each entry given its observed count.

    Parameters
    ----------
    x, mean, theta, pi
        As in :func:`posterior_mean`.

    Returns
    -------
    jax.Array
        Standard deviations, in counts at the exposure of `mean`; 0 where `mean` is 0 or `theta` is ``inf``.

    Examples
    --------
    >>> from scdae.core.distributions.posterior import posterior_sd
    >>> round(float(posterior_sd(6.0, 3.0, 1.5)), 4)
    1.8257
    """
    mean, theta = jnp.asarray(mean), jnp.asarray(theta)
    factor, variance = _kept_moments(x, mean, theta)
    if pi is not None:
        lost = dropout_probability(x, mean, theta, pi)
        variance = (1 - lost) * variance + lost / theta + lost * (1 - lost) * (1 - factor) ** 2
    return mean * jnp.sqrt(variance)


def posterior_quantile(
    q: npt.ArrayLike, x: npt.ArrayLike, mean: npt.ArrayLike, theta: npt.ArrayLike, pi: npt.ArrayLike | None = None
) -> np.ndarray:
    """Compute the quantiles of the expected count of each entry given its observed count.

    Parameters
    ----------
    q
        Probabilities from 0 to 1, broadcasting with the other arguments.
    x, mean, theta, pi
        As in :func:`posterior_mean`.

    Returns
    -------
    numpy.ndarray
        Quantiles, in counts at the exposure of `mean`, in the floating dtype of `mean`; 0 where `mean` is 0.

    Raises
    ------
    ValueError
        When a value of `q` lies outside 0 to 1.

    Examples
    --------
    >>> from scdae.core.distributions.posterior import posterior_quantile
    >>> posterior_quantile([0.05, 0.95], 6.0, 3.0, 1.5).round(3)
    array([2.42 , 8.332])
    """
    chance = np.asarray(q, dtype=np.float64)
    check_probabilities(chance)
    value, spread, (count, prior, shape, lost, chance) = _uncertain_entries(x, mean, theta, pi, chance)
    unit = special.gammaincinv(shape + count, chance)
    quantile = unit * (prior / (shape + prior))
    mixed = (lost > 0) & (unit > 0) & np.isfinite(unit)
    if mixed.any():
        quantile[mixed] = _mixture_quantile(chance[mixed], unit[mixed], prior[mixed], shape[mixed], lost[mixed])
    value[spread] = quantile
    return value.astype(_floating_dtype(mean))


def check_probabilities(q: np.ndarray) -> None:
    """Raise ValueError unless all values of `q` lie between 0 and 1."""
    outside = ~((q >= 0) & (q <= 1))
    if outside.any():
        message = "`q` must lie between 0 and 1, but {} of its {} values do not (the first: {}); give probabilities."
        raise ValueError(message.format(outside.sum(), q.size, q[outside].flat[0]))


def posterior_sample(
    rng: np.random.Generator,
    x: npt.ArrayLike,
    mean: npt.ArrayLike,
    theta: npt.ArrayLike,
    pi: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Draw the expected count of each entry from its posterior, independently for every entry.

    Parameters
    ----------
    rng
        Source of random numbers.
    x, mean, theta, pi
        As in :func:`posterior_mean`.

    Returns
    -------
    numpy.ndarray
        One draw for each entry, in counts at the exposure of `mean`, in the floating dtype of `mean`.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.distributions.posterior import posterior_sample
    >>> draws = posterior_sample(np.random.default_rng(0), np.full(10_000, 6.0), 3.0, 1.5)
    >>> bool(abs(draws.mean() - 5.0) < 0.1)
    True
    """
    value, spread, (count, prior, shape, lost) = _uncertain_entries(x, mean, theta, pi)
    is_lost = rng.random(count.shape) < lost
    value[spread] = rng.standard_gamma(shape + count) * (prior / (shape + np.where(is_lost, 0, prior)))
    return value.astype(_floating_dtype(mean))


def _kept_moments(x: ArrayLike, mean: jax.Array, theta: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the Gamma factor given a count that was not lost; exact at ``theta = inf``, too."""
    theta = jnp.asarray(theta)
    factor = (1 + jnp.asarray(x) / theta) / (1 + mean / theta)
    return factor, factor / (theta + mean)


def _uncertain_entries(
    x: npt.ArrayLike, mean: npt.ArrayLike, theta: npt.ArrayLike, pi: npt.ArrayLike | None, *others: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Select, in float64, the entries whose posterior is more than the single value `mean`.

    Returns the means in full shape, the mask of those entries, and for these the count, mean, `theta`, probability of
    dropout given the count (as :func:`dropout_probability`), and `others`.
    """
    given = (x, mean, theta, 0.0 if pi is None else pi, *others)
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in given))
    spread = (arrays[1] > 0) & np.isfinite(arrays[2])
    count, prior, shape, drop, *rest = (array[spread] for array in arrays)
    lost = np.where(count > 0, 0, special.expit(special.logit(drop) + nb_zero_loss_numpy(prior, shape)))
    return arrays[1].copy(), spread, [count, prior, shape, lost, *rest]


def _mixture_quantile(
    q: np.ndarray, unit: np.ndarray, mean: np.ndarray, theta: np.ndarray, lost: np.ndarray
) -> np.ndarray:
    """Compute the quantile of a zero's posterior, the mixture of two Gamma laws of the same shape `theta`.

    It lies between the quantiles of the two, which are `unit` (that of scale 1) times their scales; the root is sought
    there on the log scale, on which the distribution function has no flat start even for small `theta`.
    """
    from scipy.optimize import elementwise  # slow to import, and rarely needed

    log_kept, log_lost = np.log(mean / (theta + mean)), np.log(mean / theta)

    def excess(log_value: np.ndarray, *given: np.ndarray) -> np.ndarray:
        q, theta, lost, log_kept, log_lost = given
        kept_cdf = special.gammainc(theta, np.exp(log_value - log_kept))
        lost_cdf = special.gammainc(theta, np.exp(log_value - log_lost))
        return (1 - lost) * kept_cdf + lost * lost_cdf - q

    margin = 1e-6  # so that rounding can't leave both ends of the bracket on one side of the root
    bracket = (np.log(unit) + log_kept - margin, np.log(unit) + log_lost + margin)
    root = elementwise.find_root(
        excess, bracket, args=(q, theta, lost, log_kept, log_lost), tolerances={"xatol": 1e-12, "xrtol": 1e-12}
    )
    return np.exp(root.x)


def _floating_dtype(value: npt.ArrayLike) -> np.dtype:
    """Return the dtype of `value` if it is a floating one, else float64."""
    dtype = np.asarray(value).dtype
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)
