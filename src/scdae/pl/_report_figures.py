"""Plots of the report of an evaluation, and the genes that they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae import get, pl
from scdae.matrices.annotation import frame_of
from scdae.outputs.html import figure
from scdae.pl._history import draw_history

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["figures_of", "helped_genes", "table_of_genes"]

_GENES = 20  # of the heat map
_CELLS = 1000


def figures_of(adata: AnnData, key: str, genes: Sequence[str] | None, groupby: str | None) -> list[str]:
    """Plots of what is there."""
    entry = adata.uns[f"{key}_evaluation"]
    drawn = [
        _one(
            pl.gain,
            adata,
            "Gain of each gene",
            "above 0, the other genes of a cell say more of a gene than its average does",
            key,
        ),
    ]
    if entry["calibration_entries"]:
        drawn.append(
            _one(
                pl.calibration,
                adata,
                "Honesty of the intervals",
                "a flat histogram says that distributions are right",
                key,
            )
        )
    drawn.append(_gain_of_cells(adata, key))
    drawn.append(_methods(adata, key))
    if "history" in entry or "history" in _mapping(_mapping(adata.uns.get(key)).get("report")):
        drawn.append(_history(adata, key))
    if "fidelity" in entry:
        drawn.append(
            _one(pl.fidelity, adata, "Groups of cells", "markers predicted over markers seen; 1 is right", key, (7, 5))
        )
    if "range_skill" in _mapping(adata.uns.get(f"{key}_sweep")):
        drawn.append(
            _one(pl.noise_sweep, adata, "Noise", "too little teaches copying, too much leaves nothing", f"{key}_sweep")
        )
    drawn.append(_before_after(adata, key, genes, groupby))
    return drawn


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return an entry of `uns`, empty where it is not there or somebody else's."""
    return value if isinstance(value, Mapping) else {}


def _blank(size: tuple[float, float], n: int = 1) -> tuple[Any, Any]:
    """Return a figure that no window shows, and its axes."""
    from matplotlib.figure import Figure

    held = Figure(figsize=size, layout="constrained")
    return held, held.subplots(1, n, sharey=n > 1)


def _one(plot: Any, adata: AnnData, title: str, words: str, key: str, size: tuple[float, float] = (6, 4)) -> str:
    held, axis = _blank(size)
    plot(adata, key=key, ax=axis, show=False)
    return figure(held, title, words)


def _gain_of_cells(adata: AnnData, key: str) -> str:
    """Skill of each cell, as a histogram."""
    held, axis = _blank((6, 4))
    skill = frame_of(adata.obs[[f"{key}_skill"]])[f"{key}_skill"].to_numpy(np.float64)
    known = skill[np.isfinite(skill)]
    low, high = np.percentile(known, [0.5, 99.5]) if len(known) else (0, 1)
    axis.hist(np.clip(known, low, high), bins=50, color="tab:blue")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("gain over the gene means (nats per molecule)")
    axis.set_ylabel("cells")
    helped = float((known > 0).mean()) if len(known) else float("nan")
    return figure(held, "Gain of each cell", f"{helped:.0%} of the cells gain")


def _methods(adata: AnnData, key: str) -> str:
    held, axis = _blank((6, 4))
    skill = get.evaluation(adata, key)["skill"].iloc[::-1]
    low = -0.2 * max(float(skill.max()), 0.01)
    axis.barh(
        list(skill.index),
        np.maximum(skill, low),
        color=["tab:blue" if "scdae" in name else "0.7" for name in skill.index],
    )
    for place, value in enumerate(skill):
        axis.text(max(value, 0), place, f" {value:.3f}", va="center", fontsize="small")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlim(low, 1.2 * max(float(skill.max()), 0.01))
    axis.set_xlabel("skill (nats per molecule)")
    return figure(held, "Methods", "skill on the molecules set aside; bars far below 0 are cut")


def _history(adata: AnnData, key: str) -> str:
    entry = adata.uns[f"{key}_evaluation"]
    past = entry["history"] if "history" in entry else adata.uns[key]["report"]["history"]
    held, axis = _blank((6, 4))
    draw_history(axis, past)
    return figure(held, "Training", "converged where the held-out likelihood (orange) no longer rises")


def _before_after(adata: AnnData, key: str, genes: Sequence[str] | None, groupby: str | None) -> str:
    run = adata.uns.get(key)
    if (
        key not in adata.layers
        or not isinstance(run, Mapping)
        or run.get("output", "mean") not in ("mean", "prior", "rate")
    ):
        return ""
    chosen = list(genes) if genes is not None else list(helped_genes(adata, key).index[:_GENES])
    if not chosen:
        return ""
    held, axes = _blank((11, 1.5 + 0.2 * len(chosen)), 2)
    by = groupby or adata.uns[f"{key}_evaluation"].get("fidelity", {}).get("groupby")
    shown = adata if by is not None else _by_gene(adata, chosen, key)
    pl.before_after(shown, chosen, key=key, groupby=by, max_cells=_CELLS, ax=axes, show=False)
    which = "as asked for" if genes is not None else "those that gain most"
    return figure(held, "Before and after", f"genes: {which}; log of one plus counts per 10,000", broad=True)


def _by_gene(adata: AnnData, genes: list[str], key: str) -> AnnData:
    """Some of the cells, those together that are highest in the same gene."""
    rows = np.unique(np.linspace(0, adata.n_obs - 1, min(adata.n_obs, _CELLS)).round().astype(int))
    values = np.nan_to_num(get.imputed(adata[rows], key, genes).to_numpy(np.float64))
    share = values / np.maximum(values.max(axis=0), 1e-9)
    return adata[rows[np.lexsort((-share.max(axis=1), share.argmax(axis=1)))]]


def table_of_genes(adata: AnnData, key: str) -> pd.DataFrame:
    """What the evaluation found of each gene: skill, its standard error, verdict."""
    columns = [f"{key}_{name}" for name in ("skill", "skill_se", "verdict")]
    return frame_of(adata.var[columns]).set_axis(["skill", "skill_se", "verdict"], axis=1)


def helped_genes(adata: AnnData, key: str) -> pd.DataFrame:
    """Return the genes that are helped, best first."""
    found = table_of_genes(adata, key)
    found = found[(found["verdict"] == "helped") & ~found.index.duplicated(keep=False)]
    return found.sort_values("skill", ascending=False, kind="stable")
