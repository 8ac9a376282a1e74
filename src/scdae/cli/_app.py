"""The commands as one application, and their examples."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from scdae.cli._about import demo, info
from scdae.cli._batch import batch
from scdae.cli._chimeras import chimeras
from scdae.cli._collect import collect
from scdae.cli._evaluate import evaluate
from scdae.cli._gather import gather
from scdae.cli._impute import impute
from scdae.cli._model import apply, fit
from scdae.cli._score import score

__all__ = ["app"]

# Blank lines: where rich is there, each paragraph of an epilog becomes a line.
_OVERVIEW = """Examples:

scdae impute counts.h5ad restored.h5ad

scdae evaluate counts.h5ad

scdae fit reference.h5ad reference.scdae

scdae apply sample.h5ad reference.scdae restored.h5ad

scdae score sample.h5ad scores.csv --model reference.scdae

'scdae COMMAND --help' has the options and further examples of each."""

_IMPUTE = """Examples:

scdae impute counts.h5ad restored.h5ad --batch-key sample

scdae impute counts.h5ad corrected.h5ad --batch-key sample --transform-batch average

scdae impute normalized.h5ad restored.h5ad --layer counts --quantile 0.05 --quantile 0.95

scdae impute 'samples/*.h5ad' restored.zarr --batch-key sample --threshold 0.01

scdae impute atlas.h5ad restored.zarr --genes markers.txt --dry-run"""

_EVALUATE = """Examples:

scdae evaluate counts.h5ad

scdae evaluate counts.h5ad --groupby cell_type --html report.html

scdae evaluate restored.h5ad --json report.json --genes genes.csv

scdae evaluate counts.h5ad --likelihood nb --json - --quiet"""

_FIT = """Examples:

scdae fit reference.h5ad reference.scdae --batch-key donor

scdae fit other.h5ad other.scdae --reference reference.scdae

scdae fit atlas.h5ad atlas.scdae --max-epochs 1 --checkpoint-dir checkpoints

scdae fit atlas.h5ad atlas.scdae --dry-run --json -"""

_APPLY = """Examples:

scdae apply sample.h5ad reference.scdae restored.h5ad

scdae apply atlas.h5ad atlas.scdae restored.zarr --genes markers.txt --threshold 0.01

scdae apply atlas.h5ad atlas.scdae restored.zarr --shard 3/20"""

_SCORE = """Examples:

scdae score cells.h5ad scores.csv --normal singlet

scdae score sample.h5ad scored.h5ad --model reference.scdae --normal unseen_normal.h5ad

scdae score sample.h5ad scores.csv --json -"""

_CHIMERAS = """Examples:

scdae chimeras new.fasta scores.tsv --reference verified.fasta.gz

scdae chimeras asvs.fasta scores.tsv --reference verified.fasta --calibration others.fasta --nonchimeras clean.fasta

scdae chimeras asvs.fasta scores.tsv --abundance counts.tsv"""

_BATCH = """Examples:

scdae batch samples.csv jobs

scdae batch 'samples/*.h5ad' jobs --model shared.scdae --format zarr -- --threshold 0.01

scdae batch samples jobs --scheduler sge --at-once 20"""

_COLLECT = """Example:

scdae apply atlas.h5ad atlas.scdae restored.zarr --shard 1/2

scdae apply atlas.h5ad atlas.scdae restored.zarr --shard 2/2

scdae collect restored.zarr"""

_GATHER = """Example:

scdae gather jobs report.csv"""

_DEMO = """Example:

scdae demo demo_output --cells 1000 --genes 500"""

_INFO = """Example:

scdae info --json -"""

app = typer.Typer(
    name="scdae",
    help="Restore single-cell RNA-seq counts with a denoising autoencoder.",
    epilog=_OVERVIEW,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command, panel, epilog in (
    (impute, "Restore counts", _IMPUTE),
    (fit, "Restore counts", _FIT),
    (apply, "Restore counts", _APPLY),
    (evaluate, "Did it help?", _EVALUATE),
    (score, "Which cells are odd?", _SCORE),
    (chimeras, "Which sequences are chimeras?", _CHIMERAS),
    (collect, "Many jobs on a cluster", _COLLECT),
    (batch, "Many jobs on a cluster", _BATCH),
    (gather, "Many jobs on a cluster", _GATHER),
    (demo, "Does it work here?", _DEMO),
    (info, "Does it work here?", _INFO),
):
    app.command(rich_help_panel=panel, epilog=epilog)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scdae {version('scdae')}")
        raise typer.Exit()


@app.callback()
def _scdae(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass
