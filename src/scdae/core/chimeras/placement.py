"""Latent positions of sequences, from some of their windows only.

The decoder gives the expected words of each window at a latent position. The position of a sequence is found by
inverting it: the position with the highest posterior probability given the observed words, under a prior from normal
sequences. It can be based on any windows, so that unobserved windows need not be filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import values_of

__all__ = ["Decoder", "Prior", "Windows", "decoder_of", "fit_prior", "misfit", "place_parts"]

_TEMPER = 0.1  # weight of a word: words overlap, and relatives differ in ways that no position explains
_AT_ONCE = 64
_STEPS, _DAMPING = 10, 0.9
_ROUNDS = 3
_WIDTHS = 4
_FEW = 64  # sequences from which the information of each window on a position is estimated


class Decoder(NamedTuple):
    """Decoder: float32 loading (n_latent, n_windows, n_words), log profile (n_windows, n_words)."""

    loading: np.ndarray
    log_profile: np.ndarray


@dataclass(frozen=True)
class Windows:
    """Counts of words.

    Parameters
    ----------
    counts
        CSR (n_obs, n_windows * n_words), window by window.
    observed
        bool (n_obs, n_windows): windows that the sequence covers.
    """

    counts: sp.csr_matrix
    observed: np.ndarray

    def block(self, start: int, size: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
        """Return padded counts of some sequences, float32 (size, n_windows, n_words), observed windows, and number."""
        dense = np.asarray(self.counts[start : start + size].toarray(), np.float32).reshape(-1, *shape)
        n, seen = len(dense), self.observed[start : start + size].astype(np.float32)
        if n < size:
            dense = np.concatenate([dense, np.zeros((size - n, *shape), np.float32)])
            seen = np.concatenate([seen, np.zeros((size - n, shape[0]), np.float32)])
        return dense, seen, n


class Prior(NamedTuple):
    """Distribution of the positions of normal sequences."""

    mean: np.ndarray  # float32 (n_latent,)
    precision: np.ndarray  # float32 (n_latent, n_latent)
    sharpness: np.ndarray  # float32 (n_windows, n_latent, n_latent): precision that the words of a window add


def decoder_of(fitted: Fitted, columns: np.ndarray, shape: tuple[int, int]) -> Decoder:
    """Extend the decoder of a fitted model to all words of all windows.

    Parameters
    ----------
    fitted
        The model.
    columns
        int (n_kept,): index of each of its variables among the words of all windows.
    shape
        Number of windows, and of words in each.

    Notes
    -----
    Words that the model has never seen get the lowest fraction of those it has.
    """
    values = values_of(fitted.params)
    loading = np.zeros((len(values["loading"]), shape[0] * shape[1]), np.float32)
    known = np.asarray(values["log_profile"])
    log_profile = np.full(shape[0] * shape[1], known.min(), np.float32)
    loading[:, columns], log_profile[columns] = values["loading"], known
    return Decoder(loading.reshape(-1, *shape), log_profile.reshape(shape))


def fit_prior(decoder: Decoder, windows: Windows, rng: np.random.Generator) -> Prior:
    """Estimate the distribution of positions of normal sequences, alternating with these positions.

    Parameters
    ----------
    decoder
        Decoder of the model.
    windows
        Words of the normal sequences.
    rng
        Draws the sequences from which the information of words on a position is estimated.
    """
    n_latent, n_windows = decoder.loading.shape[:2]
    all_of_it = np.ones((1, n_windows))
    words = np.asarray(windows.counts.sum(axis=0)).reshape(n_windows, -1).sum(axis=1)
    words = (words / np.maximum(windows.observed.sum(axis=0), 1)).astype(np.float32)
    prior = Prior(
        np.zeros(n_latent, np.float32),
        0.1 * np.eye(n_latent, dtype=np.float32),
        _sharpness(decoder, np.zeros((1, n_latent), np.float32), words),
    )
    few = rng.choice(windows.counts.shape[0], min(_FEW, windows.counts.shape[0]), replace=False)
    for _ in range(_ROUNDS):
        positions = place_parts(decoder, prior, windows, all_of_it)[:, 0]
        sharpness = _sharpness(decoder, positions[few], words)
        unsure = np.linalg.inv(prior.precision + sharpness.sum(axis=0))
        spread = np.atleast_2d(np.cov(positions.T)) + unsure + 1e-6 * np.eye(n_latent)
        prior = Prior(positions.mean(axis=0), np.linalg.inv(spread).astype(np.float32), sharpness)
    return prior


def place_parts(decoder: Decoder, prior: Prior, windows: Windows, parts: np.ndarray) -> np.ndarray:
    """Find latent positions from parts of the windows.

    Parameters
    ----------
    decoder
        Decoder of the model.
    prior
        Distribution of normal positions.
    windows
        Words of the sequences.
    parts
        (n_parts, n_windows): 1 for the windows of a part, else 0.

    Returns
    -------
    numpy.ndarray
        float32 (n_obs, n_parts, n_latent).

    Notes
    -----
    The words of a window follow a multinomial distribution with the softmax of the decoder's logits. Its logarithm is
    concave in the position. Steps of Newton's method use the mean curvature over normal sequences, which is computed
    once for each choice of windows.
    """
    shape = decoder.log_profile.shape
    n_obs = windows.counts.shape[0]
    positions = np.zeros((n_obs, len(parts), len(prior.mean)), np.float32)
    at_once = min(_AT_ONCE, n_obs)
    inverse: dict[bytes, np.ndarray] = {}
    for start in range(0, n_obs, at_once):
        dense, seen, n = windows.block(start, at_once, shape)
        for i, part in enumerate(parts.astype(np.float32)):
            weight = seen * part
            scale = np.stack([_inverse(inverse, prior, one) for one in weight])
            span = _span(part)
            some = Decoder(decoder.loading[:, span], decoder.log_profile[span])
            positions[start : start + n, i] = _climb(some, prior, dense[:, span], weight[:, span], scale)[:n]
    return positions


def _span(part: np.ndarray) -> slice:
    """Windows from the first to the last of a part, and some more, so that there are few widths to compile for."""
    has, quarter = np.flatnonzero(part), -(-len(part) // _WIDTHS)
    first, stop = has.min(initial=0), has.max(initial=0) + 1
    width = quarter * -(-(stop - first) // quarter)
    first = max(0, min(first, len(part) - width))
    return slice(first, first + width)


def _inverse(known: dict[bytes, np.ndarray], prior: Prior, weight: np.ndarray) -> np.ndarray:
    """Compute the inverse of the mean curvature of some windows, once for each choice of windows."""
    name = weight.tobytes()
    if name not in known:
        curvature = prior.precision + np.einsum("w,wde->de", weight, prior.sharpness)
        known[name] = np.linalg.inv(curvature).astype(np.float32)
    return known[name]


def misfit(decoder: Decoder, windows: Windows, position: np.ndarray) -> np.ndarray:
    """Compute the multinomial deviance of the words, given the position, per word: float64 (n_obs,).

    It is NaN for sequences without words.
    """
    shape = decoder.log_profile.shape
    n_obs = windows.counts.shape[0]
    misfits = np.full(n_obs, np.nan)
    at_once = min(_AT_ONCE, n_obs)
    for start in range(0, n_obs, at_once):
        dense, seen, n = windows.block(start, at_once, shape)
        here = np.zeros((at_once, position.shape[1]), np.float32)
        here[:n] = position[start : start + n]
        deviance, counted = _deviance(decoder, dense, seen, here)
        has = np.asarray(counted)[:n] > 0
        misfits[start : start + n][has] = np.asarray(deviance)[:n][has] / np.asarray(counted)[:n][has]
    return misfits


def _logits(decoder: Decoder, position: jax.Array) -> jax.Array:
    return jnp.einsum("bd,dwk->bwk", position, decoder.loading) + decoder.log_profile[None, :, :]


@jax.jit
def _climb(decoder: Decoder, prior: Prior, words: jax.Array, weight: jax.Array, inverse: jax.Array) -> jax.Array:
    total = words.sum(axis=2, keepdims=True)

    def step(_: jax.Array, position: jax.Array) -> jax.Array:
        share = jax.nn.softmax(_logits(decoder, position), axis=2)
        rest = (words - total * share) * weight[:, :, None]
        slope = _TEMPER * jnp.einsum("bwk,dwk->bd", rest, decoder.loading)
        slope -= (position - prior.mean[None, :]) @ prior.precision
        return position + _DAMPING * jnp.einsum("bd,bde->be", slope, inverse)

    return jax.lax.fori_loop(0, _STEPS, step, jnp.tile(prior.mean, (len(words), 1)))


@jax.jit
def _deviance(decoder: Decoder, words: jax.Array, seen: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    total = words.sum(axis=2, keepdims=True)
    log_share = jax.nn.log_softmax(_logits(decoder, position), axis=2)
    saturated = jnp.where(words > 0, words * jnp.log(jnp.where(words > 0, words / jnp.maximum(total, 1), 1)), 0)
    deviance = 2 * (saturated - words * log_share).sum(axis=2)
    return (deviance * seen).sum(axis=1), (total[:, :, 0] * seen).sum(axis=1)


@jax.jit
def _curvature(decoder: Decoder, position: jax.Array, words: jax.Array) -> jax.Array:
    share = words[:, None] * jax.nn.softmax(_logits(decoder, position), axis=2).mean(axis=0)
    mean = jnp.einsum("wk,dwk->wd", share, decoder.loading)
    square = jnp.einsum("dwk,wk,ewk->wde", decoder.loading, share, decoder.loading)
    return square - mean[:, :, None] * mean[:, None, :] / jnp.maximum(words, 1e-6)[:, None, None]


def _sharpness(decoder: Decoder, positions: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Compute the mean curvature of the tempered log probability of each window."""
    of_each = [np.asarray(_curvature(decoder, one[None], words)) for one in positions]
    return (_TEMPER * np.mean(of_each, axis=0)).astype(np.float32)
