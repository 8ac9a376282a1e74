"""The network: an encoder from principal axes to the latent space, and a decoder to expected proportions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scdae.core.objective import Dropout

__all__ = ["Autoencoder", "with_values"]


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
    n_batches
        Batches that the decoder tells apart.
    seed
        Seed of the initial weights, which are drawn with NumPy: nothing is compiled to make them.

    Notes
    -----
    ``rho`` is the softmax of the logits over the observed genes, ``theta = exp(log_theta)`` and ``pi =
    sigmoid(logit_pi)`` belong to the gene; with dropout the dispersion is ``exp(log_theta_zi)``. There is no batch normalisation: a cell's result never depends on the cells
    next to it.
    """

    def __init__(
        self, profile: np.ndarray, *, n_inputs: int, n_hidden: int, n_latent: int, n_batches: int, seed: int = 0
    ):
        n_vars = len(profile)
        floor = 0.1 * profile[profile > 0].min()
        rng = np.random.default_rng([seed, 2])

        def normal(scale: float, *shape: int) -> nnx.Param:
            return nnx.Param(scale * rng.standard_normal(shape, dtype=np.float32))

        def constant(value: float, *shape: int) -> nnx.Param:
            return nnx.Param(np.full(shape, value, np.float32))

        self.hidden_kernel = normal(n_inputs**-0.5, n_inputs, n_hidden)
        self.hidden_bias = constant(0, n_hidden)
        self.latent_kernel = normal(n_hidden**-0.5, n_hidden, n_latent)
        self.latent_bias = constant(0, n_latent)
        self.loading = normal(0.01, n_latent, n_vars)
        self.log_profile = nnx.Param(np.log(np.maximum(profile, floor)).astype(np.float32))
        self.batch_effect = constant(0, n_batches, n_vars) if n_batches > 1 else None
        self.log_theta = constant(np.log(5.0), n_vars)
        self.log_theta_zi = constant(np.log(5.0), n_vars)
        self.logit_pi = constant(-2.5, n_vars)

    def encode(self, inputs: jax.Array) -> jax.Array:
        """Latent representation: (b, n_inputs) to (b, n_latent)."""
        hidden = jax.nn.gelu(inputs @ self.hidden_kernel[...] + self.hidden_bias[...])
        return hidden @ self.latent_kernel[...] + self.latent_bias[...]

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

    def decode(self, latent: jax.Array, codes: jax.Array) -> jax.Array:
        """Unnormalised log proportions: (b, n_latent) and batch codes (b,) to (b, n_vars)."""
        logits = latent @ self.loading[...] + self.log_profile[...]
        if self.batch_effect is None:
            return logits
        return logits + self.batch_effect[...][codes]


def with_values(params: Any, values: dict[str, Any]) -> Any:
    """Parameters like `params` with float32 `values`, a dict as ``nnx.to_pure_dict`` gives."""
    changed = jax.tree.map(lambda leaf: leaf, params)
    nnx.replace_by_pure_dict(changed, {name: jnp.asarray(value, jnp.float32) for name, value in values.items()})
    return changed
