import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx
from scipy.special import log_softmax
from scipy.stats import false_discovery_control, norm

import small
from scdae.core.axes import fit_axes, gene_profile
from scdae.core.conditions import effect_of
from scdae.core.dropout import Screen, _beyond_chance, candidates, find_dropout
from scdae.core.dropout_law import Evidence
from scdae.core.fitted import cell_data
from scdae.core.heldout import HeldOut
from scdae.core.network import Autoencoder, with_values
from scdae.core.thinning import thin

N_OBS, N_VARS = 300, 9
LOSSY = np.arange(N_VARS) % 3 == 0


class Setting:
    """A network that knows the gene means, and counts of which a third of the genes have dropout."""

    def __init__(self, masked=False, n_batches=0):
        rng = np.random.default_rng(0)
        mean = rng.gamma(9, 1, N_VARS) * np.exp(rng.normal(0, 0.2, (N_OBS, 1)))
        counts = rng.poisson(mean * rng.gamma(8, 1 / 8, mean.shape)) * ~((rng.random(mean.shape) < 0.4) & LOSSY)
        hidden = rng.random(mean.shape) < 0.1 if masked else np.zeros(mean.shape, bool)
        counts = sp.csr_matrix((counts * ~hidden).astype(np.float32))
        unobserved = sp.csr_matrix(hidden) if masked else None
        conditions = small.of_levels(rng.integers(0, n_batches, N_OBS)) if n_batches else None
        kept, held = thin(counts, 0.9, rng)
        profile = gene_profile(counts, unobserved)
        data = cell_data(kept, unobserved, conditions, profile)
        self.held_out = HeldOut(data, held, fit_axes(data, 1.0, 3, rng), rng)
        effects = np.zeros((n_batches, N_VARS)) if n_batches else None
        model = Autoencoder(profile, n_inputs=3, n_hidden=4, n_latent=2, effects=effects)
        self.graph, self.params = nnx.split(model, nnx.Param)

    def screen(self, maybe=None):
        maybe = np.ones(N_VARS, bool) if maybe is None else maybe
        screen = Screen(self.held_out, maybe, 0)
        screen.use(self.graph, self.params)
        return screen

    def find(self, maybe=None):
        maybe = np.ones(N_VARS, bool) if maybe is None else maybe
        return find_dropout(self.graph, self.params, Screen(self.held_out, maybe, 0))


@pytest.fixture(params=[(False, 0), (True, 0), (False, 2)], ids=["plain", "masked", "batches"])
def setting(request):
    return Setting(*request.param)


def test_dropout_is_found_where_it_is_and_nowhere_else(setting):
    params, inflated = setting.find()
    np.testing.assert_array_equal(inflated, LOSSY)
    pi = 1 / (1 + np.exp(-np.asarray(params["logit_pi"][...])))
    np.testing.assert_allclose(pi, np.where(LOSSY, 0.4, 0), atol=0.1)


def test_only_candidates_are_looked_at(setting):
    maybe = np.arange(N_VARS) < 4
    params, inflated = setting.find(maybe)
    np.testing.assert_array_equal(inflated, LOSSY & maybe)
    before = np.asarray(setting.params["logit_pi"][...])
    np.testing.assert_array_equal(np.asarray(params["logit_pi"][...])[~maybe], before[~maybe])


def test_genes_that_get_dropout_have_their_mean_before_it(setting):
    params, inflated = setting.find()
    shift = np.asarray(params["log_profile"][...]) - np.asarray(setting.params["log_profile"][...])
    pi = 1 / (1 + np.exp(-np.asarray(params["logit_pi"][...])))
    np.testing.assert_allclose(shift, np.where(inflated, -np.log(1 - pi), 0), rtol=1e-3, atol=1e-5)


def test_the_other_parameters_stay(setting):
    params, _ = setting.find()
    for name in ("loading", "log_theta", "hidden_kernel", "latent_bias"):
        np.testing.assert_array_equal(np.asarray(params[name][...]), np.asarray(setting.params[name][...]))


def test_blocks_of_genes_give_what_one_block_gives(setting, monkeypatch):
    whole = setting.screen().fit(np.arange(N_VARS))
    monkeypatch.setattr("scdae.core.dropout._WIDTH", 4)
    parts = setting.screen().fit(np.arange(N_VARS))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "turned",
    [False, True],
)
def test_means_are_those_of_the_network_in_each_batch(turned):
    setting, rng = Setting(n_batches=2), np.random.default_rng(1)
    values = nnx.to_pure_dict(setting.params) | {"batch_effect": rng.normal(0, 0.5, (2, N_VARS))}
    values["turn_loading"] = rng.normal(0, 0.3 * turned, values["turn_loading"].shape)
    setting.params = with_values(setting.params, values)
    screen = setting.screen()
    cells, genes = screen._cells, screen._block(np.arange(N_VARS))
    found = cells.latent @ genes.loading + genes.base + effect_of(genes.effects, cells.conditions) - cells.norm
    latent = cells.latent[:, : setting.params["loading"][...].shape[0]]  # beside it are the turns
    logits = np.asarray(nnx.merge(setting.graph, setting.params).decode(latent, cells.conditions))
    np.testing.assert_allclose(found, log_softmax(logits, axis=1), atol=1e-3)


@pytest.mark.parametrize(
    ("evidence", "earned"),
    [
        ((9.0, 1.0, 1.0, 1.0), True),
        ((4.9, 1.0, 1.0, 1.0), False),  # too few nats
        ((9.0, 81.0, 1.0, 1.0), False),  # no more than chance
        ((9.0, 1.0, 0.7, 1.0), False),  # the zeros are not in the cells that express the gene
    ],
)
def test_what_it_takes(monkeypatch, evidence, earned):
    found = Evidence(*(np.full(N_VARS, value) for value in (*evidence, -1.0, 1.0)))
    monkeypatch.setattr(Screen, "suspects", lambda screen: screen.genes)
    monkeypatch.setattr(Screen, "fit", lambda screen, genes: found)
    assert (Setting().find()[1] == earned).all()


def test_false_discoveries_are_those_of_scipy():
    errors = np.random.default_rng(0).normal(1, 2, 200)
    chance = np.ones(1000)
    chance[:200] = norm.sf(errors)
    expected = false_discovery_control(chance)[:200] <= 0.05
    assert expected.any()
    np.testing.assert_array_equal(_beyond_chance(errors, 1000), expected)
    assert not _beyond_chance(np.zeros(3), 1000).any()


def test_nothing_suspect_costs_no_fit(monkeypatch):
    monkeypatch.setattr(Screen, "suspects", lambda screen: screen.genes[:0])
    monkeypatch.setattr(Screen, "fit", None)
    assert not Setting().find()[1].any()


def test_large_data_are_judged_on_some_of_the_cells(monkeypatch):
    monkeypatch.setattr("scdae.core.heldout._JUDGED", 200)
    monkeypatch.setattr("scdae.core.heldout.cells_at_once", lambda *_: 50)
    assert (Setting().find()[1] == LOSSY).all()


def test_candidates_reach_three_molecules_often_enough():
    counts = np.zeros((1200, 4), np.float32)
    counts[:9, 0] = 50  # too few cells
    counts[:11, 1] = 3  # ten cells, but not one in a hundred
    counts[:13, 2] = 3
    counts[:, 3] = 2
    np.testing.assert_array_equal(candidates(sp.csr_matrix(counts)), [False, False, True, False])
