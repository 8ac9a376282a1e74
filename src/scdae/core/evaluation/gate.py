"""The gate: where the network explains nothing, its mean goes back to the gene's mean.

Each gene's departure from its mean is scaled by a factor between 0 and 1. How likely each factor is, is learned over
all genes from the molecules that were held out (an empirical Bayes prior on a grid, Robbins 1956; Kiefer and Wolfowitz
1956), and a gene gets its posterior expectation under that prior, so a gene with few molecules follows the others.
Where the network as a whole gains no more than chance on the held-out molecules, all factors are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scdae.core.evaluation.heldout import HeldOut
from scdae.core.network.parameters import having, values_of, with_values

__all__ = ["apply_gate", "fit_gate", "gate_from_evidence", "match_totals", "reliability"]

GRID = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_ERRORS, _ERRORS_IF_SLIGHT = (2.0, 3.0), (3.0, 5.0)  # standard errors of the gain: none of the network, and all of it
_SLIGHT = 5e-4  # nats a molecule


def gate_from_evidence(log_likelihood: np.ndarray, grid: np.ndarray = GRID, *, n_iter: int = 200) -> np.ndarray:
    """Compute the factor of each gene from its held-out log likelihood at each factor of the grid.

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
    >>> from scdae.core.evaluation.gate import gate_from_evidence
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


def reliability(cell_gain: np.ndarray, molecules: float) -> float:
    """Return how far to trust the network at all, from its held-out gain over the gene means in each cell.

    A gain that is no more than chance leaves nothing of the network, one beyond chance all of it: 0 up to 2 standard
    errors of the summed gain, 1 from 3, in proportion between. Where the gain is slight (less than 0.0005 nats a
    molecule), 3 and 5 are asked for: shares have to sum to one, so that even genes that know nothing of each other are
    not quite independent, and that much can be gained from it.

    Parameters
    ----------
    cell_gain
        float64 (n_cells,): log likelihood with the network minus that of the gene means.
    molecules
        Held-out molecules of these cells.

    Returns
    -------
    float
        Factor from 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.evaluation.gate import reliability
    >>> reliability(np.array([2.0, -2.0, 1.0, -1.0]), 100), reliability(np.full(50, 2.0), 100)
    (0.0, 1.0)
    """
    total = float(cell_gain.sum())
    error = float(np.sqrt(((cell_gain - cell_gain.mean()) ** 2).sum()))
    least, enough = _ERRORS if total >= _SLIGHT * molecules else _ERRORS_IF_SLIGHT
    if total <= least * error:
        return 0.0
    return float(np.clip((total - least * error) / ((enough - least) * error), 0, 1)) if error > 0 else 1.0


def fit_gate(
    graph: Any,
    params: Any,
    inflated: Any,
    held_out: HeldOut,
    likelihood: str,
    certain: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the factor of each gene, float32 (n_vars,), from the held-out molecules.

    Genes whose training molecules leave no doubt, with a share of it from 0 to 1 in `certain`, (n_vars,), are trusted
    as far as the network is at all: the few cells that have a rare cell's marker may hold no molecule of it that was
    held out.
    """
    of_gene, of_cell, molecules = held_out.log_likelihoods(graph, params, inflated, GRID, likelihood)
    best = of_cell[of_cell.sum(axis=1).argmax()]
    gate = gate_from_evidence(of_gene)
    if certain is not None:
        gate += (1 - gate) * certain.astype(np.float32)
    return gate * np.float32(reliability(best - of_cell[0], molecules))


def apply_gate(params: Any, gate: np.ndarray, theta_flat: np.ndarray) -> Any:
    """Return the parameters of the gated network.

    The factor goes into the decoder's weights. What the network no longer explains is dispersion: `theta` moves, on the
    log scale, to that of the gene means in the same measure.
    """
    values: Any = values_of(params)
    for name in having("gated"):
        if name in values:
            values[name] = values[name] * gate
    values["log_theta"] = gate * values["log_theta"] + (1 - gate) * np.log(theta_flat)
    return with_values(params, values)


def match_totals(params: Any, counted: np.ndarray, expected: np.ndarray) -> Any:
    """Return the parameters with the gene means corrected so that each gene's expected total is the total counted."""
    values = values_of(params)
    values["log_profile"] = values["log_profile"] + np.log((counted + 1) / (expected + 1))
    return with_values(params, values)
