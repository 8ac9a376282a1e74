import numpy as np
import scipy.sparse as sp

import small
from scdae.core.data.cells import CellData, adjacent_rows


def test_adjacent_rows_are_those_of_a_slice_and_share_its_memory():
    rng = np.random.default_rng(0)
    matrix = sp.csr_matrix(rng.poisson(0.4, (9, 6)).astype(np.float32))
    for start, stop in ((0, 9), (3, 7), (4, 4)):
        part = adjacent_rows(matrix, start, stop)
        np.testing.assert_array_equal(part.toarray(), matrix[start:stop].toarray())
        assert part.nnz == 0 or np.shares_memory(part.data, matrix.data)


def test_rows_are_what_take_gives_for_a_slice():
    rng = np.random.default_rng(1)
    counts, hidden = rng.poisson(0.8, (8, 5)).astype(np.float32), rng.random((8, 5)) < 0.2
    conditions = small.of_levels(rng.integers(0, 2, 8))
    data = CellData(sp.csr_matrix(counts), sp.csr_matrix(hidden), conditions, rng.uniform(0.5, 1, 8).astype(np.float32))
    one, other = data.rows(slice(2, 6)), data.take(np.arange(2, 6))
    np.testing.assert_array_equal(one.counts.toarray(), other.counts.toarray())
    np.testing.assert_array_equal(one.unobserved.toarray(), other.unobserved.toarray())
    np.testing.assert_array_equal(one.conditions.levels, other.conditions.levels)
    np.testing.assert_array_equal(one.share, other.share)
