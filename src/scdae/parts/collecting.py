"""Parts become one result: what is known of all cells is written, sparse layers are joined, and the store gets its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae._settings import settings
from scdae.core.data.survey import Survey
from scdae.core.evaluation.report import Report
from scdae.core.prediction.missing import Gaps
from scdae.files.replacing import put, remove
from scdae.files.targets import check_replaceable, writes
from scdae.inputs.counts import open_counts, read_counts
from scdae.inputs.options import DataOptions
from scdae.inputs.silent import AS_COUNTED, say_blind, say_silent
from scdae.matrices.annotation import frame_of
from scdae.model.fitted_model import FittedModel
from scdae.outputs.blocks import BlockReader
from scdae.outputs.report import gene_table, query_report, record_of, say_if_foreign, summary, units_of
from scdae.parts.folder import Folder
from scdae.parts.plan import Plan
from scdae.parts.store import join_pieces, write_annotations

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Query", "collect_parts", "judge"]


@dataclass(frozen=True)
class Query:
    """The data that the parts were restored from, and how.

    Parameters
    ----------
    adata
        The data.
    data
        Where its counts are.
    reader
        Restores blocks of them.
    fit
        Name of the fit.
    transform_batch
        Batch in which all cells are to have been measured, or None.
    in_memory
        Whether the counts are few enough to be held.
    """

    adata: AnnData
    data: DataOptions
    reader: BlockReader
    fit: str
    transform_batch: str | None
    in_memory: bool


def judge(query: Query, seed: int = 0) -> tuple[Report, np.ndarray, Any]:
    """Held-out gain of the model on the query, or on the cells that a fit would draw from it; their rows; and the counts."""
    model, conditions, whole = query.reader.model, query.reader.conditions, query.reader.counts
    mean = Survey.mean_of(whole.read(*whole.spans[0])[0])
    if query.in_memory or mean * whole.shape[0] <= settings.max_entries:
        few = open_counts(query.adata, for_fit=False, seed=seed, **query.data.counts)
        return *query_report(model, few, conditions, seed), few
    rows = Survey(whole.shape, seed).draw(mean)
    counts = read_counts(query.adata[rows], for_fit=False, **query.data.of_rows(rows, query.adata).counts)
    some = None if conditions is None else conditions.take(rows)
    return query_report(model, counts, some, seed)[0], rows, counts


def collect_parts(
    folder: Folder, plan: Plan, query: Query, *, overwrite: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make one result of all parts, and give it its name.

    Parameters
    ----------
    folder
        Where the store grew.
    plan
        The plan of its parts, all of which are there.
    query
        What they were restored from.
    overwrite
        Whether a result that is there is replaced.

    Returns
    -------
    tuple
        Elements of the AnnData that were written now, by their names, and what became of the cells of all parts.

    Raises
    ------
    ValueError
        A part is being written, or the pieces of a sparse layer do not fit together.
    WriteError, FileExistsError
        The result cannot be written.
    """
    report, rows, counts = judge(query)
    say_if_foreign(report)
    with writes(folder.target), folder.collecting():
        parts = [folder.done(part) or {} for part in range(1, plan.n_parts + 1)]
        found = _together(parts)
        elements = _elements(plan, query, report, rows, counts, found)
        if plan.sparse:
            starts = [start for part in range(1, plan.n_parts + 1) for start, _ in plan.geometry.spans(part)]
            for number, name in enumerate(plan.layers):
                pieces = [folder.pieces(number) / f"{start}" for start in starts]
                n_stored = sum(part["entries"][number] for part in parts)
                join_pieces(folder.store, name, pieces, (plan.n_obs, plan.n_genes), n_stored)
        write_annotations(folder.store, elements)
        if overwrite and folder.target.exists():
            check_replaceable(folder.target)
        put(folder.store, folder.target, overwrite=overwrite)
    remove(folder.path)
    _say(query.reader, found)
    return elements, found


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the notes of all parts."""
    gaps = Gaps(
        sum(part["gaps"]["n_unobserved"] for part in parts),
        sum(part["gaps"]["n_unconverged"] for part in parts),
        max(part["gaps"]["n_iter"] for part in parts),
        [value for part in parts for value in part["gaps"]["contractions"]],
    )
    never = set(parts[0]["never_observed"]).intersection(*(part["never_observed"] for part in parts[1:]))
    return {
        "gaps": gaps,
        "n_genes_never_observed": len(never),
        "n_cells_never_observed": sum(part["n_cells_never_observed"] for part in parts),
        "n_blind": sum(part["n_blind"] for part in parts),
        "counted": np.array(sorted({column for part in parts for column in part["counted"]}), np.int64),
        "seconds": sum(part["seconds"] for part in parts),
        "slowest": max(part["seconds"] for part in parts),
    }


def _elements(
    plan: Plan, query: Query, report: Report, rows: np.ndarray, counts: Any, found: dict[str, Any]
) -> dict[str, Any]:
    """Return what `scdae.pp.impute` would write beside the layers and the latent space, as elements of an AnnData."""
    model: FittedModel = query.reader.model
    record = record_of(query.data, query.reader.wanted, query.transform_batch)
    never = {name: found[name] for name in ("n_genes_never_observed", "n_cells_never_observed")}
    if found["gaps"].n_unobserved or any(never.values()):
        record["missing"] = found["gaps"].report() | never
    if len(found["counted"]):
        record["genes_as_counted"] = query.reader.counts.var_names[found["counted"]].astype(object)
    table = gene_table(model, counts, report)
    entry = summary(model, table, record, report) | {"fit": query.fit}
    entry["units"] = dict(zip(plan.layers, units_of(record), strict=True))
    columns = slice(None) if query.reader.genes is None else query.reader.genes
    obs, var = frame_of(query.adata.obs).copy(), frame_of(query.adata.var).iloc[columns].copy()
    gain = np.full(query.adata.n_obs, np.nan, np.float32)
    gain[rows] = report.cell_gain
    obs[f"{plan.key}_gain"] = gain
    for name, column in table.items():
        var[f"{plan.key}_{name}"] = column[columns]
    empty: dict[str, Any] = {name: {} for name in ("obsp", "varm", "varp")}
    return {"obs": obs, "var": var, "uns": {plan.key: entry}, **empty}


def _say(reader: BlockReader, found: dict[str, Any]) -> None:
    """Warn of genes and cells of which nothing is known, as a run does."""
    gene_map = reader.gene_map
    say_silent(np.isin(gene_map.silent_source, found["counted"]), gene_map, reader.counts.var_names, AS_COUNTED)
    say_blind(found["n_blind"], reader.counts.shape[0])
