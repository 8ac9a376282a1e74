"""`scdae fit` and `scdae apply`: train once, then restore other data with the model."""

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
from scdae.cli.shared.processes import (
    Coordinator,
    Distributed,
    NumDevices,
    NumProcesses,
    ProcessId,
    chosen_devices,
    is_first,
    processes,
)
from scdae.cli.shared.report import (
    DryRun,
    JsonFile,
    check_report,
    model_report,
    run_report,
    tell_plan,
    to_stdout,
    write_report,
)
from scdae.cli.shared.skip import SkipExisting, check_skip, key_of, report_of_model, report_of_result, skipping

__all__ = ["apply", "fit"]

Model = Annotated[Path, typer.Argument(metavar="MODEL", callback=home, help="File of the model, .scdae.")]


def fit(
    source: Source,
    model_file: Model,
    layer: Layer = None,
    batch_key: BatchKey = None,
    covariate: Covariate = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            callback=home,
            help="Model to go on from: INPUT is taken for new batches of its data, and --likelihood is its own.",
            show_default="start anew",
            rich_help_panel="Model",
        ),
    ] = None,
    mask_layer: MaskLayer = None,
    likelihood: Annotated[
        Likelihood, typer.Option(help="Law of the counts.", rich_help_panel="Model")
    ] = Likelihood.zinb,
    max_epochs: MaxEpochs = None,
    effort: HowMuch = Effort.default,
    seed: Seed = 0,
    genome: Genome = None,
    genes_only: GenesOnly = False,
    allow_fractional: AllowFractional = False,
    allow_nan: AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace MODEL if it exists.", rich_help_panel="Output")
    ] = False,
    dry_run: DryRun = False,
    skip_existing: SkipExisting = False,
    json_file: JsonFile = None,
    checkpoint_dir: CheckpointDir = None,
    checkpoint_every: CheckpointEvery = None,
    resume: Resume = False,
    devices: NumDevices = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train a model on INPUT and write it to MODEL: one file of arrays and JSON."""
    set_verbosity(quiet=quiet, verbose=verbose)
    check_skip(skip_existing, overwrite)
    skips = skipping(
        skip_existing,
        model_file,
        quiet=quiet,
        json_file=json_file,
        report=lambda: report_of_model(source, model_file),
    )
    together = processes(distributed, coordinator, num_processes, process_id, debug=debug)
    with together, one_line_errors(debug, about=str(source)), skips:
        from scdae.io.write import check_target

        check_target(model_file, overwrite=overwrite, endings=(".scdae",))
        check_report(json_file, overwrite=overwrite or skip_existing)
        probe_source(source)
        kept = checkpoint_options(checkpoint_dir, checkpoint_every, resume)
        from scdae.core.config import Config
        from scdae.model import DAE
        from scdae.model.serialization import save_model

        known = None if reference is None else DAE.load(reference)
        clock = Clock()
        adata, layer, mask_layer, _ = open_source(source, genome, layer, mask_layer, genes_only=genes_only)
        clock.lap("reading")
        options: dict[str, Any] = {
            "layer": layer,
            "mask": mask_layer,
            "batch_key": batch_key,
            "covariates": covariate,
            "allow_fractional": allow_fractional,
            "allow_nan": allow_nan,
        }
        if dry_run:
            from scdae.cli.pages.plan import plan_training

            settings = (
                {"likelihood": likelihood.value, "effort": effort.value} if known is None else known.config.to_dict()
            )
            plan = plan_training(adata, Config(**{**settings, "max_epochs": max_epochs, "seed": seed}), **options)
            tell_plan(plan, "fit", source=str(source), target=str(model_file), json_file=json_file)
            return
        options |= kept
        chosen = chosen_devices(devices, distributed)
        if chosen is not None:
            options["devices"] = chosen
        if known is None:
            model = DAE(likelihood=likelihood.value, max_epochs=max_epochs, seed=seed, effort=effort.value).fit(
                adata, **options
            )
        else:
            model = known.adapt(adata, max_epochs=max_epochs, seed=seed, **options)
        clock.lap("training")
        if not is_first(distributed):
            return
        save_model(model.fitted_model(), model_file, overwrite=overwrite)
        clock.lap("writing")
        if json_file is not None:
            write_report(
                json_file,
                model_report(model, str(source), str(model_file), clock.laps),
                overwrite=overwrite or skip_existing,
            )
        if not (quiet or to_stdout(json_file)):
            from scdae.cli.pages.summary import describe_model

            say(describe_model(model, source=str(source), target=str(model_file), seconds=clock.laps))


def apply(
    source: Source,
    model_file: Model,
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", callback=home, help="Result, .h5ad or .zarr.")],
    layer: Layer = None,
    mask_layer: MaskLayer = None,
    transform_batch: TransformBatch = None,
    output_scale: Annotated[
        Scale, typer.Option(help="What the layer holds, as for scdae impute.", rich_help_panel="Output")
    ] = Scale.mean,
    quantile: Quantile = None,
    threshold: Threshold = None,
    genes: Genes = None,
    dtype: DType = "float32",
    results_only: ResultsOnly = False,
    key_added: KeyAdded = "scdae",
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
    skip_existing: SkipExisting = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Restore the counts of INPUT with a MODEL that was fitted before. Genes are matched by name."""
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
        from scdae.model import DAE

        model = DAE.load(model_file)
        clock = Clock()
        opened = open_source(source, genome, layer, mask_layer, genes_only=genes_only, target=target)
        adata, names = opened.adata, wanted_genes(genes, opened.adata)
        alone = opened.large or results_only or genes is not None or dtype != "float32"
        check_can_be_written(adata, target, alone=alone)
        check_in_place(source, target, alone=alone)
        check_result_room(target, adata, names, dtype, len(quantile or ()), threshold, alone=alone)
        clock.lap("reading")

        from scdae import pp

        pp.impute(
            adata,
            model=model,
            layer=opened.layer,
            mask=opened.mask,
            key_added=key_added,
            output=output_scale.value,
            quantiles=tuple(quantile or ()),
            lazy=True if alone else None,
            threshold=threshold,
            transform_batch=transform_batch,
            allow_fractional=allow_fractional,
            allow_nan=allow_nan,
            overwrite=overwrite,
        )
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

            read = f"{source}, {describe_source(layer)}, with {model_file}"
            say(describe_run(adata, key, source=read, target=str(target), seconds=clock.laps, alone=alone))
