"""The demonstration: simulated cells with known truth, before and after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import datasets, metrics, pl, pp
from scdae.io.write import write_atomic

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["compare", "run"]

_KEY = "scdae"


def run(
    folder: str | os.PathLike[str] = "demo_output",
    *,
    n_cells: int = 3000,
    n_genes: int = 2000,
    seed: int = 0,
    max_epochs: int | None = None,
) -> dict[str, Any]:
    """Simulate cells with known truth, restore their counts, and measure how much closer to the truth they came.

    Parameters
    ----------
    folder
        Where ``demo.h5ad`` and ``demo.png`` are written. Made when it is not there; older files of these names are
        replaced.
    n_cells, n_genes
        Size of the simulation.
    seed
        Seed of the simulation and of the training.
    max_epochs
        Passed on to `scdae.pp.impute`; its default when left out.

    Returns
    -------
    dict
        The measurements of `compare`, the paths under ``"h5ad"`` and ``"png"``, and under ``"text"`` all of it in
        words.

    Examples
    --------
    >>> import scdae.demo, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = scdae.demo.run(folder, n_cells=200, n_genes=100, max_epochs=2)
    >>> sorted(result)[:3]
    ['correlation_raw', 'correlation_restored', 'error_average']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    adata = datasets.simulate(n_cells, n_genes, seed=seed)
    pp.impute(adata, key_added=_KEY, seed=seed, max_epochs=max_epochs)

    result = compare(adata)
    result["h5ad"] = str(folder / "demo.h5ad")
    result["png"] = str(folder / "demo.png")
    write_atomic(adata, result["h5ad"], overwrite=True)
    _draw(adata, result["png"])
    result["text"] = _in_words(adata, result)
    return result


def compare(adata: AnnData, key: str = _KEY, truth: str = "truth") -> dict[str, Any]:
    """Measure raw and restored counts of a simulation against its truth.

    Errors and correlations are of the log of one plus counts per 10,000 molecules of the cell, so that depth, which
    is no news, does not count.

    Parameters
    ----------
    adata
        What `scdae.datasets.simulate` returned, after `scdae.pp.impute`.
    key
        The `key_added` of that call.
    truth
        Layer with the true expected counts.

    Returns
    -------
    dict of float
        ``error_raw``, ``error_average``, ``error_restored``
            Root mean squared error over all entries; ``average`` is the prediction that gives every cell the average
            profile of all. Over the marker genes alone with ``marker_`` in front.
        ``correlation_raw``, ``correlation_restored``
            Median over genes of the correlation with the truth over cells; over the marker genes alone with ``marker_``
            in front. (An average profile does not vary, so it has none.)
        ``genes_closer``, ``genes_closer_than_average``
            Number of genes whose error is smaller than that of the raw counts, and of the average.
        ``zeros``
            Share of the raw entries that are zero.
        ``skill``
            By how much held-out molecules were likelier than by the gene averages, in nats per molecule, as the run
            itself reported it.
    """
    counts = adata.X.toarray()
    target = metrics.log_normalize(adata.layers[truth])
    candidates = {"raw": counts, "average": metrics.gene_mean(counts), "restored": np.asarray(adata.layers[key])}
    marker = adata.var["marker"].to_numpy()
    result: dict[str, Any] = {}
    by_gene = {}
    for name, values in candidates.items():
        scaled = metrics.log_normalize(values)
        by_gene[name] = metrics.rmse(scaled, target, axis=0)
        result[f"error_{name}"] = float(metrics.rmse(scaled, target))
        result[f"marker_error_{name}"] = float(metrics.rmse(scaled[:, marker], target[:, marker]))
        if name != "average":
            correlation = metrics.gene_correlation(scaled, target)
            result[f"correlation_{name}"] = float(np.nanmedian(correlation))
            result[f"marker_correlation_{name}"] = float(np.nanmedian(correlation[marker]))
    result["genes_closer"] = int((by_gene["restored"] < by_gene["raw"]).sum())
    result["genes_closer_than_average"] = int((by_gene["restored"] < by_gene["average"]).sum())
    result["zeros"] = float((counts == 0).mean())
    result["skill"] = float(adata.uns[key]["report"]["skill"])
    return result


def _in_words(adata: AnnData, result: dict[str, Any]) -> str:
    """Say what was measured, for a reader who sees such data for the first time."""
    r = result
    path = ", two of them joined by a continuous path" if adata.obs["pseudotime"].notna().any() else ""
    return f"""\
scdae demo: {adata.n_obs:,} simulated cells x {adata.n_vars:,} genes, and the truth to compare with.

The data: {adata.obs["cell_type"].nunique()} cell types{path}, in {adata.obs["batch"].nunique()} batches.
Sequencing catches few of a cell's molecules: {r["zeros"]:.0%} of all counts are zero. The truth is the expected
count of every gene in every cell before that loss. scdae saw the counts, never the truth.

Restored counts are {_times(r["error_raw"] / r["error_restored"])} the truth than the raw ones. In the genes that mark a cell type
or the path, they are {_times(r["marker_error_average"] / r["marker_error_restored"])} it than an average over all cells would be.

                                                          raw     average    restored
                                                       counts     profile      counts
  distance from the truth: all genes               {r["error_raw"]:10.2f}  {r["error_average"]:10.2f}  {r["error_restored"]:10.2f}
  distance from the truth: marker genes            {r["marker_error_raw"]:10.2f}  {r["marker_error_average"]:10.2f}  {r["marker_error_restored"]:10.2f}
  correlation with the truth: all genes            {r["correlation_raw"]:10.2f}        none  {r["correlation_restored"]:10.2f}
  correlation with the truth: marker genes         {r["marker_correlation_raw"]:10.2f}        none  {r["marker_correlation_restored"]:10.2f}

  Distance: 0 is perfect (root mean square, log scale, depth taken out). Correlation: over the cells,
  for the middle gene of all; 1 is perfect. "Average profile" gives every cell the same profile: hard to
  beat in genes that hardly differ between cells, since averages have no noise, and blind in all others.
  Genes closer to the truth than their raw counts: {r["genes_closer"]:,} of {adata.n_vars:,}; than their average: {r["genes_closer_than_average"]:,}.

Real data come without a truth, so every run also tests itself: it puts molecules aside and predicts them.
Here each of them was {np.expm1(r["skill"]):.1%} more likely by what the other genes of its cell say than by the average of
its gene. Most of the rest is the luck of the draw, which nothing can predict, so a small number is normal;
above zero means that what was learned holds for molecules that were not seen.

Restored counts are for looking at, for gene-gene views and for embeddings. Tests of differential
expression belong on the raw counts.

Written: {r["h5ad"]}  X: raw counts, layers['{_KEY}']: restored, layers['truth']: truth
         {r["png"]}   before, after, truth"""


def _times(ratio: float) -> str:
    """Return how a distance compares with another that is `ratio` times as long."""
    return f"{ratio:.1f} times closer to" if ratio >= 1 else f"{1 / ratio:.1f} times further from"


def _draw(adata: AnnData, path: str) -> None:
    """Write the picture: marker genes before, after and in truth; two genes against each other; gain by gene."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    programs = _top_markers(adata, 6)
    figure = Figure(figsize=(15, 9.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=[1.45, 1])
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    pl.before_after(
        adata,
        [gene for genes in programs.values() for gene in genes],
        key=_KEY,
        groupby=["cell_type", "pseudotime"],
        truth="truth",
        ax=upper.subplots(1, 3, sharey=True),
        show=False,
    )
    upper.suptitle("Marker genes (rows) in cells (columns), sorted by cell type and place on the path")

    panels = lower.subplots(1, 4)
    values = {
        "before (counts)": metrics.log_normalize(adata.X.toarray()),
        "after (restored)": metrics.log_normalize(np.asarray(adata.layers[_KEY])),
        "truth": metrics.log_normalize(adata.layers["truth"]),
    }
    pair = [programs["type_2"][0], programs["trajectory"][0]]
    _draw_pair(panels[:3], adata, values, pair)
    _draw_gain(panels[3], adata, values)
    lower.suptitle(
        "Two genes against each other, a dot a cell (color: place on the path; gray: other types; the truth has a "
        "curve for each batch), and the gain, a dot a gene"
    )

    partial = f"{path}.partial"
    figure.savefig(partial, format="png", dpi=110)
    os.replace(partial, path)


def _top_markers(adata: AnnData, n: int) -> dict[str, list[str]]:
    """Return the most expressed marker genes of each program, by program."""
    level = np.asarray(adata.layers["truth"]).mean(axis=0)
    programs = {}
    for name in adata.var["marker_of"].cat.categories.drop("none"):
        genes = np.flatnonzero(adata.var["marker_of"] == name)
        if len(genes):
            programs[name] = list(adata.var_names[genes[np.argsort(-level[genes])][:n]])
    return programs


def _draw_pair(panels: np.ndarray, adata: AnnData, values: dict[str, np.ndarray], pair: list[str]) -> None:
    """Scatter one gene against another, on the same axes for each matrix; cells on the path by pseudotime."""
    at = adata.var_names.get_indexer(pair)
    time = adata.obs["pseudotime"].to_numpy()
    on_path = np.isfinite(time)
    limit = [max(v[:, j].max() for v in values.values()) * 1.05 for j in at]
    for panel, (title, v) in zip(panels, values.items(), strict=True):
        panel.scatter(v[~on_path, at[0]], v[~on_path, at[1]], s=4, color="0.8", linewidth=0, rasterized=True)
        panel.scatter(
            v[on_path, at[0]], v[on_path, at[1]], s=6, c=time[on_path], cmap="plasma", linewidth=0, rasterized=True
        )
        panel.set(title=title, xlabel=pair[0], xlim=(-0.1, limit[0]), ylim=(-0.1, limit[1]))
    panels[0].set_ylabel(pair[1])


def _draw_gain(panel: Axes, adata: AnnData, values: dict[str, np.ndarray]) -> None:
    """Correlation of each gene with the truth, after over before."""
    before, after, truth = values.values()
    marker = adata.var["marker"].to_numpy()
    x, y = metrics.gene_correlation(before, truth), metrics.gene_correlation(after, truth)
    for which, color, label in ((~marker, "0.6", "other genes"), (marker, "tab:red", "marker genes")):
        panel.scatter(x[which], y[which], s=6, color=color, label=label, linewidth=0, rasterized=True)
    panel.axline((0, 0), slope=1, color="black", linewidth=0.8)
    panel.set(title="correlation with the truth", xlabel="before", ylabel="after", xlim=(-0.1, 1.02), ylim=(-0.1, 1.02))
    panel.legend(loc="lower right", fontsize="small", markerscale=2)
