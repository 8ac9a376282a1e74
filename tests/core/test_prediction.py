from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx
from scipy.stats import nbinom

import small
from scdae.core import prediction
from scdae.core.expected_log import expected_log1p
from scdae.core.fitting import Fitted, cell_data
from scdae.core.network import with_values
from scdae.core.posterior import dropout_probability, posterior_mean, posterior_sd
from scdae.core.prediction import OUTPUTS, read_out


def read(fitted, counts, output, unobserved=None, depth=None):
    data = cell_data(sp.csr_matrix(counts), unobserved, None, fitted.profile)
    parts = list(read_out(fitted, data, output, depth))
    assert [rows.start for rows, *_ in parts][0] == 0 and parts[-1][0].stop == data.n_obs
    return np.concatenate([values for _, values, _ in parts]), np.concatenate([latent for *_, latent in parts])


@pytest.fixture(scope="module")
def counts():
    return small.dense(small.structured())


@pytest.fixture(scope="module")
def plain():
    return small.fitted(likelihood="nb").outcome.fitted


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
    theta = np.asarray(nnx.merge(plain.graph, plain.params).theta())
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
    theta, pi = np.asarray(model.theta(with_dropout.inflated)), np.asarray(model.pi(with_dropout.inflated))
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
    theta = np.asarray(nnx.merge(fitted.graph, fitted.params).theta(fitted.inflated))
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
