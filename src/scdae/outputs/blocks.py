"""All that a run writes of some cells, worked out together: each layer, and where the cells lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.data.conditions import Conditions
from scdae.core.prediction.missing import Gaps
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.count_types import AnyCounts
from scdae.inputs.genes import GeneMap
from scdae.inputs.silent import OwnCounts
from scdae.model.fitted_model import FittedModel
from scdae.model.options import InPlace
from scdae.model.output_options import OutputOptions
from scdae.model.restore import find_genes, read_blocks, read_quantile

__all__ = ["BlockReader", "RestoredBlock"]


@dataclass(frozen=True)
class RestoredBlock:
    """Restored values of some cells.

    Parameters
    ----------
    layers
        One array (n, n_genes) for each output and quantile, in their order: dense, or CSR with a threshold.
    latent
        float32 (n, n_latent).
    own
        What was filled in of genes that the model has learned nothing about, one for each output.
    """

    layers: list[Any]
    latent: np.ndarray
    own: Sequence[OwnCounts]


@dataclass(frozen=True)
class BlockReader:
    """Restores cells block by block; a cell is encoded and decoded once for all outputs.

    Parameters
    ----------
    model
        The fitted model.
    counts, conditions
        The query. How many cells it has decides how many are decoded at once, and so the bits: blocks are to be read
        from the whole query, not from a part of it.
    wanted
        Outputs, depth, quantiles and threshold.
    batch
        Weights of the batches in which all cells are to have been measured, or None.
    genes
        Columns of the query that are wanted, int (n_genes,); None for all.
    dtype
        float32 or float16.
    """

    model: FittedModel
    counts: AnyCounts
    conditions: Conditions | None
    wanted: OutputOptions
    batch: np.ndarray | None = None
    genes: np.ndarray | None = None
    dtype: Any = np.float32
    gene_map: GeneMap = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gene_map", find_genes(self.model, self.counts, quiet=True))

    @own_switches
    def read(self, start: int, stop: int, gaps: Gaps | None = None) -> RestoredBlock:
        """Restore the cells from `start` to `stop` (excluded); `gaps` gets to know how what was not observed was filled."""
        gene_map, chosen, network = self.gene_map, self.gene_map, None
        if self.genes is not None:
            network, chosen = gene_map.choose(self.genes)
        outputs, chances = self.wanted.outputs, self.wanted.quantiles
        kinds: list[str | float] = [*outputs, *chances]
        places = [InPlace(stop - start, chosen.columns, chosen.known) for _ in kinds]
        own = [OwnCounts(chosen, kind, place.array, start) for kind, place in zip(kinds, places, strict=True)]
        latent = np.zeros((stop - start, self.model.config.n_latent or 0), np.float32)
        query = self.model, self.counts, self.conditions, gene_map
        where: dict[str, Any] = {"batch": self.batch, "spans": [(start, stop)], "genes": network}
        several, depth = len(outputs), self.wanted.depth
        for rows, parts, position in read_blocks(*query, outputs, depth, gaps, own=own[:several], **where):
            here = slice(rows.start - start, rows.stop - start)
            latent[here] = position
            for place, part in zip(places, parts, strict=False):
                place.put(here, part)
        for place, filler, chance in zip(places[several:], own[several:], chances, strict=True):
            for rows, part in read_quantile(*query, chance, own=filler, **where):
                place.put(slice(rows.start - start, rows.stop - start), part)
        return RestoredBlock([self._formed(place.array) for place in places], latent, own[:several])

    def _formed(self, values: np.ndarray) -> Any:
        """Convert values to the requested dtype; with a threshold, to CSR without the values below it."""
        if self.wanted.threshold is None:
            return values.astype(self.dtype, copy=False)
        return sp.csr_matrix(np.where(values < self.wanted.threshold, np.float32(0), values))  # NaN stays
