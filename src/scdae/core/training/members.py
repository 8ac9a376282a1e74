"""Several networks averaged into one: their hidden and latent units side by side, and the mean of their logits.

The mean of the logits is the geometric mean of the shares. Networks that differ in their seeds alone, on the same axes, make one
network of the same kind, so that all that reads a network out, saves it or goes on from it knows nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx
from scipy.linalg import block_diag

from scdae.core.network.autoencoder import Autoencoder, with_values

__all__ = ["average"]

_SIDE_BY_SIDE = ("hidden_bias", "latent_bias")
_OF_GENES = ("log_profile", "log_theta")


def average(members: list[Any], profile: np.ndarray, seed: int) -> tuple[Any, Any]:
    """Average several networks without conditions to one.

    Parameters
    ----------
    members
        Parameters of each; genes with dropout are those of the first.
    profile
        Share of each gene in the average cell, float64 (n_vars,).
    seed
        Of the network's graph.

    Returns
    -------
    tuple
        Its graph and its parameters.
    """
    each = [{name: np.asarray(value) for name, value in nnx.to_pure_dict(params).items()} for params in members]
    values: dict[str, Any] = {name: np.concatenate([one[name] for one in each]) for name in _SIDE_BY_SIDE}
    values["hidden_kernel"] = np.concatenate([one["hidden_kernel"] for one in each], axis=1)
    values["latent_kernel"] = block_diag(*[one["latent_kernel"] for one in each])
    values["loading"] = np.concatenate([one["loading"] for one in each]) / len(each)
    values |= {name: np.mean([one[name] for one in each], axis=0) for name in _OF_GENES}
    n_hidden, n_latent = values["latent_kernel"].shape
    n_inputs = len(values["hidden_kernel"])
    model = Autoencoder(profile, n_inputs=n_inputs, n_hidden=n_hidden, n_latent=n_latent, seed=seed)
    graph, params = nnx.split(model, nnx.Param)
    return graph, with_values(params, {**nnx.to_pure_dict(members[0]), **values})
