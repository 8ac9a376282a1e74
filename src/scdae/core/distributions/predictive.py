"""The law of held-out molecules given the molecules that were shown to the network.

Binomial thinning splits the count of a gene in a cell into an input half and a held-out half. Given the true rate the
halves are independent Poisson counts; the rate is Gamma distributed around the decoder's mean; and a dropout takes
both halves at once. The rate and the dropout can be integrated out in closed form (Gamma and Poisson are conjugate;
DESIGN, section 1), which leaves the probabilities below. Their negative mean over observed entries is the loss.

All functions are elementwise and unreduced, and keep the dtype of their inputs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from scdae.core.distributions.likelihoods import (
    bounded_theta,
    log_dropout,
    mix_dropout,
    nb_log_prob,
    nb_log_prob_zero,
    poisson_log_prob,
    zinb_log_prob_zero,
)

__all__ = ["nb_predictive_log_prob", "poisson_predictive_log_prob", "zinb_predictive_log_prob"]


@jax.jit
def poisson_predictive_log_prob(x_out: ArrayLike, mean_out: ArrayLike) -> jax.Array:
    """Compute the log probability of held-out counts when the rate is known: the input half says nothing more.

    Parameters
    ----------
    x_out
        Held-out counts.
    mean_out
        Their expectation: held-out exposure times expected proportion.

    Returns
    -------
    jax.Array
        Natural log probability, of the broadcast shape.

    Examples
    --------
    >>> from scdae.core.distributions.predictive import poisson_predictive_log_prob
    >>> round(float(poisson_predictive_log_prob(2.0, 3.0)), 4)
    -1.4959
    """
    return poisson_log_prob(x_out, mean_out)


@jax.jit
def nb_predictive_log_prob(
    x_out: ArrayLike, x_in: ArrayLike, mean_in: ArrayLike, mean_out: ArrayLike, theta: ArrayLike
) -> jax.Array:
    """Compute the log probability of held-out counts given the input's counts, under the negative binomial model.

    Having seen `x_in`, the rate is Gamma with shape ``theta + x_in``; the held-out count is negative binomial with that
    inverse dispersion and mean ``mean_out * (theta + x_in) / (theta + mean_in)``.

    Parameters
    ----------
    x_out, x_in
        Counts of the held-out half and of the input half, zero or more.
    mean_in, mean_out
        Prior expectations of the two: exposure of the half times expected proportion.
    theta
        Inverse dispersion, positive; ``inf`` gives :func:`poisson_predictive_log_prob`.

    Returns
    -------
    jax.Array
        Natural log probability, of the broadcast shape. Differentiable in `mean_in`, `mean_out` and `theta`.

    Examples
    --------
    >>> from scdae.core.distributions.predictive import nb_predictive_log_prob
    >>> round(float(nb_predictive_log_prob(2.0, 5.0, 3.0, 3.0, 1.5)), 4)
    -1.9594
    """
    x_in, mean_in, theta = jnp.asarray(x_in), jnp.asarray(mean_in), bounded_theta(theta)
    shape = theta + x_in
    return nb_log_prob(x_out, jnp.asarray(mean_out) * (shape / (theta + mean_in)), shape)


@jax.jit
def zinb_predictive_log_prob(
    x_out: ArrayLike, x_in: ArrayLike, mean_in: ArrayLike, mean_out: ArrayLike, theta: ArrayLike, pi: ArrayLike
) -> jax.Array:
    """Compute the log probability of held-out counts given the input's counts, under the zero-inflated model.

    A positive input count rules a dropout out. After an input of zero the count was lost with probability
    ``pi / (pi + (1 - pi) * (theta / (theta + mean_in)) ** theta)``, and then the held-out count is zero, too.

    Parameters
    ----------
    x_out, x_in, mean_in, mean_out, theta
        As in :func:`nb_predictive_log_prob`; the means are those before dropout.
    pi
        Probability of dropout, from 0 to 1, both ends included.

    Returns
    -------
    jax.Array
        Natural log probability, of the broadcast shape. Differentiable in `mean_in`, `mean_out`, `theta` and `pi`.

    Notes
    -----
    Where both halves are zero the value equals ``zinb_log_prob_zero(mean_in + mean_out, theta, pi) -
    zinb_log_prob_zero(mean_in, theta, pi)``, which is cheaper to compute for a whole block of zeros.

    Examples
    --------
    >>> from scdae.core.distributions.predictive import zinb_predictive_log_prob
    >>> round(float(zinb_predictive_log_prob(0.0, 0.0, 3.0, 3.0, 1.5, 0.25)), 4)
    -0.218
    """
    log_prob = nb_predictive_log_prob(x_out, x_in, mean_in, mean_out, theta)
    log_drop, log_keep = log_dropout(pi)
    evidence = zinb_log_prob_zero(mean_in, theta, pi)
    kept_given_zero = log_keep + nb_log_prob_zero(mean_in, theta) - evidence
    after_zero = mix_dropout(jnp.asarray(x_out), log_prob, log_drop - evidence, kept_given_zero)
    return jnp.where(jnp.asarray(x_in) > 0, log_prob, after_zero)
