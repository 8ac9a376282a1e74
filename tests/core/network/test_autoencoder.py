import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import small
from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.network.batch_alignment import Alignment
from scdae.core.network.parameters import ROLES, all_in_batch, total_effects, with_values

PROFILE = np.array([0.4, 0.3, 0.2, 0.1, 0.0])
# Two batches, three donors, and a continuous column.
EFFECTS = np.random.default_rng(0).normal(0, 0.5, (6, 5)).astype(np.float32)
CELLS = small.of_levels([0, 1, 0, 1], [2, 3, 4, 4], values=[[0.5, -1.0, 0.0, 2.0]])


def network(effects=None, seed=0, profile=PROFILE, **settings):
    return Autoencoder(profile, n_inputs=3, n_hidden=8, n_latent=2, effects=effects, seed=seed, **settings)


def trained(seed=0, **settings):
    """A network whose every parameter has moved from its start."""
    graph, params = nnx.split(network(EFFECTS, **settings), nnx.Param)
    rng, values = np.random.default_rng(seed), nnx.to_pure_dict(params)
    for name in ("batch_effect", "batch_turn", "turn_bias", "turn_loading", "loading"):
        if name in values:
            values[name] = rng.normal(0, 0.7, values[name].shape)
    return graph, with_values(params, values)


def test_decoder_starts_at_the_gene_profile():
    logits = network().decode(jnp.zeros((4, 2)), no_conditions(4))
    share = jax.nn.softmax(logits, axis=1)
    np.testing.assert_allclose(share[:, :4] / share[:, :1], np.tile(PROFILE[:4] / 0.4, (4, 1)), rtol=1e-5)
    assert (0 < share[:, 4]).all() and (share[:, 4] < 0.1).all()  # never counted: small, not impossible


@pytest.mark.parametrize("effects", [None, EFFECTS])
def test_shapes_and_dtypes(effects):
    model = network(effects)
    cells = no_conditions(4) if effects is None else CELLS
    latent = model.encode(jnp.ones((4, 3)), cells)
    assert latent.shape == (4, 2) and latent.dtype == jnp.float32
    logits = model.decode(latent, cells)
    assert logits.shape == (4, 5) and logits.dtype == jnp.float32
    assert model.base(cells).shape in ((1, 5), (4, 5))
    leaves = jax.tree.leaves(nnx.split(model, nnx.Param)[1])
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}


def test_weights_follow_the_seed_and_leave_the_global_one_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = network(seed=1), network(seed=1), network(seed=2)
    np.testing.assert_array_equal(one.loading[...], same.loading[...])
    assert not np.array_equal(one.loading[...], other.loading[...])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_conditions_do_not_change_the_weights_of_the_rest():
    plain, with_them = network(), network(EFFECTS)
    for name in ("hidden_kernel", "latent_kernel", "loading"):
        np.testing.assert_array_equal(getattr(plain, name)[...], getattr(with_them, name)[...])
    assert plain.batch_start is plain.batch_effect is plain.batch_turn is plain.turn_loading is plain.centroids is None


def test_decoder_starts_at_the_effects_of_the_conditions():
    model = network(EFFECTS)
    expected = np.asarray(model.log_profile[...]) + EFFECTS[CELLS.levels].sum(axis=1) + CELLS.values * EFFECTS[5]
    np.testing.assert_allclose(model.base(CELLS), expected, rtol=1e-5, atol=1e-6)
    latent = np.zeros((4, 2), np.float32)
    logits = np.asarray(model.decode(latent, CELLS))
    np.testing.assert_allclose(logits, expected, atol=0.1)  # what turns add is next to nothing at first


def test_conditions_shift_the_decoder():
    """Without turns: the same in every cell, by what was learned on top of where it started."""
    graph, params = trained(with_turns=False)
    model = nnx.merge(graph, params)
    assert model.batch_turn is None and model.turn_kernel is None
    learned = np.asarray(params["batch_effect"][...]) + EFFECTS
    latent = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    plain = latent @ np.asarray(model.loading[...]) + np.asarray(model.log_profile[...])
    expected = learned[CELLS.levels].sum(axis=1) + CELLS.values * learned[5]
    np.testing.assert_allclose(model.decode(latent, CELLS) - plain, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(total_effects(nnx.to_pure_dict(params)), learned, rtol=1e-6)
    np.testing.assert_allclose(total_effects(nnx.to_pure_dict(params), np.array([3, 1])), learned[:, [3, 1]], rtol=1e-6)
    assert total_effects(nnx.to_pure_dict(nnx.split(network(), nnx.Param)[1])) is None


def of_batch(level, n_cells):
    return small.of_levels(np.full(n_cells, level), np.full(n_cells, 3), values=[np.zeros(n_cells)])


def test_turns_make_what_a_batch_does_depend_on_the_cell():
    latent = np.random.default_rng(1).normal(0, 2, (6, 2)).astype(np.float32)
    for with_turns in (True, False):
        model = nnx.merge(*trained(with_turns=with_turns))
        change = np.asarray(model.decode(latent, of_batch(1, 6)) - model.decode(latent, of_batch(0, 6)))
        assert np.abs(change).max() > 0.3
        spread = change.std(axis=0)
        assert np.median(spread) > 0.1 if with_turns else spread.max() < 1e-5


def test_turns_are_nothing_where_they_do_not_turn():
    graph, params = trained()
    values = nnx.to_pure_dict(params)
    still = nnx.merge(graph, with_values(params, values | {"batch_turn": np.zeros_like(values["batch_turn"])}))
    latent = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    moved = nnx.merge(graph, params)
    assert not np.allclose(moved.decode(latent, CELLS), still.decode(latent, CELLS), atol=0.1)
    difference = still.decode(latent, CELLS) - still.base(CELLS) - latent @ still.loading[...]
    learned = np.asarray(values["batch_effect"])
    np.testing.assert_allclose(difference, learned[CELLS.levels].sum(axis=1) + CELLS.values * learned[5], atol=1e-5)


@pytest.mark.parametrize("level", [0, 1])
def test_all_in_one_batch_is_everybody_in_its_place(level):
    graph, params = trained()
    latent = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    there = all_in_batch(params, np.eye(2, dtype=np.float32)[level])
    moved = Conditions(np.stack([np.full(4, level), CELLS.levels[:, 1]], axis=1).astype(np.int32), CELLS.values)
    model, other = nnx.merge(graph, params), nnx.merge(graph, there)
    np.testing.assert_allclose(other.decode(latent, CELLS), model.decode(latent, moved), rtol=1e-5, atol=1e-5)
    own = CELLS.levels[:, 0] == level
    np.testing.assert_allclose(other.decode(latent, CELLS)[own], model.decode(latent, CELLS)[own], rtol=1e-6)
    assert not np.allclose(other.decode(latent, CELLS)[~own], model.decode(latent, CELLS)[~own], atol=0.1)


def test_the_average_batch_averages_effects_on_the_log_scale():
    graph, params = trained(with_turns=False)
    latent = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    average = nnx.merge(graph, all_in_batch(params, np.full(2, 0.5, np.float32)))
    model = nnx.merge(graph, params)
    each = [model.decode(latent, Conditions(CELLS.levels * [[0, 1]] + [[level, 0]], CELLS.values)) for level in (0, 1)]
    np.testing.assert_allclose(average.decode(latent, CELLS), (each[0] + each[1]) / 2, rtol=1e-5, atol=1e-5)


def test_all_in_the_average_batch_with_turns_does_not_depend_on_the_batch():
    graph, params = trained()
    there = all_in_batch(params, np.full(2, 0.5, np.float32))
    average = nnx.merge(graph, there)
    latent = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_array_equal(average.decode(latent, of_batch(0, 3)), average.decode(latent, of_batch(1, 3)))
    for name in ("batch_start", "batch_effect", "batch_turn"):
        before, after = np.asarray(params[name][...]), np.asarray(there[name][...])
        np.testing.assert_allclose(after[:2], np.tile(before[:2].mean(axis=0), (2, 1)), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(after[2:], before[2:])  # other columns stay as they are
    for name in ("loading", "log_profile", "turn_loading"):
        np.testing.assert_array_equal(there[name][...], params[name][...])


def test_the_encoder_takes_off_what_its_batch_adds():
    """A cell at a centroid of its batch ends where one at the common centroid does."""
    common = np.array([[-10.0, 0, 0], [10, 0, 0]], np.float32)
    moved = np.stack([common + [0, 1, 0], common - [0, 2, 0]])
    alignment = Alignment(common, moved.astype(np.float32), np.float32(1.0))
    model, plain = network(EFFECTS, alignment=alignment), network(EFFECTS)
    inputs = np.array([[-10.0, 1, 3], [10, -2, 3], [9, 1, -1], [-11, -2, 4]], np.float32)
    level = np.array([0, 1, 0, 1])
    cells = small.of_levels(level, np.full(4, 3), values=[np.zeros(4)])
    expected = plain.encode(inputs - np.array([[0, 1, 0], [0, -2, 0]])[level], cells)
    np.testing.assert_allclose(model.encode(inputs, cells), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(model.encode(inputs, cells), plain.encode(inputs, cells), atol=0.05)


def test_a_group_moves_its_own_cells_most():
    common = np.array([[-10.0, 0, 0], [10, 0, 0]], np.float32)
    moved = np.stack([common, common + [[0, 3, 0], [0, 0, 3]]]).astype(np.float32)  # each group its own way
    model = network(EFFECTS, alignment=Alignment(common, moved, np.float32(1.0)))
    shift = model._moved_by(np.array([[-9.0, 0, 0], [9, 0, 0], [-9, 0, 0]], np.float32), np.array([1, 1, 0]))
    np.testing.assert_allclose(shift, [[0, 3, 0], [0, 0, 3], [0, 0, 0]], atol=1e-4)


def test_centroids_and_starts_are_fixed():
    names = nnx.to_pure_dict(nnx.split(network(EFFECTS, alignment=alignment_of_two()), nnx.Param)[1])
    assert {name for name, role in ROLES.items() if not role.trained} <= set(names)


def alignment_of_two():
    return Alignment(np.zeros((1, 3), np.float32), np.zeros((2, 1, 3), np.float32), np.float32(1.0))


def test_cells_do_not_see_each_other():
    model = network(EFFECTS, alignment=alignment_of_two())
    inputs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    together = model.encode(inputs, CELLS)
    np.testing.assert_allclose(model.encode(inputs[2:3], CELLS.take(slice(2, 3))), together[2:3], rtol=1e-5)
    logits = model.decode(together, CELLS)
    np.testing.assert_allclose(model.decode(together[2:3], CELLS.take(slice(2, 3))), logits[2:3], rtol=1e-5)


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


def test_another_batch_leaves_the_old_parameters_alone():
    _, params = trained()
    before = {name: np.array(value) for name, value in nnx.to_pure_dict(params).items()}
    all_in_batch(params, np.array([0.0, 1.0], np.float32))
    for name, value in nnx.to_pure_dict(params).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("profile", [np.array([1.0]), np.full(3, 1 / 3)])
def test_any_number_of_genes(profile):
    assert network(profile=profile).decode(jnp.ones((1, 2)), no_conditions(1)).shape == (1, len(profile))
    effects = np.zeros((1, len(profile)), np.float32)
    assert network(effects, profile=profile).decode(jnp.ones((1, 2)), small.of_levels([0])).shape == (1, len(profile))
