import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.data.canonical import canonical_order


def in_canonical_order(counts):
    cells, genes = canonical_order(sp.csr_matrix(counts))
    assert np.array_equal(np.sort(cells), np.arange(len(counts)))
    assert np.array_equal(np.sort(genes), np.arange(counts.shape[1]))
    return counts[cells][:, genes]


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_same_wherever_cells_and_genes_were(scale):
    rng = np.random.default_rng(0)
    counts = (scale * rng.poisson(0.3, (80, 50))).astype(np.float32)  # some cells and genes have the same total
    expected = in_canonical_order(counts)
    for _ in range(5):
        other = counts[rng.permutation(80)][:, rng.permutation(50)]
        np.testing.assert_array_equal(in_canonical_order(other), expected)


def test_cells_that_differ_only_in_which_genes_they_have_are_told_apart():
    counts = np.array([[1, 2, 0], [2, 1, 0], [0, 5, 7], [0, 5, 8]], np.float32)
    expected = in_canonical_order(counts)
    for rows in ([1, 0, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        np.testing.assert_array_equal(in_canonical_order(counts[rows]), expected)


def test_equal_ones_stay_as_they_are():
    cells, genes = canonical_order(sp.csr_matrix(np.ones((4, 3), np.float32)))
    np.testing.assert_array_equal(cells, np.arange(4))
    np.testing.assert_array_equal(genes, np.arange(3))
