"""`scdae collect`: one store of the parts that many jobs have restored."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from scdae.cli import pages, shared
from scdae.cli.shared import options as opt
from scdae.cli.shared.codes import Again
from scdae.cli.shared.report import check_report, run_report, write_report
from scdae.cli.shared.run import Run
from scdae.files.targets import check_target

__all__ = ["collect"]


def collect(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", callback=opt.home, help="The .zarr that 'scdae apply --shard' was told to write."
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.", rich_help_panel="Output")
    ] = False,
    skip_existing: opt.SkipExisting = False,
    json_file: opt.JsonFile = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Make one store, OUTPUT, of all parts. The exit code is 75 if parts are missing; they are named, with the command for each."""
    run = Run(
        target,
        target,
        quiet=quiet,
        verbose=verbose,
        debug=debug,
        overwrite=overwrite,
        json_file=json_file,
        skip_existing=skip_existing,
        of_existing=lambda: {"target": str(target), "skipped": True},
    )
    with run:
        from scdae.files.replacing import remove  # with anndata and JAX, as are the others, so not for help
        from scdae.parts.folder import Folder

        folder = Folder(target)
        plan = folder.plan()
        if plan is not None and not folder.store.exists() and target.exists():  # a job was killed when all was done
            remove(folder.path)
            plan = None
        check_target(target, overwrite=overwrite, endings=(".zarr",))
        check_report(json_file, overwrite=overwrite or skip_existing)
        if plan is None:
            raise FileNotFoundError(
                f"{folder.path} does not exist: no part of {target} was begun. Restore parts with scdae apply INPUT MODEL {target} "
                "--shard I/N."
            )
        missing = folder.missing(plan.n_parts)
        if missing:
            from scdae.parts.plan import numbered

            command = shlex.join(plan.command(str(target), missing[0]))
            write_report(
                json_file, {"target": str(target), "n_parts": plan.n_parts, "missing": missing, "command": command}
            )
            raise Again(
                f"{len(missing)} of {plan.n_parts} parts of {target} are missing: {numbered(missing)}. To restore part {missing[0]}: "
                f"{command} (of an array of SLURM jobs: --array={numbered(missing)})"
            )
        asked = shared.parts.Asked(Path(plan.source), Path(plan.model), plan.asked)
        shared.data.probe_source(asked.source)
        written = shared.parts.collect_all(run, folder, plan, asked)
        source = f"{plan.n_parts} parts of {plan.source}, with {plan.model}"

        def page(*, source: str, target: str, seconds: dict[str, float]) -> str:
            return pages.describe_run(written, plan.key, source=source, target=target, seconds=seconds, alone=True)

        run.source = Path(source)
        run.finish(partial(run_report, written, plan.key), page)
