"""From counts to a fitted model: set molecules aside, train, judge, gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.data.canonical import canonical_order
from scdae.core.data.cells import CellData, cell_data, smoothed_profile
from scdae.core.data.chunks import Blocks
from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.data.exposure import gene_profile
from scdae.core.data.extreme_counts import extreme_entries, largest_count, without_extremes
from scdae.core.data.non_zeros import entry_rows
from scdae.core.data.thinning import thin
from scdae.core.distributions.laws import Laws
from scdae.core.evaluation.gate import apply_gate, fit_gate, match_totals
from scdae.core.evaluation.heldout import measure_gain, read_out_law
from scdae.core.evaluation.hidden_entries import choose_filling
from scdae.core.evaluation.law_fit import fit_laws
from scdae.core.evaluation.report import Report
from scdae.core.evaluation.zero_inflation import candidates, observed_means
from scdae.core.minibatches.devices import Devices
from scdae.core.minibatches.loader import InMemory, Source, Stream
from scdae.core.network.dispersion import flat_theta
from scdae.core.network.fitted import Fitted
from scdae.core.prediction.decode import dropout_chance
from scdae.core.progress.checkpoints import Checkpoints
from scdae.core.progress.fingerprint import fingerprint
from scdae.core.training.adapt import adapted_network
from scdae.core.training.initialize import Start, new_network, on_axes
from scdae.core.training.loadings import solve_loadings
from scdae.core.training.loop import Trained, train
from scdae.core.training.members import average
from scdae.core.training.newton import Refit
from scdae.core.training.sizes import MEMBERS

__all__ = ["Fitted", "Outcome", "cell_data", "fit_counts", "held_out_share"]

_ENOUGH = 100_000  # held-out molecules wanted, within the limits below
_SHARES = (0.03, 0.1)
_SLIGHT = 2e-4  # nats per molecule
_CLEAR = 1e-4  # nats by which held-out molecules have to be likelier by the loadings solved for
_CERTAIN = 10.0  # nats that a gene gains beyond five for each axis, with which its loadings are beyond doubt
_LOG = logging.getLogger("scdae")


@dataclass(frozen=True)
class Outcome:
    """A fitted model and what was learned about it on the way."""

    fitted: Fitted
    genes: np.ndarray  # int64 (n_kept,): columns of the genes that were counted
    cells: (
        np.ndarray
    )  # int64 (n_judged,): rows of the cells that were judged by, which are all that were counted, or some
    gate: np.ndarray  # float32 (n_kept,)
    report: Report
    history: dict[str, list[float]]
    n_epochs: float
    stopped_early: bool
    held_out: float
    extremes: tuple[np.ndarray, np.ndarray] | None = (
        None  # rows and columns of single counts too large to be trained on
    )


def held_out_share(molecules: float) -> float:
    """Share of the molecules to set aside: enough to judge by, as few as possible to lose."""
    return float(np.clip(_ENOUGH / max(molecules, 1.0), *_SHARES))


def fit_counts(
    counts: sp.csr_matrix,
    unobserved: sp.csr_matrix | None,
    conditions: Conditions | None,
    n_levels: int,
    n_batches: int,
    config: Config,
    *,
    reference: tuple[Fitted, np.ndarray] | None = None,
    blocks: Blocks | None = None,
    watch: Callable[[Iterable[int], int], Iterable[int]] = lambda steps, total: steps,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
) -> Outcome:
    """Fit the model to a count matrix.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars), canonical, without entries that were not observed.
    unobserved
        Boolean CSR of these, or None.
    conditions
        Batch and covariates of each cell, or None; where there are `blocks`, of all cells in these.
    n_levels
        Levels of all categorical conditions.
    n_batches
        Those of the first column, if they are batches; else 0.
    config
        Settings.
    reference
        Fitted model to go on from, and its gene for each of those in `counts`, int (n_vars,), -1 for none.
    blocks
        All cells, where there are more than those in `counts`, which are their `rows`. Those are judged by, and what a fit
        looks at as a whole is worked out on them; the network is trained on all.
    watch
        Wraps the training steps in a progress bar.
    checkpoints
        Where to go on from, and where to keep how far training is.
    devices
        On what the training steps are computed; None for one device.

    Notes
    -----
    Genes and cells without counts say nothing and are left out. The same seed gives the same bits on the same machine, and but
    for rounding the same fit in whatever order cells and genes came, where all counts are in memory.
    """
    genes = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) if blocks is None else blocks.totals)
    cells = np.flatnonzero(np.diff(counts.indptr))
    rows = cells if blocks is None else blocks.rows[cells]
    counts = counts[cells][:, genes]
    unobserved = None if unobserved is None else unobserved[cells][:, genes]
    of_cells = None if conditions is None else conditions.take(rows)

    largest = largest_count(counts)
    extreme = extreme_entries(counts, largest)
    extremes = None if not len(extreme) else (rows[entry_rows(counts)[extreme]], genes[counts.indices[extreme]])
    counts = without_extremes(counts, largest, gene_profile(_without(counts, extreme), unobserved))
    back: tuple[np.ndarray, np.ndarray] | None = None
    if blocks is None:  # the same fit in whatever order cells and genes came
        order, of_genes = canonical_order(counts)
        counts, unobserved = (
            None if part is None else part[order][:, of_genes].tocsr() for part in (counts, unobserved)
        )
        for part in (counts, unobserved):
            if part is not None:
                part.sort_indices()
        of_cells = None if of_cells is None else of_cells.take(order)
        rows, genes, back = rows[order], genes[of_genes], (np.argsort(order), np.argsort(of_genes))
    share = held_out_share(float(counts.sum())) if config.held_out is None else config.held_out
    kept, held = thin(counts, 1 - share, np.random.default_rng([config.seed, 1]))
    profile = gene_profile(counts, unobserved)
    if blocks is not None:
        profile = _profile_of_all(profile, counts, blocks, genes)
    data = cell_data(kept, unobserved, of_cells, profile)
    source: Source = InMemory(data)
    if blocks is not None:
        everything = no_conditions(blocks.n_obs) if conditions is None else conditions
        source = Stream(replace(blocks, rows=rows), genes, data, everything, profile, largest)

    def begin(rng: np.random.Generator) -> Start:
        if reference is None:
            return new_network(data, profile, n_levels, n_batches, config, rng, source.n_obs)
        return adapted_network(reference[0], reference[1][genes], data, profile, n_levels, n_batches, config)

    if checkpoints is not None:
        numbers = {"levels": n_levels, "batches": n_batches}
        checkpoints.claim(fingerprint(config, data, held, blocks, reference, **numbers))
    trained = train(source, data, held, profile, config, begin, watch=watch, checkpoints=checkpoints, devices=devices)
    if trained.diverged:
        calmer = _calmer(config)
        _LOG.warning(
            f"scdae: the training diverged: its loss is no number with learning_rate={config.learning_rate:g}. It is repeated "
            f"with learning_rate={calmer.learning_rate:g}."
        )
        trained = train(source, data, held, profile, calmer, begin, watch=watch, devices=devices)
    if trained.diverged:
        _LOG.warning(
            "scdae: the training diverged again, so nothing was learned about the cells: the output rests on the average of each "
            "gene and on each entry's own count. Look for counts that are far too large, or set a lower learning_rate."
        )

    certain = None
    if not trained.diverged:
        n_rounds = 2 if config.effort == "fast" else 3

        def solved(trained: Trained) -> tuple[Any, Refit | None]:
            if trained.inflated.any():  # it would take what was lost for what the cells express
                return trained.params, None
            start = Fitted(config.likelihood, trained.axes, trained.graph, trained.params, profile, trained.inflated)
            towards = None if reference is None else trained.params
            params, refit = solve_loadings(start, data, towards, n_rounds=n_rounds)
            told = read_out_law(config.likelihood, trained.inflated)
            score = [
                trained.held_out.log_likelihood(trained.graph, some, trained.inflated, told)
                for some in (trained.params, params)
            ]
            _LOG.debug(
                f"scdae: held-out molecules gain {score[1] - score[0]:.5f} nats each by the loadings solved for."
            )
            return (params, refit) if score[1] > score[0] + _CLEAR else (trained.params, None)

        params, refit = solved(trained)
        if refit is not None and refit.evidence is not None:
            certain = np.clip(refit.evidence / _CERTAIN - 0.5 * len(refit.loading), 0, 1)
        trained = replace(trained, params=params if devices is None else devices.agree(params))
        if MEMBERS[config.effort] > 1 and reference is None and not data.conditions.any:
            trained = _averaged(trained, source, data, held, profile, config, solved, devices)
    graph = trained.graph
    law = read_out_law(config.likelihood, trained.inflated)
    gate = fit_gate(graph, trained.params, trained.inflated, trained.held_out, law, certain)
    if not trained.diverged and config.learning_rate > Config().learning_rate and not gate.any():
        _LOG.warning(
            f"scdae: with learning_rate={config.learning_rate:g} the network predicts held-out molecules no better than the average "
            f"of each gene. Try the default, {Config().learning_rate:g}."
        )
    params = trained.params
    if (gate < 1).any():
        params = apply_gate(params, gate, flat_theta(profile, params, data))
    no_dropout = np.zeros(len(genes), bool)
    plain = read_out_law(config.likelihood, no_dropout)
    counted = np.asarray(kept.sum(axis=0), dtype=np.float64).ravel()

    def measured(params: Any, laws: Laws | None) -> Report:
        return measure_gain(graph, params, no_dropout, smoothed_profile(data), trained.held_out, plain, laws)

    if trained.inflated.any():
        params = observed_means(params, trained.inflated)
        params = match_totals(params, counted, measured(params, None).expected)
    laws = None
    if config.likelihood != "poisson":
        told = candidates(data.counts) if config.likelihood == "zinb" else np.zeros(len(genes))
        laws = fit_laws(graph, params, trained.held_out, told, config.seed)
    report = measured(params, laws)
    params = match_totals(params, counted, report.expected)
    if _loss_of_totals(counted, report.expected) > _SLIGHT:  # the report is of the model as it is handed out
        report = measured(params, laws)
    fitted = Fitted(law, trained.axes, graph, params, profile, no_dropout, config.gaps, largest, laws)
    inflated = dropout_chance(fitted) > 0.5
    fitted = replace(fitted, inflated=inflated, likelihood=read_out_law(config.likelihood, inflated))
    if config.gap_max_iter is None:
        fitted = replace(fitted, gaps=choose_filling(fitted, data, np.random.default_rng([config.seed, 2])))
    if back is not None:
        fitted, report = fitted.in_order(back[1]), report.in_order(*back)
        rows, genes, gate = rows[back[0]], genes[back[1]], gate[back[1]]
    return Outcome(
        fitted=fitted,
        genes=genes,
        cells=rows,
        gate=gate,
        report=report,
        history=trained.history,
        n_epochs=trained.n_epochs,
        stopped_early=trained.stopped_early,
        held_out=share,
        extremes=extremes,
    )


def _averaged(
    first: Trained,
    source: Source,
    data: CellData,
    held: sp.csr_matrix,
    profile: np.ndarray,
    config: Config,
    solved: Callable[[Trained], tuple[Any, Refit | None]],
    devices: Devices | None,
) -> Trained:
    """The first network averaged with others, trained likewise on the same axes from other seeds."""
    members, axes = [first.params], first.axes
    for i in range(1, MEMBERS[config.effort]):
        other = replace(config, seed=(config.seed + i) % 2**32)

        def begin(rng: np.random.Generator, other: Config = other) -> Start:
            return on_axes(axes, profile, other, source.n_obs)

        member = train(source, data, held, profile, other, begin, devices=devices)
        if not member.diverged:
            members.append(solved(member)[0])
    graph, params = average(members, profile, config.seed)
    return replace(first, graph=graph, params=params)


def _loss_of_totals(counted: np.ndarray, expected: np.ndarray) -> float:
    """Nats per molecule that wrong totals of the genes cost (Kullback-Leibler divergence, second order)."""
    return float((counted * np.log((counted + 1) / (expected + 1)) ** 2).sum() / max(2 * counted.sum(), 1))


def _without(counts: sp.csr_matrix, entries: np.ndarray) -> sp.csr_matrix:
    """Counts with some entries set to zero; the same object where there are none."""
    if not len(entries):
        return counts
    rest = counts.copy()
    rest.data[entries] = 0
    return rest


def _calmer(config: Config) -> Config:
    """Settings with the default learning rate, or a tenth of the one that diverged where that is lower."""
    return replace(config, learning_rate=min(Config().learning_rate, 0.1 * config.learning_rate))


def _profile_of_all(profile: np.ndarray, counts: sp.csr_matrix, blocks: Blocks, genes: np.ndarray) -> np.ndarray:
    """Share of each gene in the average of all cells: that of some of them, moved by the molecules of all."""
    total = blocks.totals[genes]
    if blocks.hidden is None:
        return total / total.sum()
    here = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    moved = np.maximum(profile, 1 / here.sum()) * (total + 1) / (here + 1)
    return moved / moved.sum()
