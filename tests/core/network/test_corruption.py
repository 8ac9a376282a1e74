import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scdae.core.network.corruption import additive_gaussian, binomial_thinning, entry_masking


@pytest.fixture
def key():
    return jax.random.key(0)


def test_thinning_removes_the_stated_share():
    values = np.full(100_000, 4.0, np.float32)
    kept, removed = binomial_thinning(values, 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(kept + removed, values)
    assert removed.mean() == pytest.approx(0.8, abs=0.02)
    assert kept.dtype == removed.dtype == np.float32


def test_gaussian_noise_has_the_stated_deviation(key):
    inputs = jnp.linspace(-5, 5, 100_000)
    noise = additive_gaussian(key, inputs, 0.3) - inputs
    assert float(noise.std()) == pytest.approx(0.3, rel=0.01)
    assert abs(float(noise.mean())) < 5 * 0.3 / 100_000**0.5
    np.testing.assert_array_equal(additive_gaussian(key, inputs, 0.0), inputs)


def test_masking_hides_the_stated_share_and_nothing_else_changes(key):
    values = jnp.arange(1, 100_001, dtype=jnp.float32)
    kept, hidden = entry_masking(key, values, 0.15)
    assert float(hidden.mean()) == pytest.approx(0.15, abs=0.006)
    np.testing.assert_array_equal(kept, np.where(hidden, 0, values))
    assert not entry_masking(key, values, 0.0)[1].any()
    assert entry_masking(key, values, 1.0)[1].all()


def test_padding_is_left_alone_inside_jit(key):
    values = jnp.array([[3.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    valid = values > 0
    noisy = jax.jit(additive_gaussian)(key, values, 1.0, valid)
    np.testing.assert_array_equal(noisy != values, valid)
    kept, hidden = jax.jit(entry_masking)(key, values, 1.0, valid)
    np.testing.assert_array_equal(hidden, valid)
    assert not kept.any()


def test_noise_level_can_differ_by_cell_and_be_traced(key):
    values = jnp.ones((2, 5000))
    level = jnp.array([[0.1], [0.6]])  # one for each row
    spread = (jax.jit(additive_gaussian)(key, values, level) - values).std(axis=1)
    np.testing.assert_allclose(spread, level[:, 0], rtol=0.05)
    hidden = jax.jit(entry_masking)(key, values, level)[1]
    np.testing.assert_allclose(hidden.mean(axis=1), level[:, 0], atol=0.03)


def test_each_key_gives_its_own_noise(key):
    values = jnp.ones(100_000)
    other = jax.random.key(1)
    for corrupt in (lambda k: additive_gaussian(k, values, 1.0), lambda k: entry_masking(k, values, 0.5)[0]):
        np.testing.assert_array_equal(corrupt(key), corrupt(key))
        assert (corrupt(key) != corrupt(other)).any()


def test_strict_promotion_keeps_the_dtype(key):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        values = jnp.ones((2, 4), jnp.float32)
        assert additive_gaussian(key, values, 0.1, values > 0).dtype == jnp.float32
        kept, hidden = entry_masking(key, values, 0.1, values > 0)
        assert kept.dtype == jnp.float32
        assert hidden.dtype == jnp.bool_
