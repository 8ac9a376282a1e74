import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.data.cells import cell_data
from scdae.core.network import encoder_input
from scdae.core.network.encoder_input import Axes, project


@pytest.mark.parametrize("hidden", [0, 0.2])
def test_gene_by_gene_the_product_with_the_axes_has_the_same_bits(monkeypatch, hidden):
    rng = np.random.default_rng(0)
    counts, gone = rng.poisson(0.5, (150, 40)).astype(np.float32), rng.random((150, 40)) < hidden
    counts[gone] = 0
    counts[7] = 0
    axes = Axes(rng.normal(size=(40, 16)).astype(np.float32), rng.uniform(0, 2, 40).astype(np.float32))
    cells = cell_data(sp.csr_matrix(counts), sp.csr_matrix(gone) if hidden else None, None, np.full(40, 1 / 40))
    assert cells.counts.nnz > encoder_input._BY_GENE * 40
    by_gene = project(axes, cells)
    monkeypatch.setattr(encoder_input, "_BY_GENE", np.inf)
    by_cell = project(axes, cells)
    np.testing.assert_array_equal(by_gene, by_cell)
    scale = 1e4 * cells.share / np.maximum(counts.sum(axis=1), 1e-12)
    dense = np.where(gone, axes.gene_mean, np.log1p(counts * scale[:, None])) - axes.gene_mean
    np.testing.assert_allclose(by_gene, dense @ axes.weight, rtol=1e-4, atol=1e-3)
