"""The gate: where the network explains nothing, its mean goes back to the gene's mean.

Each gene's departure from its mean is scaled by a factor between 0 and 1. How likely each factor is, is learnt over all
genes from the molecules that were held out (an empirical Bayes prior on a grid, Robbins 1956; Kiefer and Wolfowitz
1956), and a gene gets its posterior expectation under that prior. A gene with few molecules follows the others; if the
held-out molecules are noise to the network, all go to zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from flax import nnx

from scdae.core.axes import Axes
from scdae.core.heldout import HeldOut
from scdae.core.network import with_values

__all__ = ["apply_gate", "fit_gate", "gate_from_evidence", "match_totals", "moment_theta"]

GRID = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_THETA_RANGE = (1e-2, 1e4)


def gate_from_evidence(log_likelihood: np.ndarray, grid: np.ndarray = GRID, *, n_iter: int = 200) -> np.ndarray:
    """Factor of each gene from its held-out log likelihood at each factor of the grid.

    Parameters
    ----------
    log_likelihood
        float64 (len(grid), n_vars).
    grid
        Factors.
    n_iter
        Steps of the EM algorithm for the prior.

    Returns
    -------
    numpy.ndarray
        float32 (n_vars,): posterior expectation of the factor.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.gate import gate_from_evidence
    >>> gate_from_evidence(np.array([[0.0, 0.0], [9.0, 9.0]]), np.array([0.0, 1.0])).round(2)
    array([1., 1.], dtype=float32)
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=0))
    prior = np.full(len(grid), 1 / len(grid))
    for _ in range(n_iter):
        posterior = prior[:, None] * likelihood
        posterior /= posterior.sum(axis=0)
        prior = posterior.mean(axis=1)
    return (grid @ posterior).astype(np.float32)


def fit_gate(graph: Any, params: Any, axes: Axes, inflated: Any, held_out: HeldOut, likelihood: str) -> np.ndarray:
    """Factor of each gene, float32 (n_vars,), from the held-out molecules."""
    evidence = [held_out.gene_log_likelihood(graph, params, axes, inflated, float(g), likelihood) for g in GRID]
    return gate_from_evidence(np.stack(evidence))


def apply_gate(params: Any, gate: np.ndarray, theta_flat: np.ndarray) -> Any:
    """Parameters of the gated network.

    The factor goes into the decoder's weights. What the network no longer explains is dispersion: `theta` moves, on the
    log scale, to that of the gene means in the same measure.
    """
    values = {name: np.asarray(value) for name, value in nnx.to_pure_dict(params).items()}
    values["loading"] = values["loading"] * gate
    if "batch_effect" in values:
        values["batch_effect"] = values["batch_effect"] * gate
    values["log_theta"] = gate * values["log_theta"] + (1 - gate) * np.log(theta_flat)
    return with_values(params, values)


def match_totals(params: Any, counted: np.ndarray, expected: np.ndarray) -> Any:
    """Parameters with the gene means corrected so that each gene's expected total is the total counted."""
    values = dict(nnx.to_pure_dict(params))
    values["log_profile"] = np.asarray(values["log_profile"]) + np.log((counted + 1) / (expected + 1))
    return with_values(params, values)


def moment_theta(counts: sp.csr_matrix, profile: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Inverse dispersion of each gene around the gene means, by moments: float64 (n_vars,).

    ``theta = sum(mu^2) / (sum((x - mu)^2) - sum(mu))`` with ``mu`` the exposure times the gene's share. All entries are
    taken as observed, which is close enough for a starting point.
    """
    exposure = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel() / np.maximum(share, 1e-6)
    x = counts.astype(np.float64)
    square = np.asarray(x.multiply(x).sum(axis=0)).ravel()
    cross = (x.T @ exposure) * profile
    mean_square = profile**2 * (exposure**2).sum()
    excess = square - 2 * cross + mean_square - profile * exposure.sum()
    return np.clip(mean_square / np.maximum(excess, 1e-12), *_THETA_RANGE)
