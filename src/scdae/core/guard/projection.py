"""Projection of profiles on what a model has learned: thin or round, encode, decode; differentiable in the counts."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.data.thinning import thin_values
from scdae.core.distributions.expected_log1p import POISSON, expected_log1p_by_mean
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.network.encoder_input import TARGET, input_factor, input_logs, input_scale, on_axes
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import Network
from scdae.core.prediction.law_readout import corrected_proportions

__all__ = ["FRACTIONS", "SCALES", "Purification", "counts_of_logs", "project_profiles", "thinned_draws"]

SCALES = {
    "counts": "counts at the cell's own depth",
    "log1p": "log1p of counts per 10,000",
}
FRACTIONS = {
    "draw": "a fraction of a molecule is there or not, by chance",
    "round": "counts are rounded to whole numbers",
    "keep": "fractions stay, and thinning keeps each as a whole or not at all",
}
_LARGEST_LOG = 20.0  # upper bound of log1p of counts per 10,000; perturbed values are clipped to it, to stay finite


class Purification(NamedTuple):
    """How profiles are purified."""

    strength: float = 1.0  # weight of the projection in the result; the rest is the profile itself
    n_passes: int = 1  # number of times that a profile is encoded and decoded
    n_draws: int = 1  # thinned copies whose projections are averaged
    keep: float = 1.0  # fraction of the molecules in a thinned copy; 1 for no thinning
    fractions: str = "keep"  # one of FRACTIONS: treatment of counts that are not whole numbers

    def check(self) -> Purification:
        """Return these settings; raise ValueError, with the name, if one is out of its range."""
        for name in ("strength", "keep"):
            value = getattr(self, name)
            if not (np.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name}={value!r}: use a fraction from 0 to 1.")
        if self.keep == 0:
            raise ValueError("keep=0 leaves no molecules. Use a fraction above 0, such as 0.5, or 1 for no thinning.")
        for name in ("n_passes", "n_draws"):
            value = getattr(self, name)
            if isinstance(value, (bool, str)) or not value >= 1 or value % 1:
                raise ValueError(f"{name}={value!r}: use a whole number, 1 or more.")
        if self.fractions not in FRACTIONS:
            choices = ", ".join(f"{name!r} ({what})" for name, what in FRACTIONS.items())
            raise ValueError(f"fractions={self.fractions!r}: choose one of {choices}.")
        return self._replace(n_passes=int(self.n_passes), n_draws=int(self.n_draws))


def counts_of_logs(logs: jax.Array, depth: jax.Array) -> jax.Array:
    """Compute counts of cells from log1p of counts per 10,000.

    Parameters
    ----------
    logs
        float32 (n_obs, n_vars). Negative values, which only a perturbation can cause, become 0.
    depth
        float32 (n_obs,): molecules of each cell.

    Returns
    -------
    jax.Array
        float32 (n_obs, n_vars), ``expm1(logs) * depth / 10,000``; not whole numbers if the logs were perturbed.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.guard.purification import counts_of_logs
    >>> logs = np.log1p(np.array([[0.0, 2500.0, 7500.0]]))
    >>> counts_of_logs(logs, np.array([8.0])).round().tolist()
    [[0.0, 2.0, 6.0]]
    """
    values = jnp.expm1(jnp.clip(jnp.asarray(logs, jnp.float32), 0.0, _LARGEST_LOG))
    return values * (jnp.asarray(depth, jnp.float32) / TARGET)[:, None]


def thinned_draws(counts: np.ndarray, how: Purification, rng: np.random.Generator) -> np.ndarray | None:
    """Draw the input of the encoder: thinned copies of the counts, or counts made whole.

    Parameters
    ----------
    counts
        (n_obs, n_vars), zero or more.
    how
        Fraction to keep, number of draws, and treatment of fractional counts.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray or None
        float32 (n_draws, n_obs, n_vars); one copy if nothing is random, and None if the counts are used as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.guard.purification import Purification, thinned_draws
    >>> counts = np.array([[0.1, 2.8, 40.0]])
    >>> thinned_draws(counts, Purification(fractions="round"), np.random.default_rng(0)).tolist()
    [[[0.0, 3.0, 40.0]]]
    """
    counts = np.asarray(counts, np.float32)
    stored = np.nonzero(counts)
    values = counts[stored]
    whole = bool((values == np.rint(values)).all())
    chance = how.keep < 1 or (how.fractions == "draw" and not whole)
    if not chance and (whole or how.fractions == "keep"):
        return None
    if how.fractions == "round":
        values = np.rint(values)
    drawn = np.zeros((int(how.n_draws) if chance else 1, *counts.shape), np.float32)
    for draw in drawn:
        shown = values
        if how.fractions == "draw":
            shown = np.floor(values)
            shown = shown + (rng.random(shown.shape, dtype=np.float32) < values - shown)
        draw[stored] = shown if how.keep == 1 else thin_values(shown, how.keep, rng)
    return drawn


def project_profiles(
    fitted: Fitted,
    counts: jax.Array,
    depth: jax.Array,
    how: Purification,
    *,
    scale: str = "log1p",
    drawn: np.ndarray | None = None,
    conditions: Conditions | None = None,
    observed: np.ndarray | None = None,
) -> jax.Array:
    """Project profiles on what a model has learned; differentiable in `counts`.

    Parameters
    ----------
    fitted
        The model.
    counts
        float32 (n_obs, n_kept), zero or more, over the genes of the network; whole numbers or not.
    depth
        float32 (n_obs,): molecules of each cell in the result. The gradient treats them as constant.
    how
        Number of passes, and fraction that thinning keeps; `strength` is ignored.
    scale
        One of :data:`SCALES`.
    drawn
        Result of :func:`thinned_draws` for these counts; None without thinning.
    conditions
        Batch and covariates of the cells; None if the model has none.
    observed
        Boolean (n_kept,): observed genes; None for all. Values of the others are replaced by the gene's mean.

    Returns
    -------
    jax.Array
        float32 (n_obs, n_kept): expected counts of a cell of that depth under the decoder, or the expected log1p of
        counts per 10,000 of a new measurement at that depth, which is the expectation of log-normalized counts.

    Notes
    -----
    The input of the encoder is log counts per 10,000 on its axes. In a further pass it is the expected logs under the
    distribution from the pass before, at the depth that the encoder saw, since logs of expected counts would be larger
    than any logs in training. Fractions of expression are averaged over draws. The encoder places all cells, those with few
    molecules as well, which restoring places by their likelihood (:mod:`scdae.core.prediction.refine`).

    The gradient treats a thinned copy as ``keep`` times the counts, its expectation, and a rounded one as the counts (a
    straight-through estimate: Bengio, Leonard and Courville 2013; against defenses, Athalye, Carlini and Wagner 2018).
    """
    counts, depth = jnp.asarray(counts, jnp.float32), jnp.asarray(depth, jnp.float32)
    conditions = no_conditions(counts.shape[0]) if conditions is None else conditions
    axes = fitted.axes
    share = None if observed is None else np.float32(max(fitted.profile[np.asarray(observed)].sum(), 1e-6))
    by_level = None if fitted.laws is None else fitted.laws.by_level
    known = axes.weight, axes.center, axes.effects, axes.gene_mean, share, by_level
    static = {"likelihood": fitted.likelihood, "n_passes": int(how.n_passes), "scale": scale}
    keep = np.float32(how.keep)
    return _project(fitted.network, counts, depth, drawn, conditions, observed, known, fitted.inflated, keep, **static)


@partial(jax.jit, static_argnames=("likelihood", "n_passes", "scale"))
def _project(
    network: Network,
    counts: jax.Array,
    depth: jax.Array,
    drawn: Any,
    conditions: Conditions,
    observed: Any,
    known: tuple[Any, ...],
    inflated: Any,
    keep: Any,
    *,
    likelihood: str,
    n_passes: int,
    scale: str,
) -> jax.Array:
    model: Autoencoder = network.merged()
    weight, center, effects, gene_mean, seen_share, by_level = known
    theta = jnp.full(counts.shape[1], POISSON, jnp.float32) if likelihood == "poisson" else model.theta(inflated)
    theta = theta[None, :]
    factor = input_factor(effects, conditions)

    def decoded(logs: jax.Array) -> jax.Array:
        latent = model.encode(on_axes(logs, weight, center), conditions)
        return jnp.exp(corrected_proportions(by_level, model.decode(latent, conditions), None))

    def projected(shown: jax.Array) -> jax.Array:
        corrected = shown if factor is None else shown / factor
        total = corrected.sum(axis=1, keepdims=True)
        exposure = total if observed is None else total / seen_share
        logs = input_logs(corrected, input_scale(exposure))
        share = decoded(logs if observed is None else jnp.where(observed, logs, gene_mean))
        exposure = jnp.maximum(jax.lax.stop_gradient(exposure), 1.0)
        for _ in range(n_passes - 1):
            inner = share if factor is None else share / factor
            inner = inner / inner.sum(axis=1, keepdims=True)
            share = decoded(expected_log1p_by_mean(exposure * inner, theta, TARGET / exposure))
        return share

    if drawn is None:
        share = projected(counts)
    else:
        slope = keep * (counts - jax.lax.stop_gradient(counts))  # 0, except in the gradient
        share = jax.lax.map(lambda draw: projected(draw + slope), drawn).mean(axis=0)
    if scale == "counts":
        return depth[:, None] * share
    safe = jnp.maximum(depth, 1.0)[:, None]
    return expected_log1p_by_mean(safe * share, theta, TARGET / safe)
