"""Expected log counts: what a new measurement of an entry would read after the usual normalization, on average.

The mean of a logarithm is less than the logarithm of the mean, the more so the fewer molecules there are; a value that is
to be compared with log-normalized counts has to be the former.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["POISSON", "expected_log1p", "expected_log1p_by_mean"]

POISSON = 1e8  # inverse dispersion that is as good as none

_LOW, _HIGH, _STEP = float(np.log(1e-8)), float(np.log(36.0)), 0.65  # nodes of the integral, on the log scale
_BELOW = float(np.exp(_LOW) / np.expm1(_STEP))  # a Python number, which leaves the dtype of what it is multiplied with


def expected_log1p(mean: jax.Array, shape: jax.Array, scale: jax.Array, cells: jax.Array | None = None) -> jax.Array:
    """Compute the expectation of ``log1p(scale * y)`` for a negative binomial `y`.

    Parameters
    ----------
    mean
        Mean of `y`, zero or more.
    shape
        Inverse dispersion, positive; very large for a Poisson law.
    scale
        Factor before the logarithm, positive; ``scale * mean`` up to about ten thousand.
    cells
        int (k,): where along the last axis of `scale` the factor of each value of the last axis is; None where `scale` is as it
        is. What depends on the cell only is worked out once for each cell.

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
    >>> from scdae.core.distributions.expected_log1p import expected_log1p
    >>> round(float(expected_log1p(0.1, 1e8, 10.0)), 2)  # Poisson: hardly ever more than one molecule
    0.23
    """
    mean, shape, scale = (jnp.asarray(part, jnp.float32) for part in (mean, shape, scale))
    nodes = jnp.asarray(np.exp(np.arange(_LOW, _HIGH, _STEP)), jnp.float32)
    ratio = mean / shape

    def of_entries(of_cells: jax.Array) -> jax.Array:
        return of_cells if cells is None else of_cells[..., cells]

    def add(k: int, total: jax.Array) -> jax.Array:
        u = nodes[k]
        reach = of_entries(-jnp.expm1(-scale * u))
        return total - jnp.exp(-u) * jnp.expm1(-shape * jnp.log1p(ratio * reach))

    below = of_entries(scale) * mean * _BELOW
    start = jnp.zeros(jnp.broadcast_shapes(shape.shape, below.shape), jnp.float32) + below
    return _STEP * jax.lax.fori_loop(0, len(nodes), add, start)


@jax.custom_vjp
def expected_log1p_by_mean(mean: jax.Array, shape: jax.Array, scale: jax.Array) -> jax.Array:
    """:func:`expected_log1p` with a gradient in `mean` that takes no memory; `shape` and `scale` count as constants.

    The slope is an integral of the same kind, worked out beside the value, so that no step of the loop is kept.

    Examples
    --------
    >>> import jax
    >>> from scdae.core.distributions.expected_log1p import expected_log1p_by_mean
    >>> round(float(jax.grad(expected_log1p_by_mean)(0.1, 1e8, 10.0)), 2)
    2.23
    """
    return expected_log1p(mean, shape, scale)


def _value_and_slope(mean: jax.Array, shape: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    nodes = jnp.asarray(np.exp(np.arange(_LOW, _HIGH, _STEP)), jnp.float32)
    ratio = mean / shape

    def add(k: int, totals: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, slope = totals
        u = nodes[k]
        reach, weight = -jnp.expm1(-scale * u), jnp.exp(-u)
        log = jnp.log1p(ratio * reach)
        none = -shape * log
        return value - weight * jnp.expm1(none), slope + weight * reach * jnp.exp(none - log)

    below = scale * _BELOW
    nothing = jnp.zeros(jnp.broadcast_shapes(mean.shape, shape.shape, scale.shape), jnp.float32)
    value, slope = jax.lax.fori_loop(0, len(nodes), add, (nothing + below * mean, nothing + below))
    return _STEP * value, _STEP * slope


def _forward(mean: jax.Array, shape: jax.Array, scale: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    mean, shape, scale = (jnp.asarray(part, jnp.float32) for part in (mean, shape, scale))
    value, slope = _value_and_slope(mean, shape, scale)
    return value, (slope, mean, shape, scale)


def _backward(kept: tuple[jax.Array, ...], change: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    slope, mean, shape, scale = kept
    back = change * slope
    extra = tuple(range(back.ndim - mean.ndim))
    back = back.sum(axis=extra)
    stretched = tuple(i for i, size in enumerate(mean.shape) if size == 1 and back.shape[i] != 1)
    return back.sum(axis=stretched, keepdims=True), jnp.zeros_like(shape), jnp.zeros_like(scale)


expected_log1p_by_mean.defvjp(_forward, _backward)
