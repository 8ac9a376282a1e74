"""How training went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scdae import get
from scdae.arguments.objects import check_adata
from scdae.pl._common import finish, new_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["history"]


def history(
    adata: AnnData,
    *,
    key: str = "scdae",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Loss, and how likely the held-out molecules are, over training.

    Parameters
    ----------
    adata, key
        Object that `scdae.pp.impute` has been called on, and the `key_added` of that call.
    ax, show, save
        As for `before_after`, with a single axes.

    Returns
    -------
    Axes or None
        The axes of the loss; None once shown.

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
    axis = new_axes(ax)
    step = np.asarray(past["step"])
    axis.plot(step, np.asarray(past["loss"]), color="tab:blue", marker=".")
    axis.set_xlabel("training step")
    axis.set_ylabel("training loss", color="tab:blue")
    held_out = axis.twinx()
    held_out.plot(step, np.asarray(past["heldout_loglik"]), color="tab:orange", marker=".")
    held_out.set_ylabel("held-out log likelihood per molecule", color="tab:orange")
    return finish(axis, axis.figure, ax is not None, show, save)
