"""`scdae impute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scdae.cli._common import (
    AllowFractional,
    AllowNan,
    BatchKey,
    CheckpointDir,
    CheckpointEvery,
    Clock,
    Covariate,
    Debug,
    Genome,
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
    one_line_errors,
    set_verbosity,
)
from scdae.cli._data import DType, Genes, ResultsOnly, Threshold, open_source, wanted_genes, write_output

__all__ = ["impute"]


def impute(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Result, .h5ad or .zarr.")],
    layer: Layer = None,
    batch_key: BatchKey = None,
    covariate: Covariate = None,
    transform_batch: TransformBatch = None,
    mask_layer: MaskLayer = None,
    likelihood: Annotated[Likelihood, typer.Option(help="Law of the counts.")] = Likelihood.zinb,
    output_scale: Annotated[
        Scale,
        typer.Option(
            help="mean: expected counts at the cell's own depth; prior: the same without the cell's own counts, fully "
            "smoothed; rate: proportions; sd: standard deviation of the mean; log1p: expected log1p of counts per 10,000."
        ),
    ] = Scale.mean,
    depth: Annotated[
        float | None,
        typer.Option(help="Molecules a cell, for --output-scale log1p.", show_default="the cell's own"),
    ] = None,
    quantile: Quantile = None,
    threshold: Threshold = None,
    genes: Genes = None,
    dtype: DType = "float32",
    results_only: ResultsOnly = False,
    key_added: KeyAdded = "scdae",
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    genome: Genome = None,
    allow_fractional: AllowFractional = False,
    allow_nan: AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT, and a layer of the name given, if they exist.")
    ] = False,
    checkpoint_dir: CheckpointDir = None,
    checkpoint_every: CheckpointEvery = None,
    resume: Resume = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Restore the counts of INPUT and write them, next to all that INPUT holds, to OUTPUT."""
    set_verbosity(quiet=quiet, verbose=verbose)
    with one_line_errors(debug, about=str(source)):
        from scdae.layers import check_form
        from scdae.output import check_target

        check_target(target, overwrite=overwrite)
        check_form(threshold, dtype)
        kept = checkpoint_options(checkpoint_dir, checkpoint_every, resume)
        clock = Clock()
        opened = open_source(source, genome, layer, mask_layer)
        adata, names = opened.adata, wanted_genes(genes, opened.adata)
        alone = opened.large or results_only or genes is not None or dtype != "float32"
        clock.lap("reading")

        from scdae import pp

        pp.impute(
            adata,
            layer=opened.layer,
            mask=opened.mask,
            batch_key=batch_key,
            covariates=covariate,
            transform_batch=transform_batch,
            key_added=key_added,
            likelihood=likelihood.value,
            output=output_scale.value,
            depth=depth,
            quantiles=tuple(quantile or ()),
            lazy=True if alone else None,
            threshold=threshold,
            max_epochs=max_epochs,
            seed=seed,
            allow_fractional=allow_fractional,
            allow_nan=allow_nan,
            overwrite=overwrite,
            **kept,
        )
        clock.lap("restoring")
        key = key_added if transform_batch is None else pp.corrected_key(key_added, transform_batch)
        adata = write_output(adata, target, key, alone=alone, genes=names, dtype=dtype, overwrite=overwrite)
        clock.lap("restoring and writing" if alone else "writing")
        if not quiet:
            from scdae.summary import describe_run
            from scdae.validate import describe_source

            read = f"{source}, {describe_source(layer)}"
            typer.echo(describe_run(adata, key, source=read, target=str(target), seconds=clock.laps, alone=alone))
