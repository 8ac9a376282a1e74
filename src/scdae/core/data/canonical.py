"""An order of cells and genes that follows from the counts alone, so that a fit does not depend on the one they came in."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.non_zeros import entry_rows

__all__ = ["canonical_order"]


def canonical_order(counts: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Cells and genes by hash values of what was counted in them.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars).

    Returns
    -------
    tuple
        int64 (n_obs,) and (n_vars,): rows and columns in an order that is the same wherever they were before. Cells, or
        genes, with equal counts stay as they are among themselves.

    Notes
    -----
    A cell is known by the sum of the hash values of its counts, a gene by that of its counts with their cells, and each
    cell once more by its counts with their genes. Sums of 64-bit integers that overflow are the same in any order,
    which those of floating point numbers are not.

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
    """64-bit integers whose bits all depend on all of those before (the finalizer of SplitMix64; Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
