"""The fixed first layer of the encoder: principal axes of the normalized counts.

The best linear denoiser keeps PCA's axes and shrinks each by its noise, so the first layer needs no training: it is set
to the axes of the thinned, normalized counts. Training learns how far to move along each of them. Missing values are
replaced by the gene's mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.thinning import thin
from scdae.core.network.encoder_input import Axes, normalize, project

__all__ = ["Axes", "fit_axes", "normalize", "project"]

MAX_CELLS = 4096  # cells from which the axes are learned
_SPREAD = 2.0  # root mean square of the inputs of the hidden layer


@dataclass(frozen=True)
class _Centred:
    """Normalized counts minus the means of observed entries, without a dense array."""

    values: sp.csr_matrix
    gene_mean: np.ndarray
    hidden: sp.csr_matrix | None  # gene means at missing values, which become zero after centering

    def dot(self, right: np.ndarray) -> np.ndarray:
        out = self.values @ right - self.gene_mean @ right
        return out if self.hidden is None else out + self.hidden @ right

    def dot_transposed(self, left: np.ndarray) -> np.ndarray:
        out = self.values.T @ left - np.outer(self.gene_mean, left.sum(axis=0))
        return out if self.hidden is None else out + self.hidden.T @ left


def fit_axes(
    data: CellData,
    kept_share: float,
    n_components: int,
    rng: np.random.Generator,
    effects: np.ndarray | None = None,
) -> Axes:
    """Compute principal axes of the normalized counts, at the depth at which the encoder is trained.

    Parameters
    ----------
    data
        Training molecules.
    kept_share
        Fraction of the molecules that the encoder sees in training, on average.
    n_components
        Number of axes; fewer if there are fewer cells or genes.
    rng
        Source of random numbers, for the thinning and for the start of the subspace iteration.
    effects
        Effects of batches and covariates, which are subtracted; None for none.

    Notes
    -----
    Halko, Martinsson and Tropp (2011), algorithm 4.4 (randomized subspace iteration) on a centered sparse matrix. Each
    axis is shrunk, as the best linear denoiser does, by the fraction of its variance that is signal. This is the
    correlation, over cells, between its values in the thinned counts and in the molecules left out, whose noise is
    independent. If none are left out (`kept_share` 1, for corruptions other than thinning), axes are not shrunk.
    """
    if data.n_obs > MAX_CELLS:
        data = data.take(np.sort(rng.choice(data.n_obs, MAX_CELLS, replace=False)))
    thinned, rest = thin(data.counts, kept_share, rng)
    values = normalize(CellData(thinned, data.unobserved, data.conditions, data.share), effects)
    n_seen = np.full(data.n_vars, float(data.n_obs))
    if data.unobserved is not None:
        n_seen -= np.asarray(data.unobserved.sum(axis=0)).ravel()
    gene_mean = (np.asarray(values.sum(axis=0)).ravel() / np.maximum(n_seen, 1)).astype(np.float32)
    hidden = None if data.unobserved is None else data.unobserved.astype(np.float32).multiply(gene_mean).tocsr()
    centered = _Centred(values, gene_mean, hidden)

    n_components = min(n_components, data.n_obs, data.n_vars)
    width = min(n_components + 10, data.n_obs, data.n_vars)
    basis = rng.standard_normal((data.n_vars, width), dtype=np.float32)
    for _ in range(3):
        left = _orthonormal(centered.dot(basis))
        basis = _orthonormal(centered.dot_transposed(left))
    strength, turn = _principal(centered.dot(basis))
    axes = (basis @ turn)[:, :n_components]
    strength = strength[:n_components]
    weight = np.ones(n_components)
    if kept_share < 1:
        weight = _reliability(centered.dot(axes), rest, data, axes, effects)
        axes, strength = axes * weight, strength * weight
    spread = np.sqrt(np.mean(strength**2) / data.n_obs)
    if spread > 1e-6:  # otherwise all cells have equal inputs
        axes = axes * (_SPREAD / spread)
    return Axes(axes.astype(np.float32), gene_mean, effects, weight)


def _principal(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute singular values and right singular vectors, largest first, from the small Gram matrix."""
    double = columns.astype(np.float64)
    square, turn = np.linalg.eigh(double.T @ double)
    return np.sqrt(np.maximum(square[::-1], 0)), turn[:, ::-1].astype(np.float32)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Compute an orthonormal basis of the columns; if they are linearly dependent, the remaining columns are zero.

    For tall matrices this takes a tenth of the time of a QR decomposition. Directions a million times weaker than the
    strongest are lost to rounding.
    """
    strength, turn = _principal(columns)
    kept = strength > 1e-6 * strength[0]
    return columns @ (turn * np.divide(1, strength, out=np.zeros_like(strength), where=kept)).astype(np.float32)


def _reliability(
    values: np.ndarray, rest: sp.csr_matrix, data: CellData, axes: np.ndarray, effects: np.ndarray | None
) -> np.ndarray:
    """Correlate each axis' values with those of molecules that the axes were not fitted to: (n_components,)."""
    logs = normalize(CellData(rest, data.unobserved, data.conditions, data.share), effects)
    if data.unobserved is None:
        other = logs @ axes
    else:
        n_seen = data.n_obs - np.asarray(data.unobserved.sum(axis=0)).ravel()
        mean = (np.asarray(logs.sum(axis=0)).ravel() / np.maximum(n_seen, 1)).astype(np.float32)
        other = logs @ axes + data.unobserved.astype(np.float32).multiply(mean).tocsr() @ axes
    values, other = values - values.mean(axis=0), other - other.mean(axis=0)
    scale = np.sqrt((values**2).sum(axis=0) * (other**2).sum(axis=0))
    together = (values * other).sum(axis=0)
    return np.clip(np.divide(together, scale, out=np.zeros_like(scale), where=scale > 1e-9), 0, 1)
