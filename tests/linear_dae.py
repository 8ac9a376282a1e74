"""The linear denoising autoencoder, where everything is known in closed form.

For centered data with covariance ``C`` and additive Gaussian noise of standard deviation ``s``, the linear map that
best restores the data from the noisy copy is ``C (C + s**2 I)**-1``. It has the axes of principal component analysis
and multiplies the axis of variance ``v`` by ``v / (v + s**2)``: strong directions pass, weak ones are held back. A
bottleneck of ``k`` units keeps the ``k`` strongest axes of that map. The network of this package is the non-linear
relative of this map; here the gradient-trained encoder-decoder pair can be held against the answer.

Sources: Baldi and Hornik (1989) for linear autoencoders and principal components; Bishop (1995) for training with noise
as a penalty; Pretorius, Kroon and Kamper (2018) for linear denoising autoencoders. The bottleneck follows from the
Eckart-Young theorem.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

__all__ = ["LinearDAE", "fit_linear_dae", "linear_denoiser", "shrinkage"]


@dataclass(frozen=True)
class LinearDAE:
    """A trained linear encoder-decoder pair.

    Attributes
    ----------
    mean
        Column means of the training data, shape (n_vars,).
    encoder
        Float32 array of shape (n_vars, n_latent).
    decoder
        Float32 array of shape (n_latent, n_vars).
    losses
        Mean squared restoration error before each step, shape (n_steps,).
    """

    mean: np.ndarray
    encoder: np.ndarray
    decoder: np.ndarray
    losses: np.ndarray

    @property
    def map(self) -> np.ndarray:
        """The learned map from a noisy centered row to the restored one, shape (n_vars, n_vars)."""
        return self.encoder @ self.decoder

    def __call__(self, data: npt.ArrayLike) -> np.ndarray:
        """Restore noisy rows of shape (n_obs, n_vars)."""
        return self.mean + (np.asarray(data) - self.mean) @ self.map


def shrinkage(eigenvalues: npt.ArrayLike, noise_sd: float) -> np.ndarray:
    """Factor by which the best linear denoiser multiplies each principal axis.

    Parameters
    ----------
    eigenvalues
        Variances of the clean data along its principal axes, zero or more, of any shape.
    noise_sd
        Standard deviation of the noise, zero or more, in units of the data.

    Returns
    -------
    numpy.ndarray
        ``v / (v + noise_sd**2)``, float64, from 0 to 1; an axis without variance has the factor 0.

    Raises
    ------
    ValueError
        When `noise_sd` or an eigenvalue is negative or not finite.

    Examples
    --------
    >>> from linear_dae import shrinkage
    >>> shrinkage([9.0, 1.0, 0.0], 1.0)
    array([0.9, 0.5, 0. ])
    """
    variances = np.asarray(eigenvalues, dtype=np.float64)
    _check_noise(noise_sd)
    wrong = ~(np.isfinite(variances) & (variances >= 0))
    if wrong.any():
        message = "`eigenvalues` must be finite and zero or more, but {} of {} are not (the first: {}); drop them."
        raise ValueError(message.format(wrong.sum(), variances.size, variances[wrong].flat[0]))
    return np.divide(variances, variances + noise_sd**2, out=np.zeros_like(variances), where=variances > 0)


def linear_denoiser(covariance: npt.ArrayLike, noise_sd: float, *, n_latent: int | None = None) -> np.ndarray:
    """Best linear restoration of centered data from a copy with additive Gaussian noise.

    Parameters
    ----------
    covariance
        Covariance of the clean data, symmetric and positive semi-definite, of shape (n_vars, n_vars).
    noise_sd
        Standard deviation of the noise, the same in every variable, zero or more, in units of the data.
    n_latent
        Width of the bottleneck: the best map of this rank. None: no bottleneck.

    Returns
    -------
    numpy.ndarray
        Symmetric float64 matrix of shape (n_vars, n_vars), ``C (C + noise_sd**2 I)**-1`` without a bottleneck.

    Raises
    ------
    ValueError
        When `covariance` is not a symmetric positive semi-definite matrix, `noise_sd` is negative, or `n_latent` is
        below 1.

    Examples
    --------
    >>> from linear_dae import linear_denoiser
    >>> linear_denoiser([[9.0, 0.0], [0.0, 1.0]], 1.0)
    array([[0.9, 0. ],
           [0. , 0.5]])
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`covariance` must be a square matrix, but it has shape {matrix.shape}.")
    tolerance = 1e-8 * max(float(np.abs(matrix).max(initial=0)), np.finfo(np.float64).tiny)
    if not np.allclose(matrix, matrix.T, rtol=0, atol=tolerance):
        raise ValueError("`covariance` must be symmetric, but it differs from its transpose; give C or (C + C.T) / 2.")
    variances, axes = np.linalg.eigh(matrix)
    if variances.min(initial=0) < -tolerance * len(matrix):
        raise ValueError(f"`covariance` must have no negative eigenvalue, but its lowest is {variances.min()}.")
    rounding = len(matrix) * np.finfo(np.float64).eps * variances.max(initial=0)
    factors = shrinkage(np.where(variances > rounding, variances, 0), noise_sd)
    if n_latent is not None:
        if n_latent < 1:
            raise ValueError(f"`n_latent` must be 1 or more, but it is {n_latent}.")
        factors[: max(len(factors) - n_latent, 0)] = 0  # eigh sorts upwards
    return (axes * factors) @ axes.T


def fit_linear_dae(
    data: npt.ArrayLike,
    noise_sd: float,
    *,
    n_latent: int,
    n_steps: int = 2000,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> LinearDAE:
    """Train a linear encoder and decoder to restore data from copies with fresh additive Gaussian noise.

    Every step sees all rows with new noise; Adam follows the gradient of the mean squared error with a learning rate
    that falls to zero along a cosine, so that the noise of the gradient averages out.

    Parameters
    ----------
    data
        Clean data of shape (n_obs, n_vars). They are centered here.
    noise_sd
        Standard deviation of the noise, zero or more, in units of the data.
    n_latent
        Width of the bottleneck.
    n_steps
        Number of gradient steps.
    learning_rate
        Learning rate of the first step.
    seed
        Seed of the starting weights and of the noise.

    Returns
    -------
    LinearDAE
        The trained pair.

    Raises
    ------
    ValueError
        When `data` is not a finite matrix, `noise_sd` is negative, or `n_latent` or `n_steps` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from linear_dae import fit_linear_dae
    >>> data = np.random.default_rng(0).normal(size=(200, 3)) * [3.0, 1.0, 0.1]
    >>> dae = fit_linear_dae(data, 1.0, n_latent=3)
    >>> bool(np.allclose(np.diag(dae.map), [0.9, 0.5, 0.01], atol=0.1))
    True
    """
    matrix = np.asarray(data, dtype=np.float32)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        wrong = np.count_nonzero(~np.isfinite(matrix))
        message = "`data` must be a finite matrix (n_obs, n_vars); it has shape {} and {} values that are not finite."
        raise ValueError(message.format(matrix.shape, wrong))
    _check_noise(noise_sd)
    for name, value in (("n_latent", n_latent), ("n_steps", n_steps)):
        if value < 1:
            raise ValueError(f"`{name}` must be 1 or more, but it is {value}.")
    mean = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    parameters, losses = _train(matrix - mean, noise_sd, learning_rate, jax.random.key(seed), n_latent, n_steps)
    return LinearDAE(mean, np.asarray(parameters["encoder"]), np.asarray(parameters["decoder"]), np.asarray(losses))


@partial(jax.jit, static_argnames=("n_latent", "n_steps"))
def _train(
    clean: jax.Array, noise_sd: jax.Array, learning_rate: jax.Array, key: jax.Array, n_latent: int, n_steps: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Run all steps in one compiled loop; return the weights and the loss of each step."""
    encoder_key, decoder_key, noise_key = jax.random.split(key, 3)
    width = clean.shape[1]
    parameters = {
        "encoder": jax.random.normal(encoder_key, (width, n_latent), clean.dtype) / width**0.5,
        "decoder": jax.random.normal(decoder_key, (n_latent, width), clean.dtype) / width**0.5,
    }
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, n_steps))

    def restoration_error(parameters: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        noisy = clean + noise_sd * jax.random.normal(key, clean.shape, clean.dtype)
        return jnp.mean((noisy @ parameters["encoder"] @ parameters["decoder"] - clean) ** 2)

    def step(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        parameters, optimizer_state = state
        loss, gradient = jax.value_and_grad(restoration_error)(parameters, key)
        with jax.numpy_dtype_promotion("standard"):  # Adam of optax takes a float to the power of a step number
            updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return (optax.apply_updates(parameters, updates), optimizer_state), loss

    state = (parameters, optimizer.init(parameters))
    (parameters, _), losses = jax.lax.scan(step, state, jax.random.split(noise_key, n_steps))
    return parameters, losses


def _check_noise(noise_sd: float) -> None:
    """Refuse a noise level that is not a finite number of zero or more."""
    if not (np.isfinite(noise_sd) and noise_sd >= 0):
        raise ValueError(f"`noise_sd` must be a finite number of zero or more, but it is {noise_sd}.")
