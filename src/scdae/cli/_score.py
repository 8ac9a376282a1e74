"""`scdae score`."""

from __future__ import annotations

import glob
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import scdae
from scdae.cli import pages, shared
from scdae.cli.shared import options as opt
from scdae.cli.shared.common import one_line_errors
from scdae.cli.shared.run import Run
from scdae.cli.shared.skip import report_of_result
from scdae.files.targets import write_text

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["score"]

_ENDINGS = (".csv", ".h5ad", ".zarr")


def score(
    source: opt.Source,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            callback=opt.home,
            help="Table of the cells, .csv, or INPUT with it in obs, .h5ad or .zarr.",
        ),
    ],
    model_file: Annotated[
        Path | None,
        typer.Option(
            "--model",
            callback=opt.home,
            help="Model of normal cells.",
            show_default="fitted here",
            rich_help_panel="Model",
        ),
    ] = None,
    normal: Annotated[
        str | None,
        typer.Option(
            help="Cells known to be normal and not seen by the model: a boolean column of obs, or another file.",
            show_default="all cells, compared with one another",
        ),
    ] = None,
    layer: opt.Layer = None,
    obs: opt.Obs = None,
    batch_key: opt.BatchKey = None,
    covariate: opt.Covariate = None,
    mask_layer: opt.MaskLayer = None,
    key_added: Annotated[
        str, typer.Option(help="Start of the names of the columns.", rich_help_panel="Output")
    ] = "anomaly",
    max_epochs: opt.MaxEpochs = None,
    seed: opt.Seed = 0,
    genome: opt.Genome = None,
    transpose: opt.Transpose = False,
    genes_only: opt.GenesOnly = False,
    allow_fractional: opt.AllowFractional = False,
    allow_nan: opt.AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.", rich_help_panel="Output")
    ] = False,
    skip_existing: opt.SkipExisting = False,
    json_file: opt.JsonFile = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Score how much each cell of INPUT differs from normal cells: unknown types, contaminated or damaged cells."""
    run = Run(
        source,
        target,
        quiet=quiet,
        verbose=verbose,
        debug=debug,
        overwrite=overwrite,
        json_file=json_file,
        transpose=transpose,
        skip_existing=skip_existing,
        of_existing=lambda: report_of_result(source, target, key_added),
    )
    with run:
        run.check(_ENDINGS)
        model = None if model_file is None else scdae.DAE.load(model_file)
        opened = run.open(genome, layer, mask_layer, genes_only=genes_only, obs=obs, avoid_target=True)
        adata, as_table = opened.adata, target.suffix == ".csv"
        if opened.large and not as_table:
            raise ValueError(f"{source} is not read into memory as a whole, so OUTPUT has to be a table, .csv.")
        shared.data.check_can_be_written(adata, target)
        shared.data.check_in_place(source, target, alone=as_table, whole=opened.whole)
        known: Any = normal
        if normal is not None and normal not in adata.obs.columns and _is_path(normal):
            with one_line_errors(debug, about=f"--normal {normal}"):
                shared.data.check_in_place(Path(normal).expanduser(), target, alone=True, named="--normal")
                other = shared.data.open_source(
                    Path(normal).expanduser(), genome, layer, mask_layer, genes_only=genes_only, transpose=transpose
                )
                if obs is not None:
                    shared.data.join_obs(other.adata, obs, if_there=True)
                known = shared.data.normal_cells(
                    other, opened, {"allow_fractional": allow_fractional, "allow_nan": allow_nan}
                )
        run.clock.lap("reading")
        settings: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
        try:
            scdae.tl.anomaly_score(
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
        run.clock.lap("scoring")
        if as_table:
            columns = list(scdae.tl._anomaly.anomaly_columns(key_added, normal_known=normal is not None))
            write_text(target, adata.obs[columns].to_csv(index_label="cell"), overwrite=overwrite)
        else:
            shared.data.write_atomic(adata, target, overwrite=overwrite)
        run.clock.lap("writing")
        run.finish(partial(_report, adata, key_added), partial(pages.describe_score, adata, key_added))


def _is_path(normal: str) -> bool:
    """Return whether a value is meant as a file and not as a column of obs."""
    return (
        Path(normal).expanduser().exists()
        or glob.has_magic(normal)
        or Path(normal).suffix in (".h5ad", ".zarr", ".h5", ".loom", ".mtx")
    )


def _report(adata: AnnData, key: str, *, source: str, target: str, seconds: dict[str, float]) -> dict[str, Any]:
    """What was compared, and the cells that stand out, for JSON."""
    entry = {name: value for name, value in adata.uns[key].items() if name != "written_by"}
    report = {"source": source, "target": target, "n_obs": adata.n_obs, **entry}
    if f"{key}_fdr" in adata.obs:
        anomalous = adata.obs.loc[adata.obs[f"{key}_fdr"] < 0.05, key].sort_values(ascending=False)
        report["anomalous"] = {str(cell): float(value) for cell, value in anomalous.items()}
    return {**report, "seconds": {step: round(spent, 2) for step, spent in seconds.items()}}
