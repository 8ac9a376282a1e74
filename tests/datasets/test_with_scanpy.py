"""Counts had back from the logarithms that scanpy ships."""

import numpy as np
import pytest
import scanpy as sc

import scdae


def test_logs_of_the_counts_are_those_of_scanpys_file():
    adata = scdae.datasets.pbmc68k_reduced()
    counts = adata.X.toarray()
    assert adata.shape == (700, 765) and counts.dtype == np.float32
    assert np.array_equal(counts, np.round(counts)) and counts.min() == 0 and counts.max() == 259
    logs = np.log1p(1e4 * counts / adata.obs["total_counts"].to_numpy()[:, None])
    np.testing.assert_allclose(logs, sc.datasets.pbmc68k_reduced().raw.X.toarray(), atol=2e-3)
    assert (counts.sum(axis=1) <= adata.obs["total_counts"]).all(), "these genes are a part of all"
    assert adata.obs["cell_type"].nunique() == 10


def test_another_file_is_refused(monkeypatch):
    other = sc.datasets.pbmc68k_reduced()
    other.obs["n_counts"] *= 1.5
    monkeypatch.setattr("scanpy.datasets.pbmc68k_reduced", lambda: other)
    with pytest.raises(ValueError, match="no whole counts"):
        scdae.datasets.pbmc68k_reduced()
