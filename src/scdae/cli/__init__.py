"""The `scdae` command. Nothing heavy is imported before a command needs it, so that help comes at once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from scdae.core.runtime import stopping, threads

if TYPE_CHECKING:
    from scdae.cli._app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; the entry point of the `scdae` script.

    What tells a job to stop (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU) ends it by the way that removes
    unfinished files, and keeps how far training is if it has a folder for that, with code 128 and the number of the
    signal, from the first import on.
    """
    stopping.note_signals()
    threads.hold_to_share()
    try:
        from scdae.cli._app import app  # slow, so signals are noted before

        app(prog_name="scdae")
    finally:
        stopping.leaving()
        number = stopping.noted()
        if number is not None:
            import typer

            with suppress(OSError):
                typer.echo(stopping.stop_words(number), err=True)
            stopping.stop_if_asked()


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from scdae.cli._app import app  # late, as in `main`

    return app
