"""What the plots share: scanpy's habits, and values per 10,000 molecules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.matrices.columns import columns_of, totals_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["before", "evaluated", "finish", "log_per_10k", "new_axes"]


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


def finish(drawn: Any, figure: Any, own_axes: bool, show: bool | None, save: str | Path | None) -> Any:
    """Save and show as asked; hand the axes back unless they were shown."""
    if save is not None:
        figure.savefig(save, bbox_inches="tight", dpi=150)
    if show is None:
        import scanpy

        show = scanpy.settings.autoshow and not own_axes and save is None
    if show:
        import matplotlib.pyplot as plt

        plt.show()
        return None
    return drawn
