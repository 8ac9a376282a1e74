"""Input of the encoder: log counts per 10,000, with effects of batches and covariates removed, on fixed axes.

The formula is written here twice and nowhere else: in NumPy for sparse matrices, and in JAX in parts that apply to
entries and to dense rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions, effect_of
from scdae.core.data.non_zeros import entry_rows

__all__ = [
    "TARGET",
    "Axes",
    "correct",
    "input_factor",
    "input_logs",
    "input_scale",
    "normalize",
    "on_axes",
    "project",
    "project_entries",
]

TARGET = 1e4  # library size to which counts are scaled before the logarithm
LARGEST = 3.0  # largest effect on a log count that is removed
_LEAST_SHARE = 1e-6  # fraction of the expression in the observed genes of a cell, at least
_LEAST_EXPOSURE = 1e-12
_BY_GENE = 8  # entries of a gene, on average, from which it is worth it to order them by gene


@dataclass(frozen=True)
class Axes:
    """Fixed first layer: projection of centered log counts."""

    weight: np.ndarray  # float32 (n_vars, n_components)
    gene_mean: np.ndarray  # float32 (n_vars,): mean log count per 10,000
    effects: np.ndarray | None = None  # float32 (n_levels + n_continuous, n_vars): subtracted from the log counts
    reliability: np.ndarray | None = None  # (n_components,): correlation with molecules left out; for new axes only

    @cached_property
    def center(self) -> np.ndarray:
        """Projection of the gene means: float32 (n_components,)."""
        return self.gene_mean @ self.weight


def correct(counts: sp.csr_matrix, effects: np.ndarray | None, conditions: Conditions) -> sp.csr_matrix:
    """Divide the stored counts by the factors of batches and covariates. Returns `counts` itself without effects."""
    if effects is None or not counts.nnz:
        return counts
    rows, columns = entry_rows(counts), counts.indices
    log_factor = np.zeros(counts.nnz, np.float32)
    for levels in conditions.levels.T:
        log_factor += effects[levels[rows], columns]
    first = len(effects) - conditions.values.shape[1]
    for i, values in enumerate(conditions.values.T):
        log_factor += effects[first + i, columns] * values[rows]
    data = counts.data * np.exp(-np.clip(log_factor, -LARGEST, LARGEST))
    return sp.csr_matrix((data.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)


def normalize(data: CellData, effects: np.ndarray | None = None) -> sp.csr_matrix:
    """Compute log counts per 10,000 at the cell's exposure, on the stored entries: float32 CSR with shared indices."""
    counts = correct(data.counts, effects, data.conditions)
    exposure = np.asarray(counts.sum(axis=1)).ravel() / np.maximum(data.share, _LEAST_SHARE)
    scale = (TARGET / np.maximum(exposure, _LEAST_EXPOSURE)).astype(np.float32)
    values = np.log(1 + counts.data * np.repeat(scale, np.diff(counts.indptr)))  # log1p takes five times as long
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def project(axes: Axes, cells: CellData) -> np.ndarray:
    """Compute the inputs of the hidden layer: float32 (n_obs, n_components).

    The counts of `cells` are scaled by the exposure, which follows from `share`, and projected on the axes, with the
    effects of batches and covariates removed. Missing values are replaced by the gene's mean.
    """
    inputs = _by_gene(normalize(cells, axes.effects)) @ axes.weight - axes.center
    if cells.unobserved is not None:
        unobserved = cells.unobserved
        means = axes.gene_mean[unobserved.indices]
        inputs += sp.csr_matrix((means, unobserved.indices, unobserved.indptr), shape=unobserved.shape) @ axes.weight
    return inputs


def _by_gene(logs: sp.csr_matrix) -> sp.csr_matrix | sp.csc_matrix:
    """Order entries by gene where genes have several each: the product is the same to the last bit, as it adds in the same order.

    Cell by cell, the product reads a row of the weights from memory for each entry. Gene by gene, the rows that it adds to, of some
    hundred cells, stay in the cache, and each row of the weights is read once.
    """
    return logs.tocsc() if logs.nnz >= _BY_GENE * logs.shape[1] else logs


def input_factor(effects: Any, conditions: Conditions) -> jax.Array | None:
    """Compute the factor of batches and covariates that divides counts, float32 (b, n_vars); None without effects."""
    return None if effects is None else jnp.exp(jnp.clip(effect_of(effects, conditions), -LARGEST, LARGEST))


def input_scale(exposure: jax.Array) -> jax.Array:
    """Compute the factor that scales a cell of this exposure (total count over observed fraction) to 10,000."""
    return TARGET / jnp.maximum(exposure, _LEAST_EXPOSURE)


def input_logs(counts: jax.Array, scale: jax.Array) -> jax.Array:
    """Compute log counts per 10,000 of entries or rows, given the scale of their cells."""
    return jnp.log1p(counts * scale)


def on_axes(logs: jax.Array, weight: Any, center: Any) -> jax.Array:
    """Project log counts (b, n_vars) on the axes: (b, n_components)."""
    return logs @ weight - center[None, :]


def project_entries(
    weight: Any,
    mean: Any,
    effects: Any,
    counts: jax.Array,
    rows: jax.Array,
    cols: jax.Array,
    conditions: Conditions,
    share: jax.Array,
) -> jax.Array:
    """Compute the inputs of the encoder as :func:`project` does, in JAX and without missing values.

    Parameters
    ----------
    weight, mean, effects
        Of the :class:`Axes`.
    counts, rows, cols
        Entries of `b` cells, (k,); padding has count zero.
    conditions, share
        Of the cells.

    Returns
    -------
    jax.Array
        float32 (b, n_components).
    """
    n_cells, n_vars = len(share), len(weight)
    factor = input_factor(effects, conditions)
    counts = counts if factor is None else counts / factor[rows, cols]
    total = jnp.zeros(n_cells, jnp.float32).at[rows].add(counts)
    scale = input_scale(total / jnp.maximum(share, _LEAST_SHARE))
    logs = jnp.zeros((n_cells, n_vars), jnp.float32).at[rows, cols].add(input_logs(counts, scale[rows]))
    return on_axes(logs, weight, mean @ weight)
