"""Genes that a model names but has learned nothing about, and cells of which nothing was observed.

A gene is *silent* where no cell of the fit counted it. The network has no such gene. What a query counted of it comes
back as it was counted. Where a query counted none, none is expected, unless no cell of the fit observed the gene: then
nothing is known, and nothing (NaN) comes back. A cell without any observed gene of the network has no depth, and comes
back as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae._log import get_logger
from scdae.core.data.cells import CellData
from scdae.inputs.count_types import AnyCounts, CountBlocks, Counts
from scdae.inputs.genes import GeneMap

__all__ = [
    "OwnCounts",
    "blind_cells",
    "counted_silent",
    "fate",
    "n_never_observed",
    "never_observed",
    "own_counts",
    "say_blind",
    "say_filled",
    "say_silent",
]

AS_COUNTED = "their counts come back as they are"
_LOST = "entries with counts come back as NaN"
_KNOWN = ("mean", "rate", "log1p")  # outputs for which the count itself is an answer


def never_observed(counts: Counts | CountBlocks) -> np.ndarray:
    """Return the columns of the genes that no cell of a fit observed: int64 (n,)."""
    if isinstance(counts, CountBlocks):
        hidden, n_obs = counts.blocks.hidden_cells, counts.shape[0]
    else:
        gaps = counts.unobserved
        hidden, n_obs = None if gaps is None else np.bincount(gaps.indices, minlength=gaps.shape[1]), counts.shape[0]
    return np.zeros(0, np.int64) if hidden is None else np.flatnonzero(hidden == n_obs)


def n_never_observed(counts: Counts | CountBlocks) -> dict[str, int]:
    """Count the genes never observed and the cells never observed, for the report of a run."""
    if isinstance(counts, CountBlocks):
        hidden = counts.blocks.hidden
    else:
        hidden = None if counts.unobserved is None else np.diff(counts.unobserved.indptr)
    n_cells = 0 if hidden is None else int((hidden == counts.shape[1]).sum())
    return {"n_genes_never_observed": len(never_observed(counts)), "n_cells_never_observed": n_cells}


def blind_cells(data: CellData) -> np.ndarray:
    """Return the cells of which no gene of the network was observed: bool (n_obs,)."""
    if data.unobserved is None:
        return np.zeros(data.n_obs, bool)
    return np.diff(data.unobserved.indptr) == data.n_vars


def own_counts(
    gene_map: GeneMap, matrix: sp.csr_matrix, unobserved: sp.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of the silent genes, float32 (n, n_silent), and where they were observed, boolean."""
    x = matrix[:, gene_map.silent_source].toarray().astype(np.float32)
    if unobserved is None:
        return x, np.ones(x.shape, bool)
    return x, ~unobserved[:, gene_map.silent_source].toarray()


class OwnCounts:
    """Fills in the values of silent genes, block by block.

    Parameters
    ----------
    found
        Where the genes are.
    output
        One of :data:`scdae.core.prediction.decode.OUTPUTS`, or the probability of a quantile.
    values
        (n, n_wanted), the array that is filled.
    first
        Row of the query that is the first of `values`.
    """

    def __init__(self, found: GeneMap, output: str | float, values: np.ndarray, first: int = 0):
        self.found, self.output, self.values, self.first = found, output, values, first
        self.counted = np.zeros(len(found.silent), bool)  # silent genes with counts, so far
        self.n_blind = 0  # cells of which nothing was observed, so far

    def add(self, start: int, matrix: sp.csr_matrix, unobserved: sp.csr_matrix | None, data: CellData) -> None:
        """Fill in the rows from `start` on: their counts over the genes of the query, and over those of the network.

        There may be many silent genes, next to all of them without counts, so only non-zeros are looked at.
        """
        blind, gene_map = blind_cells(data), self.found
        self.n_blind += int(blind.sum())
        if not len(gene_map.silent):
            return
        counts = matrix[:, gene_map.silent_source].tocoo()
        self.counted |= np.bincount(counts.col, minlength=len(gene_map.silent)) > 0
        rows = self.values[start - self.first : start - self.first + matrix.shape[0]]
        unknown = np.flatnonzero(gene_map.silent_unknown)
        if len(unknown):
            rows[:, gene_map.silent[unknown]] = self._nothing_counted(unknown, unobserved)
        rows[counts.row, gene_map.silent[counts.col]] = self._values(counts.data, counts.row, data)
        for row in np.flatnonzero(blind):
            x = matrix[[row]][:, gene_map.silent_source].toarray()[0]
            rows[row, gene_map.silent[x == 0]] = np.nan

    def _nothing_counted(self, unknown: np.ndarray, unobserved: sp.csr_matrix | None) -> Any:
        """Values of genes that no cell of the fit observed, where nothing was counted: 0 where that was observed."""
        if self.output not in _KNOWN:
            return np.nan
        if unobserved is None:
            return 0.0
        return np.where(unobserved[:, self.found.silent_source[unknown]].toarray(), np.nan, 0)

    def _values(self, x: np.ndarray, row: np.ndarray, data: CellData) -> np.ndarray:
        """Values of the counts above 0, (n,), in these rows."""
        if self.output not in _KNOWN:
            return np.full(len(x), np.nan)  # it is not known how far a count is from what is expected
        if self.output == "mean":
            return x
        depth = np.asarray(data.counts.sum(axis=1), np.float64).ravel() / data.share
        share = np.divide(x, depth[row], out=np.full(len(x), np.nan), where=depth[row] > 0)
        return np.log1p(1e4 * share) if self.output == "log1p" else share


def say_filled(blocks: Sequence[Sequence[OwnCounts]], counts: AnyCounts) -> None:
    """Warn of what was found, once all blocks are filled in; of each block there is one filler for each output."""
    first = [fillers[0] for fillers in blocks]
    counted = np.logical_or.reduce([filler.counted for filler in first])
    say_silent(counted, first[0].found, counts.var_names, fate(*(filler.output for filler in blocks[0])))
    say_blind(sum(filler.n_blind for filler in first), counts.shape[0])


def fate(*outputs: str | float) -> str:
    """Return what becomes of the counts of silent genes, in words."""
    words: dict[str, list[str]] = {}
    for output in outputs:
        words.setdefault(AS_COUNTED if output in _KNOWN else _LOST, []).append(repr(output))
    return "; ".join(what if len(words) == 1 else f"{what} ({', '.join(which)})" for what, which in words.items())


def say_blind(n_blind: int, n_obs: int) -> None:
    """Warn of cells of which nothing was observed."""
    if n_blind:
        get_logger().warning(
            f"scdae: of {n_blind:,} of {n_obs:,} cells no gene of the model was observed (mask), so that not even their depth is "
            "known: they come back as NaN. Leave them out of the data."
        )


def counted_silent(counts: AnyCounts, gene_map: GeneMap) -> np.ndarray | None:
    """Return which silent genes have counts in a query: bool (n_silent,), or None where that is not known before it is read."""
    if isinstance(counts, Counts):
        total = np.bincount(counts.matrix.indices, minlength=counts.shape[1])
    elif isinstance(counts, CountBlocks):
        total = counts.blocks.totals
    else:
        return None
    return np.asarray(total[gene_map.silent_source] > 0)


def say_silent(counted: np.ndarray | None, gene_map: GeneMap, var_names: Any, what: str = AS_COUNTED) -> None:
    """Warn of genes that a query counted and the model did not.

    Parameters
    ----------
    counted
        Bool (n_silent,): those with counts.
    gene_map
        Where the genes are.
    var_names
        Names of the query's genes.
    what
        What becomes of these genes, in words.
    """
    if counted is None or not counted.any():
        return
    names = np.asarray(var_names)[gene_map.silent_source[counted]]
    get_logger().warning(
        f"scdae: {len(names):,} gene(s) have counts here and had none where the model was fitted, the first being "
        f"{str(names[0])!r}. Nothing was learned about them: {what}. model.adapt(adata) learns them."
    )
