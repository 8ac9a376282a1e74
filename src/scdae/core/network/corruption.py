"""The three classical corruptions of a denoising autoencoder, each with its noise level as a parameter.

============================  ==========================  =================================================
function                      acts on                     noise level
============================  ==========================  =================================================
:func:`binomial_thinning`     counts (NumPy)              share of molecules that is removed
:func:`additive_gaussian`     normalised input (JAX)      standard deviation
:func:`entry_masking`         counts or input (JAX)       probability that an entry is set aside
============================  ==========================  =================================================

The JAX functions take a key and can be compiled. They work on padded sparse minibatches, too: the values of the stored
entries in an array of one fixed shape, with a boolean array `valid` that is False on the padding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from scdae.core.data.thinning import thin_values

__all__ = ["additive_gaussian", "binomial_thinning", "entry_masking"]


def binomial_thinning(
    values: np.ndarray, noise: npt.ArrayLike, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Remove each molecule with probability `noise`.

    Parameters
    ----------
    values
        Counts, zero or more, of any shape.
    noise
        Share of molecules to remove, from 0 to 1: a scalar or an array that broadcasts to the shape of `values`.
    rng
        Source of random numbers.

    Returns
    -------
    tuple
        The corrupted counts and the removed ones, of the shape and dtype of `values`, which is their sum.

    Raises
    ------
    ValueError
        When `noise` is outside 0 to 1 or `values` are not counts; see :func:`scdae.core.data.thinning.thin_values`.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.network.corruption import binomial_thinning
    >>> kept, removed = binomial_thinning(np.array([5.0, 9.0]), 0.2, np.random.default_rng(0))
    >>> kept + removed
    array([5., 9.])
    """
    values = np.asarray(values)
    removed = thin_values(values, noise, rng)
    return values - removed, removed


def additive_gaussian(
    key: jax.Array, inputs: ArrayLike, noise_sd: ArrayLike, valid: ArrayLike | None = None
) -> jax.Array:
    """Add Gaussian noise to inputs that are already on the network's normalised scale.

    Parameters
    ----------
    key
        JAX random key.
    inputs
        Normalised inputs, floating, of any shape.
    noise_sd
        Standard deviation of the noise, zero or more, in units of `inputs`: a scalar or an array that broadcasts to
        the shape of `inputs`. It may be traced.
    valid
        True where an entry is real; elsewhere (padding, entries not observed) the input is returned as it came. None:
        all are real.

    Returns
    -------
    jax.Array
        Corrupted inputs, of the shape and dtype of `inputs`.

    Examples
    --------
    >>> import jax
    >>> from scdae.core.network.corruption import additive_gaussian
    >>> additive_gaussian(jax.random.key(0), jax.numpy.zeros((2, 3)), 0.1).shape
    (2, 3)
    """
    inputs = jnp.asarray(inputs)
    noisy = inputs + noise_sd * jax.random.normal(key, inputs.shape, inputs.dtype)
    return noisy if valid is None else jnp.where(jnp.asarray(valid), noisy, inputs)


def entry_masking(
    key: jax.Array, values: ArrayLike, noise: ArrayLike, valid: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    """Set whole entries aside: they read zero in the input and are what the network is asked for.

    Parameters
    ----------
    key
        JAX random key.
    values
        Counts or normalised inputs, floating, of any shape.
    noise
        Probability that an entry is hidden, from 0 to 1: a scalar or an array that broadcasts to the shape of
        `values`. It may be traced.
    valid
        True where an entry is real; padding and entries that were not observed are never hidden. None: all are real.

    Returns
    -------
    tuple
        The values with zeros at the hidden entries (dtype of `values`) and the boolean mask of the hidden entries.

    Examples
    --------
    >>> import jax
    >>> from scdae.core.network.corruption import entry_masking
    >>> kept, hidden = entry_masking(jax.random.key(0), jax.numpy.ones((2, 3)), 0.5)
    >>> bool((kept == 1 - hidden).all())
    True
    """
    values = jnp.asarray(values)
    hidden = jax.random.uniform(key, values.shape, values.dtype) < noise
    if valid is not None:
        hidden = hidden & jnp.asarray(valid)
    return jnp.where(hidden, 0, values), hidden
