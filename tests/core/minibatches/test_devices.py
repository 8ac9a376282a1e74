import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.data.cells import cell_data
from scdae.core.data.minibatch import Size
from scdae.core.minibatches.corruption import whole
from scdae.core.minibatches.devices import OneDevice, SeveralDevices, devices_for
from scdae.core.network.encoder_input import Axes


def cells(n_obs=10, n_vars=6):
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2.0, (n_obs, n_vars)).astype(np.float32))
    return cell_data(counts, None, None, np.full(n_vars, 1 / n_vars))


def axes(n_vars=6):
    rng = np.random.default_rng(1)
    return Axes(rng.normal(size=(n_vars, 3)).astype(np.float32), np.ones(n_vars, np.float32))


def objective(params, batch, unit):
    """A sum over the cells, in which padding adds nothing."""
    return (unit * params["slope"] * (batch.inputs @ params["weight"]) * batch.total_in).sum()


@pytest.mark.parametrize("cuts", [1, 2])
@pytest.mark.parametrize("n_obs", [8, 10])
def test_gradients_of_two_devices_are_those_of_one(cuts, n_obs):
    some = cells(n_obs)
    params = {"slope": jnp.float32(0.3), "weight": jnp.arange(3, dtype=jnp.float32)}
    found = []
    for devices in (OneDevice(), SeveralDevices(jax.devices()[:2], cuts)):
        groups = devices.groups(np.arange(n_obs)[None])
        batches = devices.make_batches(some, whole(axes(), some), Size.of(some, groups), n_obs)
        step = jax.jit(devices.gradient(objective))
        parts = [step(devices.place(params), batch, jnp.float32(0.5)) for batch in batches]
        found.append(devices.fetch(jax.tree.map(lambda *values: sum(np.asarray(value) for value in values), *parts)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4), found[0][1], found[1][1])


def test_parameters_are_on_both_and_come_back():
    devices = devices_for(2)
    placed = devices.place({"loading": np.arange(4, dtype=np.float32)})
    assert len(placed["loading"].sharding.device_set) == 2
    np.testing.assert_array_equal(devices.fetch(placed)["loading"], np.arange(4))
    assert len(devices.fetch(placed)["loading"].sharding.device_set) == 1


def test_one_process_agrees_with_itself():
    devices = devices_for("all")
    assert (devices.number, devices.processes, devices.first) == (len(jax.devices()), 1, True)
    tree = {"a": np.arange(3)}
    assert devices.agree(tree) is tree and devices.gather(5) == [5]
