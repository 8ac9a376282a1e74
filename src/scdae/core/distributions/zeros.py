"""How unlikely a negative binomial count is to be zero: one formula, in JAX for training and in NumPy with Poisson as its limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["nb_zero_chance_numpy", "nb_zero_loss", "nb_zero_loss_numpy"]

_MOST = 10  # squares or square roots in place of a power


def nb_zero_loss(mean: jax.Array, theta: jax.Array) -> jax.Array:
    """Compute minus the log probability of a zero, ``theta log(1 + mean / theta)``, for finite `theta`.

    Examples
    --------
    >>> round(float(nb_zero_loss(3.0, 1.5)), 4)
    1.6479
    """
    return theta * jnp.log1p(mean / theta)


def nb_zero_loss_numpy(mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Compute the negative log probability of a zero; `mean`, as for a Poisson distribution, where `theta` is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> nb_zero_loss_numpy(np.array([3.0, 3.0]), np.array([1.5, np.inf])).round(4).tolist()
    [1.6479, 3.0]
    """
    finite = np.where(np.isinf(theta), 1.0, theta)
    return np.asarray(np.where(np.isinf(theta), mean, finite * np.log1p(mean / finite)))


def nb_zero_chance_numpy(mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Compute the probability of a zero, ``(1 + mean / theta) ** -theta``; ``exp(-mean)`` where `theta` is infinite.

    Where all genes have one inverse dispersion, and that is a power of two, as on the grid of the genes' distributions, the power
    is some squares or square roots: several times as quick.

    Examples
    --------
    >>> import numpy as np
    >>> nb_zero_chance_numpy(np.array([3.0, 3.0]), np.array([0.25, 0.25])).round(4).tolist()
    [0.5266, 0.5266]
    """
    first = float(np.ravel(theta)[0]) if np.size(theta) else np.inf
    exponent = np.log2(first) if np.isfinite(first) and first > 0 else np.inf
    exact = mean.dtype == np.float64  # squares of what was rounded in float32 would be too far off
    if not (exact and abs(exponent) <= _MOST and exponent == np.rint(exponent) and np.all(theta == first)):
        return np.asarray(np.exp(-nb_zero_loss_numpy(mean, theta)), mean.dtype)
    chance = np.asarray(1 / (1 + mean * mean.dtype.type(1 / first)))
    for _ in range(abs(int(exponent))):
        np.square(chance, out=chance) if exponent > 0 else np.sqrt(chance, out=chance)
    return chance
