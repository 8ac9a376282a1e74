"""What training starts from: a new network on the principal axes of the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from scdae.core.config import Config
from scdae.core.data.cells import CellData
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.network.batch_alignment import Alignment, fit_alignment, n_groups_for
from scdae.core.network.batch_effects import find_effects
from scdae.core.network.encoder_input import Axes, project
from scdae.core.network.principal_axes import fit_axes
from scdae.core.training.sizes import n_axes_for, n_hidden_for, n_latent_for

__all__ = ["Start", "new_network", "on_axes"]


class Start(NamedTuple):
    """A network to be trained."""

    axes: Axes
    graph: Any
    params: Any
    towards: Any = None  # parameters to which the weights decay; None for zero


def new_network(
    data: CellData,
    profile: np.ndarray,
    n_levels: int,
    n_batches: int,
    config: Config,
    rng: np.random.Generator,
    n_obs: int | None = None,
) -> Start:
    """Return a network with initial weights.

    Parameters
    ----------
    data
        Training molecules.
    profile
        Share of each gene in the average cell, float64 (n_vars,).
    n_levels
        Levels of all categorical conditions.
    n_batches
        Those of the first column, if they are batches, to which the latent space is made common; else 0.
    config
        Settings.
    rng
        Source of random numbers.
    n_obs
        Number of all cells, of which `data` may have some; None for those of `data`.
    """
    n_obs = data.n_obs if n_obs is None else n_obs
    low, high = config.noise
    seen = 1 - (low + high) / 2 if config.corruption == "thinning" else 1.0
    effects = find_effects(data, profile, n_levels, rng) if data.conditions.any else None
    axes = fit_axes(data, seen, n_axes_for(config, n_obs), rng, effects)
    alignment = None
    if n_batches:
        groups = n_groups_for(data.n_obs)
        alignment = fit_alignment(project(axes, data), data.conditions.levels[:, 0], groups, config.seed, n_batches)
    return on_axes(axes, profile, config, n_obs, alignment)


def on_axes(axes: Axes, profile: np.ndarray, config: Config, n_obs: int, alignment: Alignment | None = None) -> Start:
    """Return a network with initial weights on given axes."""
    n_latent = n_latent_for(config, np.zeros(0) if axes.reliability is None else axes.reliability, n_obs)
    model = Autoencoder(
        profile,
        n_inputs=axes.weight.shape[1],
        n_hidden=n_hidden_for(config, n_latent),
        n_latent=n_latent,
        effects=axes.effects,
        alignment=alignment,
        seed=config.seed,
    )
    return Start(axes, *nnx.split(model, nnx.Param))
