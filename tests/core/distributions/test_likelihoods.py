import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from scdae.core.distributions.likelihoods import (
    nb_log_prob,
    nb_log_prob_zero,
    nb_log_weight,
    poisson_log_prob,
    zinb_log_prob,
    zinb_log_prob_zero,
)

COUNTS = [0.0, 1.0, 2.0, 17.0, 1e3, 1e6]
MEANS = [1e-8, 1e-3, 0.7, 1.0, 30.0, 1e3, 1e6]
THETAS = [1e-3, 0.1, 1.0, 20.0, 1e4, 1e6]
PIS = [0.0, 1e-6, 0.3, 0.999, 1.0]


def grid(*axes):
    return [np.array(axis) for axis in zip(*itertools.product(*axes), strict=True)]


def nb_reference(x, mean, theta):
    """The textbook formula in float64, for x and theta at which its own rounding error stays small."""
    return (
        special.gammaln(theta + x)
        - special.gammaln(theta)
        - special.gammaln(x + 1)
        + special.xlogy(x, mean / (theta + mean))
        - theta * np.log1p(mean / theta)
    )


def test_poisson_agrees_with_scipy():
    x, mean = grid(COUNTS, MEANS)
    with jax.enable_x64(True):
        value = poisson_log_prob(x, mean)
    np.testing.assert_allclose(value, stats.poisson.logpmf(x, mean), rtol=1e-10, atol=1e-8)


def test_nb_agrees_with_scipy():
    x, mean, theta = grid(COUNTS, MEANS, THETAS)
    with jax.enable_x64(True):
        value = nb_log_prob(x, mean, theta)
    reference = nb_reference(x, mean, theta)
    np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-7)
    tame = (mean > 1e-3) & (mean < 1e6) & (theta < 1e6)  # SciPy's own parameter theta / (theta + mean) rounds to 0 or 1
    scipy_value = stats.nbinom.logpmf(x[tame], theta[tame], theta[tame] / (theta[tame] + mean[tame]))
    np.testing.assert_allclose(value[tame], scipy_value, rtol=1e-7, atol=1e-6)


def test_zinb_agrees_with_its_definition():
    x, mean, theta, pi = grid(COUNTS, MEANS, THETAS, PIS)
    with jax.enable_x64(True):
        value = zinb_log_prob(x, mean, theta, pi)
    nb = nb_reference(x, mean, theta)
    with np.errstate(divide="ignore"):
        reference = np.where(x > 0, np.log1p(-pi) + nb, np.logaddexp(np.log(pi), np.log1p(-pi) + nb))
    np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-7)


def test_probabilities_sum_to_one():
    x = np.arange(3000.0)
    with jax.enable_x64(True):
        for mean, theta, pi in [(0.2, 0.3, 0.0), (5.0, 0.5, 0.4), (40.0, 100.0, 0.9)]:
            assert np.exp(zinb_log_prob(x, mean, theta, pi)).sum() == pytest.approx(1, abs=1e-10)


def test_float32_error_is_that_of_one_rounding_of_the_count():
    x, mean, theta = (array.astype(np.float32) for array in grid(COUNTS, MEANS, THETAS))
    reference = nb_reference(*(array.astype(float) for array in (x, mean, theta)))
    error = np.abs(nb_log_prob(x, mean, theta) - reference)
    assert (error / np.maximum(1, np.maximum(np.abs(reference), np.maximum(x, mean)))).max() < 1e-6
    # The plain formula in float32 is wrong by whole units here.
    x, mean, theta = np.float32(1e6), np.float32(1e6), np.float32(1e4)
    assert abs(float(nb_log_prob(x, mean, theta)) - nb_reference(1e6, 1e6, 1e4)) < 0.2


def test_large_theta_is_poisson_in_float32():
    x, mean = (array.astype(np.float32) for array in grid([0.0, 1.0, 3.0, 20.0], [1e-8, 0.01, 1.0, 10.0]))
    poisson = poisson_log_prob(x, mean)
    np.testing.assert_allclose(nb_log_prob(x, mean, np.float32(1e6)), poisson, atol=1e-3)
    np.testing.assert_allclose(nb_log_prob(x, mean, np.float32(np.inf)), poisson, rtol=1e-6, atol=1e-6)


def test_weights_of_distributions_of_one_count_agree_with_scipy():
    """In single precision, over what a posterior distribution is made of: a chance beforehand, and eight dispersions."""
    theta, chance = np.array([4.0**k for k in range(-3, 5)]), np.array([1e-6, 1e-3, 0.1, 0.2, 0.3, 0.2, 0.1, 0.05])
    for x, mean in itertools.product([1.0, 2.5, 17.0, 1e3, 1e5], [1e-3, 0.7, 30.0, 1e3, 1e5]):
        expected = np.log(chance) + nb_reference(x, mean, theta)
        got = nb_log_weight(*(jnp.asarray(part, jnp.float32) for part in (x, mean, theta, chance)))
        got, expected = np.asarray(got, np.float64), expected - expected[3]
        np.testing.assert_allclose(got - got[3], expected, rtol=3e-6, atol=3e-5, err_msg=f"{x}, {mean}")


def test_mean_zero():
    x, zero, one = np.float32([0, 1]), np.zeros(2, np.float32), np.ones(2, np.float32)
    for value in (
        poisson_log_prob(x, zero),
        nb_log_prob(x, zero, one),
        zinb_log_prob(x, zero, one, 0.3 * one),
    ):
        assert value[0] == pytest.approx(0, abs=1e-6)
        assert -1000 < value[1] < -50
    gradients = jax.jit(jax.vmap(jax.grad(nb_log_prob, argnums=(1, 2))))(x, zero, one)
    assert np.isfinite(gradients).all()
    assert gradients[0][0] == -1


def test_zero_functions_agree_with_the_general_ones():
    mean, theta, pi = (array.astype(np.float32) for array in grid(MEANS, THETAS, PIS))
    np.testing.assert_allclose(nb_log_prob_zero(mean, theta), nb_log_prob(0.0, mean, theta), rtol=1e-6)
    np.testing.assert_allclose(zinb_log_prob_zero(mean, theta, pi), zinb_log_prob(0.0, mean, theta, pi), rtol=1e-5)


def test_fractional_counts_interpolate_the_factorial():
    with jax.enable_x64(True):
        value = nb_log_prob(np.array([0.01, 0.5, 3.7]), 1.3, 0.8)
    np.testing.assert_allclose(value, nb_reference(np.array([0.01, 0.5, 3.7]), 1.3, 0.8), rtol=1e-9)


@pytest.mark.parametrize("argument", [1, 2, 3])
def test_gradients_agree_with_finite_differences(argument):
    arguments = grid([0.0, 1.0, 17.0, 1e3], [1e-3, 0.7, 30.0, 1e3], [0.1, 1.0, 20.0, 1e3], [1e-3, 0.3, 0.9])
    with jax.enable_x64(True):
        gradient = np.array(jax.jit(jax.vmap(jax.grad(zinb_log_prob, argnums=argument)))(*arguments))
        step = 1e-5 * arguments[argument]
        up, down = list(arguments), list(arguments)
        up[argument], down[argument] = arguments[argument] + step, arguments[argument] - step
        difference = (np.array(zinb_log_prob(*up)) - np.array(zinb_log_prob(*down))) / (2 * step)
    scale = arguments[argument]  # compare derivatives with respect to the logarithm
    np.testing.assert_allclose(gradient * scale, difference * scale, rtol=1e-5, atol=1e-5)


def test_value_and_gradients_are_finite_in_float32_at_extremes():
    arguments = [
        array.astype(np.float32) for array in grid(COUNTS, [0.0, *MEANS], [*THETAS, np.inf], [0.0, 1e-30, 0.3, 0.99999])
    ]
    values = zinb_log_prob(*arguments)
    gradients_of = jax.jit(jax.vmap(jax.grad(zinb_log_prob, argnums=(1, 2, 3))))
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all()
    for gradient in gradients_of(*arguments):
        assert gradient.dtype == jnp.float32
        assert np.isfinite(gradient).all()
    # A certain dropout makes a positive count impossible, but its gradient stays finite.
    arguments[3] = np.ones_like(arguments[3])
    assert not np.isfinite(zinb_log_prob(*arguments)[arguments[0] > 0]).any()
    for gradient in gradients_of(*arguments):
        assert np.isfinite(gradient).all()


def test_strict_promotion_keeps_the_dtype():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        ones = jnp.ones((2, 3), jnp.float32)
        assert poisson_log_prob(ones, ones).dtype == jnp.float32
        assert nb_log_prob(ones, ones, ones).dtype == jnp.float32
        assert zinb_log_prob(ones, ones, ones[:1], ones[:1] / 3).shape == (2, 3)
    with jax.enable_x64(True):
        assert zinb_log_prob(*np.full((4, 2), 0.5)).dtype == jnp.float64
