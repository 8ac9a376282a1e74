"""What became of groups of cells, as `scdae.tl.evaluate` measured it with `groupby`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import get
from scdae.arguments.objects import check_adata, spelled
from scdae.core.evaluation.report import ENOUGH
from scdae.pl._common import finish, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fidelity"]

_FAR = 12.0  # fold at which points are drawn at the edge
_RATIOS = {  # drawn above one another in the row of a group
    "zeros_in": ("zeros of its markers, inside", "tab:blue", "o"),
    "zeros_out": ("zeros of its markers, outside (above 1: leaks)", "tab:red", "s"),
    "decoder_in": ("decoder over raw, inside", "0.45", "D"),
}
_APART = 0.22  # of the rows of one group


@spelled
def fidelity(
    adata: AnnData,
    *,
    key: str = "scdae",
    max_groups: int = 60,
    ax: Axes | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes | Figure | None:
    """Do groups of cells come back as they were counted? One row a group; 1 is right.

    Drawn are, over the markers of each group, molecules predicted over molecules seen at entries that were zero among
    the molecules shown, inside the group and outside it, with 90 % intervals, and what the decoder alone expects over
    what was counted. In the shaded band, up to a fourth off, all is well. Hollow points rest on less than ten
    molecules, and say little.

    Parameters
    ----------
    adata, key
        Object that `scdae.tl.evaluate` has been called on with `groupby`, and the `key` of that call.
    max_groups
        Draw that many groups at most, those whose ratios are farthest from 1.
    ax, return_fig, show, save
        As for :func:`scdae.pl.gain`.

    Returns
    -------
    Axes, Figure or None
        The figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When there is no evaluation of groups under that key.
    ValueError
        When no group could be judged, or `max_groups` is below 1.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(80, 50)
    >>> scdae.tl.evaluate(adata, groupby="cell_type", max_epochs=2)
    >>> axis = scdae.pl.fidelity(adata, show=False)
    >>> axis.get_xlabel()
    'ratio (1 is right)'
    """
    check_adata(adata)
    if not max_groups >= 1:
        raise ValueError(f"max_groups={max_groups!r}: draw at least one.")
    table = get.fidelity(adata, key)
    drawn, n_judged = _chosen(table, max_groups)
    if not n_judged:
        raise ValueError(
            f"adata.uns[{f'{key}_evaluation'!r}]: no group could be judged. scdae.get.fidelity(adata)['words'] says why."
        )
    rows = len(drawn)
    axis = new_axes(ax, (7.5, 1.3 + (0.32 if rows > 25 else 0.45) * rows))
    heights = np.arange(rows)[::-1]
    for height in heights[::2]:
        axis.axhspan(height - 0.5, height + 0.5, color="0.97", zorder=-1)
    axis.axvspan(0.8, 1.25, color="tab:green", alpha=0.12, linewidth=0, zorder=0)
    axis.axvline(1, color="black", linewidth=0.8, zorder=1)
    drawn_hollow = [
        _draw_ratio(axis, drawn, name, heights + _APART * (1 - i), 5 if rows <= 25 else 3.5)
        for i, name in enumerate(_RATIOS)
    ]
    axis.set_xscale("log")
    axis.set_xlim(1 / (1.15 * _FAR), 1.15 * _FAR)
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(-0.6, rows - 0.4)
    names = [f"{name} ({cells:,})" for name, cells in zip(drawn.index, drawn["cells"], strict=True)]
    axis.set_yticks(heights, names, fontsize="medium" if rows <= 25 else "small")
    some = "" if rows == n_judged else f"\nthe {rows:,} of {n_judged:,} groups that are farthest from 1"
    axis.set_xlabel(f"ratio (1 is right){some}")
    axis.legend(
        title=f"hollow: less than {ENOUGH} molecules to tell by" if any(drawn_hollow) else None,
        fontsize="small",
        title_fontsize="small",
        alignment="left",
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    return finish(axis, axis.figure, ax is not None, show, save, return_fig, "fidelity")


def _draw_ratio(axis: Any, drawn: pd.DataFrame, name: str, heights: np.ndarray, size: float) -> bool:
    """Draw a ratio of all groups with its interval; whether some are hollow, for they have too few molecules."""
    label, color, marker = _RATIOS[name]
    ratio = _within(drawn[name].to_numpy(np.float64))
    known, look = np.isfinite(ratio), {"color": color, "markersize": size}
    ends = None
    if f"{name}_low" in drawn:
        low, high = (_within(drawn[f"{name}_{end}"].to_numpy(np.float64)) for end in ("low", "high"))
        ends = np.maximum([ratio - low, high - ratio], 0)[:, known]
    axis.errorbar(
        ratio[known], heights[known], xerr=ends, fmt=marker, elinewidth=1, linestyle="none", label=label, **look
    )
    if ends is None:
        return False
    few = known & _few(drawn, name)
    axis.plot(ratio[few], heights[few], marker, markerfacecolor="white", zorder=5, **look)
    return bool(few.any())


def _chosen(table: pd.DataFrame, most: int) -> tuple[pd.DataFrame, int]:
    """Groups to draw, in their order, and how many could be judged."""
    known = table[np.isfinite(_within(table[list(_RATIOS)].to_numpy(np.float64))).any(axis=1)]
    off = np.nan_to_num(np.abs(np.log(_within(known[list(_RATIOS)].to_numpy(np.float64)))))
    off[:, 0][_few(known, "zeros_in")] = 0
    off[:, 1][_few(known, "zeros_out")] = 0
    off = off.max(axis=1, initial=0)
    return known.iloc[np.sort(np.argsort(-off, kind="stable")[:most])], len(known)


def _few(table: pd.DataFrame, name: str) -> np.ndarray:
    """Groups of which there are too few molecules to tell a ratio by."""
    return table[[f"{name}_seen", f"{name}_predicted"]].max(axis=1).to_numpy() < ENOUGH


def _within(ratio: np.ndarray) -> np.ndarray:
    """Ratios that are far off at the edge of what is drawn."""
    return np.clip(ratio, 1 / _FAR, _FAR)
