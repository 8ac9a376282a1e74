"""What a fit says about itself, in the shape in which it is written into an AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from scdae.core.cells import CellData
from scdae.core.conditions import Conditions
from scdae.core.effects import posterior_effect
from scdae.core.fitted import Fitted, cell_data
from scdae.core.fitting import held_out_share
from scdae.core.heldout import HeldOut, measure_gain
from scdae.core.prediction import OUTPUTS
from scdae.core.thinning import thin
from scdae.counts import CountBlocks, Counts
from scdae.readout import find_genes

if TYPE_CHECKING:
    from scdae.model import DAE

__all__ = ["cell_gain", "gene_table", "query_gain", "summary"]


def gene_table(
    model: DAE, counts: Counts | CountBlocks, gains: tuple[np.ndarray, np.ndarray, float] | None
) -> dict[str, np.ndarray]:
    """Columns for `var`, in the order of the genes of `counts`; genes unknown to the network get 0."""
    outcome = model.fitted_outcome()
    fitted = outcome.fitted
    columns = find_genes(model, counts, quiet=True).columns
    values = {name: np.asarray(value) for name, value in nnx.to_pure_dict(fitted.params).items()}
    theta = np.exp(np.where(fitted.inflated, values["log_theta_zi"], values["log_theta"]))
    if fitted.likelihood == "poisson":
        theta = np.full_like(theta, np.inf)
    dropout = np.where(fitted.inflated, 1 / (1 + np.exp(-values["logit_pi"])), 0)
    gain = outcome.report.gene_gain if gains is None else gains[0]
    table: dict[str, Any] = {
        "dispersion": (1 / theta).astype(np.float32),
        "dropout": dropout.astype(np.float32),
        "zero_inflated": fitted.inflated,
        "gate": outcome.gate,
        "gain": gain,
    }
    return {name: _spread(column, columns, len(counts.var_names)) for name, column in table.items()}


def cell_gain(model: DAE, counts: Counts | CountBlocks) -> np.ndarray:
    """Held-out gain of the cells that the model was fitted to: float32 (n_obs,), 0 for empty cells.

    NaN for cells that were not judged by, where only some are.
    """
    outcome = model.fitted_outcome()
    return _of_cells(outcome.report.cell_gain, outcome.cells, counts)


def _of_cells(gain: np.ndarray, cells: np.ndarray, counts: Counts | CountBlocks) -> np.ndarray:
    """Values of some cells in the place of all."""
    result = _spread(gain, cells, counts.shape[0])
    if isinstance(counts, CountBlocks):
        judged = np.zeros(len(result), bool)
        judged[cells] = True
        result[~judged & (counts.blocks.lengths > 0)] = np.nan
    return result


def query_gain(
    model: DAE, counts: Counts | CountBlocks, conditions: Conditions | None, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Held-out gain of a fitted model on other cells: by gene of the network, by cell, and overall.

    Some molecules of the cells are set aside, the model restores the others, and those set aside judge it, against the
    gene means of these cells, as far as they can be told from those of the model's own.
    """
    if isinstance(counts, CountBlocks):  # some thousand of them say enough
        rows = counts.blocks.rows
        some = None if conditions is None else conditions.take(rows)
        genes, cells, skill = query_gain(model, counts.sample, some, seed)
        return genes, _of_cells(cells, rows, counts), skill
    outcome = model.fitted_outcome()
    fitted = outcome.fitted
    found = find_genes(model, counts, quiet=True)
    matrix, unobserved = found.take(counts.matrix, counts.unobserved)
    rng = np.random.default_rng([seed, 1])
    kept, held = thin(matrix, 1 - held_out_share(float(matrix.sum())), rng)
    data = cell_data(kept, unobserved, conditions, fitted.profile)
    if held.nnz == 0:
        return np.zeros(len(outcome.genes), np.float32), np.zeros(matrix.shape[0], np.float32), 0.0
    held_out = HeldOut(data, held, fitted.axes, rng)
    profile = _own_profile(fitted, data)
    report = measure_gain(fitted.graph, fitted.params, fitted.inflated, profile, held_out, fitted.likelihood)
    return report.gene_gain, report.cell_gain, report.skill


def _own_profile(fitted: Fitted, data: CellData) -> np.ndarray:
    """Share of each gene in the average of some cells: the model's, moved as far as these cells say, float64 (n_kept,)."""
    exposure = np.asarray(data.counts.sum(axis=1), np.float64).ravel() / data.share
    counted = np.asarray(data.counts.sum(axis=0), np.float64).ravel()
    seen, square = (np.full(data.n_vars, (exposure**power).sum()) for power in (1, 2))
    if data.unobserved is not None:
        gaps = data.unobserved.T.astype(np.float64)
        seen, square = seen - gaps @ exposure, square - gaps @ exposure**2
    expected = fitted.profile * seen
    theta = np.exp(np.asarray(nnx.to_pure_dict(fitted.params)["log_theta"], np.float64))
    weight = expected / np.maximum(expected + fitted.profile**2 * square / theta, 1e-12)
    profile = fitted.profile * np.exp(posterior_effect(counted * weight, expected * weight))
    return profile / profile.sum()


def summary(
    model: DAE,
    table: dict[str, np.ndarray],
    record: dict[str, Any],
    gains: tuple[np.ndarray, np.ndarray, float] | None,
) -> dict[str, Any]:
    """Entry for `uns`: plain numbers, strings and arrays."""
    from scdae import __version__

    outcome, config = model.fitted_outcome(), model.config
    skill = outcome.report.skill if gains is None else gains[2]
    n_helped, n_genes = int((table["gain"] > 0).sum()), len(outcome.genes)
    settings = {k: np.asarray(v) if isinstance(v, list) else v for k, v in config.to_dict().items()}
    entry: dict[str, Any] = {
        "written_by": "scdae.pp.impute",
        "version": __version__,
        "output": record["output"],
        "unit": OUTPUTS[record["output"]] + _as_if(record),
        "layer": record["layer"],
        "likelihood": config.likelihood,
        "seed": config.seed,
        "n_latent": config.n_latent,
        "settings": settings,
        "report": {
            "skill": skill,
            "held_out": outcome.held_out,
            "n_genes": n_genes,
            "n_genes_helped": n_helped,
            "zero_inflated_genes": int(table["zero_inflated"].sum()),
            "mean_gate": float(outcome.gate.mean()),
            "n_epochs": float(outcome.n_epochs),
            "stopped_early": outcome.stopped_early,
            "verdict": (
                f"Explains {skill:.1%} of the held-out deviance that the gene means leave; helps {n_helped:,} of "
                f"{n_genes:,} genes."
            ),
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


def _as_if(record: dict[str, Any]) -> str:
    name = record.get("transform_batch")
    return "" if name is None else f", corrected for batches: as if measured in batch {name!r}"


def _spread(column: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """`column` at `places` of a longer array of zeros; places below zero are dropped."""
    result = np.zeros(length, column.dtype)
    found = places >= 0
    result[places[found]] = column[found]
    return result
