import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scdae.core.distributions.likelihoods import zinb_log_prob, zinb_log_prob_zero
from scdae.core.distributions.predictive import (
    nb_predictive_log_prob,
    poisson_predictive_log_prob,
    zinb_predictive_log_prob,
)

CASES = [(0.3, 0.5, 0.2, 0.7), (2.0, 0.4, 0.6, 0.9), (4.0, 5.0, 0.0, 0.5), (1.5, 200.0, 0.95, 0.1)]


def brute_force_joint(mean, theta, pi, fraction, n_max=600):
    """P(x_in, x_out) by enumeration of the full count, the dropout and the split of the molecules."""
    joint = np.zeros((n_max, n_max))
    for is_lost, weight in ((True, pi), (False, 1 - pi)):
        for full in range(n_max):
            if is_lost:
                probability = float(full == 0)
            else:
                probability = stats.nbinom.pmf(full, theta, theta / (theta + mean))
            if weight * probability < 1e-30:
                continue
            shown = np.arange(full + 1)
            joint[shown, full - shown] += weight * probability * stats.binom.pmf(shown, full, fraction)
    return joint


@pytest.mark.parametrize(("mean", "theta", "pi", "fraction"), CASES)
def test_zinb_predictive_is_the_conditional_of_the_enumerated_joint(mean, theta, pi, fraction):
    joint = brute_force_joint(mean, theta, pi, fraction)
    assert joint.sum() == pytest.approx(1, abs=1e-9)
    x_in, x_out = np.meshgrid(np.arange(12.0), np.arange(15.0), indexing="ij")
    conditional = joint[:12, :15] / joint[:12].sum(axis=1, keepdims=True)
    with jax.enable_x64(True):
        value = zinb_predictive_log_prob(x_out, x_in, fraction * mean, (1 - fraction) * mean, theta, pi)
    np.testing.assert_allclose(np.exp(value), conditional, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("mean", "theta", "pi", "fraction"), CASES)
def test_chain_rule_gives_the_joint(mean, theta, pi, fraction):
    joint = brute_force_joint(mean, theta, pi, fraction)
    x_in, x_out = np.meshgrid(np.arange(12.0), np.arange(15.0), indexing="ij")
    with jax.enable_x64(True):
        log_joint = zinb_log_prob(x_in, fraction * mean, theta, pi) + zinb_predictive_log_prob(
            x_out, x_in, fraction * mean, (1 - fraction) * mean, theta, pi
        )
    np.testing.assert_allclose(np.exp(log_joint), joint[:12, :15], rtol=1e-7, atol=1e-13)


@pytest.mark.parametrize("x_in", [0.0, 1.0, 9.0])
def test_predictive_sums_to_one(x_in):
    x_out = np.arange(5000.0)
    with jax.enable_x64(True):
        value = zinb_predictive_log_prob(x_out, x_in, 2.0, 3.0, 0.7, 0.4)
    assert np.exp(value).sum() == pytest.approx(1, abs=1e-9)


def test_without_dropout_it_is_the_nb_predictive_and_at_infinite_theta_poisson():
    x_out, x_in = (jnp.asarray(axis, jnp.float32) for axis in np.meshgrid([0, 1, 5], [0, 1, 5]))
    nb = nb_predictive_log_prob(x_out, x_in, 0.8, 1.2, 0.6)
    np.testing.assert_allclose(zinb_predictive_log_prob(x_out, x_in, 0.8, 1.2, 0.6, 0.0), nb, rtol=1e-6)
    poisson = poisson_predictive_log_prob(x_out, 1.2)
    np.testing.assert_allclose(poisson, stats.poisson.logpmf(x_out, 1.2), rtol=1e-5)
    for theta in (1e6, np.inf):
        np.testing.assert_allclose(nb_predictive_log_prob(x_out, x_in, 0.8, 1.2, theta), poisson, atol=1e-3)


def test_two_zeros_equal_the_difference_of_zero_probabilities():
    mean_in, mean_out, theta, pi = np.random.default_rng(0).uniform(0.1, 3, (4, 50)) * [[1], [1], [1], [0.3]]
    with jax.enable_x64(True):
        value = zinb_predictive_log_prob(0.0, 0.0, mean_in, mean_out, theta, pi)
        difference = zinb_log_prob_zero(mean_in + mean_out, theta, pi) - zinb_log_prob_zero(mean_in, theta, pi)
    np.testing.assert_allclose(value, difference, rtol=1e-9)


@pytest.mark.parametrize("argument", [2, 3, 4, 5])
def test_gradients_agree_with_finite_differences(argument):
    axes = ([0.0, 1.0, 40.0], [0.0, 2.0, 30.0], [1e-3, 0.7, 30.0], [1e-3, 2.0, 50.0], [0.1, 1.0, 300.0], [0.01, 0.6])
    arguments = [np.array(axis) for axis in zip(*itertools.product(*axes), strict=True)]
    with jax.enable_x64(True):
        gradient = np.array(jax.jit(jax.vmap(jax.grad(zinb_predictive_log_prob, argnums=argument)))(*arguments))
        step = 1e-5 * arguments[argument]
        up, down = list(arguments), list(arguments)
        up[argument], down[argument] = arguments[argument] + step, arguments[argument] - step
        difference = (np.array(zinb_predictive_log_prob(*up)) - np.array(zinb_predictive_log_prob(*down))) / (2 * step)
    scale = arguments[argument]
    np.testing.assert_allclose(gradient * scale, difference * scale, rtol=1e-5, atol=1e-5)


def test_value_and_gradients_are_finite_in_float32_at_extremes():
    means = [0.0, 1e-8, 1.0, 1e6]
    axes = ([0.0, 1.0, 1e6], [0.0, 1.0, 1e6], means, means, [1e-3, 1.0, 1e4, 1e6, np.inf], [0.0, 1e-30, 0.3, 0.99999])
    arguments = [np.array(axis, np.float32) for axis in zip(*itertools.product(*axes), strict=True)]
    values = zinb_predictive_log_prob(*arguments)
    gradients = jax.jit(jax.vmap(jax.grad(zinb_predictive_log_prob, argnums=(2, 3, 4, 5))))(*arguments)
    assert np.isfinite(values).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()


def test_strict_promotion_keeps_the_dtype():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        half = jnp.full((2, 3), 0.5, jnp.float32)
        assert zinb_predictive_log_prob(half, half, half, half, half[:1], half[:1]).dtype == jnp.float32
        assert nb_predictive_log_prob(half, half, half, half, half).dtype == jnp.float32
        assert poisson_predictive_log_prob(half, half).dtype == jnp.float32
