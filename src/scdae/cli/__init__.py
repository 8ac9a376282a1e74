"""The `scdae` command. Nothing heavy is imported before a command needs it, so that help comes at once."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from scdae.cli._about import demo, info
from scdae.cli._evaluate import evaluate
from scdae.cli._impute import impute
from scdae.cli._model import apply, fit

__all__ = ["app", "main"]

app = typer.Typer(
    name="scdae",
    help="Restore single-cell RNA-seq counts with a denoising autoencoder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (impute, evaluate, fit, apply, demo, info):
    app.command()(command)


def main() -> None:
    """Run the command; the entry point of the `scdae` script."""
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="scdae")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"scdae {version('scdae')}")
        raise typer.Exit()


@app.callback()
def _scdae(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _terminate(*_: object) -> None:
    """On SIGTERM, leave by the way that removes unfinished files."""
    sys.exit(143)
