"""The network: an encoder from principal axes to the latent space, and a decoder to expected proportions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scdae.core.data.cell_sums import over_rows
from scdae.core.data.conditions import Conditions, effect_of
from scdae.core.network.batch_alignment import Alignment
from scdae.core.network.loss import Dropout
from scdae.core.network.parameters import ROLES, all_in_batch, total_effects, with_values

__all__ = ["Autoencoder", "all_in_batch", "total_effects", "with_values"]

_TURNS = 8
_MANY = 100  # levels


class Autoencoder(nnx.Module):
    """Encoder, decoder and the gene-wise parameters of the ZINB head.

    Parameters
    ----------
    profile
        Share of each gene in the average cell, (n_vars,): the decoder starts there.
    n_inputs
        Number of principal axes that the encoder gets.
    n_hidden
        Width of the encoder's hidden layer.
    n_latent
        Width of the bottleneck.
    effects
        Effect of each level and each continuous column on the log share of each gene, float32 (n_levels + n_continuous,
        n_vars), from which training starts; None where no conditions are known.
    alignment
        How far each batch lies from the common centroids of alike cells; None where there are no batches.
    with_turns
        Whether a condition may act on a gene more in some cells than in others.
    seed
        Seed of the initial weights, which are drawn with NumPy: nothing is compiled to make them.

    Notes
    -----
    ``rho`` is the softmax of the logits over the observed genes, ``theta = exp(log_theta)`` and ``pi =
    sigmoid(logit_pi)`` belong to the gene; with dropout the dispersion is ``exp(log_theta_zi)``. There is no batch
    normalization: a cell's result never depends on the cells next to it.

    Conditions act on the logits in two ways: by an effect on each gene, the same in all cells, and by a small hidden layer
    over the latent space whose biases they turn, so that the effect can differ between cell types. The encoder takes off
    what a batch adds, so that the latent space is common to all batches.
    """

    def __init__(
        self,
        profile: np.ndarray,
        *,
        n_inputs: int,
        n_hidden: int,
        n_latent: int,
        effects: np.ndarray | None = None,
        alignment: Alignment | None = None,
        with_turns: bool = True,
        seed: int = 0,
    ):
        n_vars = len(profile)
        floor = 0.1 * profile[profile > 0].min()
        rng = np.random.default_rng([seed, 2])

        def normal(scale: float, *shape: int) -> nnx.Param:
            return nnx.Param(scale * rng.standard_normal(shape, dtype=np.float32))

        def constant(value: float, *shape: int) -> nnx.Param:
            return nnx.Param(np.full(shape, value, np.float32))

        def of_genes(name: str) -> nnx.Param:
            return constant(ROLES[name].unknown or 0.0, n_vars)

        self.hidden_kernel = normal(n_inputs**-0.5, n_inputs, n_hidden)
        self.hidden_bias = constant(0, n_hidden)
        self.latent_kernel = normal(n_hidden**-0.5, n_hidden, n_latent)
        self.latent_bias = constant(0, n_latent)
        self.loading = normal(0.01, n_latent, n_vars)
        self.log_profile = nnx.Param(np.log(np.maximum(profile, floor)).astype(np.float32))
        self.log_theta = of_genes("log_theta")
        self.log_theta_zi = of_genes("log_theta_zi")
        self.logit_pi = of_genes("logit_pi")

        n_effects = 0 if effects is None else len(effects)
        turns = with_turns and n_effects > 0
        self.batch_start: Any = None if effects is None else nnx.Param(np.asarray(effects, np.float32))
        self.batch_effect: Any = None if effects is None else constant(0, *effects.shape)
        self.batch_turn: Any = normal(0.3, n_effects, _TURNS) if turns else None
        self.turn_kernel: Any = normal(n_latent**-0.5, n_latent, _TURNS) if turns else None
        self.turn_bias: Any = constant(0, _TURNS) if turns else None
        self.turn_loading: Any = normal(0.01, _TURNS, n_vars) if turns else None
        self.centroids: Any = None if alignment is None else nnx.Param(np.asarray(alignment.common))
        self.batch_centroids: Any = None if alignment is None else nnx.Param(np.asarray(alignment.of_level))
        self.centroid_scale: Any = None if alignment is None else nnx.Param(np.asarray(alignment.scale))

    def encode(self, inputs: jax.Array, conditions: Conditions) -> jax.Array:
        """Latent representation: (b, n_inputs) and the conditions of `b` cells to (b, n_latent)."""
        if self.centroids is not None:
            inputs = inputs - self._moved_by(inputs, conditions.levels[:, 0])
        hidden = jax.nn.gelu(inputs @ self.hidden_kernel[...] + self.hidden_bias[...][None, :])
        return hidden @ self.latent_kernel[...] + self.latent_bias[...][None, :]

    def _moved_by(self, inputs: jax.Array, level: jax.Array) -> jax.Array:
        """How far its batch has moved each cell: as far as the groups whose centroids in the batch are near."""
        near = self.batch_centroids[...][level]  # (b, n_groups, n_inputs)
        square = ((inputs[:, None] - near) ** 2).sum(axis=2)
        weight = jax.nn.softmax(-square / (2 * self.centroid_scale[...]), axis=1)
        return jnp.einsum("bk,bkc->bc", weight, near - self.centroids[...][None, :, :])

    def dropout(self) -> Dropout:
        """Law with dropout of every gene, whether it has any or not."""
        logit = self.logit_pi[...]
        return Dropout(jnp.exp(self.log_theta_zi[...]), jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit))

    def theta(self, inflated: Any = None) -> jax.Array:
        """Inverse dispersion (n_vars,): that of the law with dropout for the genes marked in `inflated`."""
        plain = jnp.exp(self.log_theta[...])
        return plain if inflated is None else jnp.where(inflated, jnp.exp(self.log_theta_zi[...]), plain)

    def pi(self, inflated: Any) -> jax.Array:
        """Probability of dropout (n_vars,): 0 for genes not marked in `inflated`."""
        return jnp.where(inflated, jax.nn.sigmoid(self.logit_pi[...]), 0)

    def turned(self, latent: jax.Array, conditions: Conditions) -> jax.Array:
        """What the conditions change in the hidden layer over the latent space: (b, n_turns)."""
        before = latent @ self.turn_kernel[...] + self.turn_bias[...][None, :]
        after = before + effects_on(self.batch_turn[...], conditions)
        return jax.nn.gelu(after) - jax.nn.gelu(before)

    def base(self, conditions: Conditions) -> jax.Array:
        """Logits of the mean profile under the conditions of `b` cells, before any latent part: (b, n_vars)."""
        profile = over_rows(self.log_profile[...], len(conditions.levels))
        return profile if self.batch_start is None else profile + effects_on(self.batch_start[...], conditions)

    def decode(self, latent: jax.Array, conditions: Conditions) -> jax.Array:
        """Unnormalized log proportions: (b, n_latent) and the conditions of `b` cells to (b, n_vars)."""
        logits = latent @ self.loading[...] + self.base(conditions)
        if self.batch_effect is None:
            return logits
        logits += effects_on(self.batch_effect[...], conditions)
        if self.batch_turn is None:
            return logits
        return logits + self.turned(latent, conditions) @ self.turn_loading[...]


def effects_on(effects: jax.Array, conditions: Conditions) -> jax.Array:
    """What :func:`~scdae.core.data.conditions.effect_of` gives, as a product where there are few levels: its gradient is quicker."""
    n_levels = effects.shape[0] - conditions.values.shape[1]
    if n_levels > _MANY:
        return effect_of(effects, conditions)
    every_level = jnp.arange(n_levels)[None, None, :]
    has = (conditions.levels[..., None] == every_level).sum(axis=1).astype(effects.dtype)  # (b, n_levels)
    return jnp.matmul(jnp.concatenate([has, conditions.values], axis=1), effects, precision="highest")
