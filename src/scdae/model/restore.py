"""Read a fitted model out for the cells of a query, whether they are in memory or read by blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData, cell_data
from scdae.core.data.conditions import Conditions
from scdae.core.data.extreme_counts import extreme_entries, put_back
from scdae.core.data.minibatch import Size, among
from scdae.core.distributions.quantiles import cell_quantiles
from scdae.core.guard.anomaly import Readings, cell_deviance
from scdae.core.minibatches.build import cells_at_once, slices
from scdae.core.network.fitted import Fitted
from scdae.core.prediction.decode import law_of_genes, read_out
from scdae.core.prediction.missing import Gaps
from scdae.core.runtime.freed import give_back
from scdae.inputs.counts import AnyCounts, Counts
from scdae.inputs.genes import GeneMap, map_genes
from scdae.inputs.silent import AS_COUNTED, OwnCounts, blind_cells, counted_silent, say_filled, say_silent
from scdae.model.fitted_model import FittedModel
from scdae.model.options import InPlace

__all__ = [
    "counted_silent_names",
    "find_genes",
    "query_cells",
    "read_anomaly",
    "read_blocks",
    "read_latent",
    "read_quantile",
    "read_query",
]

_TIDIED = 2**24  # bytes of a layer that are written between two times that freed memory is given back


def find_genes(model: FittedModel, counts: AnyCounts, *, quiet: bool = False) -> GeneMap:
    """Where the genes of a model are in a query; `quiet` leaves the warnings out."""
    genes = model.outcome.genes
    return map_genes(counts.var_names, model.var_names, genes, unknown=model.never_observed, quiet=quiet)


def counted_silent_names(model: FittedModel, counts: AnyCounts) -> np.ndarray:
    """Names of the genes that a query counted and the model did not: object (n,), empty where that is not known."""
    gene_map = find_genes(model, counts, quiet=True)
    counted = counted_silent(counts, gene_map)
    return (
        counts.var_names[gene_map.silent_source[counted]].astype(object) if counted is not None else np.zeros(0, object)
    )


def query_cells(
    model: FittedModel, counts: Counts, conditions: Conditions | None, *, silent: str | None = AS_COUNTED
) -> tuple[CellData, GeneMap]:
    """Cells of a query over the model's genes, and where these are.

    `silent` says what becomes of genes that the query counted and the model did not, for the warning; None for no warning.
    """
    outcome, gene_map = model.outcome, find_genes(model, counts)
    if silent is not None:
        say_silent(counted_silent(counts, gene_map), gene_map, counts.var_names, silent)
    fitted = outcome.fitted
    matrix, unobserved = gene_map.take(counts.matrix, counts.unobserved)
    return cell_data(matrix, unobserved, conditions, fitted.profile, fitted.largest), gene_map


def read_query(
    model: FittedModel,
    counts: AnyCounts,
    conditions: Conditions | None,
    output: str | tuple[str, ...],
    depth: np.ndarray | None = None,
    gaps: Gaps | None = None,
    batch: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    """Values of `output` in the order of the query's genes, a list of them for several, and the latent representation.

    Parameters
    ----------
    model
        Fitted model.
    counts
        The query.
    conditions
        Of its cells.
    output, depth, gaps, batch
        As for :func:`scdae.core.prediction.decode.read_out`.
    """
    gene_map = find_genes(model, counts)
    several = (output,) if isinstance(output, str) else output
    values = [InPlace(counts.shape[0], gene_map.columns, gene_map.known) for _ in several]
    latent = np.zeros((counts.shape[0], model.config.n_latent or 0), np.float32)
    own = [OwnCounts(gene_map, name, place.array) for name, place in zip(several, values, strict=True)]
    written = _TIDIED  # bytes, since memory was last given back; the first time it is what a fit and compiling took
    for rows, parts, position in read_blocks(model, counts, conditions, gene_map, several, depth, gaps, batch, own=own):
        latent[rows] = position
        written += sum(part.nbytes for part in parts)
        if written > _TIDIED:
            give_back()
            written = 0
        for place, part in zip(values, parts, strict=True):
            place.put(rows, part)
    say_filled([own], counts)
    return (values[0].array if isinstance(output, str) else [place.array for place in values]), latent


def read_blocks(
    model: FittedModel,
    counts: AnyCounts,
    conditions: Conditions | None,
    gene_map: GeneMap,
    output: str | tuple[str, ...],
    depth: np.ndarray | None = None,
    gaps: Gaps | None = None,
    batch: np.ndarray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    genes: np.ndarray | None = None,
    own: OwnCounts | Sequence[OwnCounts] | None = None,
) -> Iterator[tuple[slice, Any, np.ndarray]]:
    """The same, some cells at a time, over the genes of the network.

    Parameters
    ----------
    gene_map
        Where the genes are.
    spans
        First and last (excluded) row of the blocks to read; None for all.
    genes
        Genes of the network that are wanted, int (n,); None for all, n_kept.
    own
        Gets to see each block, and fills in the genes that are not in the network; one for each output.

    Yields
    ------
    tuple
        Slice of cells, float32 (cells, n) values, a list of them for several outputs, and float32 (cells, n_latent)
        latent representation.
    """
    fitted = model.network
    several = (output,) if isinstance(output, str) else output
    fillers = [] if own is None else [own] if isinstance(own, OwnCounts) else own
    at_once, wanted = cells_at_once(counts.shape[0], len(gene_map.columns)), among(genes, len(gene_map.columns))
    for start, stop in counts.spans if spans is None else spans:
        here = None if conditions is None else conditions.take(slice(start, stop))
        block = counts.read(start, stop)
        matrix, unobserved = gene_map.take(*block)
        data = cell_data(matrix, unobserved, here, fitted.profile, fitted.largest)
        extremes = extreme_entries(matrix, fitted.largest if "mean" in several else np.inf)
        for filler in fillers:
            filler.add(start, *block, data)
        blind = blind_cells(data)
        anew = None if depth is None else depth[start:stop]
        shape = None
        if data.n_obs < counts.shape[0]:  # one of many blocks: what is compiled for it serves most others
            shape = at_once, Size.of(data, slices(data.n_obs, at_once), wanted).rounded()
        for rows, parts, position in read_out(fitted, data, several, anew, gaps, batch, shape, genes):
            if blind[rows].any():  # nothing says how many molecules to expect
                parts = [np.where(blind[rows, None], np.float32(np.nan), part) for part in parts]
            if len(extremes):
                at = several.index("mean")
                parts[at] = put_back(parts[at], matrix, extremes, rows, genes)
            shaped = parts[0] if isinstance(output, str) else parts
            yield slice(start + rows.start, start + rows.stop), shaped, position


def read_latent(
    model: FittedModel,
    counts: AnyCounts,
    conditions: Conditions | None,
    *,
    quiet: bool = False,
    gaps: Gaps | None = None,
) -> np.ndarray:
    """Latent representation of the cells: float32 (n_obs, n_latent)."""
    gene_map = find_genes(model, counts, quiet=quiet)
    parts = read_blocks(model, counts, conditions, gene_map, "latent", gaps=gaps)
    return np.concatenate([latent for *_, latent in parts])


def read_quantile(
    model: FittedModel,
    counts: AnyCounts,
    conditions: Conditions | None,
    gene_map: GeneMap,
    chance: float,
    batch: np.ndarray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    genes: np.ndarray | None = None,
    own: OwnCounts | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """A quantile of the expected counts, some cells at a time, over the genes of the network.

    Parameters
    ----------
    chance
        Probability.
    model, counts, conditions, found, batch, spans, genes, own
        As for :func:`read_blocks`.

    Yields
    ------
    tuple
        Slice of cells, and float32 (cells, n) values.
    """
    fitted = model.network
    laws = law_of_genes(fitted)
    if genes is not None:
        laws = laws.at(genes)
    for start, stop in counts.spans if spans is None else spans:
        whole, whole_unobserved = gene_map.take(*counts.read(start, stop))
        matrix, unobserved, extremes = whole, whole_unobserved, extreme_entries(whole, fitted.largest)
        if genes is not None:
            matrix, unobserved = matrix[:, genes], None if unobserved is None else unobserved[:, genes]
        span, exposure = [(start, stop)], _exposure(fitted, whole, whole_unobserved)
        priors = read_blocks(model, counts, conditions, gene_map, "prior", spans=span, genes=genes, own=own)
        moved = None
        if batch is not None:
            moved = read_blocks(model, counts, conditions, gene_map, "prior", batch=batch, spans=span, genes=genes)
        for rows, prior, _ in priors:
            here = slice(rows.start - start, rows.stop - start)
            observed = None if unobserved is None else ~unobserved[here].toarray()
            factor = 1 if moved is None else next(moved)[1] / np.maximum(prior, 1e-30)
            level = laws.level(prior, exposure[here])
            prior = put_back(prior, whole, extremes, here, genes)
            yield rows, factor * cell_quantiles(chance, matrix[here], prior, laws, observed, level)


def read_anomaly(model: FittedModel, counts: AnyCounts, conditions: Conditions | None) -> Readings:
    """Depth, deviance for each molecule, and latent representation of the cells of a query."""
    gene_map = find_genes(model, counts)
    silent = np.zeros(len(gene_map.silent), bool)
    laws = law_of_genes(model.network)
    n_obs = counts.shape[0]
    depth, deviance = np.zeros(n_obs), np.zeros(n_obs)
    latent = np.zeros((n_obs, model.config.n_latent or 0), np.float32)
    for start, stop in counts.spans:
        block = counts.read(start, stop)
        silent |= np.bincount(block[0].indices, minlength=counts.shape[1])[gene_map.silent_source] > 0
        matrix, unobserved = gene_map.take(*block)
        depth[start:stop] = np.asarray(matrix.sum(axis=1)).ravel()
        exposure = _exposure(model.network, matrix, unobserved)
        for rows, prior, latent_part in read_blocks(
            model, counts, conditions, gene_map, "prior", spans=[(start, stop)]
        ):
            here = slice(rows.start - start, rows.stop - start)
            observed = None if unobserved is None else ~unobserved[here].toarray()
            level = laws.level(prior, exposure[here])
            deviance[rows] = cell_deviance(matrix[here], prior, laws, observed, level)
            latent[rows] = latent_part
    say_silent(silent, gene_map, counts.var_names, "the score does not look at them")
    return Readings(depth, np.divide(deviance, depth, out=np.full(n_obs, np.nan), where=depth > 0), latent)


def _exposure(fitted: Fitted, matrix: sp.csr_matrix, unobserved: sp.csr_matrix | None) -> np.ndarray:
    return cell_data(matrix, unobserved, None, fitted.profile, fitted.largest).exposure
