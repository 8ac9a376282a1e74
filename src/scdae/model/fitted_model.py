"""A fitted model: what the fit gave, and how its numbers are named. All that reads a model out knows nothing else of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scdae.core.config import Config
from scdae.core.data.conditions import Conditions
from scdae.core.network.fitted import Fitted
from scdae.core.training.fit import Outcome
from scdae.inputs.covariates import Covariates

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["FittedModel"]


@dataclass(frozen=True)
class FittedModel:
    """The outcome of a fit with the names of its genes, batches and covariates.

    Parameters
    ----------
    config
        Settings of the fit.
    outcome
        What the fit gave: the network, its report and history.
    var_names
        Names of the genes of the fit, str (n_vars,); `outcome.genes` are the positions of those that the network has.
    covariates
        Columns of `obs` that the network knows.
    never_observed
        Positions of the genes that no cell of the fit observed, int64 (n,).
    """

    config: Config
    outcome: Outcome
    var_names: np.ndarray
    covariates: Covariates = field(default_factory=Covariates)
    never_observed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def network(self) -> Fitted:
        """All that predicting needs: axes, network, dispersions, dropout."""
        return self.outcome.fitted

    @property
    def batch_key(self) -> str | None:
        """Column of `obs` with the batch, or None."""
        return self.covariates.batch_key

    @property
    def batch_levels(self) -> list[str]:
        """Names of the batches that the model knows."""
        return self.covariates.batch_levels

    def conditions(self, adata: AnnData) -> Conditions | None:
        """Batch and covariates of each cell of `adata`, in terms of the levels that the model knows."""
        return self.covariates.conditions(adata)

    def batch_weights(self, transform_batch: str | None) -> np.ndarray | None:
        """Weights of the batches in which all cells are to have been measured; None where each stays in its own."""
        return None if transform_batch is None else self.covariates.batch_weights(transform_batch)
