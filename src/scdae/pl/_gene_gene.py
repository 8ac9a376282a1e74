"""Gene against gene, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import get
from scdae.arguments.objects import check_adata, spelled
from scdae.matrices.columns import columns_of
from scdae.outputs.names import quantile_layers
from scdae.pl._colors import colors_of_groups, groups_or_values
from scdae.pl._common import before_and_after, finish, limits, log_per_10k

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["gene_gene"]


@spelled
def gene_gene(
    adata: AnnData,
    x: str,
    y: str,
    *,
    key: str = "scdae",
    color: str | None = None,
    max_cells: int = 300,
    cmap: str = "viridis",
    ax: Sequence[Axes] | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes] | Figure | None:
    """One gene against another, before and after, with the intervals of the restored values.

    Drawn is the log of one plus counts per 10,000 molecules of the cell, before and after on the same axes.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on, with ``output`` ``"mean"`` or ``"prior"``. With ``quantiles=``
        in that call, such as ``(0.05, 0.95)``, the outermost two are drawn as intervals.
    x, y
        The genes.
    key
        The `key_added` of that call.
    color
        Column of ``adata.obs``: groups in the colors of ``uns[color + "_colors"]``, as scanpy's plots have them, or
        numbers on a color scale; or a gene.
    max_cells
        Draw that many cells at most, evenly picked; the title says how many.
    cmap
        Color map of numbers and genes.
    ax
        Two axes to draw into. A new figure when left out.
    return_fig, show, save
        As for :func:`scdae.pl.embedding`.

    Returns
    -------
    list of Axes, Figure or None
        Before and after; the figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When the run, a gene or the column is not in `adata`.
    ValueError
        When the layer holds no expected counts, or `ax` has another number of axes.
    """
    check_adata(adata)
    import matplotlib.pyplot as plt

    is_gene = color is not None and color not in adata.obs and color in adata.var_names
    if color is not None and not is_gene and color not in adata.obs:
        raise KeyError(f"color: {color!r} is neither a gene nor in adata.obs; columns are {list(adata.obs.columns)}.")
    cells = np.arange(adata.n_obs)
    if len(cells) > max_cells:
        cells = cells[np.linspace(0, len(cells) - 1, max_cells).round().astype(int)]
    genes = [x, y, str(color)] if is_gene else [x, y]
    raw, restored, total = before_and_after(adata, genes, key)
    raw, restored = log_per_10k(raw, total)[cells], log_per_10k(restored, total)[cells]
    bars = _intervals(adata, [x, y], key, total, cells, restored)
    if ax is None:
        figure, drawn = plt.subplots(1, 2, figsize=(8, 3.6), sharex=True, sharey=True, layout="constrained")
        axes = list(drawn)
    else:
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != 2:
            raise ValueError(f"ax needs two axes, before and after, got {len(axes)}.")
        figure = axes[0].figure
    some = "" if len(cells) == adata.n_obs else f" ({len(cells):,} of {adata.n_obs:,} cells)"
    groups, numbers = (None, None) if color is None or is_gene else groups_or_values(adata, color)
    for axis, values, title in zip(axes, (raw, restored), ("before", "after"), strict=True):
        ends = bars if title == "after" else None
        shade = values[:, 2] if is_gene else None if numbers is None else numbers[cells]
        if shade is not None:
            dots = _shaded(
                axis, values, ends, shade, cmap, limits([raw[:, 2], restored[:, 2]], None, None) if is_gene else None
            )
        else:
            _grouped(axis, adata, values, ends, color, groups, cells)
        axis.set_title(title + some, fontsize="medium")
        axis.set_xlabel(f"{x}, log(1 + counts per 10,000)")
    axes[0].set_ylabel(f"{y}, log(1 + counts per 10,000)")
    if groups is not None:
        n_columns = -(-len(groups.categories) // 14)
        axes[1].legend(
            title=color,
            fontsize="small",
            markerscale=2,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            ncols=n_columns,
        )
    elif color is not None:
        figure.colorbar(dots, ax=axes, label=f"{color}, log(1 + counts per 10,000)" if is_gene else color)
    return finish(axes, figure, ax is not None, show, save, return_fig, "gene_gene")


_Ends = list[tuple[np.ndarray, np.ndarray]]  # distances to the ends of intervals, below and above, for x and for y


def _grouped(
    axis: Axes,
    adata: AnnData,
    values: np.ndarray,
    ends: _Ends | None,
    color: str | None,
    groups: pd.Categorical | None,
    cells: np.ndarray,
) -> None:
    """Draw cells in the color of their group; those of none are grey."""
    parts: dict[str, tuple[np.ndarray, Any]] = {"cells": (np.ones(len(cells), bool), "C0")}
    if groups is not None and color is not None:
        codes = groups.codes[cells]
        colors = colors_of_groups(adata, color, groups)
        parts = {"none": (codes < 0, "0.8")} if (codes < 0).any() else {}
        parts |= {str(one): (codes == i, colors[one]) for i, one in enumerate(groups.categories)}
    for name, (at, shown) in parts.items():
        if ends is not None:
            _bars(axis, values, ends, at, shown)
        axis.scatter(values[at, 0], values[at, 1], s=9, color=shown, label=name, linewidths=0, zorder=3)


def _shaded(
    axis: Axes, values: np.ndarray, ends: _Ends | None, shade: np.ndarray, cmap: str, scale: tuple[float, float] | None
) -> Any:
    """Draw cells by a number; those without one are grey."""
    known = np.isfinite(shade)
    if ends is not None:
        _bars(axis, values, ends, np.ones(len(shade), bool), "0.6")
    axis.scatter(values[~known, 0], values[~known, 1], s=9, color="0.8", linewidths=0, zorder=3)
    low, high = scale or (None, None)
    return axis.scatter(
        values[known, 0], values[known, 1], s=9, c=shade[known], cmap=cmap, vmin=low, vmax=high, linewidths=0, zorder=3
    )


def _bars(axis: Axes, values: np.ndarray, ends: _Ends, at: np.ndarray, color: Any) -> None:
    (x_low, x_high), (y_low, y_high) = ends
    axis.errorbar(
        values[at, 0],
        values[at, 1],
        xerr=(x_low[at], x_high[at]),
        yerr=(y_low[at], y_high[at]),
        fmt="none",
        ecolor=color,
        elinewidth=0.4,
        alpha=0.35,
    )


def _intervals(
    adata: AnnData, genes: list[str], key: str, total: np.ndarray, cells: np.ndarray, middle: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Distance from the values to the outermost quantiles that were written, below and above, for each gene."""
    chances = np.atleast_1d(adata.uns.get(key, {}).get("quantiles", ()))
    if len(chances) < 2:
        return None
    at = get.positions(adata, genes)
    ends = []
    for chance in (chances.min(), chances.max()):
        (name,) = quantile_layers(key, [float(chance)])
        ends.append(log_per_10k(columns_of(adata.layers[name], at, f"layers[{name!r}]"), total)[cells])
    low, high = ends
    middle = middle[:, :2]
    return [(np.maximum(middle - low, 0)[:, i], np.maximum(high - middle, 0)[:, i]) for i in range(len(genes))]
