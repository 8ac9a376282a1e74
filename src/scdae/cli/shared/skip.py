"""`--skip-existing`: of jobs that are submitted again, those that are done end at once, as done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

import scdae
from scdae.cli.shared.common import say
from scdae.cli.shared.report import model_report, to_stdout, write_report

__all__ = ["check_skip", "key_of", "report_of_model", "report_of_result", "skipping"]


def check_skip(skip: bool, overwrite: bool) -> None:
    """What is there is left or replaced."""
    if skip and overwrite:
        raise typer.BadParameter("--skip-existing and --overwrite exclude each other.")


@contextmanager
def skipping(
    skip: bool, target: Path, *, quiet: bool, json_file: Path | None, report: Callable[[], Any]
) -> Iterator[None]:
    """End with code 0 where `target` is there, or was made by another job in the meantime.

    Parameters
    ----------
    skip
        Whether that is wanted.
    target
        The result, which is complete or not at all.
    quiet
        Whether to say nothing of it.
    json_file
        Where the report is to be; one that is missing is written.
    report
        Makes it of the result.
    """
    if skip and target.exists():
        _leave(f"{target} exists: skipped", quiet, json_file, report)
    try:
        yield
    except FileExistsError:
        if not (skip and target.exists()):
            raise
        _leave(f"{target} was made by another job in the meantime: skipped", quiet, json_file, report)


def _leave(words: str, quiet: bool, json_file: Path | None, report: Callable[[], Any]) -> None:
    if json_file is not None and (to_stdout(json_file) or not json_file.exists()):
        write_report(json_file, report())
    if not (quiet or to_stdout(json_file)):
        say(words)
    raise typer.Exit()


def key_of(key_added: str, transform_batch: str | None) -> str:
    """Return the name of the layer that is written."""
    if transform_batch is None:
        return key_added
    from scdae.outputs.names import corrected_key  # with pandas, so not for help

    return corrected_key(key_added, transform_batch)


def report_of_result(source: Path, target: Path, key: str) -> dict[str, Any]:
    """Return what can be said of a result of `scdae impute` or `scdae apply` that was written before."""
    from anndata.io import read_elem  # slow, so not for help

    from scdae.io.stored import open_group  # with anndata

    about: dict[str, Any] = {"source": str(source), "target": str(target), "skipped": True}
    if target.suffix not in (".h5ad", ".zarr"):
        return about
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = open_group(target)
        for name, table in (("n_obs", "obs"), ("n_vars", "var")):
            about[name] = len(read_elem(group[table][group[table].attrs["_index"]]))  # a group, where nullable
        run = read_elem(group["uns"][key]) if "uns" in group and key in group["uns"] else {}
    return about | {name: value for name, value in run.items() if name != "written_by"} | {"key_added": key}


def report_of_model(source: Path, target: Path) -> dict[str, Any]:
    """Return the same of a model."""
    return model_report(scdae.DAE.load(target), str(source), str(target), {}) | {"skipped": True}
