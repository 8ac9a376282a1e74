"""What the commands share: options of the same meaning, errors in one line, seconds of each step."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from scdae.cli.shared.codes import ExitCode, code_of, of_another
from scdae.core.runtime.stopping import stop_if_asked

__all__ = [
    "AllowFractional",
    "AllowNan",
    "BatchKey",
    "CheckpointDir",
    "CheckpointEvery",
    "Covariate",
    "Clock",
    "Debug",
    "Effort",
    "Genome",
    "HowMuch",
    "KeyAdded",
    "Layer",
    "Likelihood",
    "MaskLayer",
    "MaxEpochs",
    "Quantile",
    "Quiet",
    "Resume",
    "Scale",
    "Seed",
    "Source",
    "TransformBatch",
    "Verbose",
    "as_options",
    "checkpoint_options",
    "home",
    "one_line_errors",
    "say",
    "set_verbosity",
]


def home(path: Path | None) -> Path | None:
    """The path, with ``~`` for the home folder; a callback of arguments."""
    return None if path is None else path.expanduser()


class Effort(StrEnum):
    """What a fit may cost."""

    fast = "fast"
    default = "default"
    best = "best"


class Likelihood(StrEnum):
    """Laws of the counts."""

    zinb = "zinb"
    nb = "nb"
    poisson = "poisson"


class Scale(StrEnum):
    """What is written into the layer."""

    mean = "mean"
    prior = "prior"
    rate = "rate"
    sd = "sd"
    log1p = "log1p"


def _input(path: str) -> Path:
    """The path of INPUT. A variable of the shell that is empty must not be taken for the current folder."""
    if not path.strip():
        typer.echo(
            "error: INPUT is empty. Name a file; in an array of jobs the index may lie beyond the samples.", err=True
        )
        raise typer.Exit(ExitCode.BAD_INPUT)
    return Path(path).expanduser()


Source = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        parser=_input,
        help="Raw counts: .h5ad, .zarr, .loom, 10x .h5, .mtx or the folder with it, or a quoted pattern of .h5ad or .zarr.",
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
Covariate = Annotated[
    list[str] | None,
    typer.Option(
        help="Further column of obs that acts on expression; may be repeated.",
        show_default="none",
        rich_help_panel="Counts",
    ),
]
TransformBatch = Annotated[
    str | None,
    typer.Option(
        help="Give all cells as if measured in this batch, or in the 'average' one; the layer is named so.",
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
Seed = Annotated[int, typer.Option(min=0, help="Seed: same seed, same machine, same result.", rich_help_panel="Model")]
MaxEpochs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Most passes over the cells.", show_default="by size of the data", rich_help_panel="Model"
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
AllowFractional = Annotated[
    bool,
    typer.Option(
        "--allow-fractional",
        help="Admit estimated counts (Salmon, alevin, ambient-corrected).",
        rich_help_panel="Counts",
    ),
]
AllowNan = Annotated[
    bool, typer.Option("--allow-nan", help="Take NaN for entries that were not measured.", rich_help_panel="Counts")
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
        callback=home,
        help="Folder in which it is kept how far training is: a job that was killed goes on when it is started again.",
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
    typer.Option("--resume", help="Insist on going on: an error where DIR has no checkpoint.", rich_help_panel="Jobs"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel="Messages")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print more about each step.", rich_help_panel="Messages")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Messages")]


class Clock:
    """Seconds that each step took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """End a step."""
        stop_if_asked()
        now = time.perf_counter()
        self.laps[step] = now - self._last
        self._last = now


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Set how much the package says."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other.")
    import scdae

    scdae.settings.verbosity = 0 if quiet else 3 if verbose else 2


def checkpoint_options(folder: Path | None, every: int | None, resume: bool) -> dict[str, Any]:
    """Arguments about checkpoints, those that were given."""
    if resume:
        from scdae.core.progress.checkpoints import has_checkpoint

        if folder is None:
            raise ValueError("--resume needs the folder with the checkpoint: pass --checkpoint-dir DIR as well.")
        if not has_checkpoint(folder):
            raise ValueError(f"--resume: {folder} has no checkpoint. Correct --checkpoint-dir, or leave --resume out.")
    given = {"checkpoint_dir": folder, "checkpoint_every": every}
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def one_line_errors(debug: bool, about: str = "") -> Iterator[None]:
    """End with one line for whatever goes wrong and a code of :class:`ExitCode`, with 130 when interrupted.

    Parameters
    ----------
    debug
        Whether to raise errors as they are.
    about
        What errors are about, INPUT as a rule. Those of writing name what was to be written.
    """
    try:
        yield
        stop_if_asked()
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        stop_if_asked()  # a library that was interrupted may have made another error of it
        if debug:
            raise
        code = code_of(error)
        error, named = _in_words(error)
        text = as_options(" ".join(str(error).split()))
        text, n_named = re.subn(r"^path='([^']*)'", r"\1", text)
        if isinstance(error, MemoryError):
            text = f"not enough memory. {text}"
        elif not isinstance(error, (ValueError, TypeError, OSError)):
            name = type(error).__name__
            text = f"this cannot be done, and scdae does not know why ({name}: {text}). --debug shows where."
        named = named or n_named > 0 or about in text
        typer.echo(f"error: {text}" if named else f"error: {about}: {text}", err=True)
        raise typer.Exit(int(code)) from error


def _in_words(error: Exception) -> tuple[Exception, bool]:
    """The error that the user is told of, and whether it says itself what it is about: OUTPUT, or the platform of JAX."""
    from scdae.io.write import WriteError

    if of_another(error):
        return ValueError(
            "another process of this job has ended, whose own log says why; nothing was written by this one"
        ), True
    if isinstance(error, RuntimeError) and not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" in str(error):
        return MemoryError(f"{str(error).splitlines()[0][:200]}"), False
    if "jax" in sys.modules and isinstance(error, (AssertionError, RuntimeError, ValueError)):
        from scdae.core.runtime.platforms import check_platform

        try:
            check_platform()
        except ValueError as platform:
            return platform, True
    return error, isinstance(error, WriteError)


def say(text: str) -> None:
    """Print a page. Where nobody reads it any more (``| head``), what was done is done all the same."""
    try:
        typer.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes there


def as_options(text: str) -> str:
    """Call options as they are called on the command line: `layer='umi'` becomes `--layer umi`."""
    text = re.sub(r"\bmask='([^']*)'", r"--mask-layer \1", text)
    text = text.replace("pass adata.raw.to_adata()", "pass --layer raw")
    text = re.sub(
        r"\b(layer|checkpoint_dir|checkpoint_every|batch_key|covariates|groupby|transform_batch|key_added|genome|dtype)=(?:'([^']*)'|\.\.\.)",
        _option,
        text,
    )
    return re.sub(r"\b(allow_fractional|allow_nan|overwrite)=True", _option, text)


def _option(found: re.Match[str]) -> str:
    name = "--" + found[1].replace("covariates", "covariate").replace("_", "-")
    value = (found[2] or ("DIR" if name.endswith("dir") else "NAME")) if found.re.groups > 1 else None
    return f"{name} {value}" if value else name
