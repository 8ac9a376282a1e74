from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma

import scdae
import small
from scdae.arguments.selection import positions
from scdae.core.distributions.mixtures import given_counts
from scdae.model.posterior import Posterior


@pytest.fixture(scope="module")
def adata():
    return small.structured()


@pytest.fixture(scope="module")
def model():
    return small.fitted(likelihood="nb")


@pytest.fixture(scope="module")
def posterior(model, adata):
    return model.posterior(adata)


def test_mean_and_sd_are_the_outputs_of_that_name(posterior, model, adata):
    np.testing.assert_allclose(posterior.mean, model.impute(adata), rtol=1e-5)
    np.testing.assert_allclose(posterior.sd, model.impute(adata, output="sd"), rtol=1e-4)
    np.testing.assert_array_equal(posterior.counts, small.dense(adata))
    np.testing.assert_allclose(posterior.prior, model.impute(adata, output="prior"), rtol=1e-5)
    assert posterior.mean.dtype == posterior.sd.dtype == np.float32
    assert repr(posterior) == "Posterior of 150 cells x 60 genes"


def test_quantiles_are_those_of_the_mixture(posterior):
    by_cell = posterior.laws.over_cells(posterior.level)
    mixture = given_counts(by_cell, posterior.counts, posterior.prior)
    q = np.array([0.05, 0.5, 0.95])
    expected = np.stack([mixture.quantile(chance) for chance in q])
    chance = sum(w * gamma(a, scale=m / a).cdf(expected[1]) for w, a, m in zip(*mixture, strict=True))
    np.testing.assert_allclose(chance[expected[1] > 0], 0.5, rtol=1e-5)


def test_quantiles_are_those_of_a_gamma_law_where_there_is_one(posterior):
    """As models of scdae 0.1 have it."""
    posterior = replace(posterior, laws=None)
    scale = posterior.prior / (posterior.theta + posterior.prior)
    q = np.array([0.05, 0.5, 0.95])
    expected = gamma(posterior.theta + posterior.counts, scale=scale).ppf(q[:, None, None])
    np.testing.assert_allclose(posterior.quantile(q), expected, rtol=1e-4)
    np.testing.assert_allclose(posterior.quantile(0.5), expected[1], rtol=1e-4)
    lower, upper = posterior.interval(0.9)
    np.testing.assert_allclose(lower, expected[0], rtol=1e-4)
    np.testing.assert_allclose(upper, expected[2], rtol=1e-4)


def test_draws_have_the_moments_of_the_posterior(model, adata):
    posterior = model.posterior(adata, cells=slice(0, 5), genes=slice(0, 4))
    draws = np.stack(list(posterior.sample(4000, seed=1)))
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, rtol=0.1)
    np.testing.assert_allclose(draws.std(axis=0), posterior.sd, rtol=0.1)
    again = next(posterior.sample(1, seed=1))
    np.testing.assert_array_equal(again, draws[0])
    assert not np.array_equal(next(posterior.sample(1, seed=2)), again)


@pytest.mark.parametrize("kind", ["names", "positions", "boolean", "one"])
def test_choice_of_genes_and_cells(posterior, model, adata, kind):
    genes, cells = np.array([7, 3, 20]), np.array([5, 90])
    if kind == "boolean":
        genes, cells = np.sort(genes), np.sort(cells)
    asked = {
        "names": (list(adata.var_names[genes]), adata.obs_names[cells]),
        "positions": (genes, cells),
        "boolean": (np.isin(np.arange(small.N_VARS), genes), np.isin(np.arange(small.N_OBS), cells)),
        "one": (adata.var_names[7], adata.obs_names[5]),
    }[kind]
    if kind == "one":
        genes, cells = genes[:1], cells[:1]
    part = model.posterior(adata, genes=asked[0], cells=asked[1])
    np.testing.assert_allclose(part.mean, posterior.mean[np.ix_(cells, genes)], rtol=1e-4)
    assert list(part.var_names) == list(adata.var_names[genes])
    assert list(part.obs_names) == list(adata.obs_names[cells])


def test_unobserved_entries_keep_the_law_they_had(model, adata):
    mask = np.ones(adata.shape, bool)
    mask[:, 4] = False
    part = model.posterior(adata, mask=mask, genes=[4, 5], cells=[0, 9])
    np.testing.assert_allclose(part.mean[:, 0], part.prior[:, 0], rtol=1e-5)
    theta, weight, scale, _ = (values[..., 0] for values in part.laws.over_cells(part.level)[:4])
    means = part.prior[:, 0] * scale
    chance = (weight * gamma(theta, scale=means / theta).cdf(part.quantile(0.9)[:, 0])).sum(axis=0)
    np.testing.assert_allclose(chance, 0.9, rtol=1e-4)
    np.testing.assert_allclose(part.mean, model.impute(adata, mask=mask)[np.ix_([0, 9], [4, 5])], rtol=1e-4)


def test_dropout_is_in_the_posterior():
    adata = scdae.datasets.simulate(400, 60, n_types=2, trajectory=False, depth=900, dropout=0.6, seed=0)
    model = small.fit(adata, likelihood="zinb")
    assert model.outcome.fitted.inflated.any()
    posterior = model.posterior(adata)
    np.testing.assert_allclose(posterior.mean, model.impute(adata), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(posterior.sd, model.impute(adata, output="sd"), rtol=1e-3, atol=1e-5)
    assert (posterior.dropout.max(axis=0) > 0)[model.outcome.fitted.inflated].all()


def test_poisson_is_certain(adata):
    posterior = small.fitted(likelihood="poisson", corruption="thinning").posterior(adata, cells=[0, 1])
    assert not posterior.sd.any()
    np.testing.assert_allclose(posterior.quantile(0.05), posterior.mean, rtol=1e-6)
    np.testing.assert_allclose(next(posterior.sample()), posterior.mean, rtol=1e-6)


def test_genes_in_another_order_and_genes_without_counts():
    adata, model = small.with_gaps(), small.fitted_to_gaps()
    posterior = model.posterior(adata[:, ::-1].copy(), genes=[adata.var_names[5], adata.var_names[6]])
    assert not posterior.mean[:, 0].any() and not posterior.sd[:, 0].any()
    np.testing.assert_allclose(posterior.mean[:, 1], model.impute(adata)[:, 6], rtol=1e-4)


def test_unknown_genes_are_an_error(model, adata):
    other = adata.copy()
    other.var_names = [*adata.var_names[:-1], "stranger"]
    with pytest.raises(ValueError, match="does not know 1 of those asked for, the first being 'stranger'"):
        model.posterior(other)
    assert model.posterior(other, genes=slice(0, 3)).mean.shape == (150, 3)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (["b", "z", "y"], "2 of 3 names are not there, the first being 'z'"),
        ([0, 3], "3 is not a position among 3"),
        ([True, False], "2 values, but there are 3 names"),
    ],
)
def test_choices_that_are_not_there(chosen, words):
    with pytest.raises(ValueError, match=words):
        positions(pd.Index(list("abc")), chosen, "genes")


def test_repeated_names():
    with pytest.raises(ValueError, match="names are repeated"):
        positions(pd.Index(["a", "a"]), ["a"], "cells")


def test_arguments_that_do_not_fit(posterior):
    assert isinstance(posterior, Posterior)
    with pytest.raises(ValueError, match=r"level=1\.0"):
        posterior.interval(1.0)
    with pytest.raises(ValueError, match="`q` must lie between"):
        posterior.quantile(1.5)
    with pytest.raises(ValueError, match="n=0"):
        next(posterior.sample(0))
