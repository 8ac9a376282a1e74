"""Non-zeros of a sparse matrix by cell."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

__all__ = ["entry_rows"]


def entry_rows(matrix: sp.csr_matrix) -> np.ndarray:
    """Return the row of each stored entry: int32 (nnz,)."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
