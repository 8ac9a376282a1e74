"""What an evaluation says about a data set, as a list of checks that are fine or to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scdae.get import evaluation, fidelity
from scdae.tools.fidelity_words import KEPT, NOT_JUDGED

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Check", "checks_of"]

_FEW_CELLS = 100
_HONEST = (0.87, 0.93)  # share of counts that 90 % intervals may hold
_WORSE = 0.02  # share of the judged genes that two standard errors give by chance


class Check(NamedTuple):
    """A finding of an evaluation, and whether it is fine."""

    name: str
    fine: bool
    words: str


def checks_of(adata: AnnData, key: str) -> list[Check]:
    """Return the checks of an evaluation under `key`, and of the run of the same name where there is one."""
    entry, methods = adata.uns[f"{key}_evaluation"], evaluation(adata, key)["skill"]
    number = {name: int(count) for name, count in entry["n_genes"].items()}
    judged = sum(number.values()) - number["not_judged"]
    skill, restored, rival = methods.iloc[0], methods.iloc[1], float(methods["low rank"])
    worse = number["gene_mean_is_better"] + number["raw_is_better"]
    checks = [
        Check(
            "Does it help?",
            bool(skill > 0 and number["helped"]),
            f"{np.expm1(skill):.1%} more likely by the other genes of the cell; {number['helped']:,} of {judged:,} genes beyond "
            "chance",
        ),
        Check(
            "Genes that are made worse",
            worse <= _WORSE * max(judged, 1),
            f"{worse:,} of {judged:,} are better described by their mean or left raw; they are named below",
        ),
        Check("Against a low-rank fit", bool(restored >= rival), f"skill {restored:.4f} against {rival:.4f}"),
        Check(
            "Number of cells",
            adata.n_obs >= _FEW_CELLS,
            f"{adata.n_obs:,}" + ("" if adata.n_obs >= _FEW_CELLS else "; hundreds are needed to be of use"),
        ),
    ]
    if entry["calibration_entries"]:
        low, high = _HONEST
        checks.append(
            Check(
                "Are intervals honest?",
                bool(low <= entry["coverage"] <= high),
                f"90 % intervals hold {entry['coverage']:.1%} of {int(entry['calibration_entries']):,} counts set aside",
            )
        )
    return checks + _of_groups(adata, key) + _of_run(adata.uns.get(key))


def _of_groups(adata: AnnData, key: str) -> list[Check]:
    found = adata.uns[f"{key}_evaluation"].get("fidelity")
    if found is None:
        return []
    fine = bool(fidelity(adata, key)["verdict"].isin([KEPT, *NOT_JUDGED]).all())
    return [Check("Do groups of cells come back as they were?", fine, str(found["verdict"]))]


def _of_run(run: Any) -> list[Check]:
    if not isinstance(run, Mapping) or "report" not in run:
        return []
    checks = []
    if "missing" in run:
        numbers = {name: value for name, value in run["missing"].items() if np.ndim(value) == 0}
        words = ", ".join(f"{str(name).replace('_', ' ')}: {float(value):,.4g}" for name, value in numbers.items())
        checks.append(Check("Entries that were not observed", True, words))
    if len(run.get("genes_as_counted", ())):
        names = [str(name) for name in run["genes_as_counted"]]
        more = ", ..." if len(names) > 5 else ""
        checks.append(
            Check(
                "Genes that the model never saw",
                False,
                f"{len(names):,} come back as counted: {', '.join(names[:5])}{more}",
            )
        )
    return checks
