"""The network with the loadings that Newton's method finds for the positions of its cells."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scdae.core.axes import normalise, project
from scdae.core.cells import CellData
from scdae.core.conditions import Conditions
from scdae.core.fitted import Fitted
from scdae.core.latents import latents
from scdae.core.network import total_effects, with_values
from scdae.core.newton import Cells, Refit, refit, standard_axes

__all__ = ["solve_loadings"]

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
        Rounds of :func:`scdae.core.newton.refit`.

    Returns
    -------
    tuple
        Parameters with new loadings, and how they were found; None where all cells lie in one place.
    """
    values = {name: np.asarray(value) for name, value in nnx.to_pure_dict(fitted.params).items()}
    latent = np.concatenate([part for _, part in latents(fitted, data)])
    if not np.isfinite(latent).all() or len(latent) < 2:
        return fitted.params, None
    mean, axes = standard_axes(latent)
    if not axes.shape[1]:
        return fitted.params, None
    back = np.linalg.pinv(axes)
    has_turns = values.get("turn_loading") is not None
    cells = Cells(
        data.counts,
        ((latent - mean) @ axes).astype(np.float32),
        data.unobserved,
        data.conditions,
        np.asarray(_turned(fitted.graph, fitted.params, latent, data.conditions)) if has_turns else None,
        normalise(data, fitted.axes.effects).data,
        (fitted.axes.weight @ _slope(values, project(fitted.axes, data)) @ axes).astype(np.float32),
    )
    found = refit(
        cells,
        back @ values["loading"],
        values["log_profile"] + mean @ values["loading"],
        effects=total_effects(values),
        turn_loading=values["turn_loading"] if has_turns else None,
        kept=1 - fitted.inflated / (1 + np.exp(-values["logit_pi"].astype(np.float64))),
        n_rounds=n_rounds,
        centre=None if towards is None else back @ np.asarray(nnx.to_pure_dict(towards)["loading"]),
    )
    _LOG.debug(
        f"scdae: loadings solved for by Newton's method on {axes.shape[1]} axes: {', '.join(f'{x:.5f}' for x in found.gain)} nats a "
        f"molecule gained in the rounds; steps refused: {', '.join(map(str, found.refused))} of {data.n_vars} genes."
    )
    loading = axes @ found.loading
    values["loading"] = loading
    if towards is not None:
        values["log_profile"] = found.intercept - mean @ loading
        return with_values(fitted.params, values), found
    values["log_profile"] = found.intercept
    values["latent_bias"] = values["latent_bias"] - mean
    if has_turns:
        values["turn_bias"] = values["turn_bias"] + mean @ values["turn_kernel"]
    return with_values(fitted.params, values), found


def _slope(values: dict[str, Any], inputs: np.ndarray) -> np.ndarray:
    """How far the latent numbers move with each of the encoder's inputs, on average over the cells: (n_inputs, n_latent)."""
    hidden = jnp.asarray(inputs @ values["hidden_kernel"] + values["hidden_bias"])
    _, slope = jax.jvp(jax.nn.gelu, (hidden,), (jnp.ones_like(hidden),))
    return np.asarray((values["hidden_kernel"] * np.asarray(slope).mean(axis=0)) @ values["latent_kernel"])


def _turned(graph: Any, params: Any, latent: np.ndarray, conditions: Conditions) -> jax.Array:
    return nnx.merge(graph, params).turned(jnp.asarray(latent), conditions)
