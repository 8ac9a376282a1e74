"""What laws of several components say of entries, against sums over the components by SciPy."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

import small
from scdae.core.data.cells import cell_data
from scdae.core.distributions.components import HIGH, KNOTS, LOW, corrected
from scdae.core.distributions.law_sums import zero_again, zero_probability
from scdae.core.distributions.laws import (
    GRID,
    Laws,
    Part,
    components,
    even_laws,
    laws_from_arrays,
    laws_to_arrays,
    some_laws,
)
from scdae.core.distributions.mixtures import given_counts, log_counts, zero_chance
from scdae.core.distributions.predictive_numpy import law_of_entries, log_prob, log_prob_zero, predictive_pit
from scdae.core.prediction.decode import law_of_genes, read_out, shares_at
from scdae.core.prediction.set_aside import BlockLaw

N = small.N_VARS
THETA = np.array(GRID)


def some(dropout=True, levels=2):
    """Laws of all kinds: every other gene may have dropout, and with two `levels` weights depend on how high a gene is."""
    rng = np.random.default_rng(5)
    weight, own = (rng.dirichlet(np.ones(len(GRID)), (levels, n)).swapaxes(1, 2) for n in (N, N // 2))
    chance, lost = np.zeros(N), np.zeros(N)
    if dropout:
        chance[::2], lost[::2] = rng.uniform(0.1, 0.9, (2, N // 2))
    lift = 1 - chance + chance / (1 - lost)
    parts = [weight * (1 - chance), 1 / lift, np.zeros(N)]
    plain = Part(*(np.float32(part) for part in parts))
    parts = [own * chance[::2], (1 / lift / (1 - lost))[::2], lost[::2]]
    second = Part(*(np.float32(part) for part in parts), np.arange(0, N, 2, dtype=np.int32)) if dropout else None
    share = correction = None
    if levels == 2:
        share = np.float32(np.log(rng.dirichlet(np.full(N, 5.0))))
        correction = np.float32(rng.uniform(-0.4, 0.4, (len(KNOTS), N)))
    return Laws(plain, second, np.float32(lift), np.float32(chance), share, correction)


@pytest.fixture(
    scope="module",
    params=[(False, 2), (True, 2), (True, 1)],
    ids=["without", "with dropout", "the same wherever a gene is low or high, as in 0.1"],
)
def fitted(request):
    return replace(small.fitted(likelihood="nb").outcome.fitted, laws=some(*request.param))


@pytest.fixture(scope="module")
def counts():
    return small.dense(small.structured())


ALL = ("prior", "mean", "sd", "log1p")  # together: one program in place of four


def read(fitted, counts, output, hidden=None, genes=None):
    """One output, or a list of several."""
    data = cell_data(sp.csr_matrix(counts), hidden, None, fitted.profile)
    parts = [part for _, part, _ in read_out(fitted, data, output, genes=genes)]
    if isinstance(output, str):
        return np.concatenate(parts)
    return [np.concatenate(of_output) for of_output in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def values(fitted, counts):
    """All outputs by name, not to be changed."""
    return dict(zip(ALL, read(fitted, counts, ALL), strict=True))


def by_interpolation(fold, correction):
    """Corrected log fold changes from the definition, gene by gene."""
    more = [np.interp(of_gene, KNOTS, at_knots) for of_gene, at_knots in zip(fold.T, correction.T, strict=True)]
    return fold + np.stack(more, axis=1)


def weight_at(fitted, prior, exposure, gene):
    """Weights of the components of one entry, from their definition."""
    laws = law_of_genes(fitted)
    if fitted.laws.log_share is None:
        assert laws.high is None
        return laws.weight[:, gene]
    fold = np.log(prior / fitted.laws.lift[gene] / exposure) - fitted.laws.log_share[gene]
    part = min(max((fold - LOW) / (HIGH - LOW), 0), 1)
    return (1 - part) * laws.weight[:, gene] + part * laws.high[:, gene]


def posterior(fitted, counts, prior, at):
    """Weights, shapes and means of the components of one entry: kept ones, then lost ones."""
    i, j = at
    theta, weight, scale, lost = (part[:, j] for part in law_of_genes(fitted)[:4])
    weight = weight_at(fitted, prior[i, j], counts[i].sum(), j)
    x, mean = counts[i, j], prior[i, j] * scale
    kept = weight * (1 - lost) * stats.nbinom.pmf(x, theta, theta / (theta + mean))
    gone = weight * lost * (x == 0)
    chance = np.concatenate([kept, gone]) / (kept.sum() + gone.sum())
    after = mean * (theta + x) / (theta + mean)
    return chance, np.concatenate([theta + x, theta]), np.concatenate([after, mean])


ENTRIES = [(0, 0), (4, 3), (9, 20), (17, 33), (40, 6), (80, 8), (100, 10)]


def test_mean_sd_and_expected_log(fitted, counts, values):
    total = counts.sum(axis=1)
    prior, mean, sd, log = values.values()
    entries = ENTRIES + list(zip(*(part[:10] for part in np.nonzero(counts > 2)), strict=True))
    for at in entries:
        chance, shape, means = posterior(fitted, counts, prior, at)
        middle = chance @ means
        assert mean[at] == pytest.approx(middle, rel=1e-4)
        assert sd[at] == pytest.approx(np.sqrt(chance @ ((means - middle) ** 2 + means**2 / shape)), rel=1e-3)
        new = np.arange(3000)
        logs = np.log1p(1e4 * new / total[at[0]])
        law = sum(c * stats.nbinom.pmf(new, s, s / (s + m)) for c, s, m in zip(chance, shape, means, strict=True))
        assert log[at] == pytest.approx(law @ logs, rel=2e-3)


def test_means_of_what_is_counted_are_those_of_the_decoder(fitted, counts, values):
    """What dropout takes is what the lift puts on top, so that a gene's counts add up whatever its law."""
    laws, prior = law_of_genes(fitted), values["prior"]
    decoder = read(replace(fitted, laws=None), counts, "prior")
    if fitted.laws.correction is not None:
        usual = counts.sum(axis=1, keepdims=True) * np.exp(fitted.laws.log_share)
        total = decoder.sum(axis=1, keepdims=True)
        decoder = usual * np.exp(by_interpolation(np.log(decoder / usual), fitted.laws.correction))
        decoder *= total / decoder.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prior * laws.kept, decoder, rtol=1e-4)
    for level in (0.0, 0.3, 1.0):
        of_level = laws.at(slice(None), np.full(N, level))
        np.testing.assert_allclose((of_level.weight * laws.scale).sum(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("xp", [np, jnp], ids=["NumPy", "JAX"])
def test_correction_is_linear_between_knots_and_constant_beyond(xp):
    rng = np.random.default_rng(2)
    fold, correction = np.float32(rng.uniform(-9, 6, (200, 7))), np.float32(rng.normal(size=(len(KNOTS), 7)))
    fold[0], fold[1] = KNOTS[0], KNOTS[-1]
    found = corrected(xp.asarray(fold), xp.asarray(correction), xp)
    np.testing.assert_allclose(np.asarray(found), by_interpolation(fold, correction), rtol=1e-5, atol=1e-5)


def test_shares_anywhere_in_latent_space_are_corrected(fitted, counts, values):
    data = cell_data(sp.csr_matrix(counts), None, None, fitted.profile)
    latent = np.concatenate([part for *_, part in read_out(fitted, data, "latent")])
    expected = counts.sum(axis=1, keepdims=True) * shares_at(fitted, latent, data.conditions) * fitted.laws.lift
    np.testing.assert_allclose(expected, values["prior"], rtol=1e-4)


def test_another_batch_is_corrected_from_where_its_genes_lie():
    """The same cells as if measured in the batch in which they were."""
    model = small.fit(batch_key="batch", max_epochs=5).fitted_model()
    fitted = replace(model.network, laws=some())
    adata = small.structured()
    one = adata[adata.obs["batch"] == adata.obs["batch"].iloc[0]]
    data = cell_data(sp.csr_matrix(one.X), None, model.conditions(one), fitted.profile)
    batch = model.batch_weights(str(one.obs["batch"].iloc[0]))
    ((_, own, _),), ((_, moved, _),) = (
        list(read_out(fitted, data, ("mean", "prior"), batch=to)) for to in (None, batch)
    )
    np.testing.assert_allclose(moved, own, rtol=1e-4)


def test_entries_that_were_not_observed_keep_their_prior(fitted, counts):
    hidden = np.zeros(counts.shape, bool)
    hidden[:, 3:6] = True
    seen, gaps = np.where(hidden, 0, counts), sp.csr_matrix(hidden)
    prior, mean, sd, log = read(fitted, seen, ALL, gaps)
    np.testing.assert_allclose(mean[hidden], prior[hidden], rtol=1e-5)
    data = cell_data(sp.csr_matrix(seen), gaps, None, fitted.profile)
    laws = law_of_genes(fitted)
    laws = laws.over_cells(laws.level(prior, data.exposure))
    spread = np.sqrt((laws.weight * laws.scale**2 * (1 + 1 / laws.theta)).sum(axis=0) - 1)
    np.testing.assert_allclose(sd[hidden], (prior * spread)[hidden], rtol=1e-3)
    theta, _, scale, _ = (part[:, 4] for part in law_of_genes(fitted)[:4])
    weight = weight_at(fitted, prior[7, 4], data.exposure[7], 4)
    new = np.arange(3000)
    means = prior[7, 4] * scale
    law = sum(w * stats.nbinom.pmf(new, t, t / (t + m)) for t, w, m in zip(theta, weight, means, strict=True))
    assert log[7, 4] == pytest.approx(law @ np.log1p(1e4 * new / seen[7].sum()), rel=2e-3)


def test_some_genes_and_one_twice(fitted, counts, values):
    genes = np.array([8, 3, 8, 0])
    for some_genes, all_genes in zip(read(fitted, counts, ALL, genes=genes), values.values(), strict=True):
        np.testing.assert_allclose(some_genes, all_genes[:, genes], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("output", ALL)
def test_one_output_alone_is_what_it_is_beside_others(counts, output):
    fitted = replace(small.fitted(likelihood="nb").outcome.fitted, laws=some())
    alone, beside = read(fitted, counts, output), read(fitted, counts, ALL)[ALL.index(output)]
    np.testing.assert_allclose(alone, beside, rtol=1e-5)


def test_law_of_molecules_set_aside(fitted, counts, values):
    prior, ratio, laws = values["prior"], 0.4, law_of_genes(fitted)
    level = laws.level(prior, counts.sum(axis=1))
    again = zero_again(fitted.laws, prior, level, np.float32(ratio))
    block = BlockLaw(laws, again, sp.csr_matrix(counts), prior, ratio, level)
    expected, zero = block.expected, block.log_zero()
    n = len(laws.theta)
    for at in ENTRIES:
        chance, shape, means = posterior(fitted, counts, prior, at)
        kept = slice(0, n)
        assert expected[at] == pytest.approx(ratio * chance[kept] @ means[kept], rel=1e-6)
        law = block.at(*(np.array([place]) for place in at))
        for y in (0, 1, 4):
            own = stats.nbinom.pmf(y, shape[kept], shape[kept] / (shape[kept] + ratio * means[kept]))
            value = chance[kept] @ own + (y == 0) * chance[n:].sum()
            assert log_prob(np.array([float(y)]), law)[0] == pytest.approx(np.log(value), rel=1e-6)
        assert zero[at] == pytest.approx(log_prob_zero(law)[0], rel=1e-6)
    without = BlockLaw(laws, again, None, prior, ratio, level)
    np.testing.assert_allclose(without.expected, ratio * prior * laws.kept, rtol=1e-6)
    at = np.nonzero(counts >= 0)
    np.testing.assert_allclose(without.log_zero().ravel(), log_prob_zero(without.at(*at)), rtol=1e-5)


def test_transform_is_uniform_under_the_law():
    rng = np.random.default_rng(0)
    laws = components(some())
    genes = rng.integers(0, N, 40_000)
    of_entry, prior = laws.at(genes, rng.random(len(genes))), np.exp(rng.normal(0, 1, len(genes)))
    chosen = (rng.random(len(genes)) > of_entry.weight.cumsum(axis=0)[:-1]).sum(axis=0)
    theta, scale, lost = (
        part[chosen, np.arange(len(genes))] for part in (of_entry.theta, of_entry.scale, of_entry.lost)
    )
    rate = prior * scale * rng.gamma(theta, 1 / theta) * (rng.random(len(genes)) >= lost)
    x, y = rng.poisson(rate), rng.poisson(0.5 * rate)
    value = predictive_pit(y, law_of_entries(of_entry, x, prior, 0.5), rng)
    assert stats.kstest(value, "uniform").pvalue > 0.01


def test_chance_of_a_zero():
    laws, mean = some(), np.exp(np.random.default_rng(0).normal(0, 3, (20, N))).astype(np.float32)
    level = np.random.default_rng(1).random(mean.shape).astype(np.float32)
    for given in (None, level):
        theta, weight, scale, lost = components(laws).over_cells(given)[:4]
        parts = weight * (lost + (1 - lost) * (1 + mean * scale / theta) ** -theta)
        found = zero_probability(laws, jnp.asarray(mean), None if given is None else jnp.asarray(given))
        np.testing.assert_allclose(np.asarray(found), parts.sum(axis=0), rtol=2e-5)
        np.testing.assert_allclose(zero_chance(components(laws), mean, level=given), parts.sum(axis=0), rtol=2e-5)


def test_moments_of_laws():
    laws = components(some())
    of_level = [laws.at(slice(None), np.full(N, level)) for level in (0.0, 0.4, 0.8, 1.0)]
    second = [(one.weight * laws.scale**2 * (1 + 1 / laws.theta)).sum(axis=0) for one in of_level]
    np.testing.assert_allclose(laws.dispersion, second[2] - 1, rtol=1e-4)  # where a gene has its average share
    kept = (of_level[1].weight * (1 - laws.lost) * laws.scale**2 * (1 + 1 / laws.theta)).sum(axis=0)
    np.testing.assert_allclose(laws.kept_square(np.full(N, 0.4)), kept)
    assert (laws.dropout[::2] > 0).all() and not laws.dropout[1::2].any()
    np.testing.assert_allclose(some_laws(some(), None).lift, some().lift)


def test_laws_in_a_file():
    for laws in (some(), some(False), some(levels=1), even_laws(N)):
        arrays = laws_to_arrays(laws) | {"genes": np.arange(N)}
        again = components(laws_from_arrays(arrays))
        for one, other in zip(again, components(laws), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(laws_from_arrays(arrays).correction, laws.correction)
        if laws.log_share is None:  # as files of version 0.1 have it
            old = {name: array[0] if array.ndim == 3 else array for name, array in arrays.items()}
            np.testing.assert_array_equal(components(laws_from_arrays(old)).weight, again.weight)
    assert laws_to_arrays(None) == {} and laws_from_arrays({}) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("laws_weight", lambda array: 2 * array),
        ("laws_weight", lambda array: array.astype(np.float64)),
        ("laws_scale", lambda array: array[1:]),
        ("laws_lift", lambda array: -array),
        ("laws_chance", lambda array: array + 1),
        ("laws_dropout_genes", lambda array: array[::-1].copy()),
        ("laws_dropout_genes", lambda array: array + N),
        ("laws_dropout_lost", lambda array: array + 1),
        ("laws_log_share", lambda array: array[1:]),
        ("laws_log_share", lambda array: array * np.float32(np.nan)),
        ("laws_correction", lambda array: array[1:]),
        ("laws_correction", lambda array: array.astype(np.float64)),
        ("laws_correction", lambda array: array * np.float32(np.nan)),
    ],
    ids=[
        *("sum", "type", "shape", "sign", "beyond 1", "order", "genes", "lost", "shares", "no shares"),
        *("knots", "type of corrections", "no corrections"),
    ],
)
def test_laws_that_cannot_be(name, change):
    arrays = laws_to_arrays(some()) | {"genes": np.arange(N)}
    with pytest.raises(ValueError, match="law|chance"):
        laws_from_arrays(arrays | {name: change(arrays[name])})


def test_log_counts_of_poisson_and_nothing():
    np.testing.assert_allclose(
        log_counts(np.array([2.0]), np.array([3.0]), np.array([np.inf])), stats.poisson.logpmf(2, 3)
    )
    assert log_counts(np.array([0.0]), np.array([0.0]), np.array([2.0])) == 0


@pytest.mark.parametrize("q", [0.0, 1e-3, 0.05, 0.5, 0.95, 0.999])
def test_quantiles(q):
    rng = np.random.default_rng(1)
    laws = components(some()).at(rng.integers(0, N, 500))
    mix = given_counts(laws, rng.poisson(1.0, 500), np.exp(rng.normal(0, 2, 500)))
    value = mix.quantile(q)
    chance = sum(w * stats.gamma.cdf(value, a, scale=m / a) for w, a, m in zip(*mix, strict=True))
    np.testing.assert_allclose(chance[value > 0], q, atol=1e-6)
    tiny = sum(w * stats.gamma.cdf(1e-50 * mix.expected(), a, scale=m / a) for w, a, m in zip(*mix, strict=True))
    assert (tiny[value == 0] >= q - 1e-6).all()


def test_draws():
    laws = components(some()).at(np.arange(6))
    mix = given_counts(laws, np.array([0, 0, 1, 2, 0, 7]), np.array([0.3, 5, 1, 1, 20, 2]))
    rng = np.random.default_rng(0)
    draws = np.stack([mix.sample(rng) for _ in range(20_000)])
    for q in (0.1, 0.5, 0.95):
        np.testing.assert_allclose((draws <= mix.quantile(q)).mean(axis=0), q, atol=0.015)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_are_those_of_the_log_fold_change_in_the_precision_of_the_expected_counts(dtype):
    rng = np.random.default_rng(3)
    prior = np.exp(rng.normal(-3, 2, (4, N))).astype(dtype)
    prior[0, :3] = 0, np.nan, 1e30
    exposure, laws = rng.uniform(500, 5000, 4).astype(np.float32), components(some())
    fold = np.nan_to_num(prior.astype(np.float64)) / (exposure[:, None].astype(np.float64) * laws.usual)
    expected = np.clip((np.log(np.maximum(fold, 1e-30)) - LOW) / (HIGH - LOW), 0, 1)
    found = laws.level(prior, exposure)
    assert found.dtype == dtype and 0 < (expected > 0).mean() < 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 if dtype == np.float32 else 1e-14)
