"""Quantiles of the expected counts of whole cells.

Most counts are zero, and a zero's posterior is, up to its scale, that of the gene; with several components it changes slowly
with the mean, so that it is worked out at some means and interpolated, but for the few means at which one component takes over from another. Only
these and the other entries need an inversion each.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.laws import Components
from scdae.core.distributions.mixtures import given_counts
from scdae.core.distributions.posterior import posterior_quantile

__all__ = ["cell_quantiles"]

_STEP = 0.0625  # between means, on the log scale
_APART = (
    0.05  # of themselves by which two quantiles side by side may differ for what lies between them to be interpolated
)
_LOW = np.log(1e-4)  # below it, zeros say nothing
_AT_ONCE = 100_000  # entries


def cell_quantiles(
    q: float,
    counts: sp.csr_matrix,
    prior: np.ndarray,
    laws: Components,
    observed: np.ndarray | None = None,
) -> np.ndarray:
    """Quantile `q` of every entry's expected count.

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

    Returns
    -------
    numpy.ndarray
        float32 (b, n_vars)

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scdae.core.distributions.laws import Components
    >>> from scdae.core.distributions.quantiles import cell_quantiles
    >>> one = Components(*(np.full((1, 2), value) for value in (1.5, 1.0, 1.0, 0.0)))
    >>> cell_quantiles(0.95, sp.csr_matrix([[6.0, 0.0]]), np.array([[3.0, 3.0]]), one).round(2)
    array([[8.33, 2.6 ]], dtype=float32)
    """
    if len(laws.theta) == 1:
        return _of_single_laws(q, counts, prior, laws.theta[0].astype(np.float64), laws.lost[0], observed)
    factor, steep = _factor_of_zeros(q, laws, prior)
    value = factor * prior
    entries = counts.tocoo()
    steep[entries.row, entries.col] = False
    rows, cols, x = (part[entries.data > 0] for part in (entries.row, entries.col, entries.data))
    more_rows, more_cols = np.nonzero(steep)
    rows, cols = np.concatenate([rows, more_rows]), np.concatenate([cols, more_cols])
    x = np.concatenate([x, np.zeros(len(more_rows), x.dtype)])
    for start in range(0, len(x), _AT_ONCE):
        at = rows[start : start + _AT_ONCE], cols[start : start + _AT_ONCE]
        value[at] = given_counts(laws.at(at[1]), x[start : start + _AT_ONCE], prior[at]).quantile(q)
    if observed is not None and not observed.all():
        one = np.ones(prior.shape[1])
        before = given_counts(laws, 0 * one, one, np.zeros(len(one), bool)).quantile(q)
        value = np.where(observed, value, before * prior)
    return np.asarray(value, np.float32)


def _factor_of_zeros(q: float, laws: Components, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantile over mean of entries without counts, float64 (b, n_vars), interpolated between means, and where that is too steep."""
    known = np.where(np.isnan(prior), 1, np.maximum(prior, 1e-30))  # where nothing was observed the mean is not known
    step = np.maximum((np.log(known, dtype=np.float64) - _LOW) / _STEP, 0.0)
    first, last = np.floor(step.min(axis=0)).astype(np.int64), np.floor(step.max(axis=0)).astype(np.int64) + 1
    start = np.concatenate([[0], np.cumsum(last - first + 1)])
    gene = np.repeat(np.arange(len(first)), last - first + 1)
    node = np.arange(start[-1]) - np.repeat(start[:-1] - first, last - first + 1)
    table = np.empty(start[-1])
    for begin in range(0, len(gene), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        mean = np.exp(_LOW + _STEP * node[some])
        table[some] = given_counts(laws.at(gene[some]), np.zeros(len(mean)), mean).quantile(q) / mean
    whole = np.floor(step).astype(np.int64)
    part, at = step - whole, start[:-1] + whole - first
    one, other = table[at], table[at + 1]
    steep = (np.abs(one - other) > _APART * np.minimum(one, other)) & ~np.isnan(prior)
    return np.asarray((1 - part) * one + part * other), steep


def _of_single_laws(
    q: float,
    counts: sp.csr_matrix,
    prior: np.ndarray,
    shape: np.ndarray,
    pi: np.ndarray,
    observed: np.ndarray | None,
) -> np.ndarray:
    """The same where each gene has one Gamma law, and `pi` is its probability of dropout."""
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
