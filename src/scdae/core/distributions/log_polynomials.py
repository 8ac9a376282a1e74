"""Expected log counts of many entries of a cell: a polynomial for each component, in place of an integral for each entry.

All entries of a cell have one scale, so under one inverse dispersion the expected log count is a function of the mean alone. Over
``log1p(mean)`` it is smooth on the log scale: with singularities no nearer than ``pi`` off the real axis, polynomials through the
nodes of Chebyshev converge geometrically (Trefethen 2013, Approximation Theory and Approximation Practice, chapter 8).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.distributions.expected_log1p import expected_log1p

__all__ = ["LogPolynomial", "log_polynomial", "log_value"]

_CHAINS = 4
_TERMS = 12 * _CHAINS
_LEAST = 1e-5  # mean, over the inverse dispersion or 1, below which the expected log count is proportional to it
_ANGLES = np.pi * (np.arange(_TERMS) + 0.5) / _TERMS
_NODES = np.cos(_ANGLES)
_TO_COEFFICIENTS = (
    2 / _TERMS * np.cos(np.arange(_TERMS) * _ANGLES[:, None])
)  # (nodes, terms): discrete cosine transform
_TO_COEFFICIENTS[:, 0] /= 2


class LogPolynomial(NamedTuple):
    """Chebyshev polynomials of some components and cells; leading axes are shared."""

    coefficients: jax.Array  # (..., b, terms)
    low: jax.Array  # (..., b): log of the mean at which the interval begins
    high: jax.Array  # (..., b): and ends


def log_polynomial(theta: jax.Array, scale: jax.Array, largest: jax.Array) -> LogPolynomial:
    """Fit polynomials of :func:`scdae.core.distributions.expected_log1p.expected_log1p` in the mean.

    Parameters
    ----------
    theta
        float32 (c,): inverse dispersion of each component.
    scale
        float32 (b,): factor before the logarithm, of each cell.
    largest
        float32 (c, b): mean up to which the polynomials hold.

    Returns
    -------
    LogPolynomial
        With the axes (c, b).
    """
    low = jnp.log(_LEAST * jnp.minimum(theta, 1))[:, None]
    high = jnp.maximum(jnp.log(jnp.maximum(largest, 1e-30)), low + 1)
    low = jnp.broadcast_to(low, high.shape)
    nodes = jnp.asarray(_NODES, theta.dtype)[None, None, :]
    mean = jnp.exp(0.5 * (low + high)[..., None] + 0.5 * (high - low)[..., None] * nodes)
    value = expected_log1p(mean, theta[:, None, None], scale[None, :, None]) / jnp.log1p(mean)
    coefficients = jnp.matmul(value, jnp.asarray(_TO_COEFFICIENTS, theta.dtype), precision="highest")
    return LogPolynomial(coefficients, low, high)


def log_value(polynomial: LogPolynomial, mean: jax.Array) -> jax.Array:
    """Compute the expected log counts of entries under one component: means (b, n) to (b, n).

    By Clenshaw's recurrence for every fourth term, ``T[k + 4] = 2 T[4] T[k] - T[k - 4]``: four short chains of sums, which a
    processor works on side by side, in place of a long one in which each step waits for the last.
    """
    coefficients, low, high = polynomial
    middle, half = 0.5 * (low + high)[:, None], 0.5 * (high - low)[:, None]
    at = jnp.clip((jnp.log(jnp.maximum(mean, 1e-30)) - middle) / half, -1, 1)
    first = [jnp.ones_like(at), at]
    for _ in range(2, 2 * _CHAINS):
        first.append(2 * at * first[-1] - first[-2])
    total, twice = jnp.zeros_like(at), 2 * first[_CHAINS]
    for chain in range(_CHAINS):
        one, two = jnp.zeros_like(at), jnp.zeros_like(at)
        for k in range(_TERMS - _CHAINS + chain, chain, -_CHAINS):
            one, two = coefficients[:, k : k + 1] + twice * one - two, one
        begin, after = first[chain], first[chain + _CHAINS]
        total = total + begin * (coefficients[:, chain : chain + 1] - two) + after * one
    return total * jnp.log1p(mean)
