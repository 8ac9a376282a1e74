import numpy as np
import pytest
from scipy import linalg

from linear_dae import fit_linear_dae, linear_denoiser, shrinkage

VARIANCES = np.array([9.0, 4.0, 1.0, 0.25, 0.04, 0.01])


@pytest.fixture(scope="module")
def axes():
    return np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]


@pytest.fixture(scope="module")
def data(axes):
    """Rows around a mean of 2, whose sample covariance has exactly the stated variances and axes."""
    rows = np.random.default_rng(1).normal(size=(1000, 6))
    rows = linalg.orth(rows - rows.mean(axis=0)) * 1000**0.5
    return 2 + rows * VARIANCES**0.5 @ axes.T


@pytest.fixture(scope="module")
def trained(data):
    return fit_linear_dae(data, 0.7, n_latent=6)


def test_closed_form_is_the_textbook_formula(axes):
    covariance = axes * VARIANCES @ axes.T
    expected = covariance @ np.linalg.inv(covariance + 0.49 * np.eye(6))
    np.testing.assert_allclose(linear_denoiser(covariance, 0.7), expected, atol=1e-12)


def test_closed_form_has_the_lowest_error_among_linear_maps(axes):
    covariance = axes * VARIANCES @ axes.T

    def expected_error(map_):
        kept = np.eye(6) - map_
        return np.trace(kept @ covariance @ kept.T) + 0.49 * np.trace(map_ @ map_.T)

    best = linear_denoiser(covariance, 0.7)
    rng = np.random.default_rng(2)
    assert all(expected_error(best + 0.01 * rng.normal(size=(6, 6))) > expected_error(best) for _ in range(100))
    pair = linear_denoiser(covariance, 0.7, n_latent=2)
    for _ in range(100):
        rival = np.linalg.svd(pair + 0.01 * rng.normal(size=(6, 6)))
        assert expected_error(rival.U[:, :2] * rival.S[:2] @ rival.Vh[:2]) > expected_error(pair)


def test_axes_are_shared_with_pca_and_shrunk(axes):
    denoiser = linear_denoiser(axes * VARIANCES @ axes.T, 0.7)
    np.testing.assert_allclose(axes.T @ denoiser @ axes, np.diag(shrinkage(VARIANCES, 0.7)), atol=1e-12)


def test_without_noise_it_is_the_projection_on_the_data():
    direction = np.array([3.0, 4.0]) / 5
    np.testing.assert_allclose(linear_denoiser(np.outer(direction, direction), 0.0), np.outer(direction, direction))
    np.testing.assert_array_equal(shrinkage([2.0, 0.0], 0.0), [1, 0])


def test_trained_map_reaches_the_closed_form(data, trained):
    expected = linear_denoiser(np.cov(data.T, bias=True), 0.7)
    assert np.abs(trained.map - expected).max() < 0.03
    np.testing.assert_allclose(trained.mean, data.mean(axis=0), rtol=1e-5)
    # The error of the best map: each axis keeps a variance of v s^2 / (v + s^2).
    np.testing.assert_allclose(trained.losses[-200:].mean(), (0.49 * shrinkage(VARIANCES, 0.7)).mean(), rtol=0.03)


def test_bottleneck_spans_the_top_principal_axes(data, axes):
    dae = fit_linear_dae(data, 0.7, n_latent=2)
    assert np.rad2deg(linalg.subspace_angles(dae.decoder.T, axes[:, :2]).max()) < 2
    assert np.rad2deg(linalg.subspace_angles(dae.encoder, axes[:, :2]).max()) < 2
    assert np.abs(dae.map - linear_denoiser(np.cov(data.T, bias=True), 0.7, n_latent=2)).max() < 0.03


def test_weak_directions_are_held_back(data, axes, trained):
    gains = np.diag(axes.T @ trained.map @ axes)
    assert gains[0] > 0.9
    assert (gains[4:] < 0.12).all()
    # Without noise nothing is held back; the weakest axis of all is only learned late, so it is left out.
    assert np.diag(axes.T @ fit_linear_dae(data, 0.0, n_latent=6).map @ axes)[:5].min() > 0.95


def test_it_denoises(data, trained):
    noisy = data + 0.7 * np.random.default_rng(3).normal(size=data.shape)
    restored = trained(noisy)
    assert ((restored - data) ** 2).mean() < 0.6 * ((noisy - data) ** 2).mean()


def test_reproducible_by_seed(data):
    first, second, other = (fit_linear_dae(data, 0.7, n_latent=1, n_steps=5, seed=seed).map for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_wrong_input_is_named(data):
    with pytest.raises(ValueError, match="`noise_sd` must be a finite number of zero or more, but it is -1"):
        linear_denoiser(np.eye(2), -1)
    with pytest.raises(ValueError, match="`covariance` must be a square matrix"):
        linear_denoiser(np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match="`covariance` must be symmetric"):
        linear_denoiser([[1, 0.5], [0, 1]], 1)
    with pytest.raises(ValueError, match="`covariance` must have no negative eigenvalue"):
        linear_denoiser([[1, 2], [2, 1]], 1)
    with pytest.raises(ValueError, match=r"1 of 2 are not \(the first: -3"):
        shrinkage([1, -3], 1)
    with pytest.raises(ValueError, match="`n_latent` must be 1 or more, but it is 0"):
        fit_linear_dae(data, 1, n_latent=0)
    with pytest.raises(ValueError, match="`data` must be a finite matrix"):
        fit_linear_dae(data[0], 1, n_latent=1)
