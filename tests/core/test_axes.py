import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import subspace_angles

from scdae.core import axes as axes_module
from scdae.core.axes import fit_axes, gene_profile, normalise, observed_share, project
from scdae.core.cells import CellData

N_OBS, N_VARS = 60, 12


def cells(counts, hidden=None, share=None):
    counts = np.asarray(counts, np.float32)
    share = np.ones(len(counts)) if share is None else share
    hidden = None if hidden is None else sp.csr_matrix(hidden)
    return CellData(sp.csr_matrix(counts), hidden, np.zeros(len(counts), np.int32), share.astype(np.float32))


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    kinds = rng.gamma(2, 3, (3, N_VARS))
    return rng.poisson(kinds[rng.integers(0, 3, N_OBS)]).astype(np.float32)


def log_counts(counts):
    return np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))


def test_profile_without_mask_is_the_share_of_all_counts(counts):
    profile = gene_profile(sp.csr_matrix(counts), None)
    np.testing.assert_allclose(profile, counts.sum(axis=0) / counts.sum(), rtol=1e-6)
    np.testing.assert_array_equal(observed_share(profile, None, 3), 1)


def test_profile_of_half_measured_genes_is_that_of_the_whole_panel():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.ones(N_VARS))
    depth = rng.uniform(100, 5000, (N_OBS, 1))
    hidden = np.zeros((N_OBS, N_VARS), bool)
    hidden[: N_OBS // 2, :5] = True
    hidden |= rng.random(hidden.shape) < 0.1
    noiseless = np.where(hidden, 0, depth * truth).astype(np.float32)
    profile = gene_profile(sp.csr_matrix(noiseless), sp.csr_matrix(hidden), n_iter=200)
    np.testing.assert_allclose(profile, truth, rtol=1e-3)
    share = observed_share(profile, sp.csr_matrix(hidden))
    np.testing.assert_allclose(noiseless.sum(axis=1) / share, depth[:, 0], rtol=1e-3)


def test_profile_of_genes_never_observed_is_zero(counts):
    hidden = np.zeros(counts.shape, bool)
    hidden[:, 2] = True
    profile = gene_profile(sp.csr_matrix(np.where(hidden, 0, counts)), sp.csr_matrix(hidden))
    assert profile[2] == 0 and profile.sum() == pytest.approx(1)


def test_normalise_is_log_counts_per_ten_thousand_of_the_whole_panel(counts):
    share = np.linspace(0.2, 1, N_OBS)
    expected = np.log1p(1e4 * counts * share[:, None] / counts.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(normalise(cells(counts, share=share)).toarray(), expected, rtol=1e-5)


def test_axes_are_the_principal_ones(counts):
    axes = fit_axes(cells(counts), 1.0, 4, np.random.default_rng(0))  # nothing is thinned away
    centred = log_counts(counts)
    centred -= centred.mean(axis=0)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    assert axes.weight.shape == (N_VARS, 4) and axes.weight.dtype == np.float32
    assert subspace_angles(axes.weight[:, :2], right[:2].T).max() < 1e-3
    assert np.sqrt(np.mean((centred @ axes.weight) ** 2)) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_axes_are_shrunk_by_how_reliable_they_are(masked):
    rng = np.random.default_rng(0)
    side = np.where(np.arange(N_VARS) % 2, 0.3, -0.3)
    counts = rng.poisson(30 * np.exp(rng.uniform(-1, 1, (2000, 1)) * side))  # one direction, and noise
    hidden = rng.random(counts.shape) < 0.1 if masked else None
    counts = counts if hidden is None else np.where(hidden, 0, counts)
    axes = fit_axes(cells(counts, hidden), 0.5, 6, np.random.default_rng(1))
    size = np.linalg.norm(axes.weight, axis=0)
    assert (
        size[0] > 0 and (np.sort(size)[:4] < 0.3 * size[0]).all()
    )  # the level of all genes, a curve, is reliable, too


def test_axes_of_masked_data_ignore_what_lies_under_the_mask(counts):
    hidden = np.random.default_rng(1).random(counts.shape) < 0.2
    seen = np.where(hidden, 0, counts)
    share = np.full(N_OBS, 0.8)
    axes = fit_axes(cells(seen, hidden, share), 1.0, 3, np.random.default_rng(0))
    values = normalise(cells(seen, share=share)).toarray()
    mean = np.where(hidden, 0, values).sum(axis=0) / (~hidden).sum(axis=0)
    np.testing.assert_allclose(axes.gene_mean, mean, rtol=1e-4)
    _, _, right = np.linalg.svd(np.where(hidden, 0, values - mean), full_matrices=False)
    assert subspace_angles(axes.weight[:, :2], right[:2].T).max() < 1e-2


def test_axes_are_learnt_at_the_depth_of_the_thinned_input(counts):
    few = fit_axes(cells(counts), 0.3, 2, np.random.default_rng(0))
    assert few.gene_mean.mean() < log_counts(counts).mean()


def test_never_more_axes_than_cells_or_genes(counts):
    assert fit_axes(cells(counts), 1.0, 64, np.random.default_rng(0)).weight.shape == (N_VARS, N_VARS)
    assert fit_axes(cells(counts[:3]), 1.0, 64, np.random.default_rng(0)).weight.shape == (N_VARS, 3)


def test_equal_cells_give_finite_axes():
    axes = fit_axes(cells(np.ones((5, N_VARS))), 1.0, 3, np.random.default_rng(0))
    assert np.isfinite(axes.weight).all()


def test_large_data_are_subsampled(counts, monkeypatch):
    monkeypatch.setattr(axes_module, "MAX_CELLS", 20)
    axes = fit_axes(cells(counts), 1.0, 3, np.random.default_rng(0))
    centred = log_counts(counts) - axes.gene_mean
    assert np.abs(axes.gene_mean - log_counts(counts).mean(axis=0)).max() < 1.5
    assert np.sqrt(np.mean((centred @ axes.weight) ** 2)) == pytest.approx(2.0, rel=0.3)


@pytest.mark.parametrize("masked", [False, True])
def test_project_centres_and_projects_the_observed_entries(counts, masked):
    hidden = np.random.default_rng(1).random(counts.shape) < 0.3 if masked else None
    seen = counts if hidden is None else np.where(hidden, 0, counts)
    data = cells(seen, hidden)
    axes = fit_axes(data, 1.0, 4, np.random.default_rng(0))
    exposure = np.linspace(50, 100, N_OBS)
    values = np.log1p(1e4 * seen / exposure[:, None]) - axes.gene_mean
    expected = (values if hidden is None else np.where(hidden, 0, values)) @ axes.weight
    inputs = project(axes, data.counts, exposure, data.unobserved)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, expected, rtol=1e-3, atol=1e-3)
