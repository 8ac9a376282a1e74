"""Genes on an embedding, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scdae.arguments.numbers import whole_number
from scdae.arguments.objects import check_adata, spelled
from scdae.pl._common import before_and_after, finish, limits, log_per_10k

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["embedding"]

_MAKERS = {
    "umap": "sc.pp.neighbors(adata, use_rep='X_scdae') and sc.tl.umap(adata)",
    "tsne": "sc.tl.tsne(adata, use_rep='X_scdae')",
    "pca": "sc.pp.pca(adata)",
    "draw_graph_fa": "sc.tl.draw_graph(adata)",
    "diffmap": "sc.tl.diffmap(adata)",
}


@spelled
def embedding(
    adata: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    color: str | Sequence[str] | None = None,
    basis: str = "umap",
    key: str = "scdae",
    ncols: int = 1,
    vmin: float | str | None = None,
    vmax: float | str | None = None,
    cmap: str = "viridis",
    size: float | None = None,
    title: str | Sequence[str] | None = None,
    figsize: tuple[float, float] | None = None,
    ax: Sequence[Axes] | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes] | Figure | None:
    """Marker genes on an embedding, before and after, one gene a row.

    Drawn is the log of one plus counts per 10,000 molecules of the cell, on one color scale for each gene. Cells with
    more of the gene lie on top.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on, with ``output`` ``"mean"`` or ``"prior"``.
    genes, color
        Genes to draw; `color` is scanpy's name for the same.
    basis
        Embedding: ``obsm["X_" + basis]`` or ``obsm[basis]``, of which the first two columns are drawn.
    key
        The `key_added` of that call.
    ncols
        Genes in a row of the figure, each with its two panels.
    vmin, vmax
        Ends of the color scale of each gene: numbers, or percentiles of what is drawn, such as ``"p99"``, so that one
        large count does not make all others pale. 0 and the largest value when left out.
    cmap
        Color map.
    size
        Area of a dot, in square points; by the number of cells when left out.
    title
        What to write for each gene above its two panels, before ", before" and ", after"; its name when left out.
    figsize
        Width and height of the figure, in inches.
    ax
        Axes to draw into, two for each gene. A new figure when left out.
    return_fig
        Return the figure, and do not show it.
    show
        Show the figure. By default as ``scanpy.settings.autoshow`` says, unless `ax` or `save` is given.
    save
        File to save the figure to; True: scanpy's folder of figures (``scanpy.settings.figdir``).

    Returns
    -------
    list of Axes, Figure or None
        Two for each gene; the figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When the run, a gene or the embedding is not in `adata`.
    ValueError
        When the layer holds no expected counts, `ax` or `title` has another length, or an end of the scale is no number.
    TypeError
        When no gene is given.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(80, 50)
    >>> scdae.pp.impute(adata, max_epochs=2)
    >>> axes = scdae.pl.embedding(adata, ["gene_1", "gene_2"], basis="X_scdae", show=False)
    >>> len(axes)
    4
    """
    check_adata(adata)
    import matplotlib.pyplot as plt

    if (genes is None) == (color is None):
        raise TypeError("embedding() needs genes to draw: genes=, or color= as scanpy calls it, and not both.")
    wanted = color if genes is None else genes
    genes = [wanted] if isinstance(wanted, str) else list(wanted or ())
    ncols = min(whole_number("ncols", ncols, 1), max(len(genes), 1))
    titles = genes if title is None else [title] if isinstance(title, str) else list(title)
    if len(titles) != len(genes):
        raise ValueError(f"title needs one text a gene: {len(genes)}, got {len(titles)}.")
    coordinates = _embedding(adata, basis)
    raw, restored, total = before_and_after(adata, genes, key)
    raw, restored = log_per_10k(raw, total), log_per_10k(restored, total)
    if ax is None:
        n_rows = -(-len(genes) // ncols)
        figure, drawn = plt.subplots(
            n_rows,
            2 * ncols,
            figsize=figsize or (7 * ncols, 3 * n_rows),
            squeeze=False,
            sharex=True,
            sharey=True,
            layout="constrained",
        )
        axes = list(drawn.ravel())
        for axis in axes[2 * len(genes) :]:
            axis.remove()
        axes = axes[: 2 * len(genes)]
    else:
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != 2 * len(genes):
            raise ValueError(f"ax needs two axes a gene: {2 * len(genes)}, got {len(axes)}.")
        figure = axes[0].figure
    area = float(np.clip(12000 / adata.n_obs, 1, 30)) if size is None else size
    for i in range(len(genes)):
        bottom, top = limits([raw[:, i], restored[:, i]], vmin, vmax)
        for axis, values, when in zip(axes[2 * i : 2 * i + 2], (raw, restored), ("before", "after"), strict=True):
            order = np.argsort(values[:, i], kind="stable")
            dots = axis.scatter(
                *coordinates[order].T,
                c=values[order, i],
                s=area,
                cmap=cmap,
                vmin=bottom,
                vmax=top,
                linewidths=0,
                rasterized=True,
            )
            axis.set_title(f"{titles[i]}, {when}", fontsize="medium")
            axis.set_xticks([])
            axis.set_yticks([])
        figure.colorbar(dots, ax=axes[2 * i : 2 * i + 2], label="log(1 + counts per 10,000)", shrink=0.9)
    return finish(axes, figure, ax is not None, show, save, return_fig, "embedding")


def _embedding(adata: AnnData, basis: str) -> np.ndarray:
    name = f"X_{basis}" if f"X_{basis}" in adata.obsm else basis
    if name not in adata.obsm:
        make = _MAKERS.get(basis.removeprefix("X_"))
        hint = "" if make is None else f" Call {make} first."
        raise KeyError(f"basis={basis!r}: no such embedding in adata.obsm; there are {list(adata.obsm)}.{hint}")
    coordinates = np.asarray(adata.obsm[name], dtype=np.float64)
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        raise ValueError(f"basis={basis!r}: adata.obsm[{name!r}] has less than two columns.")
    return coordinates[:, :2]
