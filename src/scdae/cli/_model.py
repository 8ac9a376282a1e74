"""`scdae fit` and `scdae apply`: train once, then restore other data with the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import scdae
from scdae.cli import pages, shared
from scdae.cli.shared import options as opt
from scdae.cli.shared.common import checkpoint_options
from scdae.cli.shared.outputs import Outputs, one_or_several
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
from scdae.cli.shared.report import model_report
from scdae.cli.shared.result import ResultFile
from scdae.cli.shared.run import Run
from scdae.cli.shared.skip import key_of, report_of_model, report_of_result
from scdae.core.config import Config

__all__ = ["apply", "fit"]

Model = Annotated[Path, typer.Argument(metavar="MODEL", callback=opt.home, help="File of the model, .scdae.")]


def fit(
    source: opt.Source,
    model_file: Model,
    layer: opt.Layer = None,
    obs: opt.Obs = None,
    batch_key: opt.BatchKey = None,
    covariate: opt.Covariate = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            callback=opt.home,
            help="Model to go on from: INPUT is taken for new batches of its data, and --likelihood is its own.",
            show_default="start anew",
            rich_help_panel="Model",
        ),
    ] = None,
    mask_layer: opt.MaskLayer = None,
    likelihood: opt.LikelihoodOfModel = opt.Likelihood.zinb,
    max_epochs: opt.MaxEpochs = None,
    effort: opt.HowMuch = opt.Effort.default,
    seed: opt.Seed = 0,
    genome: opt.Genome = None,
    transpose: opt.Transpose = False,
    genes_only: opt.GenesOnly = False,
    allow_fractional: opt.AllowFractional = False,
    allow_nan: opt.AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace MODEL if it exists.", rich_help_panel="Output")
    ] = False,
    dry_run: opt.DryRun = False,
    skip_existing: opt.SkipExisting = False,
    json_file: opt.JsonFile = None,
    checkpoint_dir: opt.CheckpointDir = None,
    checkpoint_every: opt.CheckpointEvery = None,
    resume: opt.Resume = False,
    devices: NumDevices = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Train a model on INPUT and write it to MODEL: one file of arrays and JSON."""
    run = Run(
        source,
        model_file,
        quiet=quiet,
        verbose=verbose,
        debug=debug,
        overwrite=overwrite,
        json_file=json_file,
        transpose=transpose,
        skip_existing=skip_existing,
        of_existing=lambda: report_of_model(source, model_file),
    )
    with processes(distributed, coordinator, num_processes, process_id, debug=debug), run:
        run.check((".scdae",))
        kept = checkpoint_options(checkpoint_dir, checkpoint_every, resume)
        known = None if reference is None else scdae.DAE.load(reference)
        opened = run.open(genome, layer, mask_layer, genes_only=genes_only, obs=obs)
        run.clock.lap("reading")
        options: dict[str, Any] = {
            "layer": opened.layer,
            "mask": opened.mask,
            "batch_key": batch_key,
            "covariates": covariate,
            "allow_fractional": allow_fractional,
            "allow_nan": allow_nan,
        }
        settings: dict[str, Any] = {"max_epochs": max_epochs, "seed": seed}
        new = {"likelihood": likelihood.value, "effort": effort.value, **settings}
        if dry_run:
            config = Config(**(new if known is None else {**known.config.to_dict(), **settings}))
            run.tell(pages.plan_training(opened.adata, config, **options), "fit")
            return
        options |= kept
        chosen = chosen_devices(devices, distributed)
        if chosen is not None:
            options["devices"] = chosen
        from scdae.model.serialization import save_model  # with JAX, so not before INPUT was opened

        if known is None:
            model = scdae.DAE(**new).fit(opened.adata, **options)
        else:
            model = known.adapt(opened.adata, **settings, **options)
        run.clock.lap("training")
        if not is_first(distributed):
            return
        save_model(model.fitted_model(), model_file, overwrite=overwrite)
        run.clock.lap("writing")
        run.finish(partial(model_report, model), partial(pages.describe_model, model))


def apply(
    source: opt.Source,
    model_file: Model,
    target: opt.Target,
    layer: opt.Layer = None,
    obs: opt.Obs = None,
    mask_layer: opt.MaskLayer = None,
    transform_batch: opt.TransformBatch = None,
    output: Outputs = None,
    quantile: opt.Quantile = None,
    threshold: opt.Threshold = None,
    genes: opt.Genes = None,
    dtype: opt.DType = "float32",
    results_only: opt.ResultsOnly = False,
    key_added: opt.KeyAdded = "scdae",
    genome: opt.Genome = None,
    transpose: opt.Transpose = False,
    genes_only: opt.GenesOnly = False,
    allow_fractional: opt.AllowFractional = False,
    allow_nan: opt.AllowNan = False,
    overwrite: opt.OverwriteResult = False,
    shard: opt.Shard = None,
    skip_existing: opt.SkipExisting = False,
    json_file: opt.JsonFile = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Restore the counts of INPUT with a MODEL fitted earlier. Genes are matched by name."""
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
        of_existing=lambda: report_of_result(source, target, key_of(key_added, transform_batch)),
    )
    with run:
        run.check()
        shared.data.check_form(threshold, dtype)
        if shard is not None:
            asked = shared.parts.Asked.of(
                source,
                model_file,
                layer=layer,
                obs=obs,
                mask_layer=mask_layer,
                transform_batch=transform_batch,
                output=output,
                quantile=quantile,
                threshold=threshold,
                genes=genes,
                dtype=dtype,
                key_added=key_added,
                genome=genome,
                genes_only=genes_only,
                allow_fractional=allow_fractional,
                allow_nan=allow_nan,
            )
            shared.parts.apply_part(run, shard, asked, genes, skip=skip_existing)
            return
        model = scdae.DAE.load(model_file)
        result = ResultFile(
            run,
            genome,
            layer,
            mask_layer,
            genes_only=genes_only,
            obs=obs,
            genes=genes,
            dtype=dtype,
            threshold=threshold,
            n_layers=len(output or ()) + len(quantile or ()),
            results_only=results_only,
            key_added=key_added,
            transform_batch=transform_batch,
        )
        scdae.pp.impute(
            result.opened.adata,
            model=model,
            layer=result.opened.layer,
            mask=result.opened.mask,
            key_added=key_added,
            output=one_or_several(output),
            quantiles=tuple(quantile or ()),
            lazy=True if result.alone else None,
            threshold=threshold,
            transform_batch=transform_batch,
            allow_fractional=allow_fractional,
            allow_nan=allow_nan,
            overwrite=overwrite,
        )
        result.write(model_file)
