"""Quantiles of the expected counts of whole cells.

Most counts are zero, and a zero's posterior is, up to its scale, that of the gene; with several components it changes slowly
with the mean and with the entry's level, so that it is worked out at some of both and interpolated, but for the few at which one
component takes over from another. Only these and the other entries need an inversion each.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.components import Components
from scdae.core.distributions.mixtures import given_counts
from scdae.core.distributions.posterior import posterior_quantile

__all__ = ["cell_quantiles"]

_STEP = 0.0625  # between means, on the log scale
_APART = (
    0.05  # of themselves by which two quantiles side by side may differ for what lies between them to be interpolated
)
_LOW = np.log(
    1e-5
)  # below it, zeros say nothing: less than a thousandth, under the smallest inverse dispersion of the grid
_AT_ONCE = 100_000  # entries
_LEVELS = 8  # steps between where a gene is low and where it is high


def cell_quantiles(
    q: float,
    counts: sp.csr_matrix,
    prior: np.ndarray,
    laws: Components,
    observed: np.ndarray | None = None,
    level: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the quantile `q` of every entry's expected count.

    Parameters
    ----------
    q
        Probability, from 0 to 1.
    counts
        CSR (b, n_vars).
    prior
        Expected counts by the model, before the entry's own count is weighed in: float32 (b, n_vars).
    laws
        Components of the genes.
    observed
        Bool (b, n_vars), or None: other entries keep the law that they had before.
    level
        (b, n_vars): levels of the entries, see :meth:`scdae.core.distributions.components.Components.level`, or None.

    Returns
    -------
    numpy.ndarray
        float32 (b, n_vars)

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scdae.core.distributions.components import Components
    >>> from scdae.core.distributions.quantiles import cell_quantiles
    >>> one = Components(*(np.full((1, 2), value) for value in (1.5, 1.0, 1.0, 0.0)))
    >>> cell_quantiles(0.95, sp.csr_matrix([[6.0, 0.0]]), np.array([[3.0, 3.0]]), one).round(2)
    array([[8.33, 2.6 ]], dtype=float32)
    """
    if len(laws.theta) == 1:
        return _of_single_laws(q, counts, prior, laws.theta[0].astype(np.float64), laws.lost[0], observed)
    factor, steep = _factor_of_zeros(q, laws, prior, level)
    value = factor * prior
    entries = counts.tocoo()
    steep[entries.row, entries.col] = False
    rows, cols, x = (part[entries.data > 0] for part in (entries.row, entries.col, entries.data))
    more_rows, more_cols = np.nonzero(steep)
    rows, cols = np.concatenate([rows, more_rows]), np.concatenate([cols, more_cols])
    x = np.concatenate([x, np.zeros(len(more_rows), x.dtype)])
    for start in range(0, len(x), _AT_ONCE):
        at = rows[start : start + _AT_ONCE], cols[start : start + _AT_ONCE]
        of_entries = laws.at(at[1], None if level is None else level[at])
        value[at] = given_counts(of_entries, x[start : start + _AT_ONCE], prior[at]).quantile(q)
    if observed is not None and not observed.all():
        gaps = ~observed
        value[gaps] = _factor_before(q, laws, gaps, level) * prior[gaps]
    return np.asarray(value, np.float32)


def _factor_before(q: float, laws: Components, gaps: np.ndarray, level: np.ndarray | None) -> np.ndarray:
    """Compute the quantile over mean of the entries marked in `gaps`, (k,), before anything is counted."""
    gene = np.nonzero(gaps)[1]
    at = np.zeros(len(gene)) if level is None else _LEVELS * level[gaps].astype(np.float64)
    whole = np.minimum(np.floor(at), _LEVELS - 1).astype(np.int64)
    table = np.empty((_LEVELS + 1, laws.theta.shape[1]))
    one = np.ones(table.shape[1])
    for k in range(_LEVELS + 1):
        of_level = laws.at(slice(None), k / _LEVELS * one)
        if k and level is None:
            table[k] = table[0]
            continue
        table[k] = given_counts(of_level, 0 * one, one, np.zeros(len(one), bool)).quantile(q)
    return np.asarray(table[whole, gene] + (at - whole) * (table[whole + 1, gene] - table[whole, gene]))


def _factor_of_zeros(
    q: float, laws: Components, prior: np.ndarray, level: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Quantile over mean of entries without counts, float64 (b, n_vars), interpolated, and where that is too steep."""
    known = np.where(np.isnan(prior), 1, np.maximum(prior, 1e-30))  # where nothing was observed the mean is not known
    step = np.maximum((np.log(known, dtype=np.float64) - _LOW) / _STEP, 0.0)
    first, last = np.floor(step.min(axis=0)).astype(np.int64), np.floor(step.max(axis=0)).astype(np.int64) + 1
    start = np.concatenate([[0], np.cumsum(last - first + 1)])
    n_levels = 1 if level is None else _LEVELS + 1
    whole = np.floor(step).astype(np.int64)
    part, at = step - whole, (start[:-1] + whole - first) * n_levels
    over = above = np.zeros(())
    next_level = 0
    if level is not None:
        height = _LEVELS * level.astype(np.float64)
        above = np.minimum(np.floor(height), _LEVELS - 1)
        over, at, next_level = height - above, at + above.astype(np.int64), 1
    wanted = np.zeros(start[-1] * n_levels, bool)
    corners = [at, at + n_levels, at + next_level, at + n_levels + next_level][: 2 + 2 * next_level]
    for corner in corners:
        wanted[corner] = True
    table, places = np.full(len(wanted), np.nan), np.flatnonzero(wanted)
    gene_of_node = np.repeat(np.arange(len(first)), last - first + 1)
    step_of_node = np.arange(start[-1]) - np.repeat(start[:-1] - first, last - first + 1)
    for begin in range(0, len(places), _AT_ONCE):
        some = places[begin : begin + _AT_ONCE]
        node, rank = np.divmod(some, n_levels)
        mean = np.exp(_LOW + _STEP * step_of_node[node])
        of_nodes = laws.at(gene_of_node[node], None if level is None else rank / _LEVELS)
        table[some] = given_counts(of_nodes, np.zeros(len(mean)), mean).quantile(q) / mean
    values = [table[corner] for corner in corners]
    low, high = values[0], values[0]
    for value in values[1:]:
        low, high = np.minimum(low, value), np.maximum(high, value)
    steep = (high - low > _APART * low) & ~np.isnan(prior)
    between = [values[i] + part * (values[i + 1] - values[i]) for i in range(0, len(values), 2)]
    factor = between[0] if level is None else between[0] + over * (between[1] - between[0])
    return np.asarray(factor), steep


def _of_single_laws(
    q: float,
    counts: sp.csr_matrix,
    prior: np.ndarray,
    shape: np.ndarray,
    pi: np.ndarray,
    observed: np.ndarray | None,
) -> np.ndarray:
    """Return the same where each gene has one Gamma law, and `pi` is its probability of dropout."""
    if not np.isfinite(shape).all():
        return np.array(prior, np.float32)
    value = special.gammaincinv(shape, q) / (shape + prior)
    entries = counts.tocoo()
    at = entries.row, entries.col
    value[at] = special.gammaincinv(shape[entries.col] + entries.data, q) / (shape[entries.col] + prior[at])
    value *= prior
    if observed is not None:
        before = special.gammaincinv(shape, q) / shape * prior
        value = np.where(observed, value, before)
    if pi.any():
        genes = np.flatnonzero(pi)
        with_it = posterior_quantile(
            q, counts[:, genes].toarray(), prior[:, genes].astype(np.float64), shape[genes], pi[genes]
        )
        value[:, genes] = with_it if observed is None else np.where(observed[:, genes], with_it, value[:, genes])
    return value.astype(np.float32)
