"""`scdae batch`: scripts that restore many samples on a cluster, one job each."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from scdae.cli._impute import impute
from scdae.cli._model import apply
from scdae.cli.jobs.schedulers import Job, grid_engine, slurm, submitting
from scdae.cli.shared.common import one_line_errors, say
from scdae.cli.shared.options import Debug, home, jobs_folder
from scdae.core.config import Config

if TYPE_CHECKING:
    from scdae.cli.jobs.resources import Ask
    from scdae.cli.jobs.samples import Sample
    from scdae.cli.jobs.schedulers import Job

from scdae.files.targets import write_text

__all__ = ["TASKS", "batch"]

TASKS = "tasks.csv"
_USUAL = 1001  # tasks of an array, in SLURM as it is installed
_OWN = {"json_file", "checkpoint_dir", "skip_existing", "overwrite", "quiet", "resume", "dry_run", "debug", "shard"}


class Scheduler(StrEnum):
    """Whose scripts are written."""

    slurm = "slurm"
    sge = "sge"


class Ending(StrEnum):
    """How results are written."""

    h5ad = "h5ad"
    zarr = "zarr"


def batch(
    samples: Annotated[
        str,
        typer.Argument(
            metavar="SAMPLES",
            help="Sheet (.csv or .tsv with the columns sample and path, and options such as batch_key), folder, or quoted pattern.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS", parser=jobs_folder, help="Folder to make, for scripts, results, reports and logs."
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- OPTIONS]", help="Options of 'scdae impute' (or apply) for all samples.", show_default=False
        ),
    ] = None,
    scheduler: Annotated[
        Scheduler, typer.Option(help="slurm, or sge for Grid Engine.", rich_help_panel="Jobs")
    ] = Scheduler.slurm,
    model_file: Annotated[
        Path | None,
        typer.Option(
            "--model",
            callback=home,
            help="Fitted model, which 'scdae apply' restores each sample with.",
            show_default="each has its own",
            rich_help_panel="Model",
        ),
    ] = None,
    ending: Annotated[
        Ending, typer.Option("--format", help="Format of results.", rich_help_panel="Output")
    ] = Ending.h5ad,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cores of a job.", show_default="by size of the largest sample", rich_help_panel="Jobs"
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="Memory of a job.",
            show_default="by size of the largest sample",
            rich_help_panel="Jobs",
        ),
    ] = None,
    minutes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Time limit of a job.", show_default="by size of the largest sample", rich_help_panel="Jobs"
        ),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1, help="Maximum number of jobs that run at once.", show_default="all", rich_help_panel="Jobs"
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="Partition or queue.", show_default="the usual", rich_help_panel="Jobs")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Account or project.", show_default="the usual", rich_help_panel="Jobs")
    ] = None,
    environment: Annotated[
        str, typer.Option("--pe", help="Parallel environment of Grid Engine for several cores.", rich_help_panel="Jobs")
    ] = "smp",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Write the scripts in JOBS anew; results stay.", rich_help_panel="Output"),
    ] = False,
    debug: Debug = False,
) -> None:
    """Write an array of jobs, one for each sample, and a job that gathers their reports. Nothing is submitted."""
    with one_line_errors(debug, about=samples):
        if not samples.strip():
            raise ValueError("SAMPLES is empty. Name a sheet, a folder or a quoted pattern.")
        folder = folder.absolute()
        if folder.exists() and not (overwrite and (folder / TASKS).is_file()):
            hint = ", or pass --overwrite to write its scripts anew; results stay" if (folder / TASKS).is_file() else ""
            raise FileExistsError(f"{folder} exists. Choose another name for JOBS{hint}.")
        if not folder.parent.is_dir():
            raise FileNotFoundError(f"The folder {folder.parent} for {folder.name} does not exist. Make it first.")
        if model_file is not None:
            if not model_file.is_file():
                raise FileNotFoundError(f"{model_file} does not exist.")
            model_file = model_file.absolute()
        tasks = _tasks(samples, folder, model_file, ending.value, list(words or ()))
        ask, largest = _largest(tasks, cores)
        job = Job(
            folder=folder,
            n_tasks=len(tasks),
            memory=ask.memory if memory is None else memory * 2**20,
            seconds=ask.seconds if minutes is None else minutes * 60,
            cores=ask.cores,
            gather=[*_scdae(), "gather", str(folder), str(folder / "report.csv")],
            at_once=at_once,
            partition=partition,
            account=account,
            environment=environment,
        )
        scripts = slurm(job) if scheduler is Scheduler.slurm else grid_engine(job)
        _write(folder, tasks, scripts)
        say(_page(job, tasks, ask, largest, submitting(job, scheduler.value)))


class _Task(NamedTuple):
    sample: Sample
    target: Path
    report: Path
    command: list[str]
    values: dict[str, Any]  # of the command's parameters


def _tasks(source: str, folder: Path, model: Path | None, ending: str, words: list[str]) -> list[_Task]:
    from scdae.cli.jobs.samples import read_samples  # with pandas, so not for help

    name = "impute" if model is None else "apply"
    command = _command(name)
    known = {
        option.removeprefix("--"): parameter
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and parameter.name not in _OWN
    }
    tasks = []
    for sample in read_samples(source, known):
        target, report = folder / "results" / f"{sample.name}.{ending}", folder / "reports" / f"{sample.name}.json"
        own = [word for option, value in sample.options for word in _words(known[option], option, value)]
        given = [*words, *own]
        fixed = ["--json", str(report), "--skip-existing", "--quiet"]
        if model is None:
            fixed += ["--checkpoint-dir", str(folder / "checkpoints" / sample.name)]
        arguments = [str(sample.path), *([] if model is None else [str(model)]), str(target), *given]
        values = _checked(command, name, sample.name, arguments)
        tasks.append(_Task(sample, target, report, [*_scdae(), name, *arguments, *fixed], values))
    return tasks


def _command(name: str) -> Any:
    """Return the command as typer has it."""
    commands: dict[str, Callable[..., Any]] = {"impute": impute, "apply": apply}
    alone = typer.Typer()
    alone.command(name)(commands[name])
    return typer.main.get_command(alone)


def _words(parameter: Any, option: str, value: str) -> list[str]:
    """A cell of the sheet as words of the command line; of a switch, whether it is there."""
    if not getattr(parameter, "is_flag", False):
        return [f"--{option}", value]
    if value.lower() in ("true", "yes", "1"):
        return [f"--{option}"]
    if value.lower() in ("false", "no", "0"):
        return []
    raise ValueError(f"{option.replace('-', '_')} is {value!r}: use true or false.")


def _checked(command: Any, name: str, sample: str, words: list[str]) -> dict[str, Any]:
    """Return the values of a command line that is as it has to be."""
    try:
        values: dict[str, Any] = command.make_context(f"scdae {name}", list(words)).params
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(f"sample {sample}: scdae {name} does not take this: {error.format_message()}") from error
    taken = sorted(_OWN & {key for key, value in values.items() if value not in (None, False)})
    if taken:
        raise ValueError(
            f"--{taken[0].replace('_file', '').replace('_', '-')} is given to each job by scdae batch. Leave it out."
        )
    return values


def _largest(tasks: list[_Task], cores: int | None) -> tuple[Ask, str]:
    """What each resource has to be for the sample that needs most of it, and which needs most memory."""
    from scdae.cli.jobs.resources import Ask, ask_for, size_of  # with JAX, so not for help

    asks = []
    for task in tasks:
        values = task.values
        with one_line_errors(False, about=str(task.sample.path)):
            size = size_of(task.sample.path, values.get("layer"))
            config = Config(values.get("likelihood", "zinb"), max_epochs=values.get("max_epochs"))
            alone = values["results_only"] or values["genes"] is not None or values["dtype"] != "float32"
            layers = len(values["output"]) + len(values.get("quantile") or ())
            threshold = values.get("threshold")
            asks.append(ask_for(size, config, n_layers=layers, alone=alone, threshold=threshold, cores=cores))
    most = max(range(len(asks)), key=lambda i: asks[i].memory)
    whole = Ask(*(max(getattr(ask, name) for ask in asks) for name in Ask._fields))
    return whole, tasks[most].sample.name


def _scdae() -> list[str]:
    """Return the command of this installation, whatever a node's PATH is."""
    return [sys.executable, "-m", "scdae"]


def _write(folder: Path, tasks: list[_Task], scripts: dict[str, str]) -> None:
    for name in ("results", "reports", "logs", "checkpoints", "compiled"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["sample", "source", "target", "report"])
    writer.writerows([task.sample.name, task.sample.path, task.target, task.report] for task in tasks)
    write_text(folder / TASKS, table.getvalue())
    write_text(folder / "commands.txt", "".join(shlex.join(task.command) + "\n" for task in tasks))
    for name, text in scripts.items():
        write_text(folder / name, text)


def _page(job: Job, tasks: list[_Task], ask: Ask, largest: str, commands: list[str]) -> str:
    lines = [
        f"{len(tasks)} jobs in {job.folder}; nothing was submitted.",
        "",
        f"  each asks for {job.memory / 2**20:,.0f} MiB, {job.cores} core{'s' if job.cores > 1 else ''} and {job.seconds // 60} minutes;",
        f"  the most memory is for {largest}, which takes about {ask.peak / 2**20:,.0f} MiB (an estimate)",
        "",
        "To run them:",
        "",
        *(f"  {command}" for command in commands),
        "",
        "Submitted again, jobs that are done end at once, and others go on.",
    ]
    if len(tasks) >= _USUAL:
        lines.append(
            f"An array has up to {_USUAL - 1:,} tasks where MaxArraySize was not changed: ask, or make several sheets."
        )
    return "\n".join(lines)
