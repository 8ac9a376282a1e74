"""The `scdae` command. Nothing heavy is imported before a command needs it, so that help comes at once."""

from __future__ import annotations

import sys
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
    except SystemExit as ended:
        if ended.code == 1 and _is_page(sys.argv[1:]):
            raise SystemExit(0) from None  # nobody reads on (``| head``): click and rich say 1 of that
        raise
    finally:
        stopping.leaving()
        number = stopping.noted()
        if number is not None:
            import typer

            with suppress(OSError):
                typer.echo(stopping.stop_words(number), err=True)
            stopping.stop_if_asked()


def _is_page(words: list[str]) -> bool:
    """Return whether the command line asks for a page of help or the version, and for nothing to be done."""
    own = words[: words.index("--")] if "--" in words else words
    return not own or not {"-h", "--help", "--version"}.isdisjoint(own)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from scdae.cli._app import app  # late, as in `main`

    return app
