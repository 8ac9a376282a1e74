"""`scdae evaluate`."""

from __future__ import annotations

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
    Likelihood,
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
from scdae.cli.shared.data import GenesOnly, open_source, probe_source
from scdae.cli.shared.report import JsonFile, check_report, to_stdout, write_report

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["evaluate"]


def evaluate(
    source: Source,
    layer: Layer = None,
    batch_key: BatchKey = None,
    covariate: Covariate = None,
    mask_layer: MaskLayer = None,
    likelihood: Annotated[
        Likelihood | None,
        typer.Option(help="Law of the counts.", show_default="that of the run, or zinb", rich_help_panel="Model"),
    ] = None,
    max_epochs: MaxEpochs = None,
    groupby: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with cell types or clusters: say of each whether it comes back as it was counted. The model does "
            "not see it.",
            show_default="none",
        ),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of the molecules that the model is shown.")] = 0.9,
    key: Annotated[str, typer.Option(help="Name of the run whose settings are judged, if INPUT holds one.")] = "scdae",
    seed: Seed = 0,
    json_file: JsonFile = None,
    genes: Annotated[
        Path | None,
        typer.Option(
            callback=home, help="Write a table of genes as CSV.", show_default="not written", rich_help_panel="Output"
        ),
    ] = None,
    genome: Genome = None,
    genes_only: GenesOnly = False,
    allow_fractional: AllowFractional = False,
    allow_nan: AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel="Output")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Measure on INPUT what imputation gains: a model is shown most molecules and predicts the rest. INPUT is not changed."""
    set_verbosity(quiet=quiet, verbose=verbose)
    with one_line_errors(debug, about=str(source)):
        from scdae.io.write import check_target, write_text

        check_report(json_file, overwrite=overwrite)
        probe_source(source)
        if genes is not None:
            check_target(genes, overwrite=overwrite, endings=(".csv",))
        clock = Clock()
        adata, layer, mask_layer, _ = open_source(source, genome, layer, mask_layer, genes_only=genes_only)
        clock.lap("reading")

        from scdae import tl

        given: dict[str, Any] = {
            "likelihood": None if likelihood is None else likelihood.value,
            "max_epochs": max_epochs,
        }
        tl.evaluate(
            adata,
            layer=layer,
            mask=mask_layer,
            batch_key=batch_key,
            covariates=covariate,
            groupby=groupby,
            fraction=fraction,
            key=key,
            seed=seed,
            allow_fractional=allow_fractional,
            allow_nan=allow_nan,
            overwrite=True,
            **{name: value for name, value in given.items() if value is not None},
        )
        clock.lap("evaluating")
        write_report(json_file, _report(adata, key, str(source), clock.laps), overwrite=overwrite)
        if genes is not None:
            columns = [f"{key}_{name}" for name in ("skill", "skill_se", "verdict")]
            write_text(genes, adata.var[columns].to_csv(index_label="gene"), overwrite=overwrite)
        if not (quiet or to_stdout(json_file)):
            from scdae.cli.pages.summary import describe_evaluation

            say(describe_evaluation(adata, key, source=str(source), seconds=clock.laps))


def _report(adata: AnnData, key: str, source: str, seconds: dict[str, float]) -> dict[str, Any]:
    """The evaluation, for JSON."""
    entry = adata.uns[f"{key}_evaluation"]
    methods = [str(name) for name in entry["methods"]]
    table = {name: dict(zip(methods, map(float, entry[name]), strict=True)) for name in ("skill", "log_likelihood")}
    report = {name: value for name, value in entry.items() if name not in ("methods", "written_by", "fidelity")}
    report |= {
        "source": source,
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "methods": {name: {part: table[part][name] for part in table} for name in methods},
        "seconds": {step: round(spent, 2) for step, spent in seconds.items()},
    }
    for name in table:
        del report[name]
    if "fidelity" in entry:
        report["fidelity"] = _groups(adata, key)
    return report


def _groups(adata: AnnData, key: str) -> dict[str, Any]:
    """What became of groups of cells, for JSON: by group, and by marker within it."""
    from scdae.get import fidelity

    found, markers = adata.uns[f"{key}_evaluation"]["fidelity"], fidelity(adata, key, markers=True)
    groups: dict[str, Any] = fidelity(adata, key).to_dict(orient="index")
    for name, row in groups.items():
        of_group = markers[markers.index.get_level_values("group") == name].droplevel("group")
        row["markers"] = of_group.to_dict(orient="index")
    return {name: value for name, value in found.items() if name != "markers"} | {"groups": groups}
