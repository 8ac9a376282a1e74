import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx

import small
from scdae.core.data.cells import cell_data
from scdae.core.data.exposure import gene_profile
from scdae.core.data.thinning import thin
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.evaluation import zero_inflation
from scdae.core.evaluation.heldout import HeldOut
from scdae.core.evaluation.zero_inflation import candidates, find_dropout, observed_means
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.network.principal_axes import fit_axes

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


@pytest.fixture(params=[(False, 0), (True, 0), (False, 2)], ids=["plain", "masked", "batches"])
def setting(request):
    return Setting(*request.param)


def test_dropout_is_found_where_it_is(setting):
    params, inflated = find_dropout(setting.graph, setting.params, setting.held_out, 0)
    assert inflated[LOSSY].all()
    pi = 1 / (1 + np.exp(-np.asarray(params["logit_pi"][...])))
    assert pi[LOSSY].min() > 0.2 and pi[inflated & ~LOSSY].max(initial=0) < 0.15
    shift = np.asarray(params["log_profile"][...]) - np.asarray(setting.params["log_profile"][...])
    np.testing.assert_allclose(shift, np.where(inflated, -np.log(1 - pi), 0), rtol=1e-3, atol=1e-5)


def test_training_with_dropout_starts_from_laws_in_which_zeros_stand_out(monkeypatch):
    setting, spread = Setting(), np.zeros((len(GRID), N_VARS), np.float32)
    spread[1] = 1  # an inverse dispersion of 1/16: zeros are no surprise, and say nothing of dropout
    ones, genes = np.ones(N_VARS, np.float32), np.arange(N_VARS, dtype=np.int32)
    laws = Laws(Part(0 * spread[None], ones, 0 * ones), Part(spread[None], ones, 0.2 * ones, genes), ones, ones)
    monkeypatch.setattr(zero_inflation, "fit_laws", lambda *args, **kwargs: laws)
    params, inflated = find_dropout(setting.graph, setting.params, setting.held_out, 0)
    assert inflated.all()
    np.testing.assert_allclose(np.exp(np.asarray(params["log_theta_zi"][...])), 2, rtol=1e-5)


def test_means_are_put_back_to_those_of_what_is_counted(setting):
    params, inflated = find_dropout(setting.graph, setting.params, setting.held_out, 0)
    again = observed_means(params, inflated)
    np.testing.assert_allclose(again["log_profile"][...], setting.params["log_profile"][...], atol=1e-5)


def test_nothing_is_found_where_no_gene_could_show_it():
    setting = Setting()
    setting.held_out.data.counts.data[:] = 1
    params, inflated = find_dropout(setting.graph, setting.params, setting.held_out, 0)
    assert params is setting.params and not inflated.any()


def test_candidates():
    counts = np.zeros((2000, 4), np.float32)
    counts[:20, 0], counts[:15, 1], counts[:10, 2], counts[:500, 3] = 3, 3, 3, 2
    np.testing.assert_allclose(candidates(sp.csr_matrix(counts)), [1, 0.5, 0, 0])
