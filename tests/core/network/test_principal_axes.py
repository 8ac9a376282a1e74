import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import subspace_angles

import small
from scdae.core.data.cells import CellData
from scdae.core.data.conditions import effect_of, no_conditions
from scdae.core.data.exposure import gene_profile, observed_share
from scdae.core.network import principal_axes as axes_module
from scdae.core.network.encoder_input import LARGEST, correct, normalize, project
from scdae.core.network.principal_axes import fit_axes

N_OBS, N_VARS = 60, 12


def cells(counts, hidden=None, share=None, conditions=None):
    counts = np.asarray(counts, np.float32)
    share = np.ones(len(counts)) if share is None else share
    hidden = None if hidden is None else sp.csr_matrix(hidden)
    conditions = no_conditions(len(counts)) if conditions is None else conditions
    return CellData(sp.csr_matrix(counts), hidden, conditions, share.astype(np.float32))


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


def test_normalize_is_log_counts_per_ten_thousand_of_the_whole_panel(counts):
    share = np.linspace(0.2, 1, N_OBS)
    expected = np.log1p(1e4 * counts * share[:, None] / counts.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(normalize(cells(counts, share=share)).toarray(), expected, rtol=1e-5)


def test_axes_are_the_principal_ones(counts):
    axes = fit_axes(cells(counts), 1.0, 4, np.random.default_rng(0))  # nothing is thinned away
    centered = log_counts(counts)
    centered -= centered.mean(axis=0)
    _, _, right = np.linalg.svd(centered, full_matrices=False)
    assert axes.weight.shape == (N_VARS, 4) and axes.weight.dtype == np.float32
    assert subspace_angles(axes.weight[:, :2], right[:2].T).max() < 1e-3
    assert np.sqrt(np.mean((centered @ axes.weight) ** 2)) == pytest.approx(2.0, rel=1e-3)


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
    values = normalize(cells(seen, share=share)).toarray()
    mean = np.where(hidden, 0, values).sum(axis=0) / (~hidden).sum(axis=0)
    np.testing.assert_allclose(axes.gene_mean, mean, rtol=1e-4)
    _, _, right = np.linalg.svd(np.where(hidden, 0, values - mean), full_matrices=False)
    assert subspace_angles(axes.weight[:, :2], right[:2].T).max() < 1e-2


def test_axes_are_learned_at_the_depth_of_the_thinned_input(counts):
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
    centered = log_counts(counts) - axes.gene_mean
    assert np.abs(axes.gene_mean - log_counts(counts).mean(axis=0)).max() < 1.5
    assert np.sqrt(np.mean((centered @ axes.weight) ** 2)) == pytest.approx(2.0, rel=0.3)


@pytest.mark.parametrize("masked", [False, True])
def test_project_centers_and_projects_the_observed_entries(counts, masked):
    hidden = np.random.default_rng(1).random(counts.shape) < 0.3 if masked else None
    seen = counts if hidden is None else np.where(hidden, 0, counts)
    share = np.linspace(0.5, 1, N_OBS)
    data = cells(seen, hidden, share)
    axes = fit_axes(data, 1.0, 4, np.random.default_rng(0))
    exposure = seen.sum(axis=1) / share
    values = np.log1p(1e4 * seen / exposure[:, None]) - axes.gene_mean
    expected = (values if hidden is None else np.where(hidden, 0, values)) @ axes.weight
    inputs = project(axes, data)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, expected, rtol=1e-3, atol=1e-3)


# Effects that are taken off -----------------------------------------------------------------------------------------


@pytest.fixture
def conditions():
    rng = np.random.default_rng(5)
    return small.of_levels(rng.integers(0, 2, N_OBS), rng.integers(2, 5, N_OBS), values=rng.normal(size=(1, N_OBS)))


@pytest.fixture
def effects():
    return np.random.default_rng(6).normal(0, 0.5, (6, N_VARS)).astype(np.float32)


def test_counts_are_divided_by_the_factors_of_the_cell(counts, conditions, effects):
    data = sp.csr_matrix(counts)
    found = correct(data, effects, conditions)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), counts * np.exp(-effect_of(effects, conditions)), rtol=1e-4)
    np.testing.assert_array_equal(data.toarray(), counts)
    assert correct(data, None, conditions) is data
    values_alone = small.of_levels(values=conditions.values.T)
    np.testing.assert_allclose(
        correct(data, effects[5:], values_alone).toarray(),
        counts * np.exp(-values_alone.values * effects[5]),
        rtol=1e-4,
    )


@pytest.mark.parametrize("sign", [-1, 1])
def test_factors_are_limited(counts, sign):
    level = small.of_levels(np.zeros(N_OBS))
    found = correct(sp.csr_matrix(counts), np.full((1, N_VARS), sign * 50.0, np.float32), level)
    np.testing.assert_allclose(found.toarray(), counts * np.exp(-sign * LARGEST), rtol=1e-4)


def test_normalized_counts_are_those_before_the_effects(conditions, effects):
    """Also the exposure of the cell is that without them."""
    rng = np.random.default_rng(0)
    plain = rng.gamma(2, 10, (N_OBS, N_VARS))
    moved = plain * np.exp(effect_of(effects, conditions))
    share = np.linspace(0.5, 1, N_OBS)
    found = normalize(cells(moved, share=share, conditions=conditions), effects).toarray()
    np.testing.assert_allclose(found, normalize(cells(plain, share=share)).toarray(), rtol=1e-4)
    assert not np.allclose(normalize(cells(moved, share=share)).toarray(), found, rtol=0.01)


@pytest.mark.parametrize("masked", [False, True])
def test_axes_and_inputs_are_those_before_the_effects(conditions, effects, masked):
    rng = np.random.default_rng(0)
    plain = rng.gamma(2, 10, (3, N_VARS))[rng.integers(0, 3, N_OBS)] * rng.gamma(20, 1 / 20, (N_OBS, N_VARS))
    hidden = rng.random(plain.shape) < 0.2 if masked else None
    plain = plain if hidden is None else np.where(hidden, 0, plain)
    before = cells(plain, hidden)
    after = cells(plain * np.exp(effect_of(effects, conditions)), hidden, conditions=conditions)
    axes = fit_axes(before, 1.0, 4, np.random.default_rng(0))
    found = fit_axes(after, 1.0, 4, np.random.default_rng(0), effects)
    assert axes.effects is None and found.effects is effects
    np.testing.assert_allclose(found.gene_mean, axes.gene_mean, rtol=1e-4)
    inputs = project(found, after)
    np.testing.assert_allclose(inputs @ inputs.T, project(axes, before) @ project(axes, before).T, rtol=1e-2, atol=1e-2)
    assert inputs.dtype == np.float32
    unknown = fit_axes(after, 1.0, 4, np.random.default_rng(0))
    assert np.abs(unknown.gene_mean - axes.gene_mean).max() > 0.05
