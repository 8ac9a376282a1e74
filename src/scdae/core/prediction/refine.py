"""Latent positions of cells with few molecules: the most likely ones, not those of the encoder.

The encoder gets logarithms of counts per 10,000. In a cell of a hundred molecules each count is the logarithm of a
hundred, all others are zero, and the encoder, which was trained on cells with many more, puts the cell where no cell
lies. The decoder knows nothing of depth: what it expects can be held against any number of molecules. So the position
of such a cell is the mode of its posterior distribution, given the counts and where cells of the fit lie. With fewer
molecules it moves to the mean of these, and a cell without any is the average cell.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, observed_mask
from scdae.core.network.fitted import Fitted
from scdae.core.network.latent_prior import LatentPrior
from scdae.core.network.parameters import Network
from scdae.core.prediction.encode import latents

__all__ = ["latent_prior", "modes", "refined"]

_MOST_STEPS = 20
_TOLERANCE = 1e-2  # of a standard deviation of the prior
_SHORTEST = 1e-3  # of a step
_CELLS = 64  # at a time
_PLACED = 8192  # cells by which the latent space is described


def latent_prior(fitted: Fitted, data: CellData) -> LatentPrior | None:
    """Return where the cells of a fit lie, by all of them, or by as many, at equal distances, as say it well enough."""
    most = min(data.n_obs, _PLACED)
    some = data if most == data.n_obs else data.take(np.linspace(0, data.n_obs - 1, most).astype(np.int64))
    return LatentPrior.of(np.concatenate([part for _, part in latents(fitted, some)]), some.exposure)


def refined(network: Network, prior: LatentPrior | None, batch: Batch, latent: Any, likelihood: str) -> Any:
    """Move the latent positions of cells with few molecules to the modes of their posterior distributions.

    Parameters
    ----------
    network
        The network.
    prior
        Of the latent positions; None to leave all as they are.
    batch
        The cells, of which the encoder saw `x_in`.
    latent
        What the encoder says, float32 (b, n_latent).
    likelihood
        Distribution of the counts.

    Returns
    -------
    array
        `latent` itself where no cell has few molecules; else float32 (b, n_latent), of which the other rows are the same
        to the bit.
    """
    if prior is None:
        return latent
    doubt = prior.doubt(np.asarray(batch.total_in) / np.asarray(batch.share))
    few = np.flatnonzero(doubt)
    if not len(few):
        return latent
    latent = np.array(latent, np.float32)
    model: Any = network.merged()
    loading, n_vars = np.asarray(model.loading[...]), model.log_profile.shape[0]
    theta = np.full(n_vars, np.inf) if likelihood == "poisson" else np.asarray(model.theta(), np.float64)
    counts = _counts(batch, len(latent), n_vars)
    seen = observed_mask(batch, len(latent), n_vars)
    observed = None if seen is None else np.asarray(seen)
    for start in range(0, len(few), _CELLS):
        some = few[start : start + _CELLS]
        conditions = Conditions(*(np.asarray(part)[some] for part in batch.conditions))
        offset = np.asarray(_offset(network, latent[some], conditions), np.float64)
        of_cells = None if observed is None else observed[some]
        mode = modes(counts[some].toarray(), offset, loading, theta, prior, of_cells)
        latent[some] += doubt[some, None].astype(np.float32) * (mode - latent[some]).astype(np.float32)
    return latent


def modes(
    counts: np.ndarray,
    offset: np.ndarray,
    loading: np.ndarray,
    theta: np.ndarray,
    prior: LatentPrior,
    observed: np.ndarray | None = None,
) -> np.ndarray:
    """Find the modes of the posterior distributions of latent positions.

    Counts are negative binomial. Their means are the cell's total times the softmax, over the observed genes, of ``latent
    @ loading + offset``.

    Parameters
    ----------
    counts
        float (b, n_vars).
    offset
        Logits of a cell at the origin, float (b, n_vars).
    loading
        float (n_latent, n_vars).
    theta
        Inverse dispersion, float (n_vars,); infinite for Poisson.
    prior
        Gaussian distribution of the positions.
    observed
        bool (b, n_vars); None for all.

    Returns
    -------
    numpy.ndarray
        float64 (b, n_latent).

    Notes
    -----
    Fisher's scoring from the mean of the prior, with steps that are halved until the posterior density rises.
    """
    counts, loading = np.asarray(counts, np.float64), np.asarray(loading, np.float64)
    seen = np.ones(counts.shape, bool) if observed is None else observed
    counts = np.where(seen, counts, 0)
    posterior = _Posterior(counts, np.where(seen, offset, -np.inf), loading, theta, prior)
    spread = np.sqrt(np.diag(np.linalg.inv(prior.precision)))
    latent = np.tile(prior.mean, (len(counts), 1))
    active = np.flatnonzero(counts.sum(axis=1) > 0)
    value, mean = posterior.density(active, latent[active])
    for _ in range(_MOST_STEPS):
        if not len(active):
            break
        step = posterior.step(active, latent[active], mean)
        length = np.ones(len(active))
        while True:
            there = latent[active] + length[:, None] * step
            new_value, new_mean = posterior.density(active, there)
            worse = ~(new_value >= value - 1e-9 * np.abs(value)) & (length > _SHORTEST)
            if not worse.any():
                break
            length[worse] /= 2
        kept = new_value >= value - 1e-9 * np.abs(value)
        latent[active[kept]] = there[kept]
        goes_on = kept & (np.abs(length[:, None] * step / spread).max(axis=1) > _TOLERANCE)
        active, value, mean = active[goes_on], new_value[goes_on], new_mean[goes_on]
    return latent


class _Posterior:
    """Density of latent positions given the counts of cells, up to a constant, and steps uphill."""

    def __init__(
        self, counts: np.ndarray, offset: np.ndarray, loading: np.ndarray, theta: np.ndarray, prior: LatentPrior
    ):
        self.counts, self.offset, self.loading, self.prior = counts, offset, loading, prior
        self.total = counts.sum(axis=1)
        self.spread = 1 / theta  # dispersion; 0 for Poisson

    def density(self, rows: np.ndarray, latent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density of some cells at `latent`, (b,), and the means of their counts, (b, n_vars)."""
        logits = latent @ self.loading + self.offset[rows]
        logits -= logits.max(axis=1, keepdims=True)
        share = np.exp(logits)
        norm = share.sum(axis=1, keepdims=True)
        mean = share * (self.total[rows, None] / norm)
        counts = self.counts[rows]
        at = counts > 0
        log_norm = np.log(self.total[rows, None] / norm)
        gained = np.where(at, counts * (np.where(at, logits, 0) + log_norm), 0).sum(axis=1)
        inverse = np.where(self.spread > 0, 1 / np.where(self.spread > 0, self.spread, 1), 0)
        lost = np.where(self.spread > 0, (counts + inverse) * np.log1p(self.spread * mean), mean).sum(axis=1)
        away = latent - self.prior.mean
        return gained - lost - 0.5 * ((away @ self.prior.precision) * away).sum(axis=1), mean

    def step(self, rows: np.ndarray, latent: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Full steps of Fisher's scoring: (b, n_latent)."""
        weight = 1 / (1 + self.spread * mean)
        surprise, information = weight * (self.counts[rows] - mean), weight * mean
        center = (mean @ self.loading.T) / self.total[rows, None]
        slope = surprise @ self.loading.T - surprise.sum(axis=1, keepdims=True) * center
        slope -= (latent - self.prior.mean) @ self.prior.precision
        out = np.empty_like(latent)
        sums, every = information @ self.loading.T, information.sum(axis=1)
        for i in range(len(latent)):
            across = np.outer(sums[i], center[i])
            curved = (self.loading * information[i]) @ self.loading.T - across - across.T
            curved += every[i] * np.outer(center[i], center[i]) + self.prior.precision
            out[i] = np.linalg.solve(curved, slope[i])
        return out


def _counts(batch: Batch, n_cells: int, n_vars: int) -> sp.csr_matrix:
    entries = np.asarray(batch.x_in, np.float64), (np.asarray(batch.rows), np.asarray(batch.cols))
    return sp.csr_matrix(entries, (n_cells, n_vars))


@jax.jit
def _offset(network: Network, latent: Any, conditions: Conditions) -> jax.Array:
    """Logits without what the loadings add; what conditions do at the encoder's position is kept as it is there."""
    model: Any = network.merged()
    return model.decode(latent, conditions) - latent @ model.loading[...]
