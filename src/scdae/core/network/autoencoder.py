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
        Fraction of each gene in the average cell, (n_vars,), from which the decoder starts.
    n_inputs
        Number of principal axes in the input of the encoder.
    n_hidden
        Width of the encoder's hidden layer.
    n_latent
        Width of the bottleneck.
    effects
        Effect of each level and each continuous column on the log fraction of each gene, from which training starts,
        float32 (n_levels + n_continuous, n_vars); None without conditions.
    alignment
        Centroids of groups of similar cells, in each batch and common to all; None without batches.
    with_turns
        Whether the effect of a condition on a gene may differ between cells (interaction with the latent space).
    seed
        Seed of the initial weights. They are drawn with NumPy, so that nothing has to be compiled for them.

    Notes
    -----
    ``rho`` is the softmax of the logits over the observed genes. ``theta = exp(log_theta)`` and ``pi =
    sigmoid(logit_pi)`` belong to the gene; with dropout the inverse dispersion is ``exp(log_theta_zi)``. There is no
    batch normalization, so that a cell's result never depends on the other cells of a minibatch.

    Conditions act on the logits in two ways: by an effect on each gene that is the same in all cells, and by a small
    hidden layer over the latent space whose biases they change, so that the effect can differ between cell types. The
    encoder subtracts the effect of the batch, so that the latent space is common to all batches.
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
        """Encode inputs (b, n_inputs) and the conditions of `b` cells to the latent space (b, n_latent)."""
        if self.centroids is not None:
            inputs = inputs - self._moved_by(inputs, conditions.levels[:, 0])
        hidden = jax.nn.gelu(inputs @ self.hidden_kernel[...] + self.hidden_bias[...][None, :])
        return hidden @ self.latent_kernel[...] + self.latent_bias[...][None, :]

    def _moved_by(self, inputs: jax.Array, level: jax.Array) -> jax.Array:
        """Average the shifts of the groups whose centroids in its batch are near each cell."""
        near = self.batch_centroids[...][level]  # (b, n_groups, n_inputs)
        square = ((inputs[:, None] - near) ** 2).sum(axis=2)
        weight = jax.nn.softmax(-square / (2 * self.centroid_scale[...]), axis=1)
        return jnp.einsum("bk,bkc->bc", weight, near - self.centroids[...][None, :, :])

    def dropout(self) -> Dropout:
        """Return the zero inflation of every gene, whether it is used or not."""
        logit = self.logit_pi[...]
        return Dropout(jnp.exp(self.log_theta_zi[...]), jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit))

    def theta(self, inflated: Any = None) -> jax.Array:
        """Return the inverse dispersion (n_vars,): of genes in `inflated` that of the distribution with dropout."""
        plain = jnp.exp(self.log_theta[...])
        return plain if inflated is None else jnp.where(inflated, jnp.exp(self.log_theta_zi[...]), plain)

    def pi(self, inflated: Any) -> jax.Array:
        """Return the probability of dropout (n_vars,), 0 for genes not marked in `inflated`."""
        return jnp.where(inflated, jax.nn.sigmoid(self.logit_pi[...]), 0)

    def turned(self, latent: jax.Array, conditions: Conditions) -> jax.Array:
        """Compute how conditions change the hidden layer over the latent space: (b, n_turns)."""
        before = latent @ self.turn_kernel[...] + self.turn_bias[...][None, :]
        after = before + effects_on(self.batch_turn[...], conditions)
        return jax.nn.gelu(after) - jax.nn.gelu(before)

    def base(self, conditions: Conditions) -> jax.Array:
        """Compute logits of the mean profile under the conditions of `b` cells, without latent part: (b, n_vars)."""
        profile = over_rows(self.log_profile[...], len(conditions.levels))
        return profile if self.batch_start is None else profile + effects_on(self.batch_start[...], conditions)

    def decode(self, latent: jax.Array, conditions: Conditions) -> jax.Array:
        """Decode (b, n_latent) and the conditions of `b` cells to unnormalized log proportions (b, n_vars)."""
        logits = latent @ self.loading[...] + self.base(conditions)
        if self.batch_effect is None:
            return logits
        logits += effects_on(self.batch_effect[...], conditions)
        if self.batch_turn is None:
            return logits
        return logits + self.turned(latent, conditions) @ self.turn_loading[...]


def effects_on(effects: jax.Array, conditions: Conditions) -> jax.Array:
    """Add up effects as :func:`~scdae.core.data.conditions.effect_of` does, as a product if there are few levels.

    The gradient of the product is faster.
    """
    n_levels = effects.shape[0] - conditions.values.shape[1]
    if n_levels > _MANY:
        return effect_of(effects, conditions)
    every_level = jnp.arange(n_levels, dtype=jnp.int32)[None, None, :]
    has = (
        (jnp.asarray(conditions.levels, jnp.int32)[..., None] == every_level).sum(axis=1).astype(effects.dtype)
    )  # (b, n_levels)
    return jnp.matmul(jnp.concatenate([has, conditions.values], axis=1), effects, precision="highest")
