"""From counts to a fitted model: set molecules aside, train, judge, gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.data.cells import CellData, cell_data, smoothed_profile
from scdae.core.data.chunks import Blocks
from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.data.thinning import thin
from scdae.core.distributions.laws import Laws
from scdae.core.evaluation.gain import measure_gain
from scdae.core.evaluation.gate import apply_gate, fit_gate, match_totals
from scdae.core.evaluation.heldout import read_out_law
from scdae.core.evaluation.law_fit import fit_laws
from scdae.core.evaluation.report import Report
from scdae.core.evaluation.zero_inflation import candidates, observed_means
from scdae.core.minibatches.devices import Devices
from scdae.core.minibatches.loader import InMemory, Source, Stream
from scdae.core.network.dispersion import flat_theta
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import values_of
from scdae.core.prediction.decode import dropout_chance
from scdae.core.prediction.hidden_entries import choose_filling
from scdae.core.prediction.refine import latent_prior
from scdae.core.progress.checkpoints import Checkpoints
from scdae.core.progress.fingerprint import fingerprint
from scdae.core.runtime.freed import give_back
from scdae.core.runtime.threads import one_for_products
from scdae.core.training.adapt import adapted_network
from scdae.core.training.counted import counted, profile_of
from scdae.core.training.initialize import Start, new_network, on_axes
from scdae.core.training.loadings import solve_loadings
from scdae.core.training.loop import Trained, train
from scdae.core.training.members import average
from scdae.core.training.regressions import Refit
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
    """Choose the fraction of the molecules to set aside: enough to judge by, and no more."""
    return float(np.clip(_ENOUGH / max(molecules, 1.0), *_SHARES))


@one_for_products()
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
    chosen = counted(counts, unobserved, conditions, blocks)
    counts, unobserved, rows, genes = chosen.counts, chosen.unobserved, chosen.rows, chosen.genes
    share = held_out_share(float(counts.sum())) if config.held_out is None else config.held_out
    kept, held = thin(counts, 1 - share, np.random.default_rng([config.seed, 1]))
    profile = profile_of(chosen, blocks)
    data = cell_data(kept, unobserved, chosen.conditions, profile)
    source: Source = InMemory(data)
    if blocks is not None:
        everything = no_conditions(blocks.n_obs) if conditions is None else conditions
        source = Stream(replace(blocks, rows=rows), genes, data, everything, profile, chosen.largest)

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

    give_back()
    certain = None
    if not trained.diverged:
        solve = partial(_solved, data=data, profile=profile, config=config, adapted=reference is not None)
        params, refit = solve(trained)
        if refit is not None and refit.evidence is not None:
            certain = np.clip(refit.evidence / _CERTAIN - 0.5 * len(refit.loading), 0, 1)
        trained = replace(trained, params=params if devices is None else devices.agree(params))
        if MEMBERS[config.effort] > 1 and reference is None and not data.conditions.any:
            trained = _averaged(trained, source, data, held, profile, config, solve, devices)
    give_back()
    fitted, gate, report = _judged(trained, data, profile, config, certain, chosen.largest)
    give_back()
    if chosen.back is not None:
        cells, columns = chosen.back
        fitted, report = fitted.in_order(columns), report.in_order(cells, columns)
        rows, genes, gate = rows[cells], genes[columns], gate[columns]
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
        extremes=chosen.extremes,
    )


def _solved(
    trained: Trained, *, data: CellData, profile: np.ndarray, config: Config, adapted: bool
) -> tuple[Any, Refit | None]:
    """Solve for the loadings, and keep them where held-out molecules are clearly likelier by them."""
    if trained.inflated.any():  # it would take what was lost for what the cells express
        return trained.params, None
    start = Fitted(config.likelihood, trained.axes, trained.graph, trained.params, profile, trained.inflated)
    n_rounds = 2 if config.effort == "fast" else 3
    params, refit = solve_loadings(start, data, trained.params if adapted else None, n_rounds=n_rounds)
    told = read_out_law(config.likelihood, trained.inflated)
    before, after = (
        trained.held_out.log_likelihood(trained.graph, some, trained.inflated, told)
        for some in (trained.params, params)
    )
    _LOG.debug(f"scdae: held-out molecules gain {after - before:.5f} nats each by the loadings solved for.")
    return (params, refit) if after > before + _CLEAR else (trained.params, None)


def _judged(
    trained: Trained,
    data: CellData,
    profile: np.ndarray,
    config: Config,
    certain: np.ndarray | None,
    largest: float,
) -> tuple[Fitted, np.ndarray, Report]:
    """Return the model as it is handed out, the gate of each gene, and what held-out molecules say of it."""
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
    no_dropout = np.zeros(data.n_vars, bool)
    plain = read_out_law(config.likelihood, no_dropout)
    prior = None
    if not trained.diverged:
        prior = latent_prior(Fitted(law, trained.axes, graph, params, profile, no_dropout), data)
    molecules = np.asarray(data.counts.sum(axis=0), dtype=np.float64).ravel()

    def measured(params: Any, laws: Laws | None) -> Report:
        return measure_gain(graph, params, no_dropout, smoothed_profile(data), trained.held_out, plain, laws, prior)

    if trained.inflated.any():
        params = observed_means(params, trained.inflated)
        params = match_totals(params, molecules, measured(params, None).expected)
    laws = None
    if config.likelihood != "poisson":
        told = candidates(data.counts) if config.likelihood == "zinb" else np.zeros(data.n_vars)
        laws = fit_laws(graph, params, trained.held_out, told, config.seed)
        give_back()
    report = measured(params, laws)
    params, before = match_totals(params, molecules, report.expected), params
    if laws is not None and laws.log_share is not None:  # genes lie as far from their average as before
        moved = values_of(params)["log_profile"] - values_of(before)["log_profile"]
        laws = laws._replace(log_share=(laws.log_share + moved).astype(np.float32))
    if _loss_of_totals(molecules, report.expected) > _SLIGHT:  # the report is of the model as it is handed out
        report = measured(params, laws)
    fitted = Fitted(law, trained.axes, graph, params, profile, no_dropout, config.gaps, largest, laws, prior)
    inflated = dropout_chance(fitted) > 0.5
    fitted = replace(fitted, inflated=inflated, likelihood=read_out_law(config.likelihood, inflated))
    if config.gap_max_iter is None:
        fitted = replace(fitted, gaps=choose_filling(fitted, data, np.random.default_rng([config.seed, 2])))
    return fitted, gate, report


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


def _calmer(config: Config) -> Config:
    """Settings with the default learning rate, or a tenth of the one that diverged where that is lower."""
    return replace(config, learning_rate=min(Config().learning_rate, 0.1 * config.learning_rate))
