"""Whether self-consistency helps: entries that were observed are hidden on purpose, filled in both ways, and compared.

A network that saw few entries of every cell in training takes what it sees for a part of the signal and answers with more.
Fed with its own completed profile it answers with more again, and the fixed point is far from the truth or not there at all.
Where other cells were seen whole, the fixed point is what the idea promises. The data tell which of the two it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from scdae.core.config import FixedPoint
from scdae.core.data.cells import CellData, cell_data
from scdae.core.data.non_zeros import entry_rows
from scdae.core.distributions.predictive_numpy import law_of_entries, log_prob
from scdae.core.network.fitted import Fitted
from scdae.core.prediction.decode import law_of_genes, read_out

__all__ = ["choose_filling", "hide_as_others"]

_CELLS = 512  # looked at
_MOST = 0.5  # fraction of a cell's observed entries that is hidden


def choose_filling(fitted: Fitted, data: CellData, rng: np.random.Generator) -> FixedPoint:
    """Return the fixed point as set, or one pass where that predicts entries hidden on purpose better.

    Parameters
    ----------
    fitted
        Trained model.
    data
        Cells that it was trained on, with missing entries.
    rng
        Draws the cells and what is hidden of them.

    Returns
    -------
    FixedPoint
        That of `fitted`, or the same with no iterations.
    """
    if data.unobserved is None or not data.unobserved.nnz or fitted.gaps.max_iter == 0:
        return fitted.gaps
    chosen = data.take(np.sort(rng.permutation(data.n_obs)[:_CELLS]))
    hidden = hide_as_others(chosen.unobserved, data.unobserved, rng)
    some = np.flatnonzero(np.diff(hidden.indptr))
    if not len(some):
        return fitted.gaps
    chosen, hidden = chosen.take(some), hidden[some]
    truth = np.asarray(chosen.counts[hidden.nonzero()], np.float64).ravel()
    shown = chosen.counts - chosen.counts.multiply(hidden).tocsr()
    shown.eliminate_zeros()
    gaps = (chosen.unobserved + hidden).tocsr()
    query = cell_data(sp.csr_matrix(shown, dtype=np.float32), gaps, chosen.conditions, fitted.profile)
    one_pass = fitted.gaps._replace(max_iter=0)
    likelihoods = [_log_likelihood(replace(fitted, gaps=how), query, hidden, truth) for how in (fitted.gaps, one_pass)]
    return one_pass if likelihoods[1] > likelihoods[0] else fitted.gaps


def hide_as_others(own: sp.csr_matrix, others: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Observed entries to hide in each cell: those that another cell, drawn among those with missing entries, lacks.

    Parameters
    ----------
    own
        Boolean CSR (n, n_vars): missing entries of the cells.
    others
        Boolean CSR (m, n_vars): missing entries of the cells to draw from; one at least has some.
    rng
        Draws the other cell, and which of its gaps are taken where these are more than half of what the cell has.

    Returns
    -------
    scipy.sparse.csr_matrix
        Boolean (n, n_vars).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> whole, panel = np.zeros((1, 4), bool), np.array([[False, False, True, True]])
    >>> hide_as_others(sp.csr_matrix(whole), sp.csr_matrix(panel), np.random.default_rng(0)).toarray()
    array([[False, False,  True,  True]])
    """
    models = rng.choice(np.flatnonzero(np.diff(others.indptr)), own.shape[0])
    extra = (others[models].astype(np.int8) > own.astype(np.int8)).tocsr()
    row = entry_rows(extra)
    allowed = (_MOST * (own.shape[1] - np.diff(own.indptr))).astype(np.int64)
    order = np.lexsort((rng.random(extra.nnz), row))  # by cell, and at random within it
    rank = np.empty(extra.nnz, np.int64)
    rank[order] = np.arange(extra.nnz) - np.repeat(extra.indptr[:-1], np.diff(extra.indptr))
    kept = rank < allowed[row]
    ends = np.concatenate([[0], np.cumsum(kept)])[extra.indptr]
    return sp.csr_matrix((np.ones(int(kept.sum()), bool), extra.indices[kept], ends), shape=extra.shape)


def _log_likelihood(fitted: Fitted, data: CellData, hidden: sp.csr_matrix, truth: np.ndarray) -> float:
    """Compute the log probability of the hidden counts, `truth` in the order of the entries of `hidden`."""
    laws, exposure = law_of_genes(fitted), data.exposure
    total = 0.0
    for rows, prior, _ in read_out(fitted, data, "prior"):
        at = hidden[rows].nonzero()
        level = laws.level(prior, exposure[rows])
        law = law_of_entries(laws.at(at[1], None if level is None else level[at]), None, prior[at], 1.0)
        entries = slice(hidden.indptr[rows.start], hidden.indptr[rows.stop])
        total += float(log_prob(truth[entries], law).sum())
    return total
