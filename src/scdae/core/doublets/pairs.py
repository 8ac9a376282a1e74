"""Simulated doublets: sums of the counts of random pairs of cells."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

__all__ = ["random_pairs", "sums_of_pairs"]


def random_pairs(cells: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pairs of two different cells.

    Parameters
    ----------
    cells
        int (n,): the cells to draw from, at least two.
    number
        Pairs to draw.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        int64 (number, 2). A pair may come twice.

    Raises
    ------
    ValueError
        There are fewer than two cells.

    Examples
    --------
    >>> import numpy as np
    >>> pairs = random_pairs(np.array([3, 5]), 4, np.random.default_rng(0))
    >>> pairs.sum(axis=1).tolist()
    [8, 8, 8, 8]
    """
    if len(cells) < 2:
        raise ValueError(f"Pairs need two cells, and there are {len(cells)}.")
    first = rng.integers(0, len(cells), number)
    second = (first + rng.integers(1, len(cells), number)) % len(cells)
    return np.asarray(cells)[np.stack([first, second], axis=1)].astype(np.int64)


def sums_of_pairs(counts: sp.csr_matrix, pairs: np.ndarray) -> sp.csr_matrix:
    """Add the counts of the two cells of each pair: CSR (n_pairs, n_genes) of the dtype of `counts`, canonical.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> sums_of_pairs(sp.csr_matrix([[1.0, 0.0], [2.0, 3.0]]), np.array([[0, 1]])).toarray().tolist()
    [[3.0, 3.0]]
    """
    total = (counts[pairs[:, 0]] + counts[pairs[:, 1]]).tocsr()
    total.sort_indices()
    return total
