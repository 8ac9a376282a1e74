"""Canonical order of cells and genes: it follows from the counts alone, so a fit does not depend on the input order."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.non_zeros import entry_rows

__all__ = ["canonical_order"]


def canonical_order(counts: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Order cells and genes by hash values of their counts.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars).

    Returns
    -------
    tuple
        int64 (n_obs,) and (n_vars,): rows and columns in canonical order, whatever their order in `counts`. Cells with
        equal counts keep their relative order, and so do genes.

    Notes
    -----
    A cell gets the sum of the hash values of its counts. A gene gets the sum over its counts, each hashed together with
    the value of its cell; then each cell gets the sum over its counts, hashed with the values of their genes. Sums of
    64-bit integers that wrap around do not depend on the order of the terms; sums of floating-point numbers do.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from scdae.core.data.canonical import canonical_order
    >>> counts = np.array([[1.0, 0.0, 4.0], [2.0, 3.0, 0.0]], np.float32)
    >>> other = counts[::-1, [2, 0, 1]]
    >>> (cells, genes), (cells_too, genes_too) = (canonical_order(sp.csr_matrix(x)) for x in (counts, other))
    >>> bool((counts[cells][:, genes] == other[cells_too][:, genes_too]).all())
    True
    """
    rows, columns = entry_rows(counts), counts.indices
    own = _mixed(np.ascontiguousarray(counts.data, np.float32).view(np.uint32).astype(np.uint64))
    of_cell, of_gene = (np.zeros(n, np.uint64) for n in counts.shape)
    np.add.at(of_cell, rows, own)
    np.add.at(of_gene, columns, _mixed(own + of_cell[rows]))
    of_cell[:] = 0
    np.add.at(of_cell, rows, _mixed(own + of_gene[columns]))
    return np.argsort(of_cell, kind="stable"), np.argsort(of_gene, kind="stable")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mix 64-bit integers: each output bit depends on all input bits (finalizer of SplitMix64; Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
