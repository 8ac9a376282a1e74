"""The parameters of the network: one table of their roles, and access to them by name.

No other module lists parameters by role. mypy checks the keys of :class:`Values`, so that it reports every use of a
parameter that is renamed here.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

__all__ = [
    "ROLES",
    "Network",
    "Role",
    "Values",
    "all_in_batch",
    "having",
    "total_effects",
    "values_of",
    "with_values",
]

Array = Any  # NumPy or JAX


class Role(NamedTuple):
    """How a parameter is treated in training and afterwards."""

    trained: bool = True
    decayed: bool = False  # subject to weight decay
    fast: bool = False  # ten times the learning rate: dispersion and dropout of a gene, on the log scale
    gated: bool = False  # scaled by the gate of each gene
    of_conditions: bool = False  # a row for each level of the conditions, followed by one for each continuous column
    of_genes: bool = False  # the last axis is genes
    of_encoder: bool = False  # kept unchanged when a reference model is adapted
    unknown: float | None = None  # value for a gene without data; None for parameters without genes


class Values(TypedDict, total=False):
    """Values of the parameters by name; without conditions, their parameters are missing."""

    hidden_kernel: Array  # (n_inputs, n_hidden)
    hidden_bias: Array  # (n_hidden,)
    latent_kernel: Array  # (n_hidden, n_latent)
    latent_bias: Array  # (n_latent,)
    loading: Array  # (n_latent, n_vars)
    log_profile: Array  # (n_vars,): where the decoder starts
    log_theta: Array  # (n_vars,): inverse dispersion
    log_theta_zi: Array  # (n_vars,): the same under the distribution with dropout
    logit_pi: Array  # (n_vars,): probability of dropout
    batch_start: Array  # (n_effects, n_vars): effects of conditions, found before training
    batch_effect: Array  # (n_effects, n_vars): what training adds to them
    batch_turn: Array  # (n_effects, n_turns): interaction of conditions and latent space: biases of a hidden layer
    turn_kernel: Array  # (n_latent, n_turns)
    turn_bias: Array  # (n_turns,)
    turn_loading: Array  # (n_turns, n_vars)
    centroids: Array  # (n_groups, n_inputs): of groups of similar cells, common to all batches
    batch_centroids: Array  # (n_levels, n_groups, n_inputs): those of each batch
    centroid_scale: Array  # (): variance of a cell around its centroid


ROLES = {
    "hidden_kernel": Role(decayed=True, of_encoder=True),
    "hidden_bias": Role(of_encoder=True),
    "latent_kernel": Role(decayed=True, of_encoder=True),
    "latent_bias": Role(of_encoder=True),
    "loading": Role(decayed=True, gated=True, unknown=0.0, of_genes=True),
    "log_profile": Role(of_genes=True),
    "log_theta": Role(fast=True, unknown=float(np.log(5.0)), of_genes=True),
    "log_theta_zi": Role(fast=True, unknown=float(np.log(5.0)), of_genes=True),
    "logit_pi": Role(fast=True, unknown=-2.5, of_genes=True),
    "batch_start": Role(trained=False, of_conditions=True, of_genes=True),
    "batch_effect": Role(decayed=True, gated=True, of_conditions=True, of_genes=True),
    "batch_turn": Role(decayed=True, of_conditions=True),
    "turn_kernel": Role(decayed=True),
    "turn_bias": Role(),
    "turn_loading": Role(decayed=True, gated=True, of_genes=True),
    "centroids": Role(trained=False),
    "batch_centroids": Role(trained=False),
    "centroid_scale": Role(trained=False),
}


class Network(NamedTuple):
    """A network in the form that compiled functions take: its graph, which is static, and its parameters."""

    graph: Any  # of flax.nnx
    params: Any

    def merged(self) -> Any:
        """Return the module, a :class:`scdae.core.network.autoencoder.Autoencoder`."""
        return nnx.merge(self.graph, self.params)


def having(role: str) -> tuple[str, ...]:
    """Return the names of the parameters with a role, a field of :class:`Role`.

    Examples
    --------
    >>> having("gated")
    ('loading', 'batch_effect', 'turn_loading')
    """
    found = {name: getattr(roles, role) for name, roles in ROLES.items()}
    return tuple(name for name, value in found.items() if value is not None and value is not False)  # zero is a value


def values_of(params: Any) -> Values:
    """Copy the values of the parameters to NumPy arrays, by name."""
    return cast(Values, {name: np.array(value) for name, value in nnx.to_pure_dict(params).items()})


def with_values(params: Any, values: Any) -> Any:
    """Replace parameters by the float32 `values`, a dict by name; the others stay."""
    changed = jax.tree.map(lambda leaf: leaf, params)
    nnx.replace_by_pure_dict(changed, {name: jnp.asarray(value, jnp.float32) for name, value in values.items()})
    return changed


def total_effects(values: Any, genes: Any = slice(None)) -> np.ndarray | None:
    """Add up initial and learned effects of the conditions on some genes, from a dict of parameters."""
    if "batch_effect" not in values:
        return None
    return np.asarray(values["batch_start"])[:, genes] + np.asarray(values["batch_effect"])[:, genes]


def all_in_batch(params: Any, batch: np.ndarray) -> Any:
    """Change parameters so that the decoder treats every cell as one of the same batch.

    Parameters
    ----------
    params
        Of the network.
    batch
        Weight of each batch, (n_batches,): 1 for one of them; or all equal for the average batch, whose effects are
        averages on the log scale.
    """
    values: Any = values_of(params)
    for name in having("of_conditions"):
        if name in values:
            values[name][: len(batch)] = batch @ values[name][: len(batch)]
    return with_values(params, values)
