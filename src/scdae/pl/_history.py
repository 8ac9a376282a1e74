"""How training went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import get
from scdae.arguments.objects import check_adata, spelled
from scdae.pl._common import finish, new_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_history", "history"]


@spelled
def history(
    adata: AnnData,
    *,
    key: str = "scdae",
    ax: Axes | None = None,
    return_fig: bool = False,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes | Figure | None:
    """Loss, and how likely the held-out molecules are, over training: has it converged?

    The loss of single batches is faint, its running average bold. The held-out molecules are looked at four times; the circle marks the network that was kept. The title says by how
    much they still became likelier from the last look but one to the last.

    Parameters
    ----------
    adata, key
        Object that `scdae.pp.impute` has been called on, and the `key_added` of that call.
    ax, return_fig, show, save
        As for `before_after`, with a single axes.

    Returns
    -------
    Axes, Figure or None
        The axes of the loss; the figure with `return_fig`; None once shown.

    Raises
    ------
    KeyError
        When the run, or its history, is not in `adata`.
    """
    check_adata(adata)
    report = get.stored_report(adata, key)
    past = report.get("history", adata.uns[key].get("history"))
    if past is None:
        raise KeyError(f"adata.uns[{key!r}] holds no training history (a model that was fitted before has none here).")
    axis = new_axes(ax, (5.5, 3.5))
    draw_history(axis, past)
    return finish(axis, axis.figure, ax is not None, show, save, return_fig, "history")


def draw_history(axis: Axes, past: Mapping[str, Any]) -> None:
    """Draw the course of a training."""
    step, loglik = np.asarray(past["step"]), np.asarray(past["heldout_loglik"])
    if "curve_step" in past:
        at, loss = np.asarray(past["curve_step"], np.float64), np.asarray(past["curve_loss"], np.float64)
        axis.plot(at, loss, color="tab:blue", linewidth=0.8, alpha=0.35)
        axis.plot(at, _smooth(at, loss), color="tab:blue", linewidth=2)
    else:  # of an earlier version
        axis.plot(step, np.asarray(past["loss"]), color="tab:blue", marker=".")
    axis.set_xlabel("training step")
    axis.set_xlim(left=0)
    axis.set_ylabel("training loss", color="tab:blue")
    held_out = axis.twinx()
    held_out.plot(step, loglik, color="tab:orange", marker="o", markersize=4)
    held_out.set_ylabel("held-out log likelihood\n(nats per molecule)", color="tab:orange")
    kept = int(np.argmax(loglik))
    held_out.plot(step[kept], loglik[kept], "o", markersize=9, markerfacecolor="none", color="tab:orange")
    axis.set_title(_course(step, loglik), fontsize="medium")


def _smooth(step: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Average over the twentieth of the training before and after each step: batches differ by more than the loss falls."""
    width = max(0.05 * float(np.ptp(step)), 1e-9)
    near = np.abs(step[:, None] - step[None, :]) <= width
    return (near * loss).sum(axis=1) / near.sum(axis=1)


def _course(step: np.ndarray, loglik: np.ndarray) -> str:
    """What the last part of the training brought, in words."""
    if len(step) < 2:
        return f"{step[-1]:,.0f} steps"
    return f"last {step[-1] - step[-2]:,.0f} of {step[-1]:,.0f} steps: {loglik[-1] - loglik[-2]:+.4f} nats per molecule"
