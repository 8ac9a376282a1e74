"""What a command found, as JSON: to a file, or to standard output in place of the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scdae import __version__
from scdae.cli import pages
from scdae.cli.shared.common import say
from scdae.files.targets import check_target, write_text

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.cli.pages.plan import Plan
    from scdae.model import DAE

__all__ = [
    "check_report",
    "model_report",
    "plain",
    "run_report",
    "tell_plan",
    "to_stdout",
    "write_report",
]


def to_stdout(path: Path | None) -> bool:
    """Return whether the report takes the place of the page."""
    return path is not None and str(path) == "-"


def check_report(path: Path | None, *, overwrite: bool = False) -> None:
    """Find out whether the report can be written, before time is spent."""
    if path is not None and not to_stdout(path):
        check_target(path, overwrite=overwrite, endings=(".json",))


def write_report(path: Path | None, report: Any, *, overwrite: bool = True) -> None:
    """Write it, if it is wanted."""
    if path is None:
        return
    text = json.dumps(plain(report), indent=2)
    if to_stdout(path):
        say(text)
        return
    write_text(path, text + "\n", overwrite=overwrite)


def plain(value: Any) -> Any:
    """As JSON can hold it: arrays become lists, NaN and infinity become null."""
    if hasattr(value, "items"):
        return {str(name): plain(part) for name, part in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tell_plan(plan: Plan, command: str, *, source: str, target: str, json_file: Path | None) -> None:
    """Print what would be done, as a page or as JSON."""
    write_report(json_file, {"command": command, "source": source, "target": target, **plan.to_dict()})
    if not to_stdout(json_file):
        say(pages.describe_plan(plan, command, source=source, target=target))


def run_report(adata: AnnData, key: str, source: str, target: str, seconds: dict[str, float]) -> dict[str, Any]:
    """Return what `scdae impute` and `scdae apply` did: settings and held-out report of `uns`, files and seconds."""
    run = {name: value for name, value in adata.uns[key].items() if name != "written_by"}
    about = {"source": source, "target": target, "n_obs": adata.n_obs, "n_vars": adata.n_vars, "key_added": key}
    return {**about, **run, "seconds": {step: round(spent, 2) for step, spent in seconds.items()}}


def model_report(model: DAE, source: str, target: str, seconds: dict[str, float]) -> dict[str, Any]:
    """Return what `scdae fit` did."""
    outcome = model.fitted_outcome()
    return {
        "source": source,
        "target": target,
        "version": __version__,
        "n_obs": len(outcome.cells),
        "n_vars": len(outcome.genes),
        "settings": model.config.to_dict(),
        "batches": model.batch_levels,
        "report": {
            "skill": outcome.report.skill,
            "skill_restored": outcome.report.skill_restored,
            "n_genes_helped": int(outcome.report.helped.sum()),
            "held_out": outcome.held_out,
            "n_epochs": outcome.n_epochs,
            "stopped_early": outcome.stopped_early,
        },
        "seconds": {step: round(spent, 2) for step, spent in seconds.items()},
    }
