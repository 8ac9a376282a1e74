"""From counts to a fitted model: set molecules aside, train, judge, gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.axes import Axes, gene_profile, observed_share
from scdae.core.cells import CellData
from scdae.core.completion import FixedPoint
from scdae.core.config import Config
from scdae.core.gate import apply_gate, fit_gate, match_totals, moment_theta
from scdae.core.heldout import Report, measure_gain, read_out_law
from scdae.core.thinning import thin
from scdae.core.training import train

__all__ = ["Fitted", "Outcome", "cell_data", "fit_counts", "held_out_share"]

_ENOUGH = 100_000  # held-out molecules wanted, within the limits below
_SHARES = (0.03, 0.1)


@dataclass(frozen=True)
class Fitted:
    """A fitted model: what prediction needs, for the genes that were counted at least once."""

    likelihood: str
    axes: Axes
    graph: Any
    params: Any
    profile: np.ndarray  # float64 (n_kept,): share of each gene in the average cell
    inflated: np.ndarray  # bool (n_kept,): genes with dropout
    gaps: FixedPoint = FixedPoint()  # how entries that were not observed are filled


@dataclass(frozen=True)
class Outcome:
    """A fitted model and what was learnt about it on the way."""

    fitted: Fitted
    genes: np.ndarray  # int64 (n_kept,): columns of the genes that were counted
    cells: np.ndarray  # int64 (n_kept,): rows of the cells that were counted
    gate: np.ndarray  # float32 (n_kept,)
    report: Report
    history: dict[str, list[float]]
    n_epochs: float
    stopped_early: bool
    held_out: float


def held_out_share(molecules: float) -> float:
    """Share of the molecules to set aside: enough to judge by, as few as possible to lose."""
    return float(np.clip(_ENOUGH / max(molecules, 1.0), *_SHARES))


def cell_data(
    counts: sp.csr_matrix, unobserved: sp.csr_matrix | None, codes: np.ndarray | None, profile: np.ndarray
) -> CellData:
    """Counts with the exposure share of every cell under `profile`."""
    codes = np.zeros(counts.shape[0], np.int32) if codes is None else codes.astype(np.int32)
    share = np.maximum(observed_share(profile, unobserved, counts.shape[0]), 1e-6).astype(np.float32)
    return CellData(counts, unobserved, codes, share)


def fit_counts(
    counts: sp.csr_matrix,
    unobserved: sp.csr_matrix | None,
    codes: np.ndarray | None,
    n_batches: int,
    config: Config,
    *,
    watch: Callable[[Iterable[int], int], Iterable[int]] = lambda steps, total: steps,
) -> Outcome:
    """Fit the model to a count matrix.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars), canonical, without entries that were not observed.
    unobserved
        Boolean CSR of these, or None.
    codes
        int (n_obs,): batch of each cell, or None.
    n_batches
        Number of batches.
    config
        Settings.
    watch
        Wraps the training steps in a progress bar.

    Notes
    -----
    Genes and cells without counts say nothing and are left out. The same seed gives the same bits on the same machine.
    """
    genes = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]))
    cells = np.flatnonzero(np.diff(counts.indptr))
    counts = counts[cells][:, genes]
    unobserved = None if unobserved is None else unobserved[cells][:, genes]
    codes = None if codes is None else codes[cells]

    share = held_out_share(float(counts.sum())) if config.held_out is None else config.held_out
    kept, held = thin(counts, 1 - share, np.random.default_rng([config.seed, 1]))
    profile = gene_profile(counts, unobserved)
    data = cell_data(kept, unobserved, codes, profile)
    trained = train(data, held, profile, n_batches, config, watch=watch)

    graph = trained.graph
    law = read_out_law(config.likelihood, trained.inflated)
    gate = fit_gate(graph, trained.params, trained.inflated, trained.held_out, law)
    params = trained.params
    if (gate < 1).any():
        params = apply_gate(params, gate, moment_theta(kept, profile, data.share))
    report = measure_gain(graph, params, trained.inflated, profile, trained.held_out, law)
    counted = np.asarray(kept.sum(axis=0), dtype=np.float64).ravel()
    params = match_totals(params, counted, report.expected)
    return Outcome(
        fitted=Fitted(law, trained.axes, graph, params, profile, trained.inflated, config.gaps),
        genes=genes,
        cells=cells,
        gate=gate,
        report=report,
        history=trained.history,
        n_epochs=trained.n_epochs,
        stopped_early=trained.stopped_early,
        held_out=share,
    )
