import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import small
from scdae.core.data.cells import cell_data
from scdae.core.data.conditions import Conditions
from scdae.core.training.adapt import adapted_network
from scdae.core.training.optimizer import decay_towards
from scdae.inputs.counts import read_counts


def start(place=None, n_levels=0, factor=None):
    """What training starts from on the data that a model was fitted to, with the genes of each level multiplied."""
    model = small.fitted(likelihood="nb")
    fitted = model.outcome.fitted
    counts = read_counts(small.structured()).matrix
    levels = np.arange(small.N_OBS) % max(n_levels, 1)
    if factor is not None:
        counts = counts.multiply(np.asarray(factor)[levels]).tocsr().astype(np.float32)
    ones = np.ones((small.N_OBS, 1 - min(n_levels, 1)), np.float32)
    conditions = Conditions(levels[:, None][:, : min(n_levels, 1)].astype(np.int32), ones)
    profile = np.asarray(counts.sum(axis=0)).ravel() / counts.sum()
    place = np.arange(small.N_VARS) if place is None else place
    data = cell_data(counts, None, conditions, profile)
    return fitted, adapted_network(fitted, place, data, profile, n_levels, n_levels > 1, model.config)


def test_its_own_data_have_hardly_moved():
    fitted, found = start()
    values, old = nnx.to_pure_dict(found.params), nnx.to_pure_dict(fitted.params)
    assert np.abs(values["batch_start"]).max() < 0.05
    for name in ("loading", "hidden_kernel", "latent_kernel", "log_theta"):
        np.testing.assert_array_equal(values[name], old[name])
    np.testing.assert_array_equal(found.axes.weight, fitted.axes.weight)
    assert found.towards is found.params


def test_factors_of_each_level_are_found():
    factor = np.ones((2, small.N_VARS))
    factor[1, ::4] = 4
    _, found = start(n_levels=2, factor=factor)
    effects = np.asarray(nnx.to_pure_dict(found.params)["batch_start"])
    change = effects[1] - effects[0]
    assert change[::4].mean() - np.delete(change, np.arange(0, small.N_VARS, 4)).mean() == pytest.approx(
        np.log(4), abs=0.15
    )
    np.testing.assert_array_equal(found.axes.effects, effects)


def test_unknown_genes_start_at_their_mean():
    place = np.arange(small.N_VARS)[::-1].copy()
    place[:7] = -1
    fitted, found = start(place)
    values, old = nnx.to_pure_dict(found.params), nnx.to_pure_dict(fitted.params)
    assert not np.asarray(values["loading"])[:, :7].any() and not found.axes.weight[:7].any()
    np.testing.assert_array_equal(np.asarray(values["loading"])[:, 7:], np.asarray(old["loading"])[:, place[7:]])
    np.testing.assert_array_equal(found.axes.weight[7:], fitted.axes.weight[place[7:]])


@pytest.mark.parametrize("center", [None, 2.0])
def test_weights_decay_to_their_center(center):
    params = {"a": jnp.array([5.0, -1.0]), "b": jnp.array([3.0])}
    towards = None if center is None else {"a": jnp.full(2, center), "b": jnp.full(1, center)}
    transform = optax.chain(
        optax.masked(decay_towards(towards, 0.5), {"a": True, "b": False}), optax.scale_by_learning_rate(0.1)
    )
    state = transform.init(params)
    for _ in range(400):
        step, state = transform.update({"a": jnp.zeros(2), "b": jnp.zeros(1)}, state, params)
        params = optax.apply_updates(params, step)
    np.testing.assert_allclose(params["a"], center or 0.0, atol=1e-5)
    np.testing.assert_array_equal(params["b"], [3.0])
