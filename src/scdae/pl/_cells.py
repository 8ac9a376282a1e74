"""Genes on an embedding, and gene against gene, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scdae import get
from scdae.arguments.objects import check_adata, spelled
from scdae.matrices.annotation import obs_column
from scdae.matrices.columns import columns_of
from scdae.outputs.names import quantile_layers
from scdae.pl._common import before, finish, log_per_10k

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["embedding", "gene_gene"]

_ON_SCALE = ("mean", "prior")


def embedding(
    adata: AnnData,
    genes: str | Sequence[str],
    *,
    basis: str = "umap",
    key: str = "scdae",
    cmap: str = "viridis",
    size: float | None = None,
    ax: Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes] | None:
    """Marker genes on an embedding, before and after, one gene a row.

    Drawn is the log of one plus counts per 10,000 molecules of the cell, on one color scale for each gene. Cells with
    more of the gene lie on top.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on, with ``output`` ``"mean"`` or ``"prior"``.
    genes
        Genes to draw.
    basis
        Embedding: ``obsm["X_" + basis]`` or ``obsm[basis]``, of which the first two columns are drawn.
    key
        The `key_added` of that call.
    cmap
        Color map.
    size
        Area of a dot, in square points; by the number of cells when left out.
    ax
        Axes to draw into, two for each gene. A new figure when left out.
    show
        Show the figure. By default as ``scanpy.settings.autoshow`` says, unless `ax` or `save` is given.
    save
        File to save the figure to.

    Returns
    -------
    list of Axes or None
        Two for each gene; None once shown.

    Raises
    ------
    KeyError
        When the run, a gene or the embedding is not in `adata`.
    ValueError
        When the layer holds no expected counts, or `ax` has another number of axes.

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

    genes = [genes] if isinstance(genes, str) else list(genes)
    coordinates = _embedding(adata, basis)
    raw, restored, total = _values(adata, genes, key)
    raw, restored = log_per_10k(raw, total), log_per_10k(restored, total)
    if ax is None:
        figure, drawn = plt.subplots(
            len(genes), 2, figsize=(7, 3 * len(genes)), squeeze=False, sharex=True, sharey=True, layout="constrained"
        )
        axes = list(drawn.ravel())
    else:
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != 2 * len(genes):
            raise ValueError(f"ax needs two axes a gene: {2 * len(genes)}, got {len(axes)}.")
        figure = axes[0].figure
    area = float(np.clip(12000 / adata.n_obs, 1, 30)) if size is None else size
    for i, gene in enumerate(genes):
        top = float(np.nanmax([raw[:, i], restored[:, i]])) or 1.0
        for axis, values, title in zip(axes[2 * i : 2 * i + 2], (raw, restored), ("before", "after"), strict=True):
            order = np.argsort(values[:, i], kind="stable")
            dots = axis.scatter(
                *coordinates[order].T,
                c=values[order, i],
                s=area,
                cmap=cmap,
                vmin=0,
                vmax=top,
                linewidths=0,
                rasterized=True,
            )
            axis.set_title(f"{gene}, {title}", fontsize="medium")
            axis.set_xticks([])
            axis.set_yticks([])
        figure.colorbar(dots, ax=axes[2 * i : 2 * i + 2], label="log(1 + counts per 10,000)", shrink=0.9)
    return finish(axes, figure, ax is not None, show, save)


@spelled
def gene_gene(
    adata: AnnData,
    x: str,
    y: str,
    *,
    key: str = "scdae",
    color: str | None = None,
    max_cells: int = 300,
    ax: Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes] | None:
    """One gene against another, before and after, with the intervals of the restored values.

    Drawn is the log of one plus counts per 10,000 molecules of the cell.

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
        Categorical column of ``adata.obs``.
    max_cells
        Draw that many cells at most, evenly picked.
    ax
        Two axes to draw into. A new figure when left out.
    show, save
        As for :func:`scdae.pl.embedding`.

    Returns
    -------
    list of Axes or None
        Before and after; None once shown.

    Raises
    ------
    KeyError
        When the run, a gene or the column is not in `adata`.
    ValueError
        When the layer holds no expected counts, or `ax` has another number of axes.
    """
    check_adata(adata)
    import matplotlib.pyplot as plt

    if color is not None and color not in adata.obs:
        raise KeyError(f"color: no column {color!r} in adata.obs; there are {list(adata.obs.columns)}.")
    cells = np.arange(adata.n_obs)
    if len(cells) > max_cells:
        cells = cells[np.linspace(0, len(cells) - 1, max_cells).round().astype(int)]
    raw, restored, total = _values(adata, [x, y], key)
    raw, restored = log_per_10k(raw, total)[cells], log_per_10k(restored, total)[cells]
    bars = _intervals(adata, [x, y], key, total, cells, restored)
    if ax is None:
        figure, drawn = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
        axes = list(drawn)
    else:
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != 2:
            raise ValueError(f"ax needs two axes, before and after, got {len(axes)}.")
        figure = axes[0].figure
    labels = None if color is None else obs_column(adata, color).astype(str).to_numpy()[cells]
    for axis, values, title in zip(axes, (raw, restored), ("before", "after"), strict=True):
        for i, name in enumerate(["cells"] if labels is None else sorted(set(labels))):
            at = np.ones(len(cells), bool) if labels is None else labels == name
            if title == "after" and bars is not None:
                (x_low, x_high), (y_low, y_high) = bars
                axis.errorbar(
                    *values[at].T,
                    xerr=(x_low[at], x_high[at]),
                    yerr=(y_low[at], y_high[at]),
                    fmt="none",
                    ecolor=f"C{i % 10}",
                    elinewidth=0.4,
                    alpha=0.35,
                )
            axis.scatter(*values[at].T, s=9, color=f"C{i % 10}", label=name, linewidths=0, zorder=3)
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel(f"{x}, log(1 + counts per 10,000)")
        axis.set_ylabel(f"{y}, log(1 + counts per 10,000)")
    if labels is not None:
        axes[1].legend(title=color, fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return finish(axes, figure, ax is not None, show, save)


def _embedding(adata: AnnData, basis: str) -> np.ndarray:
    name = f"X_{basis}" if f"X_{basis}" in adata.obsm else basis
    if name not in adata.obsm:
        raise KeyError(f"basis={basis!r}: no such embedding in adata.obsm; there are {list(adata.obsm)}.")
    coordinates = np.asarray(adata.obsm[name], dtype=np.float64)
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        raise ValueError(f"basis={basis!r}: adata.obsm[{name!r}] has less than two columns.")
    return coordinates[:, :2]


def _values(adata: AnnData, genes: list[str], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts and restored counts of the genes, and the total of each cell."""
    restored = get.imputed(adata, key, genes).to_numpy(np.float64)
    output = adata.uns.get(key, {}).get("output", "mean")
    if output not in _ON_SCALE:
        raise ValueError(
            f"This plot draws expected counts, but adata.layers[{key!r}] holds output={output!r}. Call scdae.pp.impute with "
            f"output=('mean', {output!r}), which writes both."
        )
    counts, total = before(adata, key, get.positions(adata, genes))
    return counts, restored, total


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
    return [(np.maximum(middle - low, 0)[:, i], np.maximum(high - middle, 0)[:, i]) for i in range(len(genes))]
