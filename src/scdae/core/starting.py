"""What training starts from: a new network on the principal axes of the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from scdae.core.alignment import fit_alignment, n_groups_for
from scdae.core.axes import Axes, fit_axes, project
from scdae.core.cells import CellData
from scdae.core.config import Config
from scdae.core.effects import find_effects
from scdae.core.network import FIXED, Autoencoder

__all__ = ["Start", "new_network"]


class Start(NamedTuple):
    """A network to be trained."""

    axes: Axes
    graph: Any
    params: Any
    fixed: tuple[str, ...] = FIXED  # names of parameters that are not trained
    towards: Any = None  # parameters to which the weights decay; None for zero


def new_network(
    data: CellData, profile: np.ndarray, n_levels: int, n_batches: int, config: Config, rng: np.random.Generator
) -> Start:
    """A network with initial weights.

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
    """
    low, high = config.noise
    seen = 1 - (low + high) / 2 if config.corruption == "thinning" else 1.0
    effects = find_effects(data, profile, n_levels, rng) if data.conditions.any else None
    axes = fit_axes(data, seen, config.n_components, rng, effects)
    alignment = None
    if n_batches:
        groups = n_groups_for(data.n_obs)
        alignment = fit_alignment(project(axes, data), data.conditions.levels[:, 0], groups, config.seed, n_batches)
    model = Autoencoder(
        profile,
        n_inputs=axes.weight.shape[1],
        n_hidden=config.n_hidden,
        n_latent=config.n_latent,
        effects=effects,
        alignment=alignment,
        seed=config.seed,
    )
    return Start(axes, *nnx.split(model, nnx.Param))
