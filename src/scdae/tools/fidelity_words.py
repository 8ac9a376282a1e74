"""Verdicts on groups of cells, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scdae.arguments.objects import listed
from scdae.core.evaluation.fidelity import LEAST_CELLS
from scdae.core.evaluation.report import ENOUGH

__all__ = ["KEPT", "SIDES", "verdict_of_all", "verdict_of_group"]

SIDES = ("in", "out")
KEPT = "kept"
TOO_FEW_CELLS, NO_MARKERS, TOO_FEW = "too few cells", "no markers", "too few molecules"
NOT_JUDGED = (TOO_FEW_CELLS, NO_MARKERS, TOO_FEW)
_OFF = 1.25  # fold that is worth a word, if it is beyond chance
_WIDE = 1.5  # fold that an interval has to exclude before a ratio is called right
_LEARNT = 2 / 3  # of the markers' molecules that the decoder keeps by itself
_LEFT, _FEW = 0.1, 3  # share of the cells that look like another group afterwards, and least number


def verdict_of_group(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a verdict of a few words, and the sentence that explains it."""
    start = f"{row['group']}: {_cells(row['cells'])}"
    if row["cells"] < LEAST_CELLS:
        return TOO_FEW_CELLS, f"{start}, too few to judge by (less than {LEAST_CELLS})."
    if not row["markers"]:
        return (
            NO_MARKERS,
            f"{start}; no gene is higher in them than in the others beyond chance, so that nothing marks them.",
        )
    inside, outside = (_state(row, side) for side in SIDES)
    parts = [_level(row), _filling(row, inside), _leak(row, outside)]
    moved = row["left"] >= _LEFT and round(row["left"] * row["cells"]) >= _FEW
    if moved:
        parts.append(f"{round(row['left'] * row['cells']):,} of the cells look most like another group once restored")
    sentence = f"{start}, {', '.join(part for part in parts if part)}."
    reasons = [
        ("smoothed away", row["restored_in"] < 1 / _OFF),
        ("hardly learned", row["decoder_in"] < _LEARNT),
        ("leaks", outside == "high"),
        ("filled too little", inside == "low"),
        ("filled too much", inside == "high"),
        ("cells move", moved),
        (TOO_FEW, outside == "unknown"),
    ]
    return next((name for name, is_so in reasons if is_so), KEPT), sentence


def verdict_of_all(
    groupby: str, levels: Sequence[str], verdicts: Sequence[str], pooled: Mapping[str, float], n_without: int
) -> str:
    """Return the paragraph that sums up all groups."""
    judged = [name for name in verdicts if name not in (TOO_FEW_CELLS, NO_MARKERS)]
    kept = sum(name == KEPT for name in judged)
    if not judged:
        return f"Nothing can be said of the groups of obs[{groupby!r}]: no gene marks any of them beyond chance."
    words = [_come(kept, len(judged), f"obs[{groupby!r}]") + " back as counted, without a leak into other cells."]
    for verdict in dict.fromkeys(verdicts):
        if verdict != KEPT:
            names = [level for level, one in zip(levels, verdicts, strict=True) if one == verdict]
            words.append(f"{_CAPITAL.get(verdict, verdict.capitalize())}: {listed(names)}.")
    numbers = [pooled[f"zeros_{side}"] for side in SIDES]
    if all(map(np.isfinite, numbers)):
        words.append(
            f"Where a marker was not seen, {numbers[0]:.2f} times the molecules set aside were predicted inside the groups and "
            f"{numbers[1]:.2f} times outside them (1 is right)."
        )
    if n_without:
        words.append(f"{_cells(n_without).capitalize()} in no group {'is' if n_without == 1 else 'are'} left out.")
    return " ".join(words)


_CAPITAL = {
    TOO_FEW_CELLS: f"Too few cells to judge by (less than {LEAST_CELLS})",
    NO_MARKERS: "Without a gene that marks them",
    TOO_FEW: "Too few molecules to say",
    "leaks": "Leaks into other cells",
    "hardly learned": "Hardly learned, so that counts come back much as they were",
    "cells move": "Cells look like another group once restored",
}


def _state(row: Mapping[str, Any], side: str) -> str:
    """Return whether what is predicted at zeros is right, too high, too low, or not known."""
    ratio, low, high = (row[f"zeros_{side}{end}"] for end in ("", "_low", "_high"))
    if max(row[f"zeros_{side}_seen"], row[f"zeros_{side}_predicted"]) < ENOUGH:
        return "unknown"
    if ratio > _OFF and low > 1:
        return "high"
    if ratio < 1 / _OFF and high < 1:
        return "low"
    return "right" if low > 1 / _WIDE and high < _WIDE else "unknown"


def _level(row: Mapping[str, Any]) -> str:
    words = f"markers restored to {row['restored_in']:.2f} of raw"
    if not 1 / _OFF <= row["decoder_in"] <= _OFF:
        words += f" (to {row['decoder_in']:.2f} without the cells' own counts of them)"
    return words


def _filling(row: Mapping[str, Any], state: str) -> str:
    if state == "right" or max(row["zeros_in_seen"], row["zeros_in_predicted"]) < 1:  # or there are no zeros
        return ""
    if state == "unknown":
        return f"too few molecules ({row['zeros_in_seen']:,.0f}) to say how well their zeros are filled"
    return f"their zeros filled too {'little' if state == 'low' else 'much'} ({_number(row, 'in')})"


def _leak(row: Mapping[str, Any], state: str) -> str:
    if state == "high":
        return f"and they leak into other cells ({_number(row, 'out')})"
    if state == "low":
        return f"and too little of them is predicted in other cells ({_number(row, 'out')})"
    if state == "unknown":
        return f"too few molecules in other cells ({row['zeros_out_seen']:,.0f}) to say whether they leak"
    return "nothing leaks"


def _number(row: Mapping[str, Any], side: str) -> str:
    if not row[f"zeros_{side}_seen"]:
        return f"{row[f'zeros_{side}_predicted']:,.0f} molecules predicted, none seen"
    return (
        f"{row[f'zeros_{side}']:.2f} times the {row[f'zeros_{side}_seen']:,.0f} molecules set aside, "
        f"{row[f'zeros_{side}_low']:.2f} to {row[f'zeros_{side}_high']:.2f}"
    )


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number:,} cells"


def _come(number: int, of: int, where: str) -> str:
    if of == 1:
        return f"The only group with markers in {where} {'comes' if number else 'does not come'}"
    if number in (0, of):
        return f"All {of:,} groups in {where} come" if number else f"None of the {of:,} groups in {where} comes"
    return f"{number:,} of {of:,} groups in {where} {'comes' if number == 1 else 'come'}"
