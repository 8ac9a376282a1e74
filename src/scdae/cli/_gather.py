"""`scdae gather`: the reports of many jobs as one table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scdae.cli._batch import TASKS
from scdae.cli.shared.codes import ExitCode
from scdae.cli.shared.common import one_line_errors, say
from scdae.cli.shared.options import Debug, Quiet, home, jobs_folder
from scdae.files.targets import write_text

__all__ = ["gather"]

_START = b"sample,state,"  # of a table
_FEW = 5  # names shown before "..."


def gather(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS", parser=jobs_folder, help="Folder that 'scdae batch' made, or one with reports, .json."
        ),
    ],
    table: Annotated[Path, typer.Argument(metavar="TABLE", callback=home, help="Table to write, .csv; - prints it.")],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Gather the reports of jobs in one table. The exit code is 0 if all are done, 75 if some must be submitted again."""
    with one_line_errors(debug, about=str(folder)):
        if str(table) != "-" and table.suffix != ".csv":
            raise ValueError(f"{table} has to end in .csv.")
        _check_is_ours(table)
        rows = [_row(*task) for task in _tasks(folder)]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if str(table) == "-":
            say(text.getvalue().rstrip("\n"))
        else:
            write_text(table, text.getvalue())
        missing = [row["sample"] for row in rows if row["state"] != "done"]
        if missing:
            names = ", ".join(missing[:_FEW]) + (", ..." if len(missing) > _FEW else "")
            typer.echo(f"{len(missing)} of {len(rows)} jobs are not done: {names}", err=True)
            raise typer.Exit(int(ExitCode.AGAIN))
        if not quiet and str(table) != "-":
            say(f"All {len(rows)} jobs are done: {table}")


def _check_is_ours(table: Path) -> None:
    """Raise where a file is in the place of the table that is none of these: the sheet of samples, say."""
    if str(table) == "-" or not table.exists():
        return
    with table.open("rb") as file:
        if not file.readline(200).startswith(_START):
            raise FileExistsError(f"{table} exists and is no table of scdae gather. Choose another name.")


def _tasks(folder: Path) -> list[tuple[str, Path, Path | None]]:
    """Return the name, report and result of each job."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder.")
    if (folder / TASKS).is_file():
        with (folder / TASKS).open(encoding="utf-8", newline="") as file:
            return [(row["sample"], Path(row["report"]), Path(row["target"])) for row in csv.DictReader(file)]
    reports = sorted(folder.glob("*.json"))
    if not reports:
        raise FileNotFoundError(f"{folder} has neither {TASKS} nor a report, .json.")
    return [(path.stem, path, None) for path in reports]


def _row(name: str, report: Path, target: Path | None) -> dict[str, Any]:
    """A report without its lists."""
    row: dict[str, Any] = {"sample": name, "state": "missing"}
    if not report.exists() or (target is not None and not target.exists()):
        return row
    try:
        report_of_job = json.loads(report.read_text(encoding="utf-8"))
        seconds = report_of_job.pop("seconds", {})
    except (OSError, ValueError, AttributeError):
        return row | {"state": "unreadable"}
    row |= {"state": "done", "seconds": round(sum(seconds.values()), 2)}
    for key, value in report_of_job.items():
        parts = value.items() if key in ("report", "settings") and isinstance(value, dict) else [(key, value)]
        row |= {part: what for part, what in parts if isinstance(what, (str, int, float)) and part not in row}
    return row
