"""Quantiles of the expected counts of whole cells.

Most counts are zero, and a zero's posterior without dropout is, up to its scale, that of the gene: one inversion of the
gamma distribution for each gene serves all of its zeros, and only the other entries need one each.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy import special

from scdae.core.posterior import posterior_quantile

__all__ = ["cell_quantiles"]


def cell_quantiles(
    q: float,
    counts: sp.csr_matrix,
    prior: np.ndarray,
    theta: np.ndarray,
    pi: np.ndarray | None = None,
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
    theta
        Inverse dispersion (n_vars,); infinite for a Poisson model, which is certain.
    pi
        Probability of dropout (n_vars,), or None.
    observed
        Bool (b, n_vars), or None: other entries keep the law that they had before.

    Returns
    -------
    numpy.ndarray
        float32 (b, n_vars)

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scdae.core.quantiles import cell_quantiles
    >>> cell_quantiles(0.95, sp.csr_matrix([[6.0, 0.0]]), np.array([[3.0, 3.0]]), np.array([1.5, 1.5])).round(2)
    array([[8.33, 2.6 ]], dtype=float32)
    """
    shape = theta.astype(np.float64)
    finite = np.isfinite(shape)
    if not finite.all():
        return np.array(prior, np.float32)
    value = special.gammaincinv(shape, q) / (shape + prior)
    entries = counts.tocoo()
    at = entries.row, entries.col
    value[at] = special.gammaincinv(shape[entries.col] + entries.data, q) / (shape[entries.col] + prior[at])
    value *= prior
    if observed is not None:
        before = special.gammaincinv(shape, q) / shape * prior
        value = np.where(observed, value, before)
    if pi is not None and pi.any():
        genes = np.flatnonzero(pi)
        with_it = posterior_quantile(
            q, counts[:, genes].toarray(), prior[:, genes].astype(np.float64), shape[genes], pi[genes]
        )
        value[:, genes] = with_it if observed is None else np.where(observed[:, genes], with_it, value[:, genes])
    return value.astype(np.float32)
