import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, gammaln
from scipy.stats import nbinom

import small
from scdae.core.batches import padded
from scdae.core.dropout_law import DROPOUT_COST, CellMeans, GeneBlock, first_look, fit_laws, losses
from scdae.core.predictive import zinb_predictive_log_prob

N_OBS, N_GENES, N_LATENT = 500, 6, 2
PI = np.array([0.0, 0.0, 0.0, 0.15, 0.35, 0.6])
THETA = np.array([1.0, 5.0, 50.0, 5.0, 2.0, 5.0])


class Scene:
    """Counts of known law, halved, with the means that a network would give: those after dropout."""

    def __init__(self, masked=False):
        rng = np.random.default_rng(0)
        latent = rng.normal(size=(N_OBS, N_LATENT))
        loading = rng.normal(0, 0.4, (N_LATENT, N_GENES))
        conditions = small.of_levels(rng.integers(0, 2, N_OBS))
        base = np.full(N_GENES, np.log(0.01))
        effects = np.array([[0.0], [0.3]]) * np.ones(N_GENES)
        norm = rng.normal(0, 0.1, (N_OBS, 1))
        self.rho = np.exp(latent @ loading + base + effects[conditions.levels[:, 0]] - norm)
        self.total_in = rng.uniform(200, 600, N_OBS)
        self.total_out = rng.uniform(200, 600, N_OBS)
        rate = self.rho / (1 - PI) * rng.gamma(THETA, 1 / THETA, self.rho.shape)
        rate *= rng.random(rate.shape) >= PI
        self.x_in, self.x_out = rng.poisson(self.total_in[:, None] * rate), rng.poisson(self.total_out[:, None] * rate)
        self.seen = rng.random(rate.shape) < 0.8 if masked else np.ones(rate.shape, bool)
        self.x_in, self.x_out = self.x_in * self.seen, self.x_out * self.seen
        cols, rows = np.nonzero((self.x_in + self.x_out).T)
        self.cells = CellMeans(
            *(part.astype(np.float32) for part in (latent, norm)),
            conditions,
            *(part.astype(np.float32) for part in (self.total_in, self.total_out)),
        )
        k = len(rows) + 7
        self.genes = GeneBlock(
            loading=loading.astype(np.float32),
            base=base.astype(np.float32),
            effects=effects.astype(np.float32),
            log_theta=np.zeros(N_GENES, np.float32),
            rows=padded(rows, k),
            cols=padded(cols, k),
            x_in=padded(self.x_in[rows, cols].astype(np.float32), k),
            x_out=padded(self.x_out[rows, cols].astype(np.float32), k),
            observed=self.seen if masked else None,
        )

    def loss(self, log_theta, logit):
        """Loss of each entry, with the means before dropout at that probability."""
        pi = expit(logit)
        rho = self.rho / (1 - pi)
        means = self.total_in[:, None] * rho, self.total_out[:, None] * rho
        value = np.asarray(zinb_predictive_log_prob(self.x_out, self.x_in, *means, np.exp(log_theta), pi))
        return -np.where(self.seen, value + gammaln(self.x_out + 1), 0)

    def best(self, gene, with_dropout):
        """Least loss of one gene, by SciPy."""

        def total(law):
            logit = np.clip(law[1], -10, 5) if with_dropout else -50.0
            full = [np.full(N_GENES, part) for part in (np.clip(law[0], -5, 8), logit)]
            return self.loss(*full)[:, gene].sum() + DROPOUT_COST / (1 + np.exp(-logit))

        starts = [(0.0, -2.0), (2.0, 0.0)] if with_dropout else [(0.0, 0.0)]
        return min(minimize(total, start, method="Nelder-Mead").fun for start in starts)


@pytest.fixture(scope="module", params=[False, True], ids=["all", "masked"])
def scene(request):
    return Scene(request.param)


def test_losses_are_the_predictive_law(scene):
    rng = np.random.default_rng(1)
    log_theta, logit = rng.normal(1, 1, N_GENES), rng.normal(-1, 1, N_GENES)
    entries, total, zeros, predicted = losses(scene.cells, scene.genes, np.stack([log_theta, logit]).astype(np.float32))
    expected, pi = scene.loss(log_theta, logit), expit(logit)
    np.testing.assert_allclose(entries, expected, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(total, expected.sum(axis=0) + DROPOUT_COST * pi, rtol=1e-4)
    rho = scene.rho / (1 - pi)
    mean = (scene.total_in + scene.total_out)[:, None] * rho
    chance = nbinom.pmf(0, np.exp(log_theta), 1 / (1 + mean / np.exp(log_theta)))
    weight = np.where(scene.seen, rho**2, 0)
    found = (weight * ((scene.x_in + scene.x_out == 0) - chance)).sum(axis=0)
    np.testing.assert_allclose(zeros, found, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(predicted, (weight * pi * (1 - chance)).sum(axis=0), rtol=1e-3)


def test_effects_of_conditions_act_as_further_loadings(scene):
    """Two categorical columns and a continuous one give what they give as known parts of the latent space."""
    rng = np.random.default_rng(3)
    first, second, values = rng.integers(0, 2, N_OBS), rng.integers(2, 5, N_OBS), rng.normal(size=N_OBS)
    effects = rng.normal(0, 0.3, (6, N_GENES)).astype(np.float32)
    column = np.stack([*(first == np.arange(2)[:, None]), *(second == np.arange(2, 5)[:, None]), values], axis=1)
    law = np.stack([rng.normal(1, 1, N_GENES), rng.normal(-1, 1, N_GENES)]).astype(np.float32)
    found = losses(
        scene.cells._replace(conditions=small.of_levels(first, second, values=[values])),
        scene.genes._replace(effects=effects),
        law,
    )
    expected = losses(
        scene.cells._replace(latent=np.concatenate([scene.cells.latent, column.astype(np.float32)], axis=1)),
        scene.genes._replace(effects=None, loading=np.concatenate([scene.genes.loading, effects])),
        law,
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert not np.allclose(found[1], losses(scene.cells, scene.genes, law)[1], rtol=0.01)


def test_fit_is_near_the_best_that_there_is(scene):
    found = fit_laws(scene.cells, scene.genes)
    best = [scene.best(gene, False) - scene.best(gene, True) for gene in range(N_GENES)]
    np.testing.assert_allclose(found.lead[3:], best[3:], rtol=0.05, atol=1)
    assert (found.lead[:3] < 1).all()  # the search does not go to a probability of zero, where there is no gain


def test_fit_finds_the_law(scene):
    found = fit_laws(scene.cells, scene.genes)
    pi = expit(found.logit_pi)
    np.testing.assert_allclose(pi, PI, atol=0.08)
    np.testing.assert_allclose(np.exp(found.log_theta[3:]), THETA[3:], rtol=0.6)
    assert (found.lead[3:] > 5).all() and (found.lead[:3] < 5).all()
    assert (found.zeros > 0.75 * found.predicted)[3:].all()


def test_squares_are_those_of_the_differences_of_the_entries(scene):
    found = fit_laws(scene.cells, scene.genes)
    with_it, best = scene.loss(found.log_theta, found.logit_pi), []
    for gene in range(N_GENES):
        options = [scene.loss(np.full(N_GENES, theta), -200.0)[:, gene] for theta in np.linspace(-2.5, 6, 171)]
        best.append(min(options, key=np.sum))
    np.testing.assert_allclose(found.square, ((np.transpose(best) - with_it) ** 2).sum(axis=0), rtol=0.2, atol=1.5)


def test_first_look_rules_out_no_gene_with_dropout(scene):
    assert (first_look(scene.cells, scene.genes)[3:] > 0).all()
