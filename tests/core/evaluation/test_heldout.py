import jax
import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx
from scipy.special import gammaln
from scipy.stats import poisson

import small
from scdae.core.data.cells import cell_data
from scdae.core.data.conditions import effect_of, no_conditions
from scdae.core.data.exposure import gene_profile
from scdae.core.data.thinning import thin
from scdae.core.distributions.predictive import (
    nb_predictive_log_prob,
    poisson_predictive_log_prob,
    zinb_predictive_log_prob,
)
from scdae.core.distributions.predictive_numpy import predictive_law
from scdae.core.evaluation import heldout
from scdae.core.evaluation.gain import measure_gain
from scdae.core.evaluation.heldout import HeldOut, latent_and_norm, read_out_law
from scdae.core.evaluation.report import Report
from scdae.core.network.autoencoder import Autoencoder, with_values
from scdae.core.network.batch_alignment import Alignment
from scdae.core.network.encoder_input import project
from scdae.core.network.principal_axes import fit_axes
from scdae.metrics import poisson_deviance

N_OBS, N_VARS = 50, 8


class Scene:
    """A network with random weights, data, and the densities worked out entry by entry."""

    def __init__(self, masked, batches):
        rng = np.random.default_rng(0)
        counts = rng.poisson(rng.gamma(2, 4, (N_OBS, N_VARS))).astype(np.float32)
        hidden = rng.random(counts.shape) < 0.2 if masked else np.zeros(counts.shape, bool)
        self.seen, counts = ~hidden, np.where(hidden, 0, counts)
        unobserved = sp.csr_matrix(hidden) if masked else None
        kept, held = thin(sp.csr_matrix(counts), 0.8, rng)
        self.profile = gene_profile(sp.csr_matrix(counts), unobserved)
        self.conditions, self.effects, alignment = no_conditions(N_OBS), np.zeros((0, N_VARS), np.float32), None
        if batches:
            drawn = np.random.default_rng(1)
            self.conditions = small.of_levels(drawn.integers(0, 2, N_OBS), values=drawn.normal(size=(1, N_OBS)))
            self.effects = drawn.normal(0, 0.3, (3, N_VARS)).astype(np.float32)
            centroids = drawn.normal(size=(3, 2, 4)).astype(np.float32)
            alignment = Alignment(centroids[0], centroids[1:], np.float32(1.0))
        self.data = cell_data(kept, unobserved, self.conditions, self.profile)
        effects = self.effects if batches else None
        self.axes = fit_axes(self.data, 1.0, 4, rng, effects)
        self.inflated = np.arange(N_VARS) % 2 == 0
        self.held_out = HeldOut(self.data, held, self.axes, rng)
        model = Autoencoder(self.profile, n_inputs=4, n_hidden=6, n_latent=3, effects=effects, alignment=alignment)
        self.graph, params = nnx.split(model, nnx.Param)
        values = nnx.to_pure_dict(params)
        values |= {
            "loading": rng.normal(0, 0.3, (3, N_VARS)),
            "log_theta": rng.normal(1, 0.5, N_VARS),
            "log_theta_zi": rng.normal(2, 0.5, N_VARS),
            "logit_pi": rng.normal(-1, 0.5, N_VARS),
        }
        if batches:
            values |= {
                "batch_effect": drawn.normal(0, 0.3, (3, N_VARS)),
                "batch_turn": drawn.normal(0, 1, values["batch_turn"].shape),
                "turn_loading": drawn.normal(0, 0.3, values["turn_loading"].shape),
            }
        self.params = with_values(params, values)
        self.model = nnx.merge(self.graph, self.params)
        self.x_in, self.x_out = kept.toarray(), held.toarray()
        self.total_in, self.total_out = (x.sum(axis=1, keepdims=True) for x in (self.x_in, self.x_out))

    def rho(self, gate=1.0):
        counts = self.x_in / np.exp(effect_of(self.effects, self.conditions))
        exposure = counts.sum(axis=1, keepdims=True) / self.data.share[:, None]
        values = np.where(self.seen, np.log1p(1e4 * counts / exposure) - self.axes.gene_mean, 0)
        latent = self.model.encode(values @ self.axes.weight, self.conditions)
        logits = np.asarray(self.model.decode(latent, self.conditions))
        base = np.asarray(self.model.log_profile[...]) + effect_of(self.effects, self.conditions)
        share = np.exp(base + gate * (logits - base))
        return share / np.where(self.seen, share, 0).sum(axis=1, keepdims=True)

    def log_prob(self, law, gate=1.0, rho=None):
        """Log predictive law of each entry, without the factorial."""
        rho = self.rho(gate) if rho is None else rho
        mean_in, mean_out = self.total_in * rho, self.total_out * rho
        if law == "poisson":
            value = poisson_predictive_log_prob(self.x_out, mean_out)
        elif law == "nb":
            theta = np.asarray(self.model.theta())[None, :]
            value = nb_predictive_log_prob(self.x_out, self.x_in, mean_in, mean_out, theta)
        else:
            theta, pi = (np.asarray(of(self.inflated))[None, :] for of in (self.model.theta, self.model.pi))
            value = zinb_predictive_log_prob(self.x_out, self.x_in, mean_in, mean_out, theta, pi)
        return np.where(self.seen, np.asarray(value) + gammaln(self.x_out + 1), 0)

    @property
    def network(self):
        return self.graph, self.params


@pytest.fixture(scope="module", params=[(False, False), (True, False), (True, True)], ids=["all", "masked", "batches"])
def scene(request):
    return Scene(*request.param)


@pytest.mark.parametrize(("law", "gate"), [("poisson", 1.0), ("nb", 1.0), ("nb", 0.25), ("zinb", 1.0)])
def test_log_likelihoods_are_the_predictive_law(scene, law, gate):
    of_gene, of_cell, molecules = scene.held_out.log_likelihoods(
        *scene.network, scene.inflated, np.array([0.5, gate]), law
    )
    expected = scene.log_prob(law, gate)
    assert molecules == scene.x_out.sum()
    np.testing.assert_allclose(of_gene[1], expected.sum(axis=0), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(np.sort(of_cell[1]), np.sort(expected.sum(axis=1)), rtol=1e-3, atol=1e-2)


def test_a_share_of_all_molecules_is_hidden(scene):
    half = scene.held_out.with_hidden(0.5, np.random.default_rng(0))
    shown, hidden = half.data.counts.toarray(), half.counts.toarray()
    np.testing.assert_array_equal(shown + hidden, scene.x_in + scene.x_out)
    assert (hidden >= scene.x_out).all() and not (shown < 0).any()
    assert shown.sum() / (scene.x_in + scene.x_out).sum() == pytest.approx(0.5, abs=0.03)


def test_cells_that_are_watched_are_made_up_once_and_anew_for_halves(scene):
    watched = scene.held_out.watched()
    assert scene.held_out.watched() is watched
    assert sum(batch.x_out.sum() for batch in watched) == scene.x_out.sum()
    half = scene.held_out.with_hidden(0.5, np.random.default_rng(0))
    assert sum(batch.x_out.sum() for batch in half.watched()) == half.counts.sum() > scene.x_out.sum()


def test_judged_cells_are_some_of_all(scene, monkeypatch):
    monkeypatch.setattr("scdae.core.evaluation.heldout._JUDGED", 7)
    part = scene.held_out.judged()
    assert part.data.n_obs == part.counts.shape[0] == 7
    rows = [np.flatnonzero((scene.x_in == row).all(axis=1))[0] for row in part.data.counts.toarray()]
    np.testing.assert_array_equal(part.counts.toarray(), scene.x_out[rows])
    assert len(set(rows)) == 7 and len(scene.held_out.judged().watched()) > 0


def test_latent_with_the_sum_that_makes_shares(scene, monkeypatch):
    monkeypatch.setattr("scdae.core.evaluation.heldout.cells_at_once", lambda *_: 7)  # the last of these is not full
    data = scene.held_out.data
    latent, norm, *_ = latent_and_norm(*scene.network, data, project(scene.held_out.axes, data))
    assert len(latent) == len(norm) == N_OBS
    logits = np.asarray(scene.model.decode(latent, scene.conditions))
    np.testing.assert_allclose(np.exp(logits - norm), scene.rho(), rtol=1e-3)


def test_log_likelihood_is_per_molecule(scene):
    value = scene.held_out.log_likelihood(*scene.network, scene.inflated, "nb")
    assert value == pytest.approx(scene.log_prob("nb").sum() / scene.x_out.sum(), rel=1e-4)


def expectations(scene, law):
    """Expected held-out molecules: by the decoder, with own counts weighed in, by the gene means; and training molecules."""
    ratio = scene.x_out.sum() / scene.x_in.sum()
    mean = scene.total_in * scene.rho()
    theta, pi = np.asarray(scene.model.theta()), None
    if law == "zinb":
        theta, pi = np.asarray(scene.model.theta(scene.inflated)), np.asarray(scene.model.pi(scene.inflated))
    restored = predictive_law(scene.x_in, mean, theta, pi, ratio).expected
    lasting = mean if pi is None else mean * (1 - pi)
    return ratio * lasting, restored, ratio * scene.total_in / scene.data.share[:, None] * scene.profile, lasting


@pytest.mark.parametrize("law", ["nb", "zinb"])
def test_gain_is_the_deviance_of_the_expected_molecules(scene, law):
    """Dropout is not undone: what was lost among the molecules shown is lost among those held out."""
    report = measure_gain(*scene.network, scene.inflated, scene.profile, scene.held_out, law)
    decoded, restored, baseline, lasting = expectations(scene, law)
    entries = [np.where(scene.seen, poisson_deviance(scene.x_out, m), 0) for m in (decoded, restored, baseline)]
    for axis, found, expected in (
        (0, report.gene_deviance, entries[0]),
        (1, report.cell_deviance, entries[0]),
        (0, report.gene_restored, entries[1]),
        (0, report.gene_baseline, entries[2]),
        (1, report.cell_baseline, entries[2]),
    ):
        np.testing.assert_allclose(found, expected.sum(axis=axis), rtol=1e-3, atol=1e-3)
    margin = entries[2] - entries[0]
    error = np.sqrt(((margin - margin.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(report.gene_error, error, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(report.expected, np.where(scene.seen, lasting, 0).sum(axis=0), rtol=1e-3)
    np.testing.assert_array_equal(report.gene_molecules, scene.x_out.sum(axis=0))
    np.testing.assert_array_equal(report.cell_molecules, scene.x_out.sum(axis=1))


@pytest.mark.parametrize("law", ["nb", "zinb"])
def test_skill_is_the_log_likelihood_gained_for_each_molecule(scene, law):
    report = measure_gain(*scene.network, scene.inflated, scene.profile, scene.held_out, law)
    decoded, restored, baseline, _ = expectations(scene, law)

    def log_likelihood(mean):
        return np.where(scene.seen, poisson.logpmf(scene.x_out, mean), 0).sum()

    molecules = scene.x_out.sum()
    assert report.molecules == molecules
    gained = [(log_likelihood(mean) - log_likelihood(baseline)) / molecules for mean in (decoded, restored)]
    np.testing.assert_allclose([report.skill, report.skill_restored], gained, rtol=1e-2, atol=1e-4)
    hoped = restored * np.log(restored / baseline) - restored + baseline
    hoped = np.where(scene.seen, hoped, 0)
    assert report.efficiency == pytest.approx(gained[1] * molecules / hoped.sum(), rel=1e-2)
    entries = poisson.logpmf(scene.x_out, restored) - poisson.logpmf(scene.x_out, baseline)
    rest = np.where(scene.seen, entries, 0).sum(axis=1) - report.efficiency * hoped.sum(axis=1)
    assert report.efficiency_error == pytest.approx(np.sqrt((rest**2).sum()) / hoped.sum(), rel=0.05)


def test_where_there_are_many_cells_some_stand_for_all_in_what_own_counts_add(scene, monkeypatch):
    """The same report otherwise; what own counts add is theirs, in as many molecules as all have."""
    arguments = *scene.network, scene.inflated, scene.profile, scene.held_out, "nb"
    monkeypatch.setattr("scdae.core.evaluation.heldout.cells_at_once", lambda *_: 4)
    whole = measure_gain(*arguments)
    monkeypatch.setattr("scdae.core.evaluation.gain._RESTORED", 7)  # two batches of four cells
    assert N_OBS > 2 * 7
    report = measure_gain(*arguments)
    for name in ("gene_deviance", "gene_baseline", "gene_error", "cell_deviance", "cell_baseline", "expected"):
        np.testing.assert_allclose(getattr(report, name), getattr(whole, name), rtol=1e-5, atol=1e-6)

    cells = scene.held_out._order[:8]
    decoded, restored, baseline, _ = expectations(scene, "nb")
    seen, y = scene.seen[cells], scene.x_out[cells]
    entries = [np.where(seen, poisson_deviance(y, m[cells]), 0) for m in (decoded, restored, baseline)]
    more = (entries[0] - entries[1]).sum(axis=0) * scene.x_out.sum() / y.sum()
    np.testing.assert_allclose(report.gene_deviance - report.gene_restored, more, rtol=1e-3, atol=2e-3)
    hoped = 2 * np.where(scene.seen, restored * np.log(restored / baseline) - restored + baseline, 0)[cells]
    gained = (entries[2] - entries[1]).sum()
    assert report.efficiency == pytest.approx(gained / hoped.sum(), rel=1e-3)
    assert report.efficiency != pytest.approx(whole.efficiency, rel=1e-3)


def report_of(deviance, baseline, molecules, error=0.0):
    zeros = np.zeros(len(deviance))
    arrays = {"gene_restored": zeros, "gene_error": zeros + error, "expected": zeros}
    values = {"deviance": deviance, "baseline": baseline, "molecules": molecules}
    parts = {f"{of}_{name}": np.array(value) for of in ("gene", "cell") for name, value in values.items()}
    return Report(**arrays, **parts, molecules=float(np.sum(molecules)))


def test_gains_are_nats_for_each_molecule():
    report = report_of([1.0, 0.0], [4.0, 0.0], [3.0, 0.0])
    np.testing.assert_allclose(report.gene_gain, [0.5, np.nan])
    np.testing.assert_allclose(report.cell_gain, [0.5, np.nan])
    assert report.gene_gain.dtype == np.float32 and report.skill == pytest.approx(0.5)


def test_genes_are_helped_beyond_chance():
    """By 2.33 standard errors, of ten molecules and more."""
    margins = np.array([2.4, 2.2, 2.4, -5.0])
    report = report_of(10 - margins, np.full(4, 10.0), [10.0, 50.0, 9.0, 50.0], error=1.0)
    np.testing.assert_array_equal(report.helped, [True, False, False, False])


def test_law_without_any_dropout_is_negative_binomial():
    some = np.array([False, True])
    assert read_out_law("zinb", some) == "zinb"
    assert read_out_law("zinb", some & False) == "nb"
    assert read_out_law("poisson", some) == "poisson"


def test_poisson_predicts_its_mean(scene):
    mean = scene.total_in * scene.rho()
    report = measure_gain(*scene.network, scene.inflated, scene.profile, scene.held_out, "poisson")
    ratio = scene.x_out.sum() / scene.x_in.sum()
    entries = np.where(scene.seen, poisson_deviance(scene.x_out, ratio * mean), 0)
    np.testing.assert_allclose(report.gene_deviance, entries.sum(axis=0), rtol=1e-3, atol=1e-3)


def test_scores_do_not_depend_on_the_size_of_the_batches(scene, monkeypatch):
    whole = measure_gain(*scene.network, scene.inflated, scene.profile, scene.held_out, "nb")
    monkeypatch.setattr(heldout, "cells_at_once", lambda *_: 16)
    parts = measure_gain(*scene.network, scene.inflated, scene.profile, scene.held_out, "nb")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
        (parts.gene_deviance, parts.cell_deviance, parts.cell_baseline),
        (whole.gene_deviance, whole.cell_deviance, whole.cell_baseline),
    )
