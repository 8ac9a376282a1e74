"""The parameters of the network: one table of what each is for, and how they are looked at and changed by name.

Nothing else in the package lists parameters by what is done to them. Keys of :class:`Values` are checked by mypy, so a parameter
that is renamed here is found wherever it is used.
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
    """What is done to a parameter in training and after it."""

    trained: bool = True
    decayed: bool = False  # its weights decay
    fast: bool = False  # moves ten times as fast: dispersion and dropout of a gene, on the log scale
    gated: bool = False  # scaled by the gate of each gene
    of_conditions: bool = (
        False  # a row for each level of the conditions, and after these one for each continuous column
    )
    of_genes: bool = False  # the last axis is that of the genes
    of_encoder: bool = False  # taken over as it is where training goes on from a reference
    unknown: float | None = None  # value for a gene that nothing is known of; None where that is no matter of genes


class Values(TypedDict, total=False):
    """Values of the parameters by name; those of conditions are missing where none are known."""

    hidden_kernel: Array  # (n_inputs, n_hidden)
    hidden_bias: Array  # (n_hidden,)
    latent_kernel: Array  # (n_hidden, n_latent)
    latent_bias: Array  # (n_latent,)
    loading: Array  # (n_latent, n_vars)
    log_profile: Array  # (n_vars,): where the decoder starts
    log_theta: Array  # (n_vars,): inverse dispersion
    log_theta_zi: Array  # (n_vars,): the same under the distribution with dropout
    logit_pi: Array  # (n_vars,): probability of dropout
    batch_start: Array  # (n_effects, n_vars): effects of conditions as they were found before training
    batch_effect: Array  # (n_effects, n_vars): what training adds to them
    batch_turn: Array  # (n_effects, n_turns): interaction of conditions and latent space: biases of its hidden layer
    turn_kernel: Array  # (n_latent, n_turns)
    turn_bias: Array  # (n_turns,)
    turn_loading: Array  # (n_turns, n_vars)
    centroids: Array  # (n_groups, n_inputs): of groups of alike cells, common to all batches
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
    """A network as compiled functions take it: its graph, which is no array, and its parameters."""

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
    """Return the values of parameters by name, as NumPy arrays that may be changed: no parameter changes with them."""
    return cast(Values, {name: np.array(value) for name, value in nnx.to_pure_dict(params).items()})


def with_values(params: Any, values: Any) -> Any:
    """Parameters like `params` with float32 `values`, a dict by name; those that it lacks stay."""
    changed = jax.tree.map(lambda leaf: leaf, params)
    nnx.replace_by_pure_dict(changed, {name: jnp.asarray(value, jnp.float32) for name, value in values.items()})
    return changed


def total_effects(values: Any, genes: Any = slice(None)) -> np.ndarray | None:
    """Effects of the conditions on some genes, where they started and what was learned, from a dict of parameters."""
    if "batch_effect" not in values:
        return None
    return np.asarray(values["batch_start"])[:, genes] + np.asarray(values["batch_effect"])[:, genes]


def all_in_batch(params: Any, batch: np.ndarray) -> Any:
    """Parameters whose decoder takes every cell for one of the same batch.

    Parameters
    ----------
    params
        Of the network.
    batch
        Share of each batch in the one that is meant, (n_batches,): one of them is 1, or all are equal for the average batch,
        in which effects are those of the batches averaged on the log scale.
    """
    values: Any = values_of(params)
    for name in having("of_conditions"):
        if name in values:
            values[name][: len(batch)] = batch @ values[name][: len(batch)]
    return with_values(params, values)
