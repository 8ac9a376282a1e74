"""Read a fitted model out: expected counts, proportions, uncertainty and the latent space, in batches of cells."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scdae.core.batches import Batch, cells_at_once, observed_mask, scatter, slice_batches
from scdae.core.cells import CellData
from scdae.core.fitting import Fitted
from scdae.core.heldout import restore
from scdae.core.objective import log_proportions
from scdae.core.posterior import posterior_sd

__all__ = ["OUTPUTS", "read_out"]

OUTPUTS = {
    "mean": "expected counts at the cell's own depth",
    "prior": "expected counts at the cell's own depth, without the cell's own count of the gene",
    "rate": "share of the cell's expression",
    "sd": "standard deviation of the expected count, in counts at the cell's own depth",
}


def read_out(fitted: Fitted, data: CellData, output: str) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Read the model out, row by row in order.

    Yields
    ------
    tuple
        Slice of cells, float32 (cells, n_kept) values of `output`, and float32 (cells, n_latent) latent representation.
    """
    for rows, batch in slice_batches(data, fitted.axes, cells_at_once(data.n_obs, data.n_vars)):
        values, latent = _read_out(
            fitted.graph, fitted.params, batch, fitted.inflated, fitted.likelihood, output=output
        )
        n_cells = rows.stop - rows.start
        yield rows, np.asarray(values)[:n_cells], np.asarray(latent)[:n_cells]


@partial(jax.jit, static_argnames=("graph", "likelihood", "output"))
def _read_out(
    graph: Any, params: Any, batch: Batch, inflated: Any, likelihood: str, *, output: str
) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, params)
    n_cells, n_vars = batch.codes.shape[0], model.log_profile.shape[0]
    total = jnp.zeros(n_cells).at[batch.rows].add(batch.x_in)
    observed = observed_mask(batch, n_cells, n_vars)
    latent = model.encode(batch.inputs)
    share = jnp.exp(log_proportions(model.decode(latent, batch.codes), observed))
    return _output(model, batch, share, total, observed, inflated, likelihood, output), latent


def _output(
    model: Any,
    batch: Batch,
    share: jax.Array,
    total: jax.Array,
    observed: jax.Array | None,
    inflated: Any,
    likelihood: str,
    output: str,
) -> jax.Array:
    mean = total[:, None] * share
    if output == "prior":
        return mean
    x = scatter(batch.x_in, batch, *mean.shape)
    if output == "sd":
        if likelihood == "poisson":
            return jnp.zeros_like(mean)
        theta = model.theta(inflated)
        spread = posterior_sd(x, mean, theta, model.pi(inflated) if likelihood == "zinb" else None)
        return spread if observed is None else jnp.where(observed, spread, mean / jnp.sqrt(theta))
    restored, _ = restore(model, x, mean, inflated, likelihood)
    restored = restored if observed is None else jnp.where(observed, restored, mean)
    if output == "mean":
        return restored
    exposure = total * share.sum(axis=1)
    return restored / jnp.maximum(exposure, 1e-12)[:, None]
