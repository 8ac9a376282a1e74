"""`scdae evaluate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import scdae
from scdae._log import warnings_said
from scdae.cli import pages, shared
from scdae.cli.shared import options as opt
from scdae.cli.shared.run import Run
from scdae.files.targets import check_target, write_text

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["evaluate"]


def evaluate(
    source: opt.Source,
    layer: opt.Layer = None,
    obs: opt.Obs = None,
    batch_key: opt.BatchKey = None,
    covariate: opt.Covariate = None,
    mask_layer: opt.MaskLayer = None,
    likelihood: Annotated[
        opt.Likelihood | None,
        typer.Option(
            help="Distribution of the counts.", show_default="that of the run, or zinb", rich_help_panel="Model"
        ),
    ] = None,
    max_epochs: opt.MaxEpochs = None,
    groupby: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with cell types or clusters: report whether each comes back as it was counted. The model "
            "does not see them.",
            show_default="none",
        ),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Fraction of the molecules that the model is shown.")] = 0.9,
    key: Annotated[str, typer.Option(help="Name of the run whose settings are judged, if INPUT holds one.")] = "scdae",
    seed: opt.Seed = 0,
    json_file: opt.JsonFile = None,
    genes: Annotated[
        Path | None,
        typer.Option(
            callback=opt.home,
            help="Write a table of genes as CSV.",
            show_default="not written",
            rich_help_panel="Output",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            callback=opt.home,
            help="Write a report to file: verdict, checks, plots, settings and versions, one HTML file that needs no network.",
            show_default="not written",
            rich_help_panel="Output",
        ),
    ] = None,
    genome: opt.Genome = None,
    transpose: opt.Transpose = False,
    genes_only: opt.GenesOnly = False,
    allow_fractional: opt.AllowFractional = False,
    allow_nan: opt.AllowNan = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel="Output")
    ] = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Measure on INPUT what imputation gains: a model sees most molecules and predicts the rest. INPUT stays as it is."""
    run = Run(
        source, quiet=quiet, verbose=verbose, debug=debug, overwrite=overwrite, json_file=json_file, transpose=transpose
    )
    with run, warnings_said() as warned:
        run.check()
        for path, endings in ((genes, (".csv",)), (html, (".html", ".htm"))):
            if path is not None:
                with run.about(path):
                    check_target(path, overwrite=overwrite, endings=endings)
        opened = run.open(genome, layer, mask_layer, genes_only=genes_only, obs=obs)
        adata = opened.adata
        if genes is not None:
            shared.data.check_in_place(source, genes, alone=True)
        run.clock.lap("reading")
        given: dict[str, Any] = {
            "likelihood": None if likelihood is None else likelihood.value,
            "max_epochs": max_epochs,
        }
        scdae.tl.evaluate(
            adata,
            layer=opened.layer,
            mask=opened.mask,
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
        run.clock.lap("evaluating")
        if html is not None:
            title = f"Does imputation help on {source.name}?"
            page = scdae.tl._report.report_page(adata, key=key, title=title, warned=warned, about={"file": str(source)})
            write_text(html, page, overwrite=overwrite)
            run.clock.lap("report")
        if genes is not None:
            columns = [f"{key}_{name}" for name in ("skill", "skill_se", "verdict")]
            write_text(genes, adata.var[columns].to_csv(index_label="gene"), overwrite=overwrite)
        run.finish(partial(_report, adata, key), partial(_page, adata, key, html))


def _page(adata: AnnData, key: str, html: Path | None, *, source: str, seconds: dict[str, float]) -> str:
    """Describe the evaluation, and say where the report is."""
    text = pages.describe_evaluation(adata, key, source=source, seconds=seconds)
    return text if html is None else f"{text}\nReport: {html}"


def _report(adata: AnnData, key: str, *, source: str, seconds: dict[str, float]) -> dict[str, Any]:
    """Return the evaluation as JSON takes it."""
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
    found, markers = adata.uns[f"{key}_evaluation"]["fidelity"], scdae.get.fidelity(adata, key, markers=True)
    groups: dict[str, Any] = scdae.get.fidelity(adata, key).to_dict(orient="index")
    for name, row in groups.items():
        of_group = markers[markers.index.get_level_values("group") == name].droplevel("group")
        row["markers"] = of_group.to_dict(orient="index")
    return {name: value for name, value in found.items() if name != "markers"} | {"groups": groups}
