import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import fit_once
import small
from scdae.core.config import Config
from scdae.core.evaluation.zero_inflation import candidates
from scdae.core.minibatches import microbatches as cutting
from scdae.core.training import fit as fitting
from scdae.core.training import initialize as starting
from scdae.core.training import loop as training
from scdae.core.training.fit import fit_counts
from scdae.core.training.schedule import batch_size_for, n_steps_for


@pytest.fixture
def compiled(caplog, monkeypatch):
    """Gives the names of the functions that were compiled, with how often; steps of earlier trainings are not known."""
    fit_once.forget_steps(monkeypatch)
    logger = logging.getLogger("jax._src.interpreters.pxla")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    logger.manager._clear_cache()

    def names():
        messages = [record.getMessage() for record in caplog.records if record.name == logger.name]
        return Counter(m.split()[1].removeprefix("jit(").rstrip(")") for m in messages if m.startswith("Compiling"))

    yield names
    logger.manager._clear_cache()


@pytest.mark.parametrize(("n_obs", "max_epochs", "steps"), [(640, 3, 30), (641, 3, 33), (64 * 5000, None, 5000)])
def test_number_of_steps_is_that_of_the_epochs_and_at_least_one(n_obs, max_epochs, steps):
    assert n_steps_for(Config(max_epochs=max_epochs), n_obs, 64) == steps


def test_small_data_get_enough_steps():
    assert n_steps_for(Config(), 10, 10) >= 100


def test_size_of_a_step():
    assert batch_size_for(Config(batch_size=50), 1000, 10) == 50
    assert batch_size_for(Config(batch_size=50), 20, 10) == 20
    few, many = batch_size_for(Config(), 5000, 100), batch_size_for(Config(), 5000, 30000)
    assert 32 <= many < few <= 128
    assert batch_size_for(Config(), 20, 10) == 20


def test_steps_grow_before_they_become_many():
    numbers = [10_000, 30_000, 100_000, 1_000_000]
    sizes = [batch_size_for(Config(), n_obs, 20_000) for n_obs in numbers]
    steps = [n_steps_for(Config(), n_obs, size) for n_obs, size in zip(numbers, sizes, strict=True)]
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3] <= 512
    assert max(steps[:3]) <= 420 and steps[3] < 2000


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_step_is_compiled_once(compiled, monkeypatch, masked, parts):
    monkeypatch.setattr(cutting, "_VALUES", 64 * small.N_VARS / parts)
    mask = np.random.default_rng(0).random((small.N_OBS, small.N_VARS)) < 0.9 if masked else None
    model = small.fit(mask=mask, max_epochs=7, likelihood="nb" if masked else "zinb")
    names = compiled()
    expected = {"update": 1} if parts == 1 else {"add": 1, "move": 1}
    assert {name: names[name] for name in ("update", "add", "move") if names[name]} == expected
    assert max(names[name] for name in ("_deviance", "losses", "_log_likelihoods")) <= 1
    assert model.outcome.n_epochs > 1


def test_another_training_compiles_no_step_again(compiled):
    small.fit(max_epochs=7, likelihood="zinb", seed=1)
    before = compiled()
    small.fit(max_epochs=7, likelihood="zinb", seed=2)
    after = compiled()
    assert before["update"] == after["update"] == 1


@pytest.mark.parametrize(
    ("corruption", "likelihood"),
    [("thinning", "nb"), ("thinning", "poisson"), ("thinning", "zinb"), ("masking", "nb"), ("gaussian", "nb")],
)
def test_every_corruption_and_law_beats_the_gene_means(corruption, likelihood):
    model, adata = small.fitted(corruption=corruption, likelihood=likelihood), small.structured()
    assert model.outcome.report.skill > 0.02
    assert np.isfinite(model.outcome.history["loss"]).all()
    truth, counts = np.asarray(adata.layers["truth"]), small.dense(adata)
    gene_means = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    network = model.impute(adata, output="prior")
    error, baseline = (np.mean((np.log1p(x) - np.log1p(truth)) ** 2) for x in (network, gene_means))
    assert error < 0.8 * baseline


def test_noise_level_is_used():
    little, much = small.fit(likelihood="nb", noise=0.05), small.fit(likelihood="nb", noise=0.9)
    assert not np.array_equal(little.outcome.report.gene_deviance, much.outcome.report.gene_deviance)


def test_history_of_a_whole_run():
    outcome = small.fitted(likelihood="nb").outcome
    history = outcome.history
    assert set(history) == {"step", "loss", "heldout_loglik", "curve_step", "curve_loss"}
    for names in (("step", "loss", "heldout_loglik"), ("curve_step", "curve_loss")):
        assert len({len(history[name]) for name in names}) == 1
    assert set(history["step"]) < set(history["curve_step"]) and len(history["curve_step"]) > 20
    assert np.isfinite(history["curve_loss"]).all()
    assert history["step"] == sorted(set(history["step"])) and history["step"][-1] == round(outcome.n_epochs * 150 / 64)
    assert (history["step"][-1] < 120) == outcome.stopped_early
    assert np.isfinite(history["heldout_loglik"]).all()


def test_progress_sees_every_step():
    counts, seen = small.structured().X, []

    def watch(steps, total):
        for step in steps:
            seen.append((step, total))
            yield step

    fit_counts(counts, None, None, 0, 0, Config(max_epochs=7, batch_size=64, n_latent=10, likelihood="nb"), watch=watch)
    assert seen == [(step, 21) for step in range(1, 22)]


def test_masking_in_which_no_entry_is_hidden_stays_finite():
    """With three genes it is usual that a cell has all of them visible."""
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(5, (80, 3)).astype(np.float32))
    outcome = fit_counts(counts, None, None, 0, 0, Config(max_epochs=3, likelihood="nb", corruption="masking"))
    assert np.isfinite(outcome.history["loss"]).all()
    assert all(np.isfinite(np.asarray(value)).all() for value in outcome.history.values())
    assert np.isfinite(outcome.report.skill)


@pytest.fixture
def falling_scores(monkeypatch):
    """The first look at the held-out molecules is the best one."""
    scores = iter(np.arange(0.0, -100.0, -1.0))
    monkeypatch.setattr(training.HeldOut, "log_likelihood", lambda *args: next(scores))


def test_training_stops_when_held_out_molecules_are_no_longer_predicted_better(falling_scores):
    outcome = small.fit(likelihood="nb").outcome
    assert outcome.stopped_early
    assert len(outcome.history["step"]) == 3
    assert outcome.n_epochs < 120 * 64 / 150  # all the steps there were


def test_dropout_and_means_of_the_best_step_go_together(falling_scores, monkeypatch):
    """Dropout that was found after the best step is forgotten with the parameters of that time."""
    calls = []

    def find(graph, params, held_out, seed):
        calls.append(candidates(held_out.data.counts) > 0)
        return params, calls[-1]

    monkeypatch.setattr(training, "find_dropout", find)
    outcome = small.fit().outcome
    assert len(calls) == 1 and calls[0].any()
    assert not outcome.fitted.inflated.any()


def test_what_fails_while_it_is_made_ready_fails_the_fit(monkeypatch):
    """It happens in a thread of its own, whose errors would be lost."""
    monkeypatch.setattr(training.HeldOut, "warm_up", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small.fit()


def test_more_epochs_are_more_steps():
    few = small.fit(likelihood="nb", max_epochs=7).outcome
    assert few.n_epochs < small.fitted(likelihood="nb").outcome.n_epochs


def test_where_batches_start_is_not_trained(monkeypatch):
    """The effects that the encoder takes off, and the centroids by which it moves cells, stay as they were found."""
    found = []

    def fit_alignment(*args):
        found.append(plain(*args))
        return found[-1]

    plain = starting.fit_alignment
    monkeypatch.setattr(starting, "fit_alignment", fit_alignment)
    fitted = small.fit(batch_key="batch", likelihood="nb", max_epochs=40).outcome.fitted
    (alignment,) = found
    np.testing.assert_array_equal(fitted.params["batch_start"][...], fitted.axes.effects)
    np.testing.assert_array_equal(fitted.params["centroids"][...], alignment.common)
    np.testing.assert_array_equal(fitted.params["batch_centroids"][...], alignment.of_level)
    np.testing.assert_array_equal(fitted.params["centroid_scale"][...], alignment.scale)
    for name in ("batch_effect", "turn_bias"):
        assert np.abs(fitted.params[name][...]).max() > 1e-3


def test_covariates_alone_leave_the_latent_space_to_the_cells():
    """Without batches nothing is made common, but effects are there."""
    adata = small.covaried()
    fitted = small.fit(adata, covariates="donor", likelihood="nb", max_epochs=2).outcome.fitted
    assert "centroids" not in fitted.params and fitted.params["batch_effect"].shape == (3, small.N_VARS)


@pytest.mark.parametrize(("rate", "again"), [(1e30, 0.02), (1.0, 0.02)])
def test_a_training_that_diverges_is_repeated_and_said(log, rate, again):
    """With a learning rate from 1 on the loss was not a number, and the untrained start came back without a word."""
    counts, plan = small.structured().X, Config(likelihood="nb", max_epochs=20, batch_size=64)
    usual = fit_counts(counts, None, None, 0, 0, plan)
    found = fit_counts(counts, None, None, 0, 0, replace(plan, learning_rate=rate))
    assert found.report.skill == pytest.approx(usual.report.skill, rel=0.02)
    message = "\n".join(record.getMessage() for record in log.records)
    assert "diverged" in message and f"learning_rate={rate:g}" in message and f"learning_rate={again:g}" in message


def test_training_that_diverges_twice_leaves_the_gene_means(log, monkeypatch):
    monkeypatch.setattr(fitting, "_calmer", lambda config: config)
    counts = small.structured().X
    found = fit_counts(
        counts, None, None, 0, 0, Config(likelihood="nb", learning_rate=1e30, max_epochs=3, batch_size=64)
    )
    assert not found.gate.any() and np.isfinite(found.report.skill)
    assert "diverged again" in log.records[-1].getMessage()


def test_a_learning_rate_with_which_nothing_is_learned_is_said(log):
    plan = Config(likelihood="nb", learning_rate=0.5, max_epochs=20, batch_size=64)
    found = fit_counts(small.structured().X, None, None, 0, 0, plan)
    said = any("learning_rate=0.5" in record.getMessage() for record in log.records)
    assert said == (not found.gate.any())
