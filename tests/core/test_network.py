import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scdae.core.network import Autoencoder, with_values

PROFILE = np.array([0.4, 0.3, 0.2, 0.1, 0.0])


def network(n_batches=1, seed=0, profile=PROFILE):
    return Autoencoder(profile, n_inputs=3, n_hidden=8, n_latent=2, n_batches=n_batches, seed=seed)


def test_decoder_starts_at_the_gene_profile():
    logits = network().decode(jnp.zeros((4, 2)), jnp.zeros(4, int))
    share = jax.nn.softmax(logits, axis=1)
    np.testing.assert_allclose(share[:, :4] / share[:, :1], np.tile(PROFILE[:4] / 0.4, (4, 1)), rtol=1e-5)
    assert (0 < share[:, 4]).all() and (share[:, 4] < 0.1).all()  # never counted: small, not impossible


def test_shapes_and_dtypes():
    model = network()
    latent = model.encode(jnp.ones((4, 3)))
    assert latent.shape == (4, 2) and latent.dtype == jnp.float32
    assert model.decode(latent, jnp.zeros(4, int)).shape == (4, 5)
    leaves = jax.tree.leaves(nnx.split(model, nnx.Param)[1])
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}


def test_weights_follow_the_seed_and_leave_the_global_one_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = network(seed=1), network(seed=1), network(seed=2)
    np.testing.assert_array_equal(one.loading[...], same.loading[...])
    assert not np.array_equal(one.loading[...], other.loading[...])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_batches_shift_the_decoder():
    graph, params = nnx.split(network(n_batches=2), nnx.Param)
    shift = np.arange(10.0).reshape(2, 5)
    model = nnx.merge(graph, with_values(params, nnx.to_pure_dict(params) | {"batch_effect": shift}))
    latent = jnp.ones((2, 2))
    logits = model.decode(latent, jnp.array([0, 1]))
    np.testing.assert_allclose(logits[1] - logits[0], shift[1] - shift[0], rtol=1e-5)
    assert network().batch_effect is None


def test_cells_do_not_see_each_other():
    model = network()
    inputs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    together = model.encode(inputs)
    np.testing.assert_allclose(model.encode(inputs[2:3]), together[2:3], rtol=1e-5)


def test_dropout_is_a_probability_and_counts_only_where_marked():
    model, inflated = network(), np.array([True, False, False, True, False])
    law = model.dropout()
    np.testing.assert_allclose(np.exp(law.log_drop) + np.exp(law.log_keep), 1, rtol=1e-6)
    np.testing.assert_allclose(model.pi(inflated), np.where(inflated, np.exp(law.log_drop), 0), rtol=1e-6)


def test_theta_is_that_of_the_law_in_force():
    graph, params = nnx.split(network(), nnx.Param)
    values = nnx.to_pure_dict(params) | {"log_theta": np.full(5, 1.0), "log_theta_zi": np.full(5, 2.0)}
    model = nnx.merge(graph, with_values(params, values))
    np.testing.assert_allclose(model.theta(), np.exp(1.0), rtol=1e-6)
    inflated = np.array([True, False, False, False, True])
    np.testing.assert_allclose(model.theta(inflated), np.exp(np.where(inflated, 2.0, 1.0)), rtol=1e-6)
    np.testing.assert_allclose(model.dropout().theta, np.exp(2.0), rtol=1e-6)


def test_new_values_leave_the_old_parameters_alone():
    _, params = nnx.split(network(), nnx.Param)
    before = np.asarray(params["log_theta"][...]).copy()
    changed = with_values(params, nnx.to_pure_dict(params) | {"log_theta": before.astype(float) + 1})
    np.testing.assert_array_equal(params["log_theta"][...], before)
    np.testing.assert_allclose(changed["log_theta"][...], before + 1)
    assert changed["log_theta"][...].dtype == np.float32


@pytest.mark.parametrize("profile", [np.array([1.0]), np.full(3, 1 / 3)])
def test_any_number_of_genes(profile):
    assert network(profile=profile).decode(jnp.ones((1, 2)), jnp.zeros(1, int)).shape == (1, len(profile))
