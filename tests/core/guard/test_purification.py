from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import small
from linear_dae import fit_linear_dae, shrinkage
from scdae.core.data.cells import cell_data
from scdae.core.distributions.expected_log1p import expected_log1p, expected_log1p_by_mean
from scdae.core.guard.purification import (
    Purification,
    counts_of_logs,
    project_profiles,
    purify_counts,
    purify_logs,
    thinned_draws,
)
from scdae.core.prediction.decode import law_without_laws, read_out
from scdae.core.prediction.law_readout import corrected_proportions


@pytest.fixture(scope="module")
def fitted():
    return small.fitted(likelihood="nb").outcome.fitted


@pytest.fixture(scope="module")
def counts():
    return small.dense(small.structured())[:20]


def batched(fitted, counts, unobserved=None):
    """Decoder means by the NumPy and sparse path of prediction, cells in batches."""
    data = cell_data(sp.csr_matrix(counts.astype(np.float32)), unobserved, None, fitted.profile)
    return np.concatenate([values for _, values, _ in read_out(fitted, data, "prior")])


def shares(values):
    return values / values.sum(axis=1, keepdims=True)


def test_one_pass_is_the_decoder_mean_of_the_batched_path(fitted, counts):
    depth = counts.sum(axis=1)
    found = project_profiles(fitted, counts, depth, Purification(), scale="counts")
    expected = batched(fitted, counts)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4)
    logs = project_profiles(fitted, counts, depth, Purification(), scale="log1p")
    theta, _ = law_without_laws(fitted)
    np.testing.assert_allclose(
        logs, expected_log1p(expected, theta[None, :], 1e4 / depth[:, None]), rtol=1e-3, atol=1e-3
    )


def test_thinned_copies_are_averaged_as_the_batched_path_does(fitted, counts):
    how = Purification(n_draws=3, keep=0.4)
    drawn = thinned_draws(counts, how, np.random.default_rng(0))
    found = project_profiles(fitted, counts, np.ones(len(counts)), how, scale="counts", drawn=drawn)
    encoded = replace(fitted, prior=None)  # which keeps gradients; restoring places shallow copies by their likelihood
    expected = np.mean([shares(batched(encoded, draw)) for draw in drawn], axis=0)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)
    assert np.abs(found - shares(batched(fitted, counts))).max() > 1e-4


def test_genes_that_were_not_measured_count_as_their_mean(fitted, counts):
    observed = np.arange(counts.shape[1]) % 5 > 0
    shown = np.where(observed, counts, 0)
    gaps = sp.csr_matrix(np.broadcast_to(~observed, counts.shape))
    one_pass = fitted.__class__(**{**fitted.__dict__, "gaps": fitted.gaps._replace(max_iter=0)})
    found = project_profiles(fitted, shown, np.ones(len(counts)), Purification(), scale="counts", observed=observed)
    np.testing.assert_allclose(found, shares(batched(one_pass, shown, gaps)), rtol=2e-3, atol=1e-6)


def test_a_second_pass_sees_the_expected_logs_of_the_first(fitted, counts):
    depth = jnp.asarray(counts.sum(axis=1))
    first = project_profiles(fitted, counts, depth, Purification(), scale="log1p")
    found = project_profiles(fitted, counts, depth, Purification(n_passes=2), scale="counts")
    inputs = np.asarray(first) @ fitted.axes.weight - fitted.axes.center
    from flax import nnx

    from scdae.core.data.conditions import no_conditions

    model, nothing = nnx.merge(fitted.graph, fitted.params), no_conditions(len(counts))
    logits = model.decode(model.encode(inputs, nothing), nothing)
    share = np.exp(corrected_proportions(fitted.laws.by_level, logits, None))
    np.testing.assert_allclose(found, depth[:, None] * share, rtol=2e-3, atol=1e-3)


def test_strength_mixes(fitted, counts):
    logs = np.log1p(counts * (1e4 / counts.sum(axis=1))[:, None])
    none, half, all_ = (np.asarray(purify_counts(fitted, counts, Purification(s))) for s in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none, logs, rtol=1e-5)
    np.testing.assert_allclose(half, (logs + all_) / 2, rtol=1e-4, atol=1e-5)
    empty = np.zeros_like(counts)
    np.testing.assert_array_equal(purify_counts(fitted, empty, Purification()), empty)


def test_logs_are_taken_back_to_counts(fitted, counts):
    depth = counts.sum(axis=1)
    logs = np.log1p(counts * (1e4 / depth)[:, None]).astype(np.float32)
    np.testing.assert_allclose(counts_of_logs(logs, depth), counts, rtol=1e-4, atol=1e-5)
    below = np.where(counts == 0, -0.3, logs).astype(np.float32)  # what an attack leaves at zeros
    np.testing.assert_allclose(
        purify_logs(fitted, below, depth, Purification()), purify_counts(fitted, counts, Purification()), atol=2e-3
    )
    np.testing.assert_allclose(purify_logs(fitted, below, depth, Purification(0.0)), below)


def test_rounding_undoes_what_is_less_than_half_a_molecule(counts):
    rng = np.random.default_rng(0)
    moved = np.maximum(counts + rng.uniform(-0.49, 0.49, counts.shape), 0)
    drawn = thinned_draws(moved, Purification(fractions="round"), rng)
    np.testing.assert_array_equal(drawn, counts[None])
    assert thinned_draws(counts, Purification(), rng) is None


def test_fractions_and_thinning_are_unbiased():
    rng, values = np.random.default_rng(0), np.array([[0.3, 2.5, 7.0, 0.0]])
    for fractions in ("draw", "keep"):
        how = Purification(n_draws=1500, keep=0.5, fractions=fractions)
        drawn = thinned_draws(values, how, rng)[:, 0]
        np.testing.assert_allclose(drawn.mean(axis=0), values[0] / 2, atol=0.12)
        assert (drawn == np.rint(drawn)).all() == (fractions == "draw")


def test_gradient_of_the_expected_log():
    mean, shape, scale = np.array([0.01, 0.4, 3.0, 80.0]), np.array([0.5, 2.0, 1e8, 7.0]), 12.0
    with jax.numpy_rank_promotion("allow"):
        ends = expected_log1p(mean * np.array([[1.0], [1.02], [0.98]]), shape, scale)
        value, back = jax.vjp(lambda m: expected_log1p_by_mean(m, shape, jnp.full((3, 1), scale)), jnp.asarray(mean))
    np.testing.assert_allclose(value, np.broadcast_to(ends[0], (3, 4)), rtol=1e-5)
    (slope,) = back(jnp.ones((3, 4)))
    np.testing.assert_allclose(slope / 3, (ends[1] - ends[2]) / (0.04 * mean), rtol=2e-3)


def test_gradient_is_that_of_finite_differences(fitted, counts):
    rng, how = np.random.default_rng(0), Purification(n_passes=2)
    at, weight = counts[:3] + 0.5, rng.normal(size=counts[:3].shape)
    along, depth = rng.normal(size=at.shape) * 0.02, at.sum(axis=1)
    along -= along.mean(axis=1, keepdims=True)  # the depth, a constant to the gradient of the second pass, stays

    def value(x):
        return (project_profiles(fitted, x, depth, how) * weight).sum()

    slope = float((jax.grad(value)(jnp.asarray(at)) * along).sum())
    measured = float(value(at + along) - value(at - along)) / 2
    np.testing.assert_allclose(slope, measured, rtol=0.03)


def test_a_thinned_copy_has_the_slope_of_its_mean(fitted, counts):
    how = Purification(n_draws=2, keep=0.5)
    drawn = np.stack([counts / 2, counts / 2])  # the mean itself
    weight = np.random.default_rng(0).normal(size=counts.shape)

    def value(x, drawn):
        return (project_profiles(fitted, x, np.ones(len(counts)), how, scale="counts", drawn=drawn) * weight).sum()

    through = jax.grad(lambda x: value(x, drawn))(jnp.asarray(counts))
    plain = jax.grad(lambda x: value(x / 2, None))(jnp.asarray(counts))
    np.testing.assert_allclose(through, plain, rtol=1e-3, atol=1e-7)


def test_perturbations_shrink_by_the_closed_form_of_the_linear_model():
    rng, variances, noise = np.random.default_rng(0), np.array([9.0, 3.0, 1.0, 0.3, 0.05]), 0.8
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    data = rng.normal(size=(400, 5)) * variances**0.5 @ axes.T
    dae = fit_linear_dae(data, noise, n_latent=5, n_steps=1000)
    gains = [np.linalg.norm(dae(data + 0.5 * axis) - dae(data), axis=1).mean() / 0.5 for axis in axes.T]
    np.testing.assert_allclose(gains, shrinkage(variances, noise), atol=0.06)
    assert np.all(np.diff(gains) < 0)


def test_the_network_shrinks_weak_directions_more(fitted, counts):
    counts = small.dense(small.structured())
    depth = counts.sum(axis=1)
    logs = np.log1p(counts * (1e4 / depth)[:, None]).astype(np.float32)
    axes = np.linalg.svd(logs - logs.mean(axis=0), full_matrices=False)[2]

    def gain(axis):
        step = np.float32(0.1) * axis
        change = [purify_logs(fitted, logs + sign * step, depth, Purification()) for sign in (1, -1)]
        return np.linalg.norm((change[0] - change[1]) / 0.2, axis=1).mean()

    gains = np.array([gain(axis) for axis in axes[[0, 1, 20, 30, 40, 50]]])
    assert gains[:2].min() > 2 * gains[2:].max()
    assert gains[2:].max() < 0.25


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 1.2}, "strength=1.2"),
        ({"keep": 0.0}, "keep=0 leaves no molecule"),
        ({"n_passes": 0}, "n_passes=0"),
        ({"n_draws": 1.5}, "n_draws=1.5"),
        ({"fractions": "up"}, "fractions='up'.*'draw'"),
    ],
)
def test_wrong_parameters_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Purification(**options).check()
