"""A fitted model as prediction needs it, and cells as it sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from flax import nnx

from scdae.core.axes import Axes, observed_share
from scdae.core.cells import CellData
from scdae.core.completion import FixedPoint
from scdae.core.conditions import Conditions, no_conditions
from scdae.core.extreme import without_extremes
from scdae.core.laws import Laws

__all__ = ["Fitted", "cell_data", "sizes_of"]


@dataclass(frozen=True)
class Fitted:
    """A fitted model: what prediction needs, for the genes that were counted at least once."""

    likelihood: str
    axes: Axes
    graph: Any
    params: Any
    profile: np.ndarray  # float64 (n_kept,): share of each gene in the average cell
    inflated: np.ndarray  # bool (n_kept,): genes that rather have dropout than not
    gaps: FixedPoint = FixedPoint()  # how entries that were not observed are filled
    largest: float = np.inf  # most molecules of a single count
    laws: Laws | None = None  # of the counts of each gene; None for one dispersion each, and dropout where `inflated`


def sizes_of(fitted: Fitted) -> dict[str, int]:
    """Settings that say how large the network is."""
    values = nnx.to_pure_dict(fitted.params)
    n_hidden, n_latent = values["latent_kernel"].shape
    return {"n_latent": int(n_latent), "n_hidden": int(n_hidden)}


def cell_data(
    counts: sp.csr_matrix,
    unobserved: sp.csr_matrix | None,
    conditions: Conditions | None,
    profile: np.ndarray,
    largest: float = np.inf,
) -> CellData:
    """Counts with the exposure share of every cell under `profile`, without single counts beyond `largest`."""
    counts = without_extremes(counts, largest, profile)
    conditions = no_conditions(counts.shape[0]) if conditions is None else conditions
    share = np.maximum(observed_share(profile, unobserved, counts.shape[0]), 1e-6).astype(np.float32)
    return CellData(counts, unobserved, conditions, share)
