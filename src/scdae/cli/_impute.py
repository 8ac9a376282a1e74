"""`scdae impute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scdae.cli.shared.common import (
    AllowFractional,
    AllowNan,
    BatchKey,
    CheckpointDir,
    CheckpointEvery,
    Clock,
    Covariate,
    Debug,
    Effort,
    Genome,
    HowMuch,
    KeyAdded,
    Layer,
    Likelihood,
    MaskLayer,
    MaxEpochs,
    Quantile,
    Quiet,
    Resume,
    Scale,
    Seed,
    Source,
    TransformBatch,
    Verbose,
    checkpoint_options,
    home,
    one_line_errors,
    say,
    set_verbosity,
)
from scdae.cli.shared.data import (
    DType,
    Genes,
    GenesOnly,
    ResultsOnly,
    Threshold,
    check_can_be_written,
    open_source,
    probe_source,
    wanted_genes,
    write_output,
)
from scdae.cli.shared.report import DryRun, JsonFile, check_report, run_report, tell_plan, to_stdout, write_report
from scdae.cli.shared.skip import SkipExisting, check_skip, key_of, report_of_result, skipping

__all__ = ["impute"]


def impute(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", callback=home, help="Result, .h5ad or .zarr.")],
    layer: Layer = None,
    batch_key: BatchKey = None,
    covariate: Covariate = None,
    transform_batch: TransformBatch = None,
    mask_layer: MaskLayer = None,
    likelihood: Annotated[
        Likelihood, typer.Option(help="Law of the counts.", rich_help_panel="Model")
    ] = Likelihood.zinb,
    output_scale: Annotated[
        Scale,
        typer.Option(
            help="mean: expected counts at the cell's own depth; prior: the same without the cell's own counts, fully "
            "smoothed; rate: proportions; sd: standard deviation of the mean; log1p: expected log1p of counts per 10,000.",
            rich_help_panel="Output",
        ),
    ] = Scale.mean,
    depth: Annotated[
        float | None,
        typer.Option(
            help="Molecules a cell, for --output-scale log1p.", show_default="the cell's own", rich_help_panel="Output"
        ),
    ] = None,
    quantile: Quantile = None,
    threshold: Threshold = None,
    genes: Genes = None,
    dtype: DType = "float32",
    results_only: ResultsOnly = False,
    key_added: KeyAdded = "scdae",
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    effort: HowMuch = Effort.default,
    genome: Genome = None,
    genes_only: GenesOnly = False,
    allow_fractional: AllowFractional = False,
    allow_nan: AllowNan = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace OUTPUT, and a layer of the name given, if they exist.",
            rich_help_panel="Output",
        ),
    ] = False,
    dry_run: DryRun = False,
    skip_existing: SkipExisting = False,
    json_file: JsonFile = None,
    checkpoint_dir: CheckpointDir = None,
    checkpoint_every: CheckpointEvery = None,
    resume: Resume = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Restore the counts of INPUT and write them, next to all that INPUT holds, to OUTPUT."""
    set_verbosity(quiet=quiet, verbose=verbose)
    check_skip(skip_existing, overwrite)
    skips = skipping(
        skip_existing,
        target,
        quiet=quiet,
        json_file=json_file,
        report=lambda: report_of_result(source, target, key_of(key_added, transform_batch)),
    )
    with one_line_errors(debug, about=str(source)), skips:
        from scdae.cli.pages.plan import check_result_room
        from scdae.io.write import check_in_place, check_target
        from scdae.model.options import check_form

        check_target(target, overwrite=overwrite)
        check_form(threshold, dtype)
        check_report(json_file, overwrite=overwrite or skip_existing)
        probe_source(source)
        kept = checkpoint_options(checkpoint_dir, checkpoint_every, resume)
        clock = Clock()
        opened = open_source(source, genome, layer, mask_layer, genes_only=genes_only, target=target)
        adata, names = opened.adata, wanted_genes(genes, opened.adata)
        alone = opened.large or results_only or genes is not None or dtype != "float32"
        check_can_be_written(adata, target, alone=alone)
        check_in_place(source, target, alone=alone)
        check_result_room(target, adata, names, dtype, len(quantile or ()), threshold, alone=alone)
        clock.lap("reading")

        from scdae import pp

        options: dict[str, Any] = {
            "layer": opened.layer,
            "mask": opened.mask,
            "batch_key": batch_key,
            "covariates": covariate,
            "transform_batch": transform_batch,
            "key_added": key_added,
            "likelihood": likelihood.value,
            "output": output_scale.value,
            "depth": depth,
            "quantiles": tuple(quantile or ()),
            "lazy": True if alone else None,
            "threshold": threshold,
            "max_epochs": max_epochs,
            "effort": effort.value,
            "seed": seed,
            "allow_fractional": allow_fractional,
            "allow_nan": allow_nan,
            "overwrite": overwrite,
        }
        if dry_run:
            from scdae.cli.pages.plan import plan_impute

            plan = plan_impute(adata, **options, genes=names, dtype=dtype, alone=alone)
            tell_plan(plan, "impute", source=str(source), target=str(target), json_file=json_file)
            return
        pp.impute(adata, **options, **kept)
        clock.lap("restoring")
        key = key_of(key_added, transform_batch)
        adata = write_output(adata, target, key, alone=alone, genes=names, dtype=dtype, overwrite=overwrite)
        clock.lap("restoring and writing" if alone else "writing")
        if json_file is not None:
            write_report(
                json_file,
                run_report(adata, key, str(source), str(target), clock.laps),
                overwrite=overwrite or skip_existing,
            )
        if not (quiet or to_stdout(json_file)):
            from scdae.cli.pages.summary import describe_run
            from scdae.inputs.validate import describe_source

            read = f"{source}, {describe_source(layer)}"
            say(describe_run(adata, key, source=read, target=str(target), seconds=clock.laps, alone=alone))
