"""`scdae impute`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import scdae
from scdae.cli import pages, shared
from scdae.cli.shared import options as opt
from scdae.cli.shared.common import checkpoint_options
from scdae.cli.shared.outputs import Outputs, one_or_several
from scdae.cli.shared.result import ResultFile
from scdae.cli.shared.run import Run
from scdae.cli.shared.skip import key_of, report_of_result

__all__ = ["impute"]


def impute(
    source: opt.Source,
    target: opt.Target,
    layer: opt.Layer = None,
    obs: opt.Obs = None,
    batch_key: opt.BatchKey = None,
    covariate: opt.Covariate = None,
    transform_batch: opt.TransformBatch = None,
    mask_layer: opt.MaskLayer = None,
    likelihood: opt.LikelihoodOfModel = opt.Likelihood.zinb,
    output: Outputs = None,
    depth: Annotated[
        float | None,
        typer.Option(
            help="Molecules a cell, for --output log1p.", show_default="the cell's own", rich_help_panel="Output"
        ),
    ] = None,
    quantile: opt.Quantile = None,
    threshold: opt.Threshold = None,
    genes: opt.Genes = None,
    dtype: opt.DType = "float32",
    results_only: opt.ResultsOnly = False,
    key_added: opt.KeyAdded = "scdae",
    seed: opt.Seed = 0,
    max_epochs: opt.MaxEpochs = None,
    effort: opt.HowMuch = opt.Effort.default,
    genome: opt.Genome = None,
    transpose: opt.Transpose = False,
    genes_only: opt.GenesOnly = False,
    allow_fractional: opt.AllowFractional = False,
    allow_nan: opt.AllowNan = False,
    overwrite: opt.OverwriteResult = False,
    dry_run: opt.DryRun = False,
    skip_existing: opt.SkipExisting = False,
    json_file: opt.JsonFile = None,
    checkpoint_dir: opt.CheckpointDir = None,
    checkpoint_every: opt.CheckpointEvery = None,
    resume: opt.Resume = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Restore the counts of INPUT and write them, next to all that INPUT holds, to OUTPUT."""
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
        kept = checkpoint_options(checkpoint_dir, checkpoint_every, resume)
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
        options: dict[str, Any] = {
            "layer": result.opened.layer,
            "mask": result.opened.mask,
            "batch_key": batch_key,
            "covariates": covariate,
            "transform_batch": transform_batch,
            "key_added": key_added,
            "likelihood": likelihood.value,
            "output": one_or_several(output),
            "depth": depth,
            "quantiles": tuple(quantile or ()),
            "lazy": True if result.alone else None,
            "threshold": threshold,
            "max_epochs": max_epochs,
            "effort": effort.value,
            "seed": seed,
            "allow_fractional": allow_fractional,
            "allow_nan": allow_nan,
            "overwrite": overwrite,
        }
        if dry_run:
            run.tell(
                pages.plan_impute(result.opened.adata, **options, genes=result.genes, dtype=dtype, alone=result.alone),
                "impute",
            )
            return
        scdae.pp.impute(result.opened.adata, **options, **kept)
        result.write()
