"""What `scdae.tl.evaluate` and `scdae.tl.noise_sweep` measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scdae.arguments.objects import check_adata, spelled
from scdae.matrices.annotation import frame_of
from scdae.matrices.columns import gene_means
from scdae.pl._common import evaluated, finish, new_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration", "gain", "noise_sweep"]

_COLORS = {
    "helped": "tab:blue",
    "unclear": "0.75",
    "gene mean is better": "tab:orange",
    "raw is better": "tab:red",
}


@spelled
def gain(
    adata: AnnData,
    *,
    key: str = "scdae",
    ax: Axes | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes | Figure | None:
    """Held-out skill of each gene against its expression: where imputation helps.

    Parameters
    ----------
    adata, key
        Object that `scdae.tl.evaluate` has been called on, and the `key` of that call.
    ax
        Axes to draw into. A new figure when left out.
    return_fig
        Return the figure, and do not show it.
    show
        Show the figure. By default as ``scanpy.settings.autoshow`` says, unless `ax` or `save` is given.
    save
        File to save the figure to; True: scanpy's folder of figures (``scanpy.settings.figdir``).

    Returns
    -------
    Axes, Figure or None
        The figure with `return_fig`; None once shown. Dots are genes, colored by their verdict; the line is the median over each
        tenth of the genes, by expression.

    Raises
    ------
    KeyError
        When there is no evaluation under that key.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(80, 50)
    >>> scdae.tl.evaluate(adata, max_epochs=2)
    >>> axis = scdae.pl.gain(adata, show=False)
    >>> axis.get_ylabel()
    'gain over the gene mean (nats per molecule)'
    """
    check_adata(adata)
    entry = evaluated(adata, key)
    source = entry.get("layer")
    counts = adata.layers[source] if source in adata.layers else adata.X
    mean = gene_means(counts, "counts")
    columns = frame_of(adata.var[[f"{key}_skill", f"{key}_verdict"]])
    skill = columns[f"{key}_skill"].to_numpy(np.float64)
    verdict = columns[f"{key}_verdict"].astype(str).to_numpy()
    axis = new_axes(ax, (7, 3.8))
    judged = np.isfinite(skill) & (mean > 0)
    bottom = min(-0.05, float(np.quantile(skill[judged], 0.01))) if judged.any() else -0.05
    for name in ("unclear", "gene mean is better", "raw is better", "helped"):
        at = judged & (verdict == name)
        label = f"{name} ({int(at.sum()):,})"
        height = np.maximum(skill[at], bottom)
        axis.scatter(mean[at], height, s=6, color=_COLORS[name], label=label, rasterized=True, linewidths=0)
    _running(axis, mean[judged], skill[judged])
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_ylim(bottom=1.05 * bottom)
    axis.set_xlabel("mean count of the gene in a cell")
    axis.set_ylabel("gain over the gene mean (nats per molecule)")
    beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if ax is None else {"loc": "best"}
    axis.legend(fontsize="small", markerscale=2, frameon=False, **beside)
    return finish(axis, axis.figure, ax is not None, show, save, return_fig, "gain")


def _running(axis: Axes, mean: np.ndarray, skill: np.ndarray, n_bins: int = 10) -> None:
    """Median skill of the genes of similar expression."""
    if len(mean) < 2 * n_bins:
        return
    edges = np.quantile(mean, np.linspace(0, 1, n_bins + 1))
    bin_of_gene = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, n_bins - 1)
    filled = [k for k in range(n_bins) if (bin_of_gene == k).any()]
    center = [np.exp(np.log(mean[bin_of_gene == k]).mean()) for k in filled]
    axis.plot(
        center,
        [np.median(skill[bin_of_gene == k]) for k in filled],
        color="black",
        marker=".",
        label="median (tenths of the genes)",
    )


@spelled
def calibration(
    adata: AnnData,
    *,
    key: str = "scdae",
    ax: Axes | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes | Figure | None:
    """Plot where held-out counts fell in the distributions that predicted them: are intervals honest?

    A flat histogram says that the distributions are right: a tenth of the counts fall into each tenth of theirs. A hump
    in the middle says that intervals are too wide, raised ends that they are too narrow, a slope that predictions are
    off to one side.

    Parameters
    ----------
    adata, key, ax, return_fig, show, save
        As for :func:`scdae.pl.gain`.

    Returns
    -------
    Axes, Figure or None
        The figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When there is no evaluation under that key, or no entry had enough expected molecules to be judged.
    """
    check_adata(adata)
    entry = evaluated(adata, key)
    if not entry["calibration_entries"]:
        raise KeyError(f"adata.uns[{f'{key}_evaluation'!r}] has no entry with enough expected molecules to be judged.")
    axis = new_axes(ax, (5, 3.2))
    height = np.asarray(entry["pit"])
    width = 1 / len(height)
    axis.bar(np.arange(len(height)) * width, height / width, width, align="edge", color="tab:blue", edgecolor="white")
    axis.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, max(1.5, 1.1 * float(height.max()) / width))
    axis.set_xlabel("place of the held-out count in its predictive distribution")
    axis.set_ylabel("density")
    axis.set_title(
        f"90 % intervals hold {entry['coverage']:.1%} of {int(entry['calibration_entries']):,} counts",
        fontsize="medium",
    )
    return finish(axis, axis.figure, ax is not None, show, save, return_fig, "calibration")


@spelled
def noise_sweep(
    adata: AnnData,
    *,
    key: str = "scdae_sweep",
    ax: Axes | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes | Figure | None:
    """Held-out skill against the noise level, with its sweet spot.

    Parameters
    ----------
    adata, key
        Object that `scdae.tl.noise_sweep` has been called on, and the `key_added` of that call.
    ax, return_fig, show, save
        As for :func:`scdae.pl.gain`.

    Returns
    -------
    Axes, Figure or None
        The figure with `return_fig`; None once shown. Bars are two standard errors, the star is the sweet spot; the line is the skill with the range
        of levels that the settings have.

    Raises
    ------
    KeyError
        When there is no sweep under that key.
    """
    check_adata(adata)
    entry = adata.uns.get(key)
    if not isinstance(entry, Mapping) or "range_skill" not in entry:
        raise KeyError(f"There is no adata.uns[{key!r}] of scdae. Call scdae.tl.noise_sweep(adata) first.")
    axis = new_axes(ax, (5, 3.2))
    order = np.argsort(entry["level"])
    level, skill, error = (np.asarray(entry[name])[order] for name in ("level", "skill", "skill_se"))
    axis.errorbar(level, skill, 2 * error, color="tab:blue", marker="o", capsize=2, label="one level")
    low, high = map(float, np.asarray(entry["range"]))
    label = f"levels from {low:g} to {high:g}"
    axis.plot([low, high], [float(np.asarray(entry["range_skill"]))] * 2, color="tab:orange", linewidth=2, label=label)
    best = int(np.argmax(skill))
    axis.axvline(level[best], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axis.plot(
        level[best],
        skill[best],
        "*",
        color="tab:red",
        markersize=13,
        zorder=5,
        label=f"best single level: {level[best]:g}",
    )
    unit = {"thinning": "fraction of molecules set aside", "masking": "fraction of entries set aside"}
    axis.set_xlabel(unit.get(str(entry["corruption"]), "standard deviation of the noise"))
    axis.set_ylabel("gain over the gene mean\n(nats per molecule)")
    axis.legend(frameon=False, fontsize="small")
    return finish(axis, axis.figure, ax is not None, show, save, return_fig, "noise_sweep")
