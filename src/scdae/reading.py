"""Read a fitted model out for the cells of a query, whether they are in memory or read by blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scdae.core.batches import Size, capacity, cells_at_once, slices
from scdae.core.cells import CellData
from scdae.core.completion import Gaps
from scdae.core.conditions import Conditions
from scdae.core.fitted import cell_data
from scdae.core.prediction import law_of_genes, read_out
from scdae.core.quantiles import cell_quantiles
from scdae.counts import CountBlocks, Counts
from scdae.layers import InPlace
from scdae.matching import GeneMap, map_genes

if TYPE_CHECKING:
    from scdae.model import DAE

__all__ = ["query_cells", "query_quantiles", "read_blocks", "read_query"]


def query_cells(model: DAE, counts: Counts, conditions: Conditions | None) -> tuple[CellData, GeneMap]:
    """Cells of a query over the model's genes, and where these are."""
    outcome = model.fitted_outcome()
    found = map_genes(counts.var_names, model.var_names, outcome.genes)
    return cell_data(*found.take(counts.matrix, counts.unobserved), conditions, outcome.fitted.profile), found


def read_query(
    model: DAE,
    counts: Counts | CountBlocks,
    conditions: Conditions | None,
    output: str,
    depth: np.ndarray | None = None,
    gaps: Gaps | None = None,
    batch: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Values of `output` in the order of the query's genes, and the latent representation.

    Parameters
    ----------
    model
        Fitted model.
    counts
        The query.
    conditions
        Of its cells.
    output, depth, gaps, batch
        As for :func:`scdae.core.prediction.read_out`.
    """
    found = map_genes(counts.var_names, model.var_names, model.fitted_outcome().genes)
    values = InPlace(counts.shape[0], found.columns, found.known)
    latent = np.zeros((counts.shape[0], model.config.n_latent), np.float32)
    for rows, part, position in read_blocks(model, counts, conditions, found, output, depth, gaps, batch):
        latent[rows] = position
        values.put(rows, part)
    return values.array, latent


def read_blocks(
    model: DAE,
    counts: Counts | CountBlocks,
    conditions: Conditions | None,
    found: GeneMap,
    output: str,
    depth: np.ndarray | None = None,
    gaps: Gaps | None = None,
    batch: np.ndarray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The same, some cells at a time, over the genes of the network.

    Parameters
    ----------
    found
        Where the genes are.
    spans
        First and last (excluded) row of the blocks to read; None for all.

    Yields
    ------
    tuple
        Slice of cells, float32 (cells, n_kept) values, and float32 (cells, n_latent) latent representation.
    """
    fitted = model.fitted_outcome().fitted
    shape = None if isinstance(counts, Counts) else _shape(counts, found)
    for start, stop in counts.spans if spans is None else spans:
        here = None if conditions is None else conditions.take(slice(start, stop))
        data = cell_data(*found.take(*counts.read(start, stop)), here, fitted.profile)
        anew = None if depth is None else depth[start:stop]
        for rows, part, position in read_out(fitted, data, output, anew, gaps, batch, shape):
            yield slice(start + rows.start, start + rows.stop), part, position


def query_quantiles(
    model: DAE,
    counts: Counts | CountBlocks,
    conditions: Conditions | None,
    chances: Sequence[float],
    batch: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Quantiles of the expected counts, in the order of the query's genes: float32 (n_obs, n_vars) each."""
    outcome = model.fitted_outcome()
    found = map_genes(counts.var_names, model.var_names, outcome.genes, quiet=True)
    theta, pi = law_of_genes(outcome.fitted)
    values = [InPlace(counts.shape[0], found.columns, found.known) for _ in chances]
    for start, stop in counts.spans:
        matrix, unobserved = found.take(*counts.read(start, stop))
        span = [(start, stop)]
        priors = read_blocks(model, counts, conditions, found, "prior", spans=span)
        moved = None
        if batch is not None:
            moved = read_blocks(model, counts, conditions, found, "prior", batch=batch, spans=span)
        for rows, prior, _ in priors:
            here = slice(rows.start - start, rows.stop - start)
            observed = None if unobserved is None else ~unobserved[here].toarray()
            factor = 1 if moved is None else next(moved)[1] / np.maximum(prior, 1e-30)
            for q, one in zip(chances, values, strict=True):
                one.put(rows, factor * cell_quantiles(q, matrix[here], prior, theta, pi, observed))
    return [one.array for one in values]


def _shape(counts: CountBlocks, found: GeneMap) -> tuple[int, Size]:
    """Cells read out together, and capacities that suffice for any of them."""
    blocks = counts.blocks
    at_once = cells_at_once(counts.shape[0], len(found.columns))
    absent = int((found.columns < 0).sum())
    hidden = blocks.hidden
    if absent:
        hidden = np.full(blocks.n_obs, absent) if hidden is None else hidden + absent
    groups = np.concatenate([start + slices(stop - start, at_once) for start, stop in counts.spans])
    return at_once, Size(capacity(blocks.lengths, groups), capacity(hidden, groups))
