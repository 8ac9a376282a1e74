"""Dot plot of restored genes by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np

from scdae import get
from scdae.arguments.objects import check_adata
from scdae.matrices.annotation import frame_of
from scdae.matrices.columns import totals_of
from scdae.outputs.names import run_of_layer
from scdae.pl._common import before, finish, log_per_10k

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["dotplot"]


def dotplot(
    adata: AnnData,
    genes: str | Sequence[str] | Mapping[str, str | Sequence[str]],
    groupby: str | Sequence[str],
    *,
    key: str = "scdae",
    output: str | None = None,
    expression_cutoff: float = 0.5,
    standard_scale: str | None = "var",
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    **scanpy: Any,
) -> dict[str, Axes] | Figure | None:
    """Restored genes by group, as scanpy's dot plot, on a scale on which it says something.

    No restored value is 0, so ``sc.pl.dotplot(layer="scdae")`` draws every dot at 100 %, and its colors are those of the
    genes with the highest counts. Here values are the log of one plus counts per 10,000 molecules of the cell, a cell
    counts as one that expresses a gene above `expression_cutoff`, and each gene has a color scale of its own.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on, with any ``output`` but ``"sd"``.
    genes
        Genes, from left to right; a mapping of names to genes, such as markers by cell type, has brackets over them.
    groupby
        Column of ``adata.obs`` with the groups, or several.
    key
        The `key_added` of that call.
    output
        Which of several outputs, such as ``"log1p"`` of a call with ``output=("mean", "log1p")``; the first when left
        out.
    expression_cutoff
        Log of one plus counts per 10,000 above which a cell is counted by the size of the dot.
    standard_scale
        ``"var"``: the color of each gene goes from its lowest group to its highest; ``"group"``; None for values as they
        are.
    return_fig
        Return the figure, and do not show it.
    show
        Show the figure. By default as ``scanpy.settings.autoshow`` says, unless `save` is given.
    save
        File to save the figure to; True: scanpy's folder of figures (``scanpy.settings.figdir``).
    **scanpy
        Further arguments of :func:`scanpy.pl.dotplot`, such as ``dendrogram=True`` or ``swap_axes=True``.

    Returns
    -------
    dict of Axes, Figure or None
        Scanpy's axes by their names; the figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When the run, the output, a gene or the column is not in `adata`.
    TypeError
        When scanpy's `layer` or `use_raw` is given: what is drawn is what `key` and `output` say.
    ValueError
        When the layer holds standard deviations.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(200, 100)
    >>> scdae.pp.impute(adata, max_epochs=2)
    >>> axes = scdae.pl.dotplot(adata, ["gene_1", "gene_2"], "cell_type", show=False)
    >>> "mainplot_ax" in axes
    True
    """
    check_adata(adata)
    import scanpy as sc

    if taken := [name for name in ("layer", "use_raw") if name in scanpy]:
        raise TypeError(
            f"{taken[0]}={scanpy[taken[0]]!r}: scdae.pl.dotplot draws restored counts, of the run that key= names; output='log1p' "
            "takes that one of its layers. Counts and other layers are for scanpy.pl.dotplot."
        )
    columns = [groupby] if isinstance(groupby, str) else list(groupby)
    missing = [name for name in columns if name not in adata.obs]
    if missing:
        raise KeyError(f"groupby: no column {missing[0]!r} in adata.obs; there are {list(adata.obs.columns)}.")
    if isinstance(genes, str):
        genes = [genes]
    lists = [genes] if not isinstance(genes, Mapping) else genes.values()
    names = list(dict.fromkeys(name for part in lists for name in ([part] if isinstance(part, str) else part)))
    obs = frame_of(adata.obs[columns]).copy()
    for column in columns:
        if str(obs[column].dtype) != "category":
            obs[column] = obs[column].astype(str).astype("category")
        obs[column] = obs[column].cat.remove_unused_categories()  # of which scanpy has no row
    part = anndata.AnnData(_logs(adata, names, key, output), obs=obs)
    part.var_names = names
    scanpy = {"size_title": f"Fraction of cells\nabove {expression_cutoff:g} (%)", **scanpy}
    titles = {name: scanpy.pop(name) for name in ("size_title", "colorbar_title") if name in scanpy}
    titles.setdefault(
        "colorbar_title", "Restored,\nby gene" if standard_scale == "var" else "Restored,\nlog per 10,000"
    )
    drawn = sc.pl.dotplot(
        part,
        dict(genes) if isinstance(genes, Mapping) else names,
        columns[0] if len(columns) == 1 else columns,
        expression_cutoff=expression_cutoff,
        standard_scale=standard_scale,
        show=False,
        return_fig=True,
        **titles,
        **scanpy,
    )
    drawn.make_figure()
    return finish(drawn.get_axes(), drawn.fig, False, show, save, return_fig, "dotplot")


def _logs(adata: AnnData, genes: list[str], key: str, wanted: str | None) -> np.ndarray:
    """Restored values of the genes as the log of one plus counts per 10,000, float32 (n_obs, n_genes)."""
    restored = get.imputed(adata, key, genes, output=wanted).to_numpy(np.float64)
    run, first = run_of_layer(adata.uns, key)
    output = wanted or first
    layer = key if output == first else f"{key}_{output}"
    if output == "sd":
        raise ValueError(
            f"dotplot draws expression, but adata.layers[{layer!r}] holds standard deviations (output='sd'). Call "
            "scdae.pp.impute with output='mean' or 'log1p' (another key_added keeps both)."
        )
    if output == "rate":
        restored = np.log1p(1e4 * restored)
    elif output in ("mean", "prior"):
        restored = log_per_10k(restored, _sizes(adata, run, layer, genes))
    return restored.astype(np.float32)


def _sizes(adata: AnnData, run: str, layer: str, genes: list[str]) -> np.ndarray:
    """Molecules of each cell: those counted, or of the restored counts where the counts are not here."""
    try:
        return before(adata, run, get.positions(adata, genes[:1]))[1]
    except KeyError:
        return totals_of(adata.layers[layer], f"layers[{layer!r}]")
