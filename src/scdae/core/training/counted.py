"""What a fit works on: the cells and genes that have counts, without single counts that are far too large."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from scdae.core.data.canonical import canonical_order
from scdae.core.data.chunks import Blocks
from scdae.core.data.conditions import Conditions
from scdae.core.data.exposure import gene_profile
from scdae.core.data.extreme_counts import extreme_entries, largest_count, without_extremes
from scdae.core.data.non_zeros import entry_rows

__all__ = ["Counted", "counted", "profile_of"]


class Counted(NamedTuple):
    """The cells and genes that have counts, in the order that a fit works in."""

    counts: sp.csr_matrix
    unobserved: sp.csr_matrix | None
    conditions: Conditions | None
    rows: np.ndarray  # int64 (n_obs,): rows of these cells
    genes: np.ndarray  # int64 (n_vars,): columns of these genes
    largest: float  # most molecules of a single count
    extremes: tuple[np.ndarray, np.ndarray] | None  # rows and columns of counts beyond that
    back: (
        tuple[np.ndarray, np.ndarray] | None
    )  # places of cells and genes in the order that they came in; None for the same


def counted(
    counts: sp.csr_matrix, unobserved: sp.csr_matrix | None, conditions: Conditions | None, blocks: Blocks | None
) -> Counted:
    """Leave out cells and genes without counts, and single counts that are far too large."""
    genes = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) if blocks is None else blocks.totals)
    cells = np.flatnonzero(np.diff(counts.indptr))
    rows = cells if blocks is None else blocks.rows[cells]
    counts = counts[cells][:, genes]
    unobserved = None if unobserved is None else unobserved[cells][:, genes]
    of_cells = None if conditions is None else conditions.take(rows)

    largest = largest_count(counts)
    extreme = extreme_entries(counts, largest)
    extremes = None if not len(extreme) else (rows[entry_rows(counts)[extreme]], genes[counts.indices[extreme]])
    counts = without_extremes(counts, largest, gene_profile(_without(counts, extreme), unobserved))
    if blocks is not None:
        return Counted(counts, unobserved, of_cells, rows, genes, largest, extremes, None)

    # The same fit in whatever order cells and genes came.
    order, of_genes = canonical_order(counts)
    counts, unobserved = (None if part is None else part[order][:, of_genes].tocsr() for part in (counts, unobserved))
    for part in (counts, unobserved):
        if part is not None:
            part.sort_indices()
    of_cells = None if of_cells is None else of_cells.take(order)
    back = np.argsort(order), np.argsort(of_genes)
    return Counted(counts, unobserved, of_cells, rows[order], genes[of_genes], largest, extremes, back)


def profile_of(chosen: Counted, blocks: Blocks | None) -> np.ndarray:
    """Return the fraction of each gene in the average cell, float64: that of the cells, moved by the molecules of all in `blocks`."""
    profile = gene_profile(chosen.counts, chosen.unobserved)
    if blocks is None:
        return profile
    total = blocks.totals[chosen.genes]
    if blocks.hidden is None:
        return total / total.sum()
    here = np.asarray(chosen.counts.sum(axis=0), dtype=np.float64).ravel()
    moved = np.maximum(profile, 1 / here.sum()) * (total + 1) / (here + 1)
    return moved / moved.sum()


def _without(counts: sp.csr_matrix, entries: np.ndarray) -> sp.csr_matrix:
    """Set some entries to zero; return the same object where there are none."""
    if not len(entries):
        return counts
    rest = counts.copy()
    rest.data[entries] = 0
    return rest
