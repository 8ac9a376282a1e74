"""How unlikely a negative binomial count is to be zero: one formula, in JAX for training and in NumPy with Poisson as its limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["nb_zero_loss", "nb_zero_loss_numpy"]


def nb_zero_loss(mean: jax.Array, theta: jax.Array) -> jax.Array:
    """Negative log probability of a zero, ``theta log(1 + mean / theta)``, for a finite inverse dispersion `theta`.

    Examples
    --------
    >>> round(float(nb_zero_loss(3.0, 1.5)), 4)
    1.6479
    """
    return theta * jnp.log1p(mean / theta)


def nb_zero_loss_numpy(mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Negative log probability of a zero; `mean`, as for a Poisson distribution, where `theta` is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> nb_zero_loss_numpy(np.array([3.0, 3.0]), np.array([1.5, np.inf])).round(4).tolist()
    [1.6479, 3.0]
    """
    finite = np.where(np.isinf(theta), 1.0, theta)
    return np.asarray(np.where(np.isinf(theta), mean, finite * np.log1p(mean / finite)))
