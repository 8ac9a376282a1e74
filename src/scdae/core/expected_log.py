"""Expected log counts: what a new measurement of an entry would read after the usual normalisation, on average.

The mean of a logarithm is less than the logarithm of the mean, the more so the fewer molecules there are; a value that is
to be compared with log-normalised counts has to be the former.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["POISSON", "expected_log1p"]

POISSON = 1e8  # inverse dispersion that is as good as none

_LOW, _HIGH, _STEP = np.log(1e-8), np.log(36.0), 0.5  # nodes of the integral, on the log scale


def expected_log1p(mean: jax.Array, shape: jax.Array, scale: jax.Array) -> jax.Array:
    """Expectation of ``log1p(scale * y)`` for a negative binomial `y`.

    Parameters
    ----------
    mean
        Mean of `y`, zero or more.
    shape
        Inverse dispersion, positive; very large for a Poisson law.
    scale
        Factor before the logarithm, positive; ``scale * mean`` up to about ten thousand.

    Returns
    -------
    jax.Array
        float32, of the common shape of the arguments.

    Notes
    -----
    A logarithm is a Frullani integral, ``log(1 + a) = int_0^inf (1 - exp(-a u)) exp(-u) / u du``, so its expectation needs
    no more than the generating function of `y`, which is ``(1 + mean (1 - s) / shape) ** -shape`` at ``s = exp(-scale u)``.
    On the scale of ``log u`` the trapezoidal rule converges exponentially (Trefethen and Weideman 2014); what lies below
    the first node is linear and added as such.

    Examples
    --------
    >>> from scdae.core.expected_log import expected_log1p
    >>> round(float(expected_log1p(0.1, 1e8, 10.0)), 2)  # Poisson: hardly ever more than one molecule
    0.23
    """
    mean, shape, scale = (jnp.asarray(part, jnp.float32) for part in (mean, shape, scale))
    nodes = jnp.asarray(np.exp(np.arange(_LOW, _HIGH, _STEP)), jnp.float32)
    ratio = mean / shape

    def add(k: int, total: jax.Array) -> jax.Array:
        u = nodes[k]
        return total - jnp.exp(-u) * jnp.expm1(-shape * jnp.log1p(-ratio * jnp.expm1(-scale * u)))

    below = scale * mean * np.exp(_LOW) / np.expm1(_STEP)
    start = jnp.zeros(jnp.broadcast_shapes(mean.shape, shape.shape, scale.shape), jnp.float32) + below
    return _STEP * jax.lax.fori_loop(0, len(nodes), add, start)
