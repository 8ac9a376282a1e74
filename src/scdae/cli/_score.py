"""`scdae score`."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scdae.cli.shared.common import (
    AllowFractional,
    AllowNan,
    BatchKey,
    Clock,
    Covariate,
    Debug,
    Genome,
    Layer,
    MaskLayer,
    MaxEpochs,
    Quiet,
    Seed,
    Source,
    Verbose,
    home,
    one_line_errors,
    say,
    set_verbosity,
)
from scdae.cli.shared.data import GenesOnly, check_can_be_written, open_source, probe_source
from scdae.cli.shared.report import JsonFile, check_report, to_stdout, write_report

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.cli.shared.data import Opened
from scdae.cli.shared.skip import SkipExisting, check_skip, report_of_result, skipping

__all__ = ["score"]

_ENDINGS = (".csv", ".h5ad", ".zarr")


def score(
    source: Source,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", callback=home, help="Table of the cells, .csv, or INPUT with it in obs, .h5ad or .zarr."
        ),
    ],
    model_file: Annotated[
        Path | None,
        typer.Option(
            "--model", callback=home, help="Model of normal cells.", show_default="fitted here", rich_help_panel="Model"
        ),
    ] = None,
    normal: Annotated[
        str | None,
        typer.Option(
            help="Cells known to be normal and not seen by the model: a boolean column of obs, or another file.",
            show_default="all cells, compared with one another",
        ),
    ] = None,
    layer: Layer = None,
    batch_key: BatchKey = None,
    covariate: Covariate = None,
    mask_layer: MaskLayer = None,
    key_added: Annotated[
        str, typer.Option(help="Start of the names of the columns.", rich_help_panel="Output")
    ] = "anomaly",
    max_epochs: MaxEpochs = None,
    seed: Seed = 0,
    genome: Genome = None,
    genes_only: GenesOnly = False,
    allow_fractional: AllowFractional = False,
    allow_nan: AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.", rich_help_panel="Output")
    ] = False,
    skip_existing: SkipExisting = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Score how unlike normal cells each cell of INPUT is: unknown kinds, doublets, contaminated or damaged cells."""
    set_verbosity(quiet=quiet, verbose=verbose)
    check_skip(skip_existing, overwrite)
    skips = skipping(
        skip_existing,
        target,
        quiet=quiet,
        json_file=json_file,
        report=lambda: report_of_result(source, target, key_added),
    )
    with one_line_errors(debug, about=str(source)), skips:
        from scdae.io.write import check_target, write_atomic, write_text

        check_target(target, overwrite=overwrite, endings=_ENDINGS)
        check_report(json_file, overwrite=overwrite or skip_existing)
        probe_source(source)
        from scdae.model import DAE

        model = None if model_file is None else DAE.load(model_file)
        clock = Clock()
        opened = open_source(source, genome, layer, mask_layer, genes_only=genes_only, target=target)
        adata, as_table = opened.adata, target.suffix == ".csv"
        if opened.large and not as_table:
            raise ValueError(f"{source} is not read into memory as a whole, so OUTPUT has to be a table, .csv.")
        check_can_be_written(adata, target)
        known: Any = normal
        if normal is not None and normal not in adata.obs.columns and _is_path(normal):
            with one_line_errors(debug, about=f"--normal {normal}"):
                options = {"allow_fractional": allow_fractional, "allow_nan": allow_nan}
                there = open_source(Path(normal).expanduser(), genome, layer, mask_layer, genes_only=genes_only)
                known = _normal_cells(there, opened, options)
        clock.lap("reading")

        from scdae import tl
        from scdae.tl._anomaly import anomaly_columns

        settings: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
        try:
            tl.anomaly_score(
                adata,
                model,
                normal=known,
                key_added=key_added,
                layer=opened.layer,
                mask=opened.mask,
                batch_key=batch_key,
                covariates=covariate,
                seed=seed,
                allow_fractional=allow_fractional,
                allow_nan=allow_nan,
                overwrite=overwrite,
                **settings,
            )
        except (ValueError, TypeError) as error:
            if normal is None or known is normal or not str(error).startswith("normal"):
                raise
            with one_line_errors(debug, about=normal):  # the file of --normal is at fault, not INPUT
                raise ValueError(str(error).removeprefix("normal: ")) from error
        clock.lap("scoring")
        if as_table:
            write_text(
                target, adata.obs[list(anomaly_columns(key_added))].to_csv(index_label="cell"), overwrite=overwrite
            )
        else:
            write_atomic(adata, target, overwrite=overwrite)
        clock.lap("writing")
        if json_file is not None:
            write_report(
                json_file,
                _report(adata, key_added, str(source), str(target), clock.laps),
                overwrite=overwrite or skip_existing,
            )
        if not (quiet or to_stdout(json_file)):
            from scdae.cli.pages.summary import describe_score

            say(describe_score(adata, key_added, source=str(source), target=str(target), seconds=clock.laps))


def _is_path(normal: str) -> bool:
    """Whether it is meant as a file and not as a column of obs."""
    return (
        Path(normal).expanduser().exists()
        or glob.has_magic(normal)
        or Path(normal).suffix in (".h5ad", ".zarr", ".h5", ".loom", ".mtx")
    )


def _normal_cells(normal: Opened, query: Opened, options: dict[str, Any]) -> AnnData:
    """Normal cells, whose counts are checked, with counts and mask where those of the query are."""
    from scdae.inputs.counts import counts_to_apply

    counts_to_apply(normal.adata, layer=normal.layer, mask=normal.mask, **options)
    if normal.layer == query.layer and normal.mask == query.mask:
        return normal.adata
    from anndata import AnnData

    adata = normal.adata
    x = adata.X if normal.layer is None else adata.layers[normal.layer]
    layers = {} if query.layer is None else {query.layer: x}
    if query.mask is not None and query.mask not in layers:
        import numpy as np

        layers[query.mask] = np.ones(adata.shape, bool) if normal.mask is None else adata.layers[normal.mask]
    return AnnData(x, obs=adata.obs, var=adata.var, layers=layers)


def _report(adata: AnnData, key: str, source: str, target: str, seconds: dict[str, float]) -> dict[str, Any]:
    """What was compared, and the cells that stand out, for JSON."""
    found = adata.obs[adata.obs[f"{key}_fdr"] < 0.05]
    entry = {name: value for name, value in adata.uns[key].items() if name != "written_by"}
    return {
        "source": source,
        "target": target,
        "n_obs": adata.n_obs,
        **entry,
        "anomalous": {str(cell): float(value) for cell, value in found[key].sort_values(ascending=False).items()},
        "seconds": {step: round(spent, 2) for step, spent in seconds.items()},
    }
