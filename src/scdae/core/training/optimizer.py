"""How the parameters are moved: AdamW with Nesterov momentum, in which some move faster, some are decayed and some stay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scdae.core.network.parameters import ROLES
from scdae.core.steps.numbers import Pace

__all__ = ["Optimizer", "decay_towards"]

_GENE_RATE = 10.0  # learning rate of dispersion and dropout (on the log scale) relative to the rest


@dataclass(frozen=True)
class Optimizer:
    """AdamW with Nesterov momentum, warm-up and cosine decay; gene-wise parameters move faster and are not decayed.

    Two of the same learning rate are equal, so that what is compiled for one training serves the next.

    Parameters
    ----------
    learning_rate
        The highest, at the end of the warm-up.
    """

    learning_rate: float

    def __call__(self, pace: Pace) -> optax.GradientTransformation:
        """Make it for a pace."""
        return optax.chain(
            optax.flatten(optax.scale_by_adam(b2=0.99, nesterov=True)),  # one array is compiled faster than many
            optax.masked(decay_towards(pace.towards, pace.weight_decay), partial(_has, kind="decayed")),
            optax.masked(optax.scale(_GENE_RATE), partial(_has, kind="gene")),
            optax.scale_by_learning_rate(lambda count: self.learning_rate * _share_of_rate(count, pace)),
            optax.masked(optax.set_to_zero(), partial(_has, kind="fixed")),
        )


def _has(params: Any, kind: str) -> Any:
    """Mark the parameters of a kind: a bool in place of each."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _kind(path) == kind, params)


def _kind(path: Any) -> str:
    names = [str(getattr(part, "key", part)) for part in path]
    role = next(ROLES[name] for name in names if name in ROLES)
    if not role.trained:
        return "fixed"
    return "gene" if role.fast else "decayed" if role.decayed else "plain"


def _share_of_rate(count: Any, pace: Pace) -> jax.Array:
    """Rises in a straight line from 0 to 1, and falls along half a cosine to 0."""
    count = jnp.asarray(count, jnp.float32)
    done = jnp.clip((count - pace.n_rising) / pace.n_falling, 0, 1)
    return jnp.where(count < pace.n_rising, count / pace.n_rising, 0.5 * (1 + jnp.cos(np.pi * done)))


def decay_towards(center: Any, rate: float | None) -> optax.GradientTransformation:
    """Decoupled weight decay, to zero or to the parameters in `center`."""
    if center is None:
        return optax.add_decayed_weights(rate)

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        def pull(step: Any, value: Any, goal: Any) -> Any:
            return step if isinstance(step, optax.MaskedNode) else step + rate * (value - goal)

        masked = lambda node: isinstance(node, optax.MaskedNode)
        return jax.tree.map(pull, updates, params, center, is_leaf=masked), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
