"""The network with the loadings that Newton's method finds for the positions of its cells."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.network.autoencoder import total_effects, with_values
from scdae.core.network.fitted import Fitted
from scdae.core.network.principal_axes import normalize, project
from scdae.core.prediction.encode import latents
from scdae.core.training.newton import refit, standard_axes
from scdae.core.training.regressions import Cells, Refit

__all__ = ["affordable", "solve_loadings"]

_EFFECTS = 32  # of conditions, as many as are solved for with the loadings
_PRICE = 4e11  # products in a round: some ten seconds on two cores
_EXPONENTIAL = 60  # products that one takes as long as
_FEWEST = 8192  # cells that are always taken
_LOG = logging.getLogger("scdae")


def solve_loadings(
    fitted: Fitted, data: CellData, towards: Any = None, *, n_rounds: int = 3
) -> tuple[Any, Refit | None]:
    """Solve for the loadings and the mean profile, given the latent positions of the cells.

    Parameters
    ----------
    fitted
        A trained network.
    data
        Cells with the molecules that were trained on.
    towards
        Parameters to whose loadings those found are drawn, and whose latent space stays as it is; None for a new network, whose
        loadings are drawn to zero, and whose latent space is moved so that its mean is zero.
    n_rounds
        Rounds of :func:`scdae.core.training.newton.refit`.

    Returns
    -------
    tuple
        Parameters with new loadings, and how they were found; None where all cells lie in one place.
    """
    values = {name: np.asarray(value) for name, value in nnx.to_pure_dict(fitted.params).items()}
    data = data.take(affordable(data.n_obs, data.n_vars, len(values["latent_bias"])))
    latent = np.concatenate([part for _, part in latents(fitted, data)])
    if not np.isfinite(latent).all() or len(latent) < 2:
        return fitted.params, None
    mean, axes = standard_axes(latent)
    if not axes.shape[1]:
        return fitted.params, None
    back = np.linalg.pinv(axes)
    has_turns = values.get("turn_loading") is not None
    positions = ((latent - mean) @ axes).astype(np.float32)
    response = (fitted.axes.weight @ _slope(values, project(fitted.axes, data)) @ axes).astype(np.float32)
    start, n_axes = back @ values["loading"], axes.shape[1]
    goal = np.zeros(start.shape) if towards is None else back @ np.asarray(nnx.to_pure_dict(towards)["loading"])
    effects = total_effects(values)
    along = (
        effects is not None and len(effects) <= _EFFECTS
    )  # what batches do is found with the loadings, or these take it over
    if effects is not None and along:
        positions = np.concatenate([positions, _columns(data.conditions, len(effects))], axis=1)
        response = np.concatenate([response, np.zeros((data.n_vars, len(effects)), np.float32)], axis=1)
        start, goal = (np.concatenate([part, effects]) for part in (start, goal))
    cells = Cells(
        data.counts,
        positions,
        data.unobserved,
        data.conditions,
        np.asarray(_turned(fitted.graph, fitted.params, latent, data.conditions)) if has_turns else None,
        normalize(data, fitted.axes.effects).data,
        response,
    )
    solution = refit(
        cells,
        start,
        values["log_profile"] + mean @ values["loading"],
        effects=None if along else effects,
        turn_loading=values["turn_loading"] if has_turns else None,
        kept=1 - fitted.inflated / (1 + np.exp(-values["logit_pi"].astype(np.float64))),
        n_rounds=n_rounds,
        center=goal,
    )
    _LOG.debug(
        f"scdae: loadings solved for by Newton's method on {axes.shape[1]} axes: {', '.join(f'{x:.5f}' for x in solution.gain)} nats a "
        f"molecule gained in the rounds; steps refused: {', '.join(map(str, solution.refused))} of {data.n_vars} genes."
    )
    loading = axes @ solution.loading[:n_axes]
    if along:
        values["batch_effect"] = solution.loading[n_axes:] - values["batch_start"]
    values["loading"] = loading
    if towards is not None:
        values["log_profile"] = solution.intercept - mean @ loading
        return with_values(fitted.params, values), solution
    values["log_profile"] = solution.intercept
    values["latent_bias"] = values["latent_bias"] - mean
    if has_turns:
        values["turn_bias"] = values["turn_bias"] + mean @ values["turn_kernel"]
    return with_values(fitted.params, values), solution


def affordable(n_obs: int, n_vars: int, n_latent: int) -> np.ndarray:
    """Cells that the loadings are solved for with: all, or as many, at equal distances, as the price of a round allows.

    Examples
    --------
    >>> len(affordable(20_000, 3_000, 64)), len(affordable(10**6, 20_000, 12))
    (20000, 132450)
    """
    pairs = (n_latent + 1) * (n_latent + 2) / 2
    most = max(int(_PRICE / (n_vars * (pairs + _EXPONENTIAL))), _FEWEST)
    return np.arange(n_obs) if most >= n_obs else np.linspace(0, n_obs - 1, most).astype(np.int64)


def _columns(conditions: Conditions, n_effects: int) -> np.ndarray:
    """Conditions as numbers: which levels a cell has, and its values, float32 (n_obs, n_effects)."""
    n_levels = n_effects - conditions.values.shape[1]
    has = (np.asarray(conditions.levels)[:, :, None] == np.arange(n_levels)).sum(axis=1)
    return np.concatenate([has, conditions.values], axis=1).astype(np.float32)


def _slope(values: dict[str, Any], inputs: np.ndarray) -> np.ndarray:
    """How far the latent numbers move with each of the encoder's inputs, on average over the cells: (n_inputs, n_latent)."""
    hidden = np.asarray(inputs @ values["hidden_kernel"] + values["hidden_bias"], np.float32)
    slope = np.asarray(_gelu_slope(hidden))
    return np.asarray((values["hidden_kernel"] * slope.mean(axis=0)) @ values["latent_kernel"])


@jax.jit
def _gelu_slope(hidden: jax.Array) -> jax.Array:
    return jax.jvp(jax.nn.gelu, (hidden,), (jnp.ones_like(hidden),))[1]


def _turned(graph: Any, params: Any, latent: np.ndarray, conditions: Conditions) -> jax.Array:
    return nnx.merge(graph, params).turned(jnp.asarray(latent), conditions)
