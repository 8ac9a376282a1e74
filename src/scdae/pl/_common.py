"""What the plots share: scanpy's habits, and values per 10,000 molecules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import get
from scdae.matrices.columns import columns_of, totals_of
from scdae.outputs.names import run_of_layer

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["before", "before_and_after", "evaluated", "finish", "limits", "log_per_10k", "new_axes", "run_on_scale"]

_ON_SCALE = ("mean", "prior")


def new_axes(ax: Axes | None, size: tuple[float, float] = (5, 3.5)) -> Axes:
    """Return the axes given, or those of a new figure."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def before(adata: AnnData, key: str, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of some genes (positions) that a run was given, float64 (n_obs, n), and the total of each cell.

    Where entries were not measured, the total is that of the restored counts, in which they are filled.
    """
    run = adata.uns.get(key, {})
    source = run.get("layer")
    counts = adata.layers[source] if isinstance(source, str) and source in adata.layers else adata.X
    if counts is None:
        raise KeyError(
            "The counts that the run was given are not in this object (X is None). Draw the one that it was called on."
        )
    part = columns_of(counts, genes, "counts")
    filled = "missing" in run and run.get("output") in ("mean", "prior")
    total = totals_of(adata.layers[key] if filled else counts, "counts")  # genes that the model does not know are NaN
    return part.astype(np.float64), total


def before_and_after(adata: AnnData, genes: list[str], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts and restored counts of the genes, and the total of each cell."""
    restored = get.imputed(adata, key, genes).to_numpy(np.float64)
    run, _ = run_on_scale(adata, key, _ON_SCALE, "This plot")
    counts, total = before(adata, run, get.positions(adata, genes))
    return counts, restored, total


def run_on_scale(adata: AnnData, key: str, outputs: Sequence[str], plot: str) -> tuple[str, str]:
    """Key of the run behind a layer, and the output that the layer holds; a ValueError if it is none of those given."""
    run, output = run_of_layer(adata.uns, key)
    if output not in outputs:
        remedy = f"Call scdae.pp.impute with output=('mean', {output!r}), which writes both."
        if run != key and adata.uns[run].get("output") in outputs:
            remedy = f"Pass key={run!r}."
        raise ValueError(f"{plot} draws expected counts, but adata.layers[{key!r}] holds output={output!r}. {remedy}")
    return run, output


def evaluated(adata: AnnData, key: str) -> Any:
    """Entry of `uns` that `scdae.tl.evaluate` wrote."""
    entry = adata.uns.get(f"{key}_evaluation")
    if entry is None or f"{key}_skill" not in adata.var:
        raise KeyError(f"There is no adata.uns[{f'{key}_evaluation'!r}]. Call scdae.tl.evaluate(adata) first.")
    return entry


def log_per_10k(values: Any, size: np.ndarray) -> np.ndarray:
    """Log of one plus values per 10,000 molecules of the cell."""
    dense = np.asarray(values, dtype=np.float64)
    return np.log1p(dense * np.divide(1e4, size, out=np.zeros_like(size), where=size > 0)[:, None])


def finish(
    drawn: Any,
    figure: Any,
    own_axes: bool,
    show: bool | None,
    save: str | Path | bool | None,
    return_fig: bool = False,
    name: str = "figure",
) -> Any:
    """Save and show as asked; hand the axes back unless they were shown, or the figure where that is wanted.

    ``save=True`` saves to scanpy's folder of figures, as `name` and in scanpy's format.
    """
    saved = save is not None and save is not False
    if saved:
        figure.savefig(_file(save, name), bbox_inches="tight", dpi=150)
    if return_fig:
        return figure
    if show is None:
        import scanpy

        show = scanpy.settings.autoshow and not own_axes and not saved
    if show:
        import matplotlib.pyplot as plt

        plt.show()
        return None
    return drawn


def _file(save: Any, name: str) -> Any:
    """Return where a figure is saved to: where it is said, or where scanpy saves its own."""
    if save is not True:
        return save
    import scanpy

    folder = Path(scanpy.settings.figdir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"scdae_{name}.{scanpy.settings.file_format_figs}"


def limits(values: Sequence[np.ndarray], vmin: float | str | None, vmax: float | str | None) -> tuple[float, float]:
    """Ends of a color scale: numbers, or percentiles of the values such as ``"p99"``; 0 and the largest where left out.

    Raises
    ------
    ValueError
        An end is something else, or the upper one does not lie above the lower one.
    """
    every = np.concatenate([np.ravel(part) for part in values])
    every = every[np.isfinite(every)]
    ends = []
    for argument, end, default in (("vmin", vmin, 0.0), ("vmax", vmax, float(every.max(initial=0.0)) or 1.0)):
        if end is None:
            ends.append(default)
            continue
        try:
            percent = isinstance(end, str) and end.startswith("p")
            number = float(end[1:] if percent else end)  # type: ignore[index]
            ends.append(float(np.percentile(every, number)) if percent and len(every) else number)
        except (TypeError, ValueError):
            raise ValueError(f"{argument}={end!r}: use a number, or a percentile such as 'p99'.") from None
    if not ends[0] < ends[1]:
        if vmax is None or not isinstance(vmax, str):
            raise ValueError(f"vmin={vmin!r}, vmax={vmax!r}: the scale would go from {ends[0]:g} to {ends[1]:g}.")
        ends[1] = float(every.max(initial=0.0)) or 1.0  # so many values are alike that the percentile says nothing
    return ends[0], max(ends[1], ends[0] + 1e-9)
