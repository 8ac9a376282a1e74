"""What training starts from when a fitted model goes on to other data: its own weights, and how the data are moved.

The network keeps the weights of the reference and decays to them, not to zero. What a batch of the new data does to the
genes is worked out beforehand: the network says what it expects of the cells, and the factor between what was counted
and what was expected is estimated as in :mod:`scdae.core.network.batch_effects`. Taking the effects off changes what the encoder sees,
so the two are found by turns. Genes that the reference does not know start at their mean.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from flax import nnx

from scdae.core.config import Config
from scdae.core.data.cells import CellData
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.network.batch_alignment import Alignment, align_to
from scdae.core.network.batch_effects import posterior_effect
from scdae.core.network.encoder_input import Axes, project
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import ROLES, having, values_of, with_values
from scdae.core.prediction.decode import read_out
from scdae.core.training.initialize import Start

__all__ = ["adapted_network"]

_TURNS = 3  # of effects and latent representation


def adapted_network(
    reference: Fitted,
    gene_in_reference: np.ndarray,
    data: CellData,
    profile: np.ndarray,
    n_levels: int,
    n_batches: int,
    config: Config,
) -> Start:
    """Return the network of a reference, over the genes of other data.

    Parameters
    ----------
    reference
        A fitted model.
    gene_in_reference
        Gene of the reference for each gene of the data, -1 for none: int (n_vars,).
    data
        Training molecules, with their conditions.
    profile
        Share of each gene in their average cell, float64 (n_vars,).
    n_levels
        Levels of all categorical conditions.
    n_batches
        Those of the first column, if they are batches; else 0.
    config
        Settings.
    """
    known = gene_in_reference >= 0
    old: Any = values_of(reference.params)

    def over_genes(values: np.ndarray, default: float) -> np.ndarray:
        out = np.full((*values.shape[:-1], len(gene_in_reference)), default, np.float32)
        out[..., known] = values[..., gene_in_reference[known]]
        return out

    weight = over_genes(np.asarray(reference.axes.weight).T, 0).T
    axes = Axes(np.ascontiguousarray(weight), over_genes(np.asarray(reference.axes.gene_mean), 0))
    n_effects = n_levels + data.conditions.values.shape[1]
    effects = np.zeros((n_effects, data.n_vars), np.float32) if n_effects else None
    values: dict[str, Any] = {name: old[name] for name in having("of_encoder")}
    values |= {name: over_genes(old[name], ROLES[name].unknown or 0.0) for name in having("unknown")}
    values["log_profile"] = _log_profile(old["log_profile"], gene_in_reference, profile)

    def network(alignment: Alignment | None, values: dict[str, Any]) -> tuple[Any, Any]:
        shape = {"n_inputs": weight.shape[1], "n_hidden": len(old["hidden_bias"]), "n_latent": len(old["latent_bias"])}
        turns, seed = n_levels > 1, config.seed
        model = Autoencoder(profile, **shape, effects=effects, alignment=alignment, with_turns=turns, seed=seed)
        graph, params = nnx.split(model, nnx.Param)
        return graph, with_values(params, nnx.to_pure_dict(params) | values)

    law = "poisson" if reference.likelihood == "poisson" else "nb"  # whether a gene has dropout is asked anew
    fitted = Fitted(law, axes, *network(None, values), profile, np.zeros(data.n_vars, bool))
    fitted = _with_effects(fitted, data)
    common = Alignment.of_arrays(old)
    if n_batches and common is not None:
        alignment_of_batches = align_to(common, project(fitted.axes, data), data.conditions.levels[:, 0], n_batches)
        graph, params = network(alignment_of_batches, nnx.to_pure_dict(fitted.params))
        fitted = replace(fitted, graph=graph, params=params)
    return Start(fitted.axes, fitted.graph, fitted.params, towards=fitted.params)


def _log_profile(logs: np.ndarray, gene_in_reference: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """The reference's shares of the genes that both have, as large in all as these are here; the others' as they are."""
    known = gene_in_reference >= 0
    out = np.log(profile)
    if known.any():
        share = np.exp(logs[gene_in_reference[known]] - logs[gene_in_reference[known]].max())
        out[known] = np.log(share / share.sum() * profile[known].sum())
    return out.astype(np.float32)


def _with_effects(fitted: Fitted, data: CellData) -> Fitted:
    """Return the network with the effects of the levels, or of all the data where there are none."""
    levels, values = data.conditions
    columns = levels.T if levels.shape[1] else np.zeros((min(values.shape[1], 1), data.n_obs), np.int64)
    if not len(columns):
        return fitted
    start = values_of(fitted.params)
    effects = np.zeros_like(np.asarray(start["batch_start"]))
    theta = np.exp(np.asarray(start["log_theta"], np.float64))
    for _ in range(_TURNS):
        for column in columns:
            present = np.unique(column)
            member = (column == present[:, None]).astype(np.float32)
            counted, expected, square = np.asarray(member @ data.counts), *np.zeros((2, len(present), data.n_vars))
            for rows, prior, _ in read_out(fitted, data, "prior"):
                expected += member[:, rows] @ prior
                square += member[:, rows] @ prior**2
            weight = expected / np.maximum(expected + square / theta, 1e-12)
            base = expected * np.exp(-effects[present].astype(np.float64))
            for i, level in enumerate(present):
                effects[level] = posterior_effect(counted[i] * weight[i], base[i] * weight[i])
            params = with_values(fitted.params, {**start, "batch_start": effects})
            fitted = replace(fitted, params=params, axes=replace(fitted.axes, effects=effects.copy()))
    return fitted
