"""A command at work: errors in one line, files checked before time is spent, a clock, and the report at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scdae._log import on_a_page, rewording
from scdae.cli import shared
from scdae.cli.shared.common import Clock, as_options, one_line_errors, say, set_verbosity
from scdae.cli.shared.report import check_report, tell_plan, to_stdout, write_report
from scdae.cli.shared.skip import check_skip, skipping
from scdae.files.targets import check_target

if TYPE_CHECKING:
    from scdae.cli.pages.plan import Plan
    from scdae.cli.shared.data import Opened

__all__ = ["Run"]


class Run:
    """What the commands that work on data do alike.

    Parameters
    ----------
    source, target
        INPUT and OUTPUT; no target where the report is all.
    quiet, verbose, debug
        How much is said, and whether errors are raised as they are.
    overwrite
        Whether files that exist are replaced.
    json_file
        Where the report is written to; None for nowhere.
    transpose
        Whether a table of text has genes in rows.
    skip_existing
        Whether a target that exists ends the command as done.
    of_existing
        Makes the report of such a target.
    """

    def __init__(
        self,
        source: Path,
        target: Path | None = None,
        *,
        quiet: bool,
        verbose: bool,
        debug: bool,
        overwrite: bool,
        json_file: Path | None,
        transpose: bool = False,
        skip_existing: bool = False,
        of_existing: Callable[[], Any] | None = None,
    ):
        set_verbosity(quiet=quiet, verbose=verbose)
        check_skip(skip_existing, overwrite)
        self.source, self.target, self.clock = source, target, Clock()
        self._quiet, self._debug, self._json, self._transpose = quiet, debug, json_file, transpose
        self.overwrite, self._skip, self._of_existing = overwrite, skip_existing, of_existing

    def __enter__(self) -> Run:
        with ExitStack() as entered:
            entered.enter_context(rewording(as_options))
            if not (self._quiet or to_stdout(self._json)):
                entered.enter_context(on_a_page())
            entered.enter_context(one_line_errors(self._debug, about=str(self.source)))
            if self.target is not None and self._of_existing is not None:
                entered.enter_context(
                    skipping(self._skip, self.target, quiet=self._quiet, json_file=self._json, report=self._of_existing)
                )
            self._entered = entered.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._entered.__exit__(kind, error, trace)

    def about(self, path: Path) -> AbstractContextManager[None]:
        """Errors within are about another file than INPUT."""
        return one_line_errors(self._debug, about=str(path))

    def check(self, endings: tuple[str, ...] = (".h5ad", ".zarr")) -> None:
        """Find out whether target and report can be written and the source can be read, before time is spent."""
        if self.target is not None:
            with self.about(self.target) if not self._skip else nullcontext():  # which sees that it exists
                check_target(self.target, overwrite=self.overwrite, endings=endings)
        if self._json is not None:
            with self.about(self._json):
                check_report(self._json, overwrite=self.overwrite or self._skip)
        shared.data.probe_source(self.source)

    def open(
        self,
        genome: str | None,
        layer: str | None,
        mask: str | None,
        *,
        genes_only: bool,
        obs: Path | None = None,
        avoid_target: bool = False,
    ) -> Opened:
        """Start the clock and open the source, with the columns of the table `obs`.

        A pattern does not take in the target where `avoid_target`.
        """
        self.clock = Clock()
        table = one_line_errors(self._debug, about=f"--obs {obs}")
        if obs is not None and not obs.is_file():
            with table:
                raise FileNotFoundError("it is not a file." if obs.exists() else "it does not exist.")
        target = self.target if avoid_target else None
        opened = shared.data.open_source(
            self.source, genome, layer, mask, genes_only=genes_only, target=target, transpose=self._transpose
        )
        if obs is not None:
            with table:
                shared.data.join_obs(opened.adata, obs)
        return opened

    def tell(self, plan: Plan, command: str) -> None:
        """Print what would be done."""
        tell_plan(plan, command, source=str(self.source), target=str(self.target), json_file=self._json)

    def finish(self, report: Callable[..., Any], page: Callable[..., str]) -> None:
        """Write the report, if it is wanted, and print the page, unless the command is quiet or the report takes its place.

        Both are called with ``source`` and, where there is one, ``target`` as texts, and with ``seconds`` by step.
        """
        about: dict[str, Any] = {"source": str(self.source), "seconds": self.clock.laps}
        if self.target is not None:
            about["target"] = str(self.target)
        if self._json is not None:
            write_report(self._json, report(**about), overwrite=self.overwrite or self._skip)
        if not (self._quiet or to_stdout(self._json)):
            say(page(**about))
