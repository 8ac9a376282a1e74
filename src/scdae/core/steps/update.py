"""One training step, compiled: the loss of a minibatch, its gradient, and the parameters moved by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scdae.core.data.minibatch import Batch, observed_mask
from scdae.core.minibatches.devices import Devices
from scdae.core.network.loss import entries_of, log_proportions, nb_sum, poisson_loss, zinb_loss
from scdae.core.steps.numbers import Pace, Terms

__all__ = ["Objective", "Update", "make_objective", "make_update"]

Objective = Callable[[Any, Batch, Terms], jax.Array]
Update = Callable[[Any, Any, list[Batch]], tuple[Any, Any, jax.Array]]


_KEPT = 8  # programs of earlier trainings in this process


@lru_cache(_KEPT)
def make_objective(graph: Any, likelihood: str, n_vars: int) -> Objective:
    """Loss of a minibatch: encode, decode, and score the molecules that were set aside.

    Parameters
    ----------
    graph
        The network.
    likelihood
        The distribution of the counts.
    n_vars
        Genes.

    Returns
    -------
    callable
        From parameters, a minibatch, or one of its parts, and what its data add, to a float32 scalar. The losses of the
        parts add up to that of the minibatch. It is the same function each time, for which nothing is compiled again.
    """

    def sum_of(terms: tuple[jax.Array, jax.Array], where: jax.Array | None) -> jax.Array:
        return (terms[0] if where is None else jnp.where(where, terms[0], 0)).sum() + terms[1].sum()

    def objective(params: Any, batch: Batch, of_data: Terms) -> jax.Array:
        model = nnx.merge(graph, params)
        observed = batch.scored
        if observed is None:
            observed = observed_mask(batch, batch.inputs.shape[0], n_vars)
        logits = model.decode(model.encode(batch.inputs, batch.conditions), batch.conditions)
        if likelihood == "poisson":
            log_rho = log_proportions(logits, observed)
            loss = poisson_loss(jnp.exp(log_rho), batch.total_out, entries_of(log_rho, batch))
            return sum_of(loss, observed) / of_data.molecules
        genes, real = of_data.genes, of_data.real
        if genes is None or real is None:
            return nb_sum(logits, model.theta(), batch, observed)[0] / of_data.molecules

        # Most genes have no dropout: their sum has its gradient on paper, and the rest is worked out for the others
        # alone.
        value, norm = nb_sum(logits, model.theta(), batch, observed, ~jnp.asarray(of_data.inflated))
        some = batch._replace(
            **{name: getattr(batch, name)[batch.chosen] for name in ("rows", "cols", "x_in", "x_out")}
        )
        law, column = model.dropout().at(genes), jnp.asarray(of_data.column)[some.cols]
        rho = jnp.exp(logits[:, genes] - norm)
        with_it = zinb_loss(rho, batch.total_in, batch.total_out, law, entries_of(logits, some, norm), law.at(column))
        seen = jnp.asarray(real) if observed is None else observed[:, genes] & real[None, :]
        value += sum_of(with_it, seen)
        value += of_data.cost * jnp.where(real, jnp.exp(law.log_drop), 0).sum()
        return value / of_data.molecules

    return objective


def make_update(
    objective: Objective,
    optimizer: Callable[[Pace], optax.GradientTransformation],
    devices: Devices,
    of_data: Terms,
    pace: Pace,
) -> Update:
    """Compile a step.

    Parameters
    ----------
    objective
        From :func:`make_objective`.
    optimizer
        Moves the parameters along the gradient, at a pace.
    devices
        On what it is computed.
    of_data, pace
        Numbers of this training. They are handed to what is compiled, which serves trainings with other numbers, too.

    Returns
    -------
    callable
        From parameters, optimizer state and the parts of a minibatch to both and the loss. The state passed in is used
        up.
    """
    programs = _programs(objective, optimizer, devices)
    zeros: list[Any] = []  # of loss and gradient, made once

    def step(params: Any, state: Any, batches: list[Batch]) -> tuple[Any, Any, jax.Array]:
        if len(batches) == 1:
            return programs.update(params, state, batches[0], of_data, pace)
        if not zeros:
            zeros.append(devices.place(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (np.float32(0), params))))
        total = zeros[0]
        for part in batches:
            total = programs.add(params, total, part, of_data)
        return *programs.move(params, state, total[1], pace), total[0]

    return step


class _Programs(NamedTuple):
    update: Callable[..., Any]  # the whole step
    add: Callable[..., Any]  # loss and gradient of a part added to those of others
    move: Callable[..., Any]  # the parameters along a gradient


@lru_cache(_KEPT)
def _programs(
    objective: Objective, optimizer: Callable[[Pace], optax.GradientTransformation], devices: Devices
) -> _Programs:
    value_and_gradient = devices.gradient(objective)

    def move(params: Any, state: Any, gradient: Any, pace: Pace) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # Adam of optax takes a float to the power of a step number
            moves, state = optimizer(pace).update(gradient, state, params)
        return optax.apply_updates(params, moves), state

    @partial(jax.jit, donate_argnums=(1,))
    def update(params: Any, state: Any, batch: Batch, of_data: Terms, pace: Pace) -> tuple[Any, Any, jax.Array]:
        loss, gradient = value_and_gradient(params, batch, of_data)
        return *move(params, state, gradient, pace), loss

    @jax.jit
    def add(params: Any, total: Any, part: Batch, of_data: Terms) -> Any:
        return jax.tree.map(jnp.add, total, value_and_gradient(params, part, of_data))

    return _Programs(update, add, jax.jit(move, donate_argnums=(1,)))
