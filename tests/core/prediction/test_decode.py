from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx
from scipy.special import softmax
from scipy.stats import nbinom

import small
from scdae.core.data.cells import cell_data
from scdae.core.distributions.expected_log1p import expected_log1p
from scdae.core.distributions.posterior import dropout_probability, posterior_mean, posterior_sd
from scdae.core.network.autoencoder import all_in_batch, with_values
from scdae.core.network.fitted import Fitted
from scdae.core.prediction import decode as prediction
from scdae.core.prediction.decode import OUTPUTS, read_out


def read(fitted, counts, output, unobserved=None, depth=None, level=None, batch=None):
    conditions = None if level is None else small.of_levels(level)
    data = cell_data(sp.csr_matrix(counts), unobserved, conditions, fitted.profile)
    parts = list(read_out(fitted, data, output, depth, batch=batch))
    assert [rows.start for rows, *_ in parts][0] == 0 and parts[-1][0].stop == data.n_obs
    return np.concatenate([values for _, values, _ in parts]), np.concatenate([latent for *_, latent in parts])


@pytest.fixture(scope="module")
def counts():
    return small.dense(small.structured())


@pytest.fixture(scope="module")
def plain():
    """With one dispersion for each gene, as models of scdae 0.1 have it; for others see test_laws.py."""
    return replace(small.fitted(likelihood="nb").outcome.fitted, laws=None)


@pytest.fixture(scope="module")
def with_dropout(plain):
    """The same network with dropout in every other gene."""
    values = nnx.to_pure_dict(plain.params) | {"logit_pi": np.full(small.N_VARS, -1.0, np.float32)}
    inflated = np.arange(small.N_VARS) % 2 == 0
    return Fitted("zinb", plain.axes, plain.graph, with_values(plain.params, values), plain.profile, inflated)


def test_prior_rows_add_up_to_the_library_size(plain, counts):
    prior, latent = read(plain, counts, "prior")
    np.testing.assert_allclose(prior.sum(axis=1), counts.sum(axis=1), rtol=1e-4)
    assert prior.dtype == latent.dtype == np.float32
    assert latent.shape == (small.N_OBS, 10)


def test_mean_and_sd_are_those_of_the_posterior(plain, counts):
    prior, _ = read(plain, counts, "prior")
    theta = np.asarray(nnx.merge(plain.graph, plain.params).theta())[None, :]
    np.testing.assert_allclose(read(plain, counts, "mean")[0], posterior_mean(counts, prior, theta), rtol=1e-4)
    np.testing.assert_allclose(read(plain, counts, "sd")[0], posterior_sd(counts, prior, theta), rtol=1e-3)


def expected_log(mean, shape, depth):
    """Expected log1p of counts per 10,000, by the sum over counts."""
    counts = np.arange(400)
    return (nbinom.pmf(counts, shape, shape / (shape + mean)) * np.log1p(1e4 * counts / depth)).sum()


@pytest.mark.parametrize("depth", [None, 150.0])
def test_log1p_is_what_a_new_measurement_would_read(plain, with_dropout, counts, depth):
    total = counts.sum(axis=1)
    new = total if depth is None else np.full(small.N_OBS, depth, np.float32)
    masked = np.zeros(counts.shape, bool)
    masked[:, 3] = True
    for fitted, hidden in ((plain, None), (with_dropout, None), (plain, sp.csr_matrix(masked))):
        seen = counts if hidden is None else np.where(masked, 0, counts)
        values = read(fitted, seen, "log1p", hidden, None if depth is None else new)[0]
        prior = read(fitted, seen, "prior", hidden)[0]
        model = nnx.merge(fitted.graph, fitted.params)
        theta, pi = np.asarray(model.theta(fitted.inflated)), np.asarray(model.pi(fitted.inflated))
        for i, j in [
            (0, 0),
            (4, 3),
            (9, 20),
            (17, 33),
            *zip(*(part[:4] for part in np.nonzero(seen == 0)), strict=True),
        ]:
            x, mean, r = seen[i, j], prior[i, j], theta[j]
            ratio = (total if hidden is None else seen.sum(axis=1))[i]
            ratio = new[i] / ratio if depth is not None else 1.0
            at = new[i] if depth is not None else seen[i].sum()
            known = expected_log(ratio * mean * (r + x) / (r + mean), r + x, at)
            unknown = expected_log(ratio * mean, r, at)
            lost = float(dropout_probability(x, mean, r, pi[j])) if fitted.likelihood == "zinb" else 0.0
            lost = 1.0 if hidden is not None and masked[i, j] else lost
            assert values[i, j] == pytest.approx(lost * unknown + (1 - lost) * known, rel=1e-3)


def test_log1p_of_poisson_has_the_spread_of_poisson(plain, counts):
    fitted = replace(plain, likelihood="poisson")
    values, prior = read(fitted, counts, "log1p")[0], read(fitted, counts, "prior")[0]
    for i, j in ((0, 0), (5, 7), (30, 50)):
        expected = expected_log(float(prior[i, j]), 1e7, counts[i].sum())
        assert values[i, j] == pytest.approx(expected, rel=1e-3)


def test_dropout_enters_the_posterior_of_its_genes_alone(plain, with_dropout, counts):
    prior, _ = read(with_dropout, counts, "prior")
    model = nnx.merge(with_dropout.graph, with_dropout.params)
    theta, pi = (np.asarray(of(with_dropout.inflated))[None, :] for of in (model.theta, model.pi))
    mean = read(with_dropout, counts, "mean")[0]
    np.testing.assert_allclose(mean, posterior_mean(counts, prior, theta, pi), rtol=1e-4)
    sd = read(with_dropout, counts, "sd")[0]
    np.testing.assert_allclose(sd, posterior_sd(counts, prior, theta, pi), rtol=1e-3, atol=1e-6)
    without = ~with_dropout.inflated
    np.testing.assert_allclose(mean[:, without], read(plain, counts, "mean")[0][:, without], rtol=1e-5)


def test_rate_is_the_share_of_the_cell(plain, counts):
    rate, _ = read(plain, counts, "rate")
    mean, _ = read(plain, counts, "mean")
    np.testing.assert_allclose(rate, mean / counts.sum(axis=1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(rate.sum(axis=1), 1, atol=0.15)
    assert rate.sum(axis=1).mean() == pytest.approx(1, abs=0.02)


def test_poisson_has_no_spread_and_its_mean_is_the_prior(counts):
    poisson = small.fitted(likelihood="poisson").outcome.fitted
    np.testing.assert_array_equal(read(poisson, counts, "mean")[0], read(poisson, counts, "prior")[0])
    assert not read(poisson, counts, "sd")[0].any()


@pytest.mark.parametrize("output", list(OUTPUTS))
@pytest.mark.parametrize("law", ["plain", "with_dropout"])
def test_empty_cells_come_back_as_zeros(law, output, counts, request):
    fitted = request.getfixturevalue(law)
    some = counts.copy()
    some[4] = 0
    values, latent = read(fitted, some, output)
    assert not values[4].any()
    assert np.isfinite(values).all() and np.isfinite(latent).all() and (values >= 0).all()
    np.testing.assert_allclose(np.delete(values, 4, 0), np.delete(read(fitted, counts, output)[0], 4, 0), rtol=1e-5)


@pytest.mark.parametrize("output", list(OUTPUTS))
@pytest.mark.parametrize("law", ["plain", "with_dropout"])
def test_unobserved_entries_get_the_prior_on_the_scale_of_the_others(law, output, counts, request):
    fitted = request.getfixturevalue(law)
    hidden = np.random.default_rng(0).random(counts.shape) < 0.3
    hidden[7] = True  # a cell of which nothing was observed
    seen = np.where(hidden, 0, counts)
    values, _ = read(fitted, seen, output, sp.csr_matrix(hidden))
    prior, _ = read(fitted, seen, "prior", sp.csr_matrix(hidden))
    assert np.isfinite(values).all()
    assert not values[7].any()
    theta = np.asarray(nnx.merge(fitted.graph, fitted.params).theta(fitted.inflated))[None, :]
    exposure = np.maximum(prior.sum(axis=1, keepdims=True), 1e-12)
    depth = np.maximum(seen.sum(axis=1, keepdims=True), 1e-12)
    log = np.asarray(expected_log1p(prior, theta, 1e4 / depth))
    expected = {
        "mean": prior,
        "prior": prior,
        "rate": prior / exposure,
        "sd": prior / np.sqrt(theta),
        "log1p": log,
    }[output]
    np.testing.assert_allclose(values[hidden], expected[hidden], rtol=1e-4)
    np.testing.assert_allclose(np.where(hidden, 0, prior).sum(axis=1), seen.sum(axis=1), rtol=1e-4)
    # a cell has about the exposure it would have had with everything observed
    whole = np.delete(exposure[:, 0] / counts.sum(axis=1), 7)
    assert np.abs(whole - 1).mean() < 0.1


def test_batches_of_any_size_and_single_cells_give_the_same(plain, counts, monkeypatch):
    whole, latent = read(plain, counts, "mean")
    monkeypatch.setattr(prediction, "cells_at_once", lambda n_obs, n_vars: min(64, n_obs))
    parts, latent_parts = read(plain, counts, "mean")
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent_parts, latent, rtol=1e-3, atol=1e-4)
    alone, _ = read(plain, counts[5:6], "mean")
    np.testing.assert_allclose(alone, whole[5:6], rtol=1e-4, atol=1e-5)


# In another batch ---------------------------------------------------------------------------------------------------

WEIGHTS = {"first": np.array([1.0, 0.0]), "second": np.array([0.0, 1.0]), "average": np.array([0.5, 0.5])}


@pytest.fixture(scope="module")
def level():
    return small.structured().obs["batch"].cat.codes.to_numpy()


@pytest.fixture(scope="module")
def in_batches():
    """A network of two batches, in which what a batch does depends on the cell."""
    fitted = small.fitted(batch_key="batch", likelihood="nb").outcome.fitted
    values, rng = nnx.to_pure_dict(fitted.params), np.random.default_rng(0)
    values |= {"batch_turn": rng.normal(size=values["batch_turn"].shape)}
    values |= {"turn_loading": rng.normal(0, 0.2, values["turn_loading"].shape)}
    return replace(fitted, params=with_values(fitted.params, values), laws=None)


@pytest.fixture(scope="module")
def dropout_in_batches(in_batches):
    values = nnx.to_pure_dict(in_batches.params) | {"logit_pi": np.full(small.N_VARS, -1.0, np.float32)}
    inflated = np.arange(small.N_VARS) % 2 == 0
    return replace(in_batches, likelihood="zinb", params=with_values(in_batches.params, values), inflated=inflated)


@pytest.fixture(params=["all", "masked"])
def measured(request, counts):
    """Counts, and the entries that were not observed."""
    if request.param == "all":
        return counts, None
    hidden = np.random.default_rng(0).random(counts.shape) < 0.2
    hidden[7] = True
    return np.where(hidden, 0, counts), sp.csr_matrix(hidden)


@pytest.mark.parametrize("output", list(OUTPUTS))
@pytest.mark.parametrize("law", ["in_batches", "dropout_in_batches"])
def test_cells_of_a_batch_are_what_they_are_in_it(law, output, measured, level, request):
    fitted = request.getfixturevalue(law)
    own, latent = read(fitted, measured[0], output, measured[1], level=level)
    for k, name in enumerate(("first", "second")):
        there, same_latent = read(fitted, measured[0], output, measured[1], level=level, batch=WEIGHTS[name])
        np.testing.assert_array_equal(same_latent, latent)
        np.testing.assert_allclose(there[level == k], own[level == k], rtol=1e-4, atol=1e-6)
        others = (level != k) & (measured[0].sum(axis=1) > 0)
        assert np.median(np.abs(there - own)[others] / np.maximum(own[others], 1e-6)) > 0.02


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_what_is_expected_in_another_batch_is_the_decoder_there(name, in_batches, measured, level):
    seen, hidden = measured
    prior, latent = read(in_batches, seen, "prior", hidden, level=level)
    there, _ = read(in_batches, seen, "prior", hidden, level=level, batch=WEIGHTS[name])
    model = nnx.merge(in_batches.graph, all_in_batch(in_batches.params, WEIGHTS[name]))
    share = softmax(np.asarray(model.decode(latent, small.of_levels(level))), axis=1)
    exposure = prior.sum(axis=1, keepdims=True)  # of the whole panel; the cell's own, whatever the batch
    np.testing.assert_allclose(there, exposure * share, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(there.sum(axis=1), exposure[:, 0], rtol=1e-4)
    if name == "average":  # nothing of the batch is left but by way of the latent space
        again = np.asarray(model.decode(latent, small.of_levels(1 - level)))
        np.testing.assert_allclose(softmax(again, axis=1), share, rtol=1e-5)


@pytest.mark.parametrize("name", list(WEIGHTS))
@pytest.mark.parametrize("law", ["in_batches", "dropout_in_batches"])
def test_outputs_move_as_what_is_expected_moves(law, name, measured, level, request):
    """The posterior is that of the cell in its own batch; the ratio of the two expectations takes it to the other."""
    fitted, (seen, hidden) = request.getfixturevalue(law), measured
    own, there = (
        {
            output: read(fitted, seen, output, hidden, level=level, batch=batch)[0].astype(float)
            for output in ("prior", "mean", "sd", "rate")
        }
        for batch in (None, WEIGHTS[name])
    )
    counted = seen.sum(axis=1) > 0
    ratio = there["prior"][counted] / own["prior"][counted]
    for output in ("mean", "sd", "rate"):
        np.testing.assert_allclose(there[output][counted], own[output][counted] * ratio, rtol=1e-3, atol=1e-7)
        assert not there[output][~counted].any()
    assert np.abs(np.log(ratio)).max() > 0.1


@pytest.mark.parametrize("depth", [None, 150.0])
def test_log1p_in_another_batch_is_that_of_the_moved_rate(in_batches, dropout_in_batches, counts, level, depth):
    total = counts.sum(axis=1)
    new = total if depth is None else np.full(small.N_OBS, depth, np.float32)
    for fitted in (in_batches, dropout_in_batches):
        options = {"level": level, "batch": WEIGHTS["second"]}
        values, _ = read(fitted, counts, "log1p", None, None if depth is None else new, **options)
        prior, moved = read(fitted, counts, "prior", level=level)[0], read(fitted, counts, "prior", **options)[0]
        model = nnx.merge(fitted.graph, fitted.params)
        theta, pi = np.asarray(model.theta(fitted.inflated)), np.asarray(model.pi(fitted.inflated))
        zeros = zip(*(part[:4] for part in np.nonzero(counts == 0)), strict=True)
        for i, j in [(0, 0), (4, 3), (9, 20), (17, 33), *zeros]:
            x, mean, r = counts[i, j], prior[i, j], theta[j]
            ratio = new[i] / total[i] * moved[i, j] / mean
            known = expected_log(ratio * mean * (r + x) / (r + mean), r + x, new[i])
            lost = float(dropout_probability(x, mean, r, pi[j])) if fitted.likelihood == "zinb" else 0.0
            expected = lost * expected_log(ratio * mean, r, new[i]) + (1 - lost) * known
            assert values[i, j] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("output", list(OUTPUTS))
def test_empty_cells_in_another_batch_are_zeros(in_batches, counts, level, output):
    some = counts.copy()
    some[4] = 0
    values, latent = read(in_batches, some, output, level=level, batch=WEIGHTS["average"])
    assert not values[4].any() and np.isfinite(values).all() and np.isfinite(latent).all() and (values >= 0).all()


@pytest.mark.parametrize("output", list(OUTPUTS))
@pytest.mark.parametrize("name", ["second", "average"])
def test_some_genes_are_as_among_all(dropout_in_batches, measured, level, output, name):
    counts, hidden = measured
    data = cell_data(sp.csr_matrix(counts), hidden, small.of_levels(level), dropout_in_batches.profile)
    how = {"depth": np.full(data.n_obs, 900, np.float32), "batch": WEIGHTS[name]}
    ((_, whole, _),) = read_out(dropout_in_batches, data, output, **how)
    genes = np.array([5, 2, 30, 2])  # one of them twice
    ((_, part, _),) = read_out(dropout_in_batches, data, output, **how, genes=genes)
    np.testing.assert_allclose(part, whole[:, genes], rtol=1e-5, atol=1e-6)
