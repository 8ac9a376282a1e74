"""One training step, compiled: the loss of a minibatch, its gradient, and the parameters moved by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scdae.core.config import Config
from scdae.core.data.minibatch import Batch, observed_mask
from scdae.core.evaluation.zero_inflation import DROPOUT_COST
from scdae.core.minibatches.devices import Devices
from scdae.core.minibatches.loader import Source
from scdae.core.network.loss import entries_of, log_proportions, nb_sum, poisson_loss, zinb_loss

__all__ = ["Objective", "Update", "make_objective", "make_update"]

Objective = Callable[[Any, Batch], jax.Array]
Update = Callable[[Any, Any, list[Batch]], tuple[Any, Any, jax.Array]]


def make_objective(
    graph: Any, config: Config, source: Source, inflated: np.ndarray, *, batch_size: int, parts: int
) -> Objective:
    """Loss of a minibatch: encode, decode, and score the molecules that were set aside.

    Parameters
    ----------
    graph
        The network.
    config
        Settings.
    source
        All cells, whose mean number of molecules is the unit of the loss.
    inflated
        bool (n_vars,): genes that are scored by the distribution with dropout, all others by the one without.
    batch_size, parts
        Cells in a step, and in how many parts they are computed.

    Returns
    -------
    callable
        From parameters and a minibatch, or one of its parts, to a float32 scalar. The losses of the parts add up to that of
        the minibatch.
    """
    molecules, n_obs, n_vars = source.molecules / source.n_obs, source.n_obs, source.n_vars
    genes = np.flatnonzero(inflated)
    column_of_gene = np.maximum(np.cumsum(inflated) - 1, 0).astype(np.int32)  # among those with dropout

    def sum_of(terms: tuple[jax.Array, jax.Array], where: jax.Array | None) -> jax.Array:
        return (terms[0] if where is None else jnp.where(where, terms[0], 0)).sum() + terms[1].sum()

    def objective(params: Any, batch: Batch) -> jax.Array:
        model = nnx.merge(graph, params)
        observed = batch.scored
        if observed is None:
            observed = observed_mask(batch, batch.inputs.shape[0], n_vars)
        logits = model.decode(model.encode(batch.inputs, batch.conditions), batch.conditions)
        if config.likelihood == "poisson":
            log_rho = log_proportions(logits, observed)
            loss = poisson_loss(jnp.exp(log_rho), batch.total_out, entries_of(log_rho, batch))
            return sum_of(loss, observed) / (molecules * batch_size)
        if not len(genes):
            return nb_sum(logits, model.theta(), batch, observed)[0] / (molecules * batch_size)

        # Most genes have no dropout: their sum has its gradient on paper, and the rest is worked out for the others alone.
        value, norm = nb_sum(logits, model.theta(), batch, observed, ~jnp.asarray(inflated))
        some = batch._replace(
            **{name: getattr(batch, name)[batch.chosen] for name in ("rows", "cols", "x_in", "x_out")}
        )
        law, column = model.dropout().at(genes), jnp.asarray(column_of_gene)[some.cols]
        rho = jnp.exp(logits[:, genes] - norm)
        with_it = zinb_loss(rho, batch.total_in, batch.total_out, law, entries_of(logits, some, norm), law.at(column))
        value += sum_of(with_it, None if observed is None else observed[:, genes])
        value += DROPOUT_COST * batch_size / (n_obs * parts) * jnp.exp(law.log_drop).sum()
        return value / (molecules * batch_size)

    return objective


def make_update(objective: Objective, optimizer: optax.GradientTransformation, devices: Devices) -> Update:
    """Compile a step.

    Parameters
    ----------
    objective
        From :func:`make_objective`.
    optimizer
        Moves the parameters along the gradient.
    devices
        On what it is computed.

    Returns
    -------
    callable
        From parameters, optimizer state and the parts of a minibatch to both and the loss. The state passed in is used up.
    """
    value_and_gradient = devices.gradient(objective)

    def move(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # Adam of optax takes a float to the power of a step number
            moves, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, moves), state

    @partial(jax.jit, donate_argnums=(1,))
    def update(params: Any, state: Any, batch: Batch) -> tuple[Any, Any, jax.Array]:
        loss, gradient = value_and_gradient(params, batch)
        return *move(params, state, gradient), loss

    @jax.jit
    def add(params: Any, total: Any, part: Batch) -> Any:
        return jax.tree.map(jnp.add, total, value_and_gradient(params, part))

    move_by = jax.jit(move, donate_argnums=(1,))
    zeros: list[Any] = []  # of loss and gradient, made once

    def step(params: Any, state: Any, batches: list[Batch]) -> tuple[Any, Any, jax.Array]:
        if len(batches) == 1:
            return update(params, state, batches[0])
        if not zeros:
            zeros.append(devices.place(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (np.float32(0), params))))
        total = zeros[0]
        for part in batches:
            total = add(params, total, part)
        return *move_by(params, state, total[1]), total[0]

    return step
