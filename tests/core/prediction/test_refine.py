import anndata
import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal, nbinom, poisson

import scdae
import small
from scdae.core.network.latent_prior import LatentPrior
from scdae.core.prediction.refine import modes
from scdae.metrics import deviance_skill, gene_mean


def case(seed, n_vars=30, n_latent=3, n_obs=4):
    """Counts of cells at known places, few molecules each."""
    rng = np.random.default_rng(seed)
    loading, offset = rng.normal(0, 0.7, (n_latent, n_vars)), rng.normal(0, 1, (n_obs, n_vars))
    prior = LatentPrior(rng.normal(0, 1, n_latent), np.diag(rng.uniform(0.5, 2, n_latent)), 1000.0)
    share = softmax(rng.normal(0, 1, (n_obs, n_latent)) @ loading + offset, axis=1)
    return rng.poisson(40 * share).astype(float), offset, loading, rng.uniform(0.5, 5, n_vars), prior


def best(counts, offset, loading, theta, prior, seen):
    """The mode by SciPy's distributions and a minimizer that knows no derivatives."""

    def loss(latent):
        mean = counts[seen].sum() * softmax((latent @ loading + offset)[seen])
        law = poisson(mean) if np.isinf(theta).all() else nbinom(theta[seen], theta[seen] / (theta[seen] + mean))
        prior_law = multivariate_normal(prior.mean, np.linalg.inv(prior.precision))
        return -law.logpmf(counts[seen]).sum() - prior_law.logpdf(latent)

    return minimize(loss, prior.mean, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 5000}).x


def test_modes_are_those_of_the_posterior_density():
    counts, offset, loading, theta, prior = case(0)
    observed = np.random.default_rng(1).random(counts.shape) < 0.8
    for spread in (theta, np.full_like(theta, np.inf)):
        for seen in (None, observed):
            found = modes(counts, offset, loading, spread, prior, seen)
            of_cells = np.ones(counts.shape, bool) if seen is None else seen
            expected = [best(x, o, loading, spread, prior, s) for x, o, s in zip(counts, offset, of_cells, strict=True)]
            np.testing.assert_allclose(found, expected, atol=5e-3)


def test_without_molecules_a_cell_is_the_average_cell():
    counts, offset, loading, theta, prior = case(0)
    np.testing.assert_array_equal(modes(0 * counts, offset, loading, theta, prior), np.tile(prior.mean, (4, 1)))


def test_shallow_cells_are_predicted_better_than_by_gene_means_and_deep_ones_are_as_before():
    adata = small.structured()
    model = scdae.DAE(likelihood="nb", max_epochs=30).fit(adata)
    prior = model.outcome.fitted.prior
    few, rest = scdae.pp.thin(adata, 0.04, seed=0)
    some = np.asarray(few.X.sum(axis=1)).ravel() > 0
    few, truth = few[some].copy(), rest[some].X
    truth = np.asarray(truth.todense()) if hasattr(truth, "todense") else np.asarray(truth)
    assert (prior.doubt(np.asarray(few.X.sum(axis=1)).ravel()) > 0).mean() > 0.9
    counted = np.asarray(few.X.todense()) if hasattr(few.X, "todense") else np.asarray(few.X)
    assert deviance_skill(truth, 24 * model.impute(few), 24 * gene_mean(counted), blend=0.01) > 0
    deep = adata[prior.doubt(np.asarray(adata.X.sum(axis=1)).ravel()) == 0][:6].copy()
    both = anndata.concat([deep, few[:6]], index_unique="-")
    np.testing.assert_allclose(model.latent(both)[:6], model.latent(deep), atol=1e-5)
    assert (
        np.abs(model.latent(both)[6:] - prior.mean).max() < 5 * np.sqrt(np.diag(np.linalg.inv(prior.precision))).max()
    )
