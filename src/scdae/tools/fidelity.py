"""What becomes of the user's own groups of cells: the part of an evaluation that looks at their markers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.core.evaluation.fidelity import LEAST_CELLS, GroupTally, choose_markers, ratio_interval
from scdae.tools.fidelity_words import SIDES, verdict_of_all, verdict_of_group
from scdae.tools.groups import read_groups

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.tools.crossval import Split

__all__ = ["Groups", "fidelity_entry", "read_judged_groups", "watch_groups"]


@dataclass(frozen=True)
class Groups:
    """Groups of cells, as `obs` names them."""

    groupby: str
    codes: np.ndarray  # int32 (n_obs,): -1 for none
    levels: list[str]

    @property
    def n_without(self) -> int:
        """Number of cells without a group."""
        return int((self.codes < 0).sum())


def read_judged_groups(adata: AnnData, groupby: str | None) -> Groups | None:
    """Return the groups of a column, of which one has to be large enough to be judged; None where none is asked for."""
    if groupby is None:
        return None
    codes, levels = read_groups(adata, groupby)
    size = np.bincount(codes[codes >= 0], minlength=len(levels))
    if size.max() < LEAST_CELLS:
        raise ValueError(
            f"groupby={groupby!r}: none of the {len(levels):,} groups of obs[{groupby!r}] has {LEAST_CELLS} cells, the largest, "
            f"{levels[int(size.argmax())]!r}, has {size.max()}. Their markers cannot be told from chance: name a column with "
            "larger groups."
        )
    return Groups(str(groupby), codes, levels)


def watch_groups(split: Split, groups: Groups) -> GroupTally:
    """Return what looks on while the fitted model is read out."""
    codes = groups.codes[split.cells]
    size = np.bincount(codes[codes >= 0], minlength=len(groups.levels))
    judged = np.flatnonzero(size >= LEAST_CELLS)
    markers = choose_markers(split.data, codes, judged)
    return GroupTally(split.data, split.held_out, split.ratio, codes, judged, markers)


def fidelity_entry(tally: GroupTally, groups: Groups, split: Split, names: np.ndarray) -> dict[str, Any]:
    """Return what goes into `uns`: plain values, and columns of two tables.

    Parameters
    ----------
    tally
        From :func:`watch_groups`, after the read-out.
    groups, split
        What it was made with.
    names
        Of the genes of the data.
    """
    codes = groups.codes[split.cells]
    size = np.bincount(codes[codes >= 0], minlength=len(groups.levels))
    judged = np.flatnonzero(size >= LEAST_CELLS)
    genes = names[split.genes[tally.markers.gene]].astype(str)
    numbers = {name: np.full(len(size), np.nan) for name in _columns(tally)}
    for name, values in _columns(tally).items():
        numbers[name][judged] = values
    markers = [""] * len(size)
    for i, group in enumerate(judged):
        markers[group] = ", ".join(genes[tally.markers.group == i])
    rows = [
        {"group": level, "cells": int(size[i]), "markers": markers[i], **{k: float(v[i]) for k, v in numbers.items()}}
        for i, level in enumerate(groups.levels)
    ]
    verdicts, words = zip(*map(verdict_of_group, rows), strict=True)
    pooled = _pooled(tally)
    return {
        "groupby": groups.groupby,
        "groups": {
            "group": _text(groups.levels),
            "cells": size.astype(np.int64),
            "markers": _text(markers),
            **numbers,
            "verdict": _text(verdicts),
            "words": _text(words),
        },
        "markers": {
            "group": _text(groups.levels[group] for group in judged[tally.markers.group]),
            "gene": _text(genes),
            **_marker_columns(tally),
        },
        "pooled": pooled,
        "cells_without_group": groups.n_without,
        "verdict": verdict_of_all(groups.groupby, groups.levels, verdicts, pooled, groups.n_without),
    }


def _columns(tally: GroupTally) -> dict[str, np.ndarray]:
    """Return the columns of the table of judged groups: float64 (n_judged,) each."""
    columns: dict[str, np.ndarray] = {}
    sums = tally.sums
    seen, restored, decoded = map(tally.by_group, (sums.zeros_seen, sums.zeros_restored, sums.zeros_decoded))
    low, high = ratio_interval(restored, seen, tally.moments)
    has_markers = np.isin(np.arange(seen.shape[1]), tally.markers.group)
    for k, side in enumerate(SIDES):
        columns[f"zeros_{side}"] = _ratio(restored[k], seen[k])
        columns[f"zeros_{side}_low"], columns[f"zeros_{side}_high"] = low[k], high[k]
        columns[f"zeros_{side}_seen"], columns[f"zeros_{side}_predicted"] = seen[k], restored[k]
        columns[f"decoder_zeros_{side}"] = _ratio(decoded[k], seen[k])
    counted, restored, decoded = map(tally.by_group, (sums.counted, sums.restored, sums.decoded))
    for k, side in enumerate(SIDES):
        columns[f"restored_{side}"] = _ratio(restored[k], counted[k])
        columns[f"decoder_{side}"] = _ratio(decoded[k], counted[k])
    columns = {name: np.where(has_markers, values, np.nan) for name, values in columns.items()}
    nearest, n_cells = tally.nearest, tally.n_cells
    unknown = np.full(len(n_cells), np.nan)
    return columns | {
        "nearest_raw": unknown if nearest is None else nearest.own[0] / n_cells,
        "nearest_restored": unknown if nearest is None else nearest.own[1] / n_cells,
        "changed": unknown if nearest is None else nearest.changed / n_cells,
        "left": unknown if nearest is None else nearest.left / n_cells,
    }


def _marker_columns(tally: GroupTally) -> dict[str, np.ndarray]:
    """Return the molecules of each marker per cell, among those shown: float64 (k,) each."""
    sums = tally.sums
    parts = {"raw": sums.counted, "restored": sums.restored, "decoder": sums.decoded}
    return {
        f"{name}_{side}": _ratio(part[k], sums.n_cells[k])
        for name, part in parts.items()
        for k, side in enumerate(SIDES)
    }


def _pooled(tally: GroupTally) -> dict[str, float]:
    """Divide the molecules predicted at zeros of the markers by those counted there, over all groups."""
    sums = tally.sums
    return {
        f"{name}_{side}": float(_ratio(part[k].sum(), sums.zeros_seen[k].sum()))
        for name, part in (("zeros", sums.zeros_restored), ("decoder_zeros", sums.zeros_decoded))
        for k, side in enumerate(SIDES)
    }


def _ratio(part: Any, whole: Any) -> np.ndarray:
    """Divide; infinite where only `whole` is zero, NaN where both are."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    none = np.where(part > 0, np.inf, np.nan)
    return np.divide(part, whole, out=none, where=whole > 0)


def _text(values: Any) -> np.ndarray:
    """Return strings as an array that anndata can store."""
    return np.array([str(value) for value in values], dtype=object)
