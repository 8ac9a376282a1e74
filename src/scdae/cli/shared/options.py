"""Options that commands have in common: one meaning, one name, one help text each."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from scdae.cli.shared.codes import ExitCode

__all__ = [
    "AllowFractional",
    "AllowNan",
    "BatchKey",
    "CheckpointDir",
    "CheckpointEvery",
    "Covariate",
    "DType",
    "Debug",
    "DryRun",
    "Effort",
    "Genes",
    "GenesOnly",
    "Genome",
    "HowMuch",
    "JsonFile",
    "KeyAdded",
    "Layer",
    "Likelihood",
    "LikelihoodOfModel",
    "MaskLayer",
    "MaxEpochs",
    "Obs",
    "OverwriteResult",
    "Quantile",
    "Quiet",
    "ResultsOnly",
    "Resume",
    "Seed",
    "Shard",
    "SkipExisting",
    "Source",
    "Target",
    "Threshold",
    "TransformBatch",
    "Transpose",
    "Verbose",
    "home",
    "jobs_folder",
]


def home(path: Path | None) -> Path | None:
    """Return the path, with ``~`` for the home folder; a callback of arguments."""
    return None if path is None else path.expanduser()


class Effort(StrEnum):
    """What a fit may cost."""

    fast = "fast"
    default = "default"
    best = "best"


class Likelihood(StrEnum):
    """Distributions of the counts."""

    zinb = "zinb"
    nb = "nb"
    poisson = "poisson"


def _input(path: str) -> Path:
    """Return the path of INPUT."""
    return _named(path, "INPUT is empty. Name a file; in an array of jobs the index may lie beyond the samples.")


def jobs_folder(path: str) -> Path:
    """Return the path of JOBS."""
    return _named(path, "JOBS is empty. Name a folder; . is the current one.")


def _checkpoints(path: str) -> Path:
    """Return the folder of checkpoints."""
    return _named(path, "--checkpoint-dir is empty. Name a folder; . is the current one.")


def _named(path: str, otherwise: str) -> Path:
    """A path. A variable of the shell that is empty must not be taken for the current folder."""
    if not path.strip():
        typer.echo(f"error: {otherwise}", err=True)
        raise typer.Exit(ExitCode.BAD_INPUT)
    return Path(path).expanduser()


Source = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        parser=_input,
        help="Raw counts: .h5ad, .zarr, .loom, 10x .h5, .mtx or the folder with it, a table of text (.csv, .tsv), or a quoted "
        "pattern of .h5ad or .zarr.",
    ),
]
Target = Annotated[Path, typer.Argument(metavar="OUTPUT", callback=home, help="Result, .h5ad or .zarr.")]
OverwriteResult = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace OUTPUT, and a layer of the name given, if they exist.",
        rich_help_panel="Output",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        help="Layer with the raw counts; 'raw' for those of .raw, with its genes.",
        show_default="X",
        rich_help_panel="Counts",
    ),
]
BatchKey = Annotated[
    str | None, typer.Option(help="Column of obs with the batch.", show_default="none", rich_help_panel="Counts")
]
Obs = Annotated[
    Path | None,
    typer.Option(
        "--obs",
        metavar="FILE",
        callback=home,
        help="Table (.csv, .tsv) of further columns of obs, such as a batch; cells are found by name in one of its columns.",
        show_default="none",
        rich_help_panel="Counts",
    ),
]
Covariate = Annotated[
    list[str] | None,
    typer.Option(
        help="Further column of obs that affects expression; may be repeated.",
        show_default="none",
        rich_help_panel="Counts",
    ),
]
TransformBatch = Annotated[
    str | None,
    typer.Option(
        help="Return all cells as if measured in this batch, or in the 'average' one; its name is added to that of the layer.",
        show_default="each cell in its own",
        rich_help_panel="Output",
    ),
]
MaskLayer = Annotated[
    str | None,
    typer.Option(
        help="Boolean layer, true where an entry was measured.", show_default="all measured", rich_help_panel="Counts"
    ),
]
LikelihoodOfModel = Annotated[
    Likelihood, typer.Option("--likelihood", help="Distribution of the counts.", rich_help_panel="Model")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed: same seed, same machine, same result.", rich_help_panel="Model")]
MaxEpochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Maximum number of passes over the cells.",
        show_default="by size of the data",
        rich_help_panel="Model",
    ),
]
HowMuch = Annotated[
    Effort,
    typer.Option(
        "--effort",
        help="fast: fewer steps, a small network; default; best: three times the steps, four networks averaged.",
        rich_help_panel="Model",
    ),
]
Genome = Annotated[
    str | None,
    typer.Option(
        help="Genome to read from a 10x file of several.", show_default="the only one", rich_help_panel="Counts"
    ),
]
Transpose = Annotated[
    bool,
    typer.Option(
        "--transpose", help="A table of text has genes in rows and cells in columns.", rich_help_panel="Counts"
    ),
]
AllowFractional = Annotated[
    bool,
    typer.Option(
        "--allow-fractional",
        help="Accept estimated counts (Salmon, alevin, ambient-corrected).",
        rich_help_panel="Counts",
    ),
]
AllowNan = Annotated[
    bool, typer.Option("--allow-nan", help="Treat NaN as entries that were not measured.", rich_help_panel="Counts")
]


def _shard(value: str) -> tuple[int, int]:
    """`--shard 3/20`: the third of twenty parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", value.strip())
    if match is None:
        raise typer.BadParameter(
            f"{value!r} is not I/N, such as 3/20 for the third of twenty parts. In a script the number of the task may not be set."
        )
    return int(match[1]), int(match[2])


Shard = Annotated[
    Any,
    typer.Option(
        "--shard",
        metavar="I/N",
        parser=_shard,
        help="Restore the I-th of N parts alone, numbered from 1, into OUTPUT.parts: for many jobs, of any number of machines. "
        "'scdae collect OUTPUT' makes one .zarr of them.",
        show_default="all cells",
        rich_help_panel="Jobs",
    ),
]
KeyAdded = Annotated[
    str, typer.Option(help="Name of the layer, and start of the other names, to write.", rich_help_panel="Output")
]
Quantile = Annotated[
    list[float] | None,
    typer.Option(
        help="Write this quantile of the expected counts as a further layer; may be repeated.", rich_help_panel="Output"
    ),
]
CheckpointDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=_checkpoints,
        help="Folder for checkpoints: a job that was killed resumes when it is started again.",
        show_default="none",
        rich_help_panel="Jobs",
    ),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="STEPS", help="Steps between checkpoints.", show_default="a minute", rich_help_panel="Jobs"
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Require a checkpoint in DIR; without one it is an error.", rich_help_panel="Jobs"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel="Messages")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print more about each step.", rich_help_panel="Messages")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Messages")]
Genes = Annotated[
    Path | None,
    typer.Option(
        callback=home,
        help="Text file of the genes to write, one a line; implies --results-only.",
        show_default="all",
        rich_help_panel="Output",
    ),
]
GenesOnly = Annotated[
    bool,
    typer.Option(
        "--genes-only",
        help="Leave out features that are not genes: proteins and guides by var['feature_types'], control probes and codes of in "
        "situ panels and counters such as __no_feature by name.",
        rich_help_panel="Counts",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Leave out values below this: the layer is then sparse.", show_default="keep all", rich_help_panel="Output"
    ),
]
DType = Annotated[
    str,
    typer.Option("--dtype", help="float32 or float16; the latter implies --results-only.", rich_help_panel="Output"),
]
ResultsOnly = Annotated[
    bool,
    typer.Option(
        "--results-only",
        help="Write obs, var and the results, not what INPUT holds, cell by cell as they are restored. This happens "
        "anyway if INPUT is too large for memory (see scdae.settings.max_entries) or is several files.",
        rich_help_panel="Output",
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        callback=home,
        help="Write the report as JSON as well; - prints it in place of the page.",
        show_default="not written",
        rich_help_panel="Messages",
    ),
]

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Read and check INPUT, say what would be trained and written and what it would cost, and stop.",
        rich_help_panel="Jobs",
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="If the result exists already, say so and end with code 0: for jobs that are submitted again.",
        rich_help_panel="Jobs",
    ),
]
