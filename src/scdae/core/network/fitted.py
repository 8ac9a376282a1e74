"""A fitted model, reduced to what prediction needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scdae.core.config import FixedPoint
from scdae.core.distributions.laws import Laws, some_laws
from scdae.core.network.encoder_input import Axes
from scdae.core.network.latent_prior import LatentPrior
from scdae.core.network.parameters import Network, having, values_of, with_values

__all__ = ["Fitted", "sizes_of"]


@dataclass(frozen=True)
class Fitted:
    """What prediction needs of a fitted model, for the genes that were counted at least once."""

    likelihood: str
    axes: Axes
    graph: Any
    params: Any
    profile: np.ndarray  # float64 (n_kept,): fraction of each gene in the average cell
    inflated: np.ndarray  # bool (n_kept,): genes for which dropout is more likely than not
    gaps: FixedPoint = FixedPoint()  # how missing values are filled
    largest: float = np.inf  # largest possible single count
    laws: Laws | None = None  # distribution of each gene; None for one dispersion per gene, with dropout if `inflated`
    prior: LatentPrior | None = None  # of latent positions, for cells with few molecules; None to believe the encoder

    @property
    def network(self) -> Network:
        """The network in the form that compiled functions take."""
        return Network(self.graph, self.params)

    def in_order(self, genes: np.ndarray) -> Fitted:
        """Reorder the genes; `genes` is a permutation, int (n_kept,)."""
        known: dict[str, Any] = {**values_of(self.params)}
        values = known | {name: known[name][..., genes] for name in having("of_genes") if name in known}
        axes, effects = self.axes, self.axes.effects
        effects = None if effects is None else effects[:, genes]
        return replace(
            self,
            axes=replace(axes, weight=axes.weight[genes], gene_mean=axes.gene_mean[genes], effects=effects),
            params=with_values(self.params, values),
            profile=self.profile[genes],
            inflated=self.inflated[genes],
            laws=None if self.laws is None else some_laws(self.laws, genes),
        )


def sizes_of(fitted: Fitted) -> dict[str, int]:
    """Return the settings that determine the size of the network."""
    values = values_of(fitted.params)
    n_hidden, n_latent = values["latent_kernel"].shape
    return {"n_latent": int(n_latent), "n_hidden": int(n_hidden)}
