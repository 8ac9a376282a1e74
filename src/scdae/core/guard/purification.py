"""Purification: profiles are projected on what a model has learned, that is, encoded and decoded.

A perturbation that is designed to fool a classifier lies mostly in directions in which cells do not vary. Encoder and
decoder represent only the few axes along which cells do vary, so that most of the perturbation is removed. The part
along the learned axes remains: the projection does not protect from an attack that takes it into account.

Everything is one differentiable function of the counts, :func:`project_profiles`; only the molecules that thinning
keeps are drawn beforehand, with :func:`thinned_draws`. Such an attack needs this function, and so does a test of the
protection against it.

Counts are whole numbers. What an attack adds in log space mostly is not: a small fraction of a molecule in each of many
genes, which the logarithm amplifies. Fractional counts are therefore first drawn or rounded.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.data.conditions import Conditions
from scdae.core.guard.projection import (
    FRACTIONS,
    SCALES,
    Purification,
    counts_of_logs,
    project_profiles,
    thinned_draws,
)
from scdae.core.network.encoder_input import TARGET
from scdae.core.network.fitted import Fitted

__all__ = [
    "FRACTIONS",
    "SCALES",
    "Purification",
    "counts_of_logs",
    "project_profiles",
    "purify_counts",
    "purify_logs",
    "thinned_draws",
]


def purify_counts(
    fitted: Fitted,
    counts: jax.Array,
    how: Purification,
    *,
    scale: str = "log1p",
    drawn: np.ndarray | None = None,
    conditions: Conditions | None = None,
    observed: np.ndarray | None = None,
) -> jax.Array:
    """Mix profiles, given as counts, with their projections; a cell without counts stays as it is.

    Parameters
    ----------
    counts
        float32 (n_obs, n_kept), zero or more. The depth of a cell is their sum.
    fitted, how, scale, drawn, conditions, observed
        As for :func:`project_profiles`.

    Returns
    -------
    jax.Array
        float32 (n_obs, n_kept): ``(1 - strength)`` of the profile plus ``strength`` of its projection, on `scale`.
    """
    counts = jnp.asarray(counts, jnp.float32)
    depth = counts.sum(axis=1)
    own = counts if scale == "counts" else jnp.log1p(counts * (TARGET / jnp.maximum(depth, 1e-12))[:, None])
    return _mixed(fitted, counts, depth, own, how, scale, drawn, conditions, observed)


def purify_logs(
    fitted: Fitted,
    logs: jax.Array,
    depth: jax.Array,
    how: Purification,
    *,
    scale: str = "log1p",
    drawn: np.ndarray | None = None,
    conditions: Conditions | None = None,
    observed: np.ndarray | None = None,
) -> jax.Array:
    """Mix profiles, given as log1p of counts per 10,000, with their projections, as :func:`purify_counts` does.

    Parameters
    ----------
    logs, depth
        As for :func:`counts_of_logs`.
    fitted, how, scale, drawn, conditions, observed
        As for :func:`project_profiles`; `drawn` is that of the counts.

    Returns
    -------
    jax.Array
        float32 (n_obs, n_kept); with strength 0 and ``scale="log1p"`` the logs themselves, including negative ones.
    """
    counts = counts_of_logs(logs, depth)
    own = counts if scale == "counts" else jnp.asarray(logs, jnp.float32)
    return _mixed(fitted, counts, jnp.asarray(depth, jnp.float32), own, how, scale, drawn, conditions, observed)


def _mixed(
    fitted: Fitted,
    counts: jax.Array,
    depth: jax.Array,
    own: jax.Array,
    how: Purification,
    scale: str,
    drawn: np.ndarray | None,
    conditions: Conditions | None,
    observed: np.ndarray | None,
) -> jax.Array:
    if how.strength == 0:
        return own
    options = {"scale": scale, "drawn": drawn, "conditions": conditions, "observed": observed}
    projected = project_profiles(fitted, counts, depth, how, **options)  # type: ignore[arg-type]
    mixed = how.strength * projected + (1 - how.strength) * own
    return jnp.where((counts.sum(axis=1) > 0)[:, None], mixed, own)
