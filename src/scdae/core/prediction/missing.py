"""Missing values filled by self-consistency: the filled values are those that the model reconstructs.

A profile is completed and reconstructed, the reconstruction replaces the missing values, and so on until nothing
changes: the fixed point of "complete, encode, decode". A missing value is filled with its expected log count under the
model's distribution, at the cell's exposure, which follows from its own profile. Iteration starts at the genes' means;
without iteration, these are what the encoder sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.config import FixedPoint
from scdae.core.data.minibatch import Batch, observed_mask, scatter
from scdae.core.distributions.expected_log1p import POISSON, expected_log1p
from scdae.core.network.encoder_input import input_factor, input_logs, input_scale, on_axes
from scdae.core.network.parameters import Network

__all__ = ["Completion", "Gaps", "complete"]


class Completion(NamedTuple):
    """Inputs of the encoder, with missing values filled."""

    inputs: jax.Array  # float32 (b, n_components)
    change: jax.Array  # float32 (u,): last change of each missing log count; 0 for padding
    n_iter: jax.Array  # int32
    contraction: jax.Array  # float32: norm of the last change, relative to the one before


@partial(jax.jit, static_argnames=("likelihood", "how"))
def complete(
    network: Network, batch: Batch, weight: Any, center: Any, effects: Any, likelihood: str, how: FixedPoint
) -> Completion:
    """Fill the missing values of a batch of cells.

    Parameters
    ----------
    network
        The network.
    batch
        The cells; some values must be missing.
    weight, center, effects
        Fields of the axes.
    likelihood
        Distribution of the counts.
    how
        Tolerance, maximum number of iterations, damping.
    """
    model = network.merged()
    n_cells, n_vars = batch.inputs.shape[0], model.log_profile.shape[0]
    seen = observed_mask(batch, n_cells, n_vars)
    observed = jnp.ones((n_cells, n_vars), bool) if seen is None else seen
    factor = input_factor(effects, batch.conditions)
    counts = batch.x_in if factor is None else batch.x_in / factor[batch.rows, batch.cols]
    total = jnp.zeros(n_cells, jnp.float32).at[batch.rows].add(counts)
    theta = jnp.full(n_vars, POISSON, jnp.float32) if likelihood == "poisson" else model.theta()
    real = batch.hidden_cols < n_vars
    gaps = batch.hidden_rows, jnp.minimum(batch.hidden_cols, n_vars - 1)

    def inputs_of(fill: jax.Array, exposure: jax.Array) -> jax.Array:
        scale = input_scale(exposure)
        values = scatter(input_logs(counts, scale[batch.rows]), batch, n_cells, n_vars)
        values = values.at[batch.hidden_rows, batch.hidden_cols].set(fill, mode="drop")
        return on_axes(values, weight, center)

    def put_in(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Compute filled values and exposure from the reconstruction."""
        share = jax.nn.softmax(model.decode(model.encode(inputs, batch.conditions), batch.conditions), axis=1)
        if factor is not None:  # the encoder sees the profile with the effects removed
            share = share / factor
            share = share / share.sum(axis=1, keepdims=True)
        exposure = total / jnp.maximum(jnp.where(observed, share, 0).sum(axis=1), 1e-6)
        mean = exposure[gaps[0]] * share[gaps]
        scale = input_scale(exposure[gaps[0]])
        return jnp.where(real, expected_log1p(mean, theta[gaps[1]], scale), 0), exposure

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        fill, exposure, _, before, k = state
        new, new_exposure = put_in(inputs_of(fill, exposure))
        moved = how.damping * (new - fill)
        size = jnp.sqrt((moved**2).sum())
        return fill + moved, exposure + how.damping * (new_exposure - exposure), moved, (size, before[0]), k + 1

    def goes_on(state: tuple[Any, ...]) -> jax.Array:
        *_, moved, _, k = state
        return (k < how.max_iter) & (jnp.abs(moved).max() > how.tolerance)

    counted = total > 0  # without counts, missing values keep the means
    fill, exposure = put_in(batch.inputs)
    start = (fill, exposure, jnp.full_like(fill, jnp.inf), (jnp.float32(jnp.inf), jnp.float32(jnp.inf)), jnp.int32(0))
    fill, exposure, moved, (last, before), n_iter = jax.lax.while_loop(goes_on, step, start)
    inputs = jnp.where(counted[:, None], inputs_of(fill, exposure), batch.inputs)
    return Completion(inputs, moved, n_iter, last / before)


@dataclass
class Gaps:
    """Missing values of all batches, and how well they converged."""

    n_unobserved: int = 0
    n_unconverged: int = 0
    n_iter: int = 0
    contractions: list[float] = field(default_factory=list)

    def add(self, completion: Completion, batch: Batch, n_cells: int, how: FixedPoint) -> None:
        """Count the missing values of the first `n_cells` cells of a batch; the others are padding."""
        moved = np.abs(np.asarray(completion.change)) > how.tolerance  # padding does not change
        self.n_unconverged += int(moved[batch.hidden_rows < n_cells].sum())
        self.n_iter = max(self.n_iter, int(completion.n_iter))
        if np.isfinite(completion.contraction):
            self.contractions.append(float(completion.contraction))

    def report(self) -> dict[str, Any]:
        """Return counts of missing and of unconverged values, most iterations, and the typical contraction."""
        return {
            "n_unobserved": self.n_unobserved,
            "n_unconverged": self.n_unconverged,
            "n_iter": self.n_iter,
            "contraction": float(np.median(self.contractions)) if self.contractions else 0.0,
        }
