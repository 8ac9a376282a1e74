"""Heat maps of genes before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scdae import get
from scdae.arguments.objects import check_adata, spelled
from scdae.matrices.annotation import frame_of, obs_column
from scdae.matrices.columns import columns_of, totals_of
from scdae.pl._common import before, finish, limits, log_per_10k, run_on_scale

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["before_after"]


@spelled
def before_after(
    adata: AnnData,
    genes: str | Sequence[str],
    *,
    key: str = "scdae",
    groupby: str | Sequence[str] | None = None,
    truth: str | None = None,
    max_cells: int = 1000,
    group_width: str = "equal",
    vmin: float | str | None = None,
    vmax: float | str | None = None,
    cmap: str = "viridis",
    figsize: tuple[float, float] | None = None,
    ax: Sequence[Axes] | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes] | Figure | None:
    """Heat maps of some genes before and after, on one color scale.

    Drawn is the log of one plus counts per 10,000 molecules of the cell, cells from left to right.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on, with ``output`` ``"mean"``, ``"prior"`` or ``"rate"``.
    genes
        Genes to draw, from top to bottom.
    key
        The `key_added` of that call.
    groupby
        Column of ``adata.obs`` to sort the cells by, or several, the first one first. Where the first one is
        categorical, its groups are separated and named.
    truth
        Layer with the true expected counts, drawn as a third panel (`scdae.datasets.simulate` writes ``"truth"``).
    max_cells
        Draw that many cells at most, evenly picked after sorting, from each group where these have equal widths.
    group_width
        ``"equal"``: each group has the same share of the width, so that its cells are wider where it has fewer of them;
        ``"cells"``: each cell has.
    vmin, vmax
        Ends of the color scale: numbers, or percentiles of what is drawn, such as ``"p99"``. 0 and the largest value when
        left out.
    cmap
        Color map.
    figsize
        Width and height of the figure, in inches.
    ax
        Axes to draw into, one a panel. A new figure when left out.
    return_fig
        Return the figure, and do not show it.
    show
        Show the figure. By default as ``scanpy.settings.autoshow`` says, unless `ax` or `save` is given.
    save
        File to save the figure to; True: scanpy's folder of figures (``scanpy.settings.figdir``).

    Returns
    -------
    list of Axes, Figure or None
        The panels; the figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When the run, a gene, the layer or a column is not in `adata`.
    ValueError
        When the layer holds something that has no scale in common with counts, or `ax` has another number of axes.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(80, 50)
    >>> scdae.pp.impute(adata, max_epochs=2)
    >>> panels = scdae.pl.before_after(adata, ["gene_1", "gene_2"], groupby="cell_type", truth="truth", show=False)
    >>> len(panels)
    3
    """
    check_adata(adata)
    import matplotlib.pyplot as plt

    genes = [genes] if isinstance(genes, str) else list(genes)
    columns = [] if groupby is None else [groupby] if isinstance(groupby, str) else list(groupby)
    if group_width not in ("equal", "cells"):
        raise ValueError(f"group_width={group_width!r}: choose 'equal' or 'cells'.")
    order = _cell_order(adata, columns, max_cells, equal=group_width == "equal")
    panels = _panels(adata, genes, key, truth, order)
    bottom, top = limits(list(panels.values()), vmin, vmax)

    if ax is None:
        height = max(1.2 + 0.18 * min(len(genes), 40), 2.4)  # the color bar has a long label
        figure, drawn = plt.subplots(
            1, len(panels), figsize=figsize or (1 + 4 * len(panels), height), sharey=True, layout="constrained"
        )
        axes = list(np.atleast_1d(drawn))
    else:
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != len(panels):
            raise ValueError(f"ax needs one axes a panel: {len(panels)} ({', '.join(panels)}), got {len(axes)}.")
        figure = axes[0].figure

    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(
            values.T, aspect="auto", interpolation="nearest", cmap=cmap, vmin=bottom, vmax=top, rasterized=True
        )
        axis.set_title(title)
        axis.set_xticks([])
        _mark_groups(axis, adata, columns, order)
    if len(genes) <= 40:
        axes[0].set_yticks(range(len(genes)), labels=genes, fontsize="small")
    else:
        axes[0].set_ylabel(f"{len(genes)} genes")
        axes[0].set_yticks([])
    figure.colorbar(image, ax=axes, label="log(1 + counts per 10,000)", shrink=0.9)
    return finish(axes, figure, ax is not None, show, save, return_fig, "before_after")


def _cell_order(adata: AnnData, columns: list[str], max_cells: int, *, equal: bool) -> np.ndarray:
    """Positions of the cells to draw, sorted by columns and thinned out evenly; repeated where groups have equal widths."""
    missing = [name for name in columns if name not in adata.obs]
    if missing:
        raise KeyError(f"groupby: no column {missing[0]!r} in adata.obs; there are {list(adata.obs.columns)}.")
    order = np.arange(adata.n_obs)
    if columns:
        table = frame_of(adata.obs[columns]).reset_index(drop=True)
        order = table.sort_values(columns, kind="stable").index.to_numpy()
    groups = obs_column(adata, columns[0]) if columns and equal else None
    if groups is not None and isinstance(groups.dtype, pd.CategoricalDtype):
        codes = groups.cat.codes.to_numpy()[order]
        parts = [order[codes == code] for code in dict.fromkeys(codes)]
        width = max(1, min(max(map(len, parts)), max_cells // len(parts)))
        return np.concatenate([part[(np.arange(width) * len(part)) // width] for part in parts])
    if len(order) > max_cells:
        order = order[np.linspace(0, len(order) - 1, max_cells).round().astype(int)]
    return order


def _panels(adata: AnnData, genes: list[str], key: str, truth: str | None, order: np.ndarray) -> dict[str, np.ndarray]:
    """Log-normalized values of the chosen genes and cells, by panel title."""
    at = get.positions(adata, genes)
    restored = get.imputed(adata, key, genes).to_numpy()
    run, output = run_on_scale(adata, key, ("mean", "prior", "rate"), "before_after")
    counts, size = before(adata, run, at)
    panels = {
        "before (counts)": log_per_10k(counts, size),
        "after (restored)": np.log1p(1e4 * restored) if output == "rate" else log_per_10k(restored, size),
    }
    if truth is not None:
        if truth not in adata.layers:
            raise KeyError(f"truth: no layer {truth!r} in adata.layers; there are {list(adata.layers)}.")
        expected = adata.layers[truth]
        slot = f"layers[{truth!r}]"
        panels["truth"] = log_per_10k(columns_of(expected, at, slot), totals_of(expected, slot))
    return {title: values[order] for title, values in panels.items()}


def _mark_groups(axis: Axes, adata: AnnData, columns: list[str], order: np.ndarray) -> None:
    """Separate and name the groups of a categorical first column."""
    labels = obs_column(adata, columns[0]) if columns else None
    if labels is None or not isinstance(labels.dtype, pd.CategoricalDtype):
        axis.set_xlabel(f"cells, by {columns[0]}" if columns else "cells")
        return
    codes = labels.cat.codes.to_numpy()[order]
    edges = np.flatnonzero(np.diff(codes)) + 1
    for edge in edges:
        axis.axvline(edge - 0.5, color="white", linewidth=0.8)
    bounds = np.concatenate([[0], edges, [len(order)]])
    names = ["none" if code < 0 else labels.cat.categories[code] for code in codes[bounds[:-1]]]
    axis.set_xticks((bounds[:-1] + bounds[1:] - 1) / 2, labels=names, fontsize="small", rotation=30, ha="right")
    axis.tick_params(axis="x", length=0)
