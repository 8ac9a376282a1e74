"""What a fit says about itself, in the shape in which it is written into an AnnData."""

from __future__ import annotations

from typing import Any

import numpy as np

from scdae import __version__
from scdae._log import get_logger
from scdae.core.data.cells import CellData, cell_data
from scdae.core.data.conditions import Conditions
from scdae.core.data.thinning import thin
from scdae.core.evaluation.gain import measure_gain
from scdae.core.evaluation.heldout import HeldOut
from scdae.core.evaluation.report import CLEAR, Report
from scdae.core.network.batch_effects import posterior_effect
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import values_of
from scdae.core.prediction.decode import OUTPUTS, dropout_chance, law_of_genes
from scdae.core.runtime.own_switches import own_switches
from scdae.core.training.fit import held_out_share
from scdae.inputs.counts import CountBlocks, Counts
from scdae.inputs.options import DataOptions
from scdae.matrices.obs_columns import level_name
from scdae.model.fitted_model import FittedModel
from scdae.model.output_options import OutputOptions
from scdae.model.restore import find_genes

__all__ = [
    "FOREIGN",
    "cell_gain",
    "gains_less",
    "gene_table",
    "is_foreign",
    "query_report",
    "record_of",
    "say_if_foreign",
    "summary",
    "units_of",
    "verdict",
]

FOREIGN = 0.85  # of the gain that a model expects of itself: below, cells are not of the kind that it knows
_WORSE = 0.01  # nats per molecule by which the gene means of the cells predict better than the model


def gene_table(model: FittedModel, counts: Counts | CountBlocks, report: Report) -> dict[str, np.ndarray]:
    """Columns for `var`, in the order of the genes of `counts`; genes unknown to the network get 0, and NaN for their gain."""
    fitted = model.network
    columns = find_genes(model, counts, quiet=True).columns
    laws = law_of_genes(fitted)
    table: dict[str, Any] = {
        "dispersion": laws.dispersion.astype(np.float32),
        "dropout": laws.dropout.astype(np.float32),
        "zero_inflated": fitted.inflated,
        "zero_inflated_probability": dropout_chance(fitted),
        "gate": model.outcome.gate,
        "gain": report.gene_gain,
        "helped": report.helped,
    }
    n_vars = len(counts.var_names)
    return {name: _spread(column, columns, n_vars, fill_nan=name == "gain") for name, column in table.items()}


def cell_gain(report: Report, cells: np.ndarray, counts: Counts | CountBlocks) -> np.ndarray:
    """Held-out gain of the cells in the rows `cells`: float32 (n_obs,), NaN for cells that were not judged."""
    return _spread(report.cell_gain, cells, counts.shape[0], fill_nan=True)


@own_switches
def query_report(
    model: FittedModel,
    counts: Counts | CountBlocks,
    conditions: Conditions | None,
    seed: int,
    *,
    share: float | None = None,
) -> tuple[Report, np.ndarray]:
    """Held-out gain of a fitted model on other cells, over the genes of the network, and the rows of these cells.

    Some molecules of the cells are set aside, the model restores the others, and those set aside judge it, against the
    gene means of these cells, as far as they can be told from those of the model's own. `share` is the share set aside;
    None for that of a fit to them.
    """
    if isinstance(counts, CountBlocks):  # some thousand of them say enough
        rows = counts.blocks.rows
        some = None if conditions is None else conditions.take(rows)
        report, _ = query_report(model, counts.sample, some, seed, share=share)
        return report, rows
    fitted = model.network
    gene_map = find_genes(model, counts, quiet=True)
    matrix, unobserved = gene_map.take(counts.matrix, counts.unobserved)
    rng = np.random.default_rng([seed, 1])
    share = held_out_share(float(matrix.sum())) if share is None else share
    kept, held = thin(matrix, 1 - share, rng)
    data = cell_data(kept, unobserved, conditions, fitted.profile, fitted.largest)
    held_out = HeldOut(data, held, fitted.axes, rng)
    profile = _own_profile(fitted, data)
    network = fitted.graph, fitted.params, fitted.inflated
    report = measure_gain(*network, profile, held_out, fitted.likelihood, fitted.laws, fitted.prior)
    return report, np.arange(matrix.shape[0])


def gains_less(report: Report) -> bool:
    """Return whether a model gains clearly less on some cells than it expects of itself on cells like its own."""
    return report.efficiency + CLEAR * report.efficiency_error < FOREIGN


def is_foreign(report: Report) -> bool:
    """Return whether some cells are clearly not of the kind that a model knows, by its report on them."""
    return gains_less(report) or report.skill + CLEAR * report.skill_error < -_WORSE


def say_if_foreign(report: Report) -> None:
    """Say so when a model gains clearly less on other cells than on cells like its own, or nothing."""
    if is_foreign(report):
        less = f"gains {max(report.efficiency, 0):.0%} of what it would on cells like its own"
        worse = "predicts molecules worse than the average of each gene"
        get_logger().warning(
            f"scdae: on these cells the model {less if gains_less(report) else worse}: they were measured in another way, or are other "
            "cells. model.adapt(adata) learns how they differ."
        )


def _own_profile(fitted: Fitted, data: CellData) -> np.ndarray:
    """Share of each gene in the average of some cells: the model's, moved as far as these cells say, float64 (n_kept,)."""
    exposure = np.asarray(data.counts.sum(axis=1), np.float64).ravel() / data.share
    counted = np.asarray(data.counts.sum(axis=0), np.float64).ravel()
    seen, square = (np.full(data.n_vars, (exposure**power).sum()) for power in (1, 2))
    if data.unobserved is not None:
        gaps = data.unobserved.T.astype(np.float64)
        seen, square = seen - gaps @ exposure, square - gaps @ exposure**2
    expected = fitted.profile * seen
    theta = np.exp(np.asarray(values_of(fitted.params)["log_theta"], np.float64))
    weight = expected / np.maximum(expected + fitted.profile**2 * square / theta, 1e-12)
    profile = fitted.profile * np.exp(posterior_effect(counted * weight, expected * weight))
    return profile / profile.sum()


def summary(
    model: FittedModel,
    table: dict[str, np.ndarray],
    record: dict[str, Any],
    report: Report,
) -> dict[str, Any]:
    """Return the entry for `uns`: plain numbers, strings and arrays."""
    outcome, config = model.outcome, model.config
    units = units_of(record)
    n_helped, n_genes = int(report.helped.sum()), len(outcome.genes)
    settings = {k: np.asarray(v) if isinstance(v, list) else v for k, v in config.to_dict().items()}
    entry: dict[str, Any] = {
        "written_by": "scdae.pp.impute",
        "version": __version__,
        "output": record["outputs"][0],
        "unit": units[0],
        "layer": record["layer"],
        "likelihood": config.likelihood,
        "seed": config.seed,
        "n_latent": config.n_latent or 0,
        "settings": settings,
        "report": {
            "skill": report.skill,
            "skill_restored": report.skill_restored,
            "efficiency": report.efficiency,
            "held_out_molecules": report.molecules,
            "n_genes": n_genes,
            "n_genes_helped": n_helped,
            "zero_inflated_genes": int(table["zero_inflated"].sum()),
            "mean_gate": float(outcome.gate.mean()),
            "n_epochs": float(outcome.n_epochs),
            "stopped_early": outcome.stopped_early,
            "verdict": verdict(report.skill, n_helped, n_genes),
            "history": {name: np.asarray(values) for name, values in outcome.history.items()},
        },
    }
    entry |= {name: value for name, value in record.items() if name not in entry}
    if model.batch_key is not None:
        entry["batch_key"] = model.batch_key
        entry["batch_levels"] = np.asarray(model.batch_levels, dtype=object)
    if model.covariates.others:
        entry["covariates"] = np.asarray(model.covariates.others, dtype=object)
    return entry


def record_of(data: DataOptions, wanted: OutputOptions, transform_batch: str | None) -> dict[str, Any]:
    """Return what was asked for, for `uns`: enough for :func:`scdae.tl.evaluate` to judge the same run."""
    record: dict[str, Any] = {
        "outputs": np.array(wanted.outputs, dtype=object),
        "layer": data.layer or "X",
        "allow_fractional": data.allow_fractional,
        "allow_nan": data.allow_nan,
    }
    if wanted.depth is not None:
        same = (wanted.depth == wanted.depth[0]).all()
        record["depth"] = float(wanted.depth[0]) if same else np.array(wanted.depth)
    if data.mask is not None:
        record["mask"] = f"layer {data.mask}" if isinstance(data.mask, str) else "given"
    if wanted.quantiles:
        record["quantiles"] = np.array(wanted.quantiles)
    if transform_batch is not None:
        record["transform_batch"] = level_name(transform_batch)
    return record


def units_of(record: dict[str, Any]) -> list[str]:
    """Return the unit of each layer: of the outputs, and then of the quantiles."""
    units = [OUTPUTS[output] for output in record["outputs"]]
    units += [f"{chance:.10g} quantile of the expected count" for chance in record.get("quantiles", ())]
    return [unit + _as_if(record) for unit in units]


def verdict(skill: float, n_helped: int, n_genes: int) -> str:
    """Say in words whether imputation helped."""
    if not skill > 0:
        return "Held-out molecules are predicted no better than by the average of each gene."
    start = "It helps" if n_helped else "It gains next to nothing"
    return (
        f"{start}: held-out molecules are {np.expm1(skill):.1%} more likely than by the average of each gene; {n_helped:,} of {n_genes:,} "
        "genes gain beyond chance, as far as the few molecules set aside in the fit can tell (tl.evaluate sets more aside)."
    )


def _as_if(record: dict[str, Any]) -> str:
    name = record.get("transform_batch")
    return "" if name is None else f", corrected for batches: as if measured in batch {name!r}"


def _spread(column: np.ndarray, places: np.ndarray, length: int, *, fill_nan: bool = False) -> np.ndarray:
    """`column` at `places` of a longer array, with NaN for gains and zeros for all else; places below zero are dropped."""
    result = np.full(length, np.nan if fill_nan else 0, column.dtype)
    known = places >= 0
    result[places[known]] = column[known]
    return result
