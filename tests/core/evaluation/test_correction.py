from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from flax import nnx

import small
from scdae.core.data.cells import cell_data
from scdae.core.data.exposure import gene_profile
from scdae.core.data.thinning import thin
from scdae.core.distributions.components import KNOTS, corrected
from scdae.core.distributions.laws import even_laws
from scdae.core.evaluation import correction
from scdae.core.evaluation.correction import correction_of_sums, fit_correction
from scdae.core.evaluation.heldout import HeldOut
from scdae.core.evaluation.law_counts import _LOW, _WIDTH, Means
from scdae.core.network.autoencoder import Autoencoder, with_values
from scdae.core.network.principal_axes import fit_axes
from scdae.core.prediction.decode import read_out

MANY = 1e7


def scene(hidden=0.0, n_obs=150, n_vars=40, seed=0):
    """Counts, and a network with random weights."""
    rng = np.random.default_rng(seed)
    profile = rng.dirichlet(np.full(n_vars, 3.0))
    first = sp.csr_matrix(np.float32(rng.poisson(800 * profile, (n_obs, n_vars))))
    gaps = rng.random(first.shape) < hidden
    unobserved = sp.csr_matrix(gaps) if hidden else None
    axes = fit_axes(cell_data(first, None, None, profile), 1.0, 4, rng)
    model = Autoencoder(profile, n_inputs=4, n_hidden=6, n_latent=3, seed=seed)
    graph, params = nnx.split(model, nnx.Param)
    values = nnx.to_pure_dict(params) | {"loading": rng.normal(0, 0.2, (3, n_vars))}
    return rng, profile, first, unobserved, axes, graph, params, values


def test_sums_are_those_over_the_entries():
    rng, profile, counts, unobserved, axes, graph, params, values = scene(hidden=0.2)
    counts = sp.csr_matrix(np.where(unobserved.toarray(), 0, counts.toarray()))
    kept, held = thin(counts, 0.8, rng)
    params = with_values(params, values)
    data = cell_data(kept, unobserved, None, profile)
    held_out = HeldOut(data, held, axes, rng)
    log_share = np.log(gene_profile(counts, unobserved))
    [(cells, batch)] = list(held_out.batches())
    found = np.asarray(correction._sums(graph, params, batch, log_share.astype(np.float32), held_out.ratio))

    model, seen = nnx.merge(graph, params), ~unobserved.toarray()
    latent = model.encode(np.asarray(batch.inputs), batch.conditions)
    logits = np.asarray(model.decode(latent, batch.conditions), np.float64)[: len(cells)]
    seen, held = seen[cells], held.toarray()[cells]
    rho = np.exp(logits) / np.where(seen, np.exp(logits), 0).sum(axis=1, keepdims=True)
    fold = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)) - log_share
    mean = held_out.ratio * kept.toarray()[cells].sum(axis=1, keepdims=True) * rho
    hats = np.stack([np.interp(fold, KNOTS, row) for row in np.eye(len(KNOTS))])
    of_expected, of_seen = (np.where(seen, hats * values, 0).sum(axis=1) for values in (mean, held))
    others = [np.where(seen, part, 0).sum(axis=0) for part in (np.ones(fold.shape), fold, fold**2)]
    np.testing.assert_allclose(found, np.concatenate([of_expected, of_seen, np.stack(others)]), rtol=2e-4, atol=2e-4)


def test_loadings_that_are_too_small_are_made_good_where_genes_are_low():
    rng, profile, first, _, axes, graph, params, values = scene(n_obs=1500)
    true, wrong = (with_values(params, values | {"loading": scale * values["loading"]}) for scale in (1, 0.7))
    data = cell_data(first, None, None, profile)
    rho = np.empty(first.shape)
    for cells, batch in HeldOut(data, first, axes, rng).batches():
        model = nnx.merge(graph, true)
        logits = model.decode(model.encode(batch.inputs, batch.conditions), batch.conditions)
        share = np.exp(np.asarray(logits, np.float64))[: len(cells)]
        rho[cells] = share / share.sum(axis=1, keepdims=True)
    held_out = HeldOut(data, sp.csr_matrix(np.float32(rng.poisson(3000 * rho))), axes, rng)
    log_share = np.log(rho.mean(axis=0))
    found = fit_correction(graph, wrong, held_out, log_share)
    low = rho < 0.5 * rho.mean(axis=0)
    laws = even_laws(len(profile))._replace(log_share=np.float32(log_share))
    fitted = replace(
        small.fitted(likelihood="nb").outcome.fitted, axes=axes, graph=graph, params=wrong, profile=profile
    )
    before, after = (
        np.concatenate(
            [part for _, part, _ in read_out(replace(fitted, laws=one, inflated=low[0] & False), data, "prior")]
        )
        for one in (laws, laws._replace(correction=found))
    )
    truth = (rho * np.asarray(first.sum(axis=1)))[low].sum()
    assert before[low].sum() > 1.2 * truth
    assert abs(np.log(after[low].sum() / truth)) < 0.6 * np.log(before[low].sum() / truth)


def test_nothing_is_corrected_where_expected_is_seen():
    expected = np.random.default_rng(0).uniform(0, 1000, (len(KNOTS), 50))
    np.testing.assert_allclose(correction_of_sums(expected, expected, np.linspace(0, 3, 50)), 0, atol=1e-6)


def test_ratio_by_knot_and_spread():
    knots = np.array(KNOTS)
    ratio = np.exp(np.where(knots < 0, 0.3 * knots, 0.2))
    expected = np.full((len(KNOTS), 30), MANY)
    spread = np.repeat([0.1, 1.8], 15)
    seen = np.where(spread > 1, ratio[:, None], 1) * MANY
    found = correction_of_sums(expected, seen, spread)
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-2)
    np.testing.assert_allclose(found[:, -1], np.where(knots < 0, np.log(ratio), 0), atol=1e-3)


def test_nothing_is_put_on_top():
    expected = np.full((len(KNOTS), 30), MANY)
    np.testing.assert_allclose(correction_of_sums(expected, 2 * expected, np.linspace(0, 3, 30)), 0, atol=1e-6)


def test_sums_that_rounding_took_below_zero_are_nothing():
    expected = np.full((len(KNOTS), 30), 1e3)
    expected[-1] = 0
    below = expected.copy()
    below[-1] = -1e-4  # SciPy's isotonic regression refuses negative weights
    spread = np.linspace(0, 3, 30)
    np.testing.assert_array_equal(
        correction_of_sums(below, np.minimum(below, 500), spread),
        correction_of_sums(expected, np.minimum(expected, 500), spread),
    )


def test_few_molecules_say_what_genes_of_less_spread_do():
    expected = np.where(np.arange(30) < 15, MANY, 1e-9)[None] * np.ones((len(KNOTS), 1))
    found = correction_of_sums(expected, 0.5 * expected, np.repeat([0.1, 1.8], 15))
    low = np.array(KNOTS) < -1
    np.testing.assert_allclose(found[low], np.log(0.5), atol=1e-3)


def test_a_gene_that_is_expected_higher_stays_higher():
    rng = np.random.default_rng(0)
    expected = rng.gamma(0.3, 30, (len(KNOTS), 40))
    at_knots = correction_of_sums(
        expected, rng.poisson(expected * rng.gamma(1, 1, expected.shape)), np.linspace(0, 3, 40)
    )
    fold = np.tile(np.linspace(-7, 4, 400)[:, None], 40)
    assert (np.diff(corrected(fold, at_knots), axis=0) > 0).all()


def test_distributions_are_fitted_to_the_means_that_are_read_out():
    model = small.fitted(likelihood="nb").outcome.fitted
    counts = sp.csr_matrix(small.structured().X)
    data = cell_data(counts, None, None, model.profile)
    held_out = HeldOut(data, sp.csr_matrix(counts.shape, dtype=np.float32), model.axes, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    at_knots = np.float32(rng.uniform(-0.2, 0.2, (len(KNOTS), counts.shape[1])))
    log_share = np.log(gene_profile(counts, None))
    laws = even_laws(counts.shape[1])._replace(log_share=np.float32(log_share), correction=at_knots)
    means = Means(model.graph, model.params, held_out, None, log_share, at_knots)
    genes, everything = slice(0, counts.shape[1]), slice(None)
    logits = means.logits(genes)
    at, cols = counts.tocoo().coords
    some = means.place(logits[at, cols], genes, at, cols)
    logs = means.place(logits, genes, everything, everything)
    np.testing.assert_array_equal(some, logs[at, cols])
    logs = logs * _WIDTH + _LOW
    prior = np.concatenate([part for _, part, _ in read_out(replace(model, laws=laws), data, "prior")])
    far = prior > 2e-4
    np.testing.assert_allclose(logs[far], np.log(prior[far]), atol=2e-3)
