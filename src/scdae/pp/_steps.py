"""The steps of `scdae.pp.impute`: fit or take a model, restore, write."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae._log import say_result
from scdae.core.data.conditions import Conditions
from scdae.core.evaluation.report import Report
from scdae.core.minibatches.devices import Devices
from scdae.core.prediction.missing import Gaps
from scdae.core.progress.checkpoints import open_checkpoints
from scdae.inputs.count_types import CountBlocks, Counts
from scdae.inputs.covariates import read_covariates
from scdae.inputs.doubts import say_few_cells
from scdae.inputs.options import DataOptions
from scdae.inputs.silent import n_never_observed, say_filled
from scdae.matrices.chunk_sizes import choose_lazy, row_spans
from scdae.matrices.rows import is_dask
from scdae.model import DAE
from scdae.model.fitted_model import FittedModel
from scdae.model.known_fits import fit_once, keep
from scdae.model.lazy import joined, lazy_layer, stacked
from scdae.model.options import log_layer_size
from scdae.model.output_options import OutputOptions
from scdae.model.restore import counted_silent_names, find_genes, read_latent, read_query
from scdae.outputs.blocks import BlockReader
from scdae.outputs.names import Names, check_corrected
from scdae.outputs.report import cell_gain, gene_table, query_report, record_of, say_if_foreign, summary, units_of
from scdae.outputs.slots import writing_to

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Ready", "Restored", "Run", "fit_model", "restore", "take_model", "write"]

_LARGE = 100 * 2**20  # bytes of dense layers that are worth a word


@dataclass(frozen=True)
class Run:
    """What a call asks for: counts that were checked, and options."""

    adata: AnnData
    data: DataOptions
    wanted: OutputOptions
    counts: Counts | CountBlocks
    transform_batch: str | None


@dataclass(frozen=True)
class Ready:
    """A fitted model, and the cells of the run as it sees them."""

    model: FittedModel
    conditions: Conditions | None
    batch: np.ndarray | None  # weights of the batches in which all cells are to have been measured
    report: Report
    judged: np.ndarray  # rows of the cells that the report is of
    name: str  # under which the fit is kept in this process


@dataclass(frozen=True)
class Restored:
    """What is written: layers, the latent representation, and what became of missing values."""

    layers: dict[str, Any]
    latent: np.ndarray
    gaps: Gaps


def fit_model(
    run: Run, model: DAE, checkpoints: tuple[str | PathLike[str] | None, int | None], devices: Devices
) -> Ready:
    """Train on the counts of the run."""
    columns, conditions = read_covariates(run.adata, **run.data.columns)
    batch = None if run.transform_batch is None else columns.batch_weights(run.transform_batch)
    check_corrected(run.transform_batch, columns.batch_levels)
    say_few_cells(run.adata.n_obs)
    log_layer_size(run.adata.shape, run.wanted.n_layers)
    with open_checkpoints(*checkpoints, first=devices.first) as kept:
        fit_once(model, run.counts, columns, conditions, checkpoints=kept, devices=devices)
    fitted = model.fitted_model()
    return Ready(fitted, conditions, batch, fitted.outcome.report, fitted.outcome.cells, keep(model))


def take_model(run: Run, model: DAE, of_fit: list[str], seed: int) -> Ready:
    """Take a fitted model; arguments of a fit, named by `of_fit`, cannot be given beside it."""
    if not isinstance(model, DAE):
        raise TypeError(
            f"model must be a fitted scdae.DAE, got {type(model).__name__}. Read a saved one with scdae.DAE.load(path)."
        )
    if of_fit:
        raise ValueError(f"{of_fit[0]}=... belongs to the fit and cannot be set together with model=. Leave it out.")
    fitted = model.fitted_model()
    check_corrected(run.transform_batch, fitted.batch_levels)
    conditions, batch = fitted.conditions(run.adata), fitted.batch_weights(run.transform_batch)
    log_layer_size(run.adata.shape, run.wanted.n_layers)
    report, rows = query_report(fitted, run.counts, conditions, seed)
    say_if_foreign(report)
    return Ready(fitted, conditions, batch, report, rows, keep(model))


def restore(run: Run, ready: Ready, names: Names) -> Restored:
    """Restore the counts of the run, now or lazily."""
    wanted, gaps = run.wanted, Gaps()
    query = ready.model, run.counts, ready.conditions
    n_bytes = 4 * wanted.n_layers * run.adata.n_obs * run.adata.n_vars
    lazily = choose_lazy(wanted.lazy if wanted.threshold is None else bool(wanted.lazy), n_bytes)
    form: dict[str, Any] = {"threshold": wanted.threshold}
    layers: dict[str, Any] = {}
    if wanted.threshold is not None and not lazily:
        return _restore_sparse(run, ready, names)
    if lazily:
        latent = read_latent(*query, quiet=True, gaps=gaps)
        for name, output in zip(names.output_layers, wanted.outputs, strict=True):
            first = name == names.key
            layers[name] = lazy_layer(*query, output, wanted.depth, ready.batch, quiet=not first, **form)
    else:
        values, latent = read_query(*query, wanted.outputs, wanted.depth, gaps, ready.batch)
        layers |= dict(zip(names.output_layers, values, strict=True))
    for name, chance in zip(names.quantile_layers, wanted.quantiles, strict=True):
        layers[name] = lazy_layer(*query, chance, None, ready.batch, quiet=True, **form)
    if not lazily:
        layers = {name: joined(layer) if hasattr(layer, "dask") else layer for name, layer in layers.items()}
    return Restored(layers, latent, gaps)


def _restore_sparse(run: Run, ready: Ready, names: Names) -> Restored:
    """The same without values below a threshold, block by block, so that no layer is ever dense as a whole."""
    reader = BlockReader(ready.model, run.counts, ready.conditions, run.wanted, ready.batch)
    find_genes(ready.model, run.counts)  # for its warnings
    gaps = Gaps()
    parts: list[list[Any]] = [[] for _ in names.layers]
    latent, filled = [], []
    for start, stop in row_spans(run.counts.spans, run.counts.shape, run.adata.n_vars, None):
        block = reader.read(start, stop, gaps)
        latent.append(block.latent)
        filled.append(block.own)
        for layer, part in zip(parts, block.layers, strict=True):
            layer.append(part)
    say_filled(filled, run.counts)
    layers = {name: stacked(layer, run.adata.shape) for name, layer in zip(names.layers, parts, strict=True)}
    return Restored(layers, np.concatenate(latent), gaps)


def write(adata: AnnData, run: Run, ready: Ready, restored: Restored, names: Names) -> None:
    """Put the results where they belong, all of them at the end."""
    record = record_of(run.data, run.wanted, run.transform_batch)
    never = n_never_observed(run.counts)
    if restored.gaps.n_unobserved or any(never.values()):
        record["missing"] = restored.gaps.report() | never
    as_counted = counted_silent_names(ready.model, run.counts)
    if len(as_counted):
        record["genes_as_counted"] = as_counted
    table = gene_table(ready.model, run.counts, ready.report)
    of_cell = cell_gain(ready.report, ready.judged, run.counts)
    report = summary(ready.model, table, record, ready.report) | {"fit": ready.name}
    report["units"] = dict(zip(names.layers, units_of(record), strict=True))
    with writing_to(adata):
        for name in names.stale(adata):
            del adata.layers[name]
        for name, values in restored.layers.items():
            adata.layers[name] = values
        adata.obsm[names.latent] = restored.latent
        for name, column in table.items():
            adata.var[f"{names.key}_{name}"] = column
        adata.obs[f"{names.key}_gain"] = of_cell
        adata.uns[names.key] = report
    wrote = "; ".join(f"layers[{name!r}], {report['units'][name]}" for name in names.output_layers)
    say_result(f"wrote {_written(names, restored)}: {wrote}. {report['report']['verdict']}")
    if is_dask(restored.layers[names.key]):
        say_result(
            f"layers[{names.key!r}] is lazy: whatever reads it restores its cells anew. scdae.get.imputed(adata, genes=[...], "
            f"key={names.key!r}) restores some genes alone; adata.layers[{names.key!r}].persist() holds all of them, for several readings."
        )
    say_result("the output is for looking and embedding; test differential expression on raw counts.")


def _written(names: Names, restored: Restored) -> str:
    """Layers and latent space, how large they are, and what makes large ones smaller in a file."""
    layers = list(restored.layers.values())
    lazy, sparse = (any(hasattr(layer, part) for layer in layers) for part in ("dask", "indptr"))
    size = sum(_bytes(layer) for layer in layers)
    amount = f"{size / 2**20:,.0f} MiB" if size >= 2**20 else "less than 1 MiB"
    how = f"{amount} once computed" if lazy and not sparse else "lazy" if lazy else amount
    if size >= _LARGE and not (lazy or sparse):
        how += ", in a file as well; threshold=0.01 or write_h5ad(compression='gzip') makes it smaller"
    shown = ", ".join(f"layers[{name!r}]" for name in names.layers)
    return f"{shown} ({how}) and obsm[{names.latent!r}]"


def _bytes(layer: Any) -> int:
    parts = [getattr(layer, name) for name in ("data", "indices", "indptr")] if hasattr(layer, "indptr") else [layer]
    return sum(int(part.nbytes) for part in parts)
