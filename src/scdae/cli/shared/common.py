"""What the commands share: errors in one line, pages to print, seconds of each step."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

import scdae
from scdae.cli.shared.codes import code_of, of_another
from scdae.core.runtime.stopping import stop_if_asked
from scdae.files.targets import WriteError

__all__ = ["Clock", "as_options", "checkpoint_options", "one_line_errors", "say", "set_verbosity"]


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
    scdae.settings.verbosity = 0 if quiet else 3 if verbose else 2


def checkpoint_options(folder: Path | None, every: int | None, resume: bool) -> dict[str, Any]:
    """Arguments about checkpoints, those that were given."""
    if resume:
        from scdae.core.progress.checkpoints import has_checkpoint  # with JAX, so not for help

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
    """Return the error that the user is told of, and whether it says itself what it is about: OUTPUT, or the platform of JAX."""
    if of_another(error):
        return ValueError(
            "another process of this job has ended, whose own log says why; nothing was written by this one"
        ), True
    if isinstance(error, RuntimeError) and not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" in str(error):
        return MemoryError(f"{str(error).splitlines()[0][:200]}"), False
    if "jax" in sys.modules and isinstance(error, (AssertionError, RuntimeError, ValueError)):
        from scdae.core.runtime.platforms import check_platform  # starts JAX, which only an error of its own asks for

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


_AS_OPTIONS = {
    "pass adata.raw.to_adata()": "pass --layer raw",
    "Pass adata.T.copy()": "Pass --transpose if INPUT is a table of text, else save adata.T",
    "model.adapt(adata)": "scdae fit INPUT MODEL --reference REFERENCE",
    "scdae.tl.evaluate(adata)": "scdae evaluate INPUT",
}


def as_options(text: str) -> str:
    """Call options as they are called on the command line: `layer='umi'` becomes `--layer umi`."""
    text = re.sub(r"\bmask='([^']*)'", r"--mask-layer \1", text)
    for words, option in _AS_OPTIONS.items():
        text = text.replace(words, option)
    text = re.sub(
        r"\b(layer|checkpoint_dir|checkpoint_every|batch_key|covariates|groupby|transform_batch|key_added|genome|dtype)=(?:'([^']*)'|\.\.\.)",
        _option,
        text,
    )
    return re.sub(r"\b(allow_fractional|allow_nan|overwrite)=True", _option, text)


def _option(match: re.Match[str]) -> str:
    name = "--" + match[1].replace("covariates", "covariate").replace("_", "-")
    value = (match[2] or ("DIR" if name.endswith("dir") else "NAME")) if match.re.groups > 1 else None
    return f"{name} {value}" if value else name
