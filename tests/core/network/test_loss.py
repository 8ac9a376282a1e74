from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln

from scdae.core.data.conditions import no_conditions
from scdae.core.data.minibatch import Batch, observed_mask
from scdae.core.distributions import predictive
from scdae.core.network.loss import (
    Dropout,
    entries_of,
    log_norm,
    log_proportions,
    log_rising,
    nb_loss,
    nb_sum,
    poisson_loss,
    zinb_loss,
)

LAWS = ("poisson", "nb", "zinb")
N_CELLS, N_GENES = 6, 9


@pytest.fixture
def halves():
    """Dense counts of the two halves; a cell and a gene are empty, and one cell has no held-out molecules."""
    rng = np.random.default_rng(0)
    x_in, x_out = rng.poisson(1.5, (2, N_CELLS, N_GENES)).astype(float)
    x_in[2] = x_out[2] = 0
    x_in[:, 4] = x_out[:, 4] = 0
    x_out[5] = 0
    return x_in, x_out


@pytest.fixture
def mask():
    mask = np.random.default_rng(1).random((N_CELLS, N_GENES)) < 0.7
    mask[:, 0] = True
    return mask


def to_batch(x_in, x_out, padding=5, observed=None, dtype=float):
    rows, cols = np.nonzero(x_in + x_out)
    unseen = (np.zeros(0, int),) * 2 if observed is None else np.nonzero(~observed)

    def padded(values, kind):
        return np.concatenate([values, np.zeros(padding)]).astype(kind)

    return Batch(
        inputs=np.zeros((len(x_in), 1), dtype),
        rows=padded(rows, np.int32),
        cols=padded(cols, np.int32),
        x_in=padded(x_in[rows, cols], dtype),
        x_out=padded(x_out[rows, cols], dtype),
        total_in=x_in.sum(axis=1).astype(dtype),
        total_out=x_out.sum(axis=1).astype(dtype),
        conditions=no_conditions(len(x_in)),
        share=np.ones(len(x_in), dtype),
        hidden_rows=np.concatenate([unseen[0], np.zeros(padding if observed is not None else 0)]).astype(np.int32),
        hidden_cols=np.concatenate([unseen[1], np.full(padding if observed is not None else 0, x_in.shape[1])]).astype(
            np.int32
        ),
        chosen=np.zeros(0, np.int32),
    )


def parameters(seed=2):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N_CELLS, N_GENES))
    return logits, rng.normal(1, 1, N_GENES), rng.normal(-1, 1.5, N_GENES)


def parts(law, batch, logits, log_theta, logit_pi):
    """The dense and the stored part of the loss."""
    observed = observed_mask(batch, *logits.shape)
    log_rho = log_proportions(logits, observed)
    total_in, total_out = jnp.asarray(batch.total_in), jnp.asarray(batch.total_out)
    entries = entries_of(log_rho, batch)
    rho, theta = jnp.exp(log_rho), jnp.exp(log_theta)
    if law == "poisson":
        dense, stored = poisson_loss(rho, total_out, entries)
    elif law == "nb":
        dense, stored = nb_loss(rho, total_in, total_out, theta, entries, theta[batch.cols])
    else:
        head = Dropout(theta, jax.nn.log_sigmoid(logit_pi), jax.nn.log_sigmoid(-logit_pi))
        dense, stored = zinb_loss(rho, total_in, total_out, head, entries, head.at(batch.cols))
    return (dense if observed is None else jnp.where(observed, dense, 0)), stored


def loss(law, batch, *values):
    dense, stored = parts(law, batch, *values)
    return dense.sum() + stored.sum()


compiled = partial(jax.jit, static_argnames="law")
loss_of, parts_of, gradient_of = compiled(loss), compiled(parts), compiled(jax.grad(loss, argnums=(2, 3, 4)))


def elementwise(law, x_in, x_out, observed, logits, log_theta, logit_pi):
    """The same by the law of every entry in :mod:`scdae.core.distributions.predictive`."""
    seen = np.ones(logits.shape, bool) if observed is None else observed
    rho = np.exp(logits) / np.where(seen, np.exp(logits), 0).sum(axis=1, keepdims=True)
    mean_in, mean_out = x_in.sum(axis=1, keepdims=True) * rho, x_out.sum(axis=1, keepdims=True) * rho
    theta, pi = np.exp(log_theta)[None, :], (1 / (1 + np.exp(-logit_pi)))[None, :]
    if law == "poisson":
        log_prob = predictive.poisson_predictive_log_prob(x_out, mean_out)
    elif law == "nb":
        log_prob = predictive.nb_predictive_log_prob(x_out, x_in, mean_in, mean_out, theta)
    else:
        log_prob = predictive.zinb_predictive_log_prob(x_out, x_in, mean_in, mean_out, theta, pi)
    return -np.where(seen, np.asarray(log_prob) + gammaln(x_out + 1), 0).sum()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("law", LAWS)
def test_loss_is_minus_the_sum_of_the_predictive_law(halves, mask, law, masked):
    observed = mask if masked else None
    x_in, x_out = halves if observed is None else (half * observed for half in halves)
    with jax.enable_x64(True):
        expected = elementwise(law, x_in, x_out, observed, *parameters())
        value = loss_of(law, to_batch(x_in, x_out, observed=observed), *parameters())
    # Stirling's series is good to 1e-6 an entry; without it the two agree to rounding
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-6 * (x_in + x_out > 0).sum() * (law != "poisson"))


@pytest.mark.parametrize("theta", [1e-3, 1e4])
@pytest.mark.parametrize("law", ["nb", "zinb"])
def test_loss_in_float32_is_that_in_float64(law, theta):
    rng = np.random.default_rng(3)
    x_in, x_out = rng.negative_binomial(0.5, 0.05, (2, N_CELLS, N_GENES)).astype(np.float32)
    logits, _, logit_pi = parameters()
    values = logits, np.full(N_GENES, np.log(theta)), logit_pi
    with jax.enable_x64(True):
        exact = elementwise(law, x_in.astype(float), x_out.astype(float), None, *values)
    single = loss_of(law, to_batch(x_in, x_out, dtype=np.float32), *(v.astype(np.float32) for v in values))
    assert float(single) == pytest.approx(exact, rel=2e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("law", LAWS)
def test_gradients_agree_with_finite_differences(halves, mask, law, masked):
    observed = mask if masked else None
    x_in, x_out = halves if observed is None else (half * observed for half in halves)
    batch, values = to_batch(x_in, x_out, observed=observed), parameters()
    with jax.enable_x64(True):
        slopes = gradient_of(law, batch, *values)
        for i, slope in enumerate(slopes):
            direction = np.random.default_rng(i).normal(size=slope.shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [value + step * direction if i == k else value for k, value in enumerate(values)]
                ends.append(float(loss_of(law, batch, *moved)))
            assert float((slope * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("theta", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("logit", [-40.0, 0.0, 40.0])
@pytest.mark.parametrize("law", LAWS)
def test_value_and_gradients_are_finite_at_extremes(law, logit, theta):
    levels = np.array([0, 0, 1, 1e6, 1e6, 0], np.float32)
    x_in, x_out = np.meshgrid(levels, levels)
    batch = to_batch(x_in, x_out, dtype=np.float32)
    logits = np.outer([0, 1, 5, -5, 20, -20], [1, -1, 1, -1, 1, -1]).astype(np.float32)
    shapes = np.full(6, np.log(theta), np.float32), np.full(6, logit, np.float32)
    assert np.isfinite(loss_of(law, batch, logits, *shapes))
    assert all(np.isfinite(part).all() for part in gradient_of(law, batch, logits, *shapes))


@pytest.mark.parametrize("law", LAWS)
def test_padding_adds_exactly_nothing(halves, law):
    values = parameters()
    with jax.enable_x64(True):
        bare = parts_of(law, to_batch(*halves, padding=0), *values)
        padded = parts_of(law, to_batch(*halves, padding=37), *values)
        slope = [gradient_of(law, to_batch(*halves, padding=n), *values) for n in (0, 37)]
    np.testing.assert_array_equal(bare[0], padded[0])
    np.testing.assert_array_equal(bare[1], padded[1][:-37])
    np.testing.assert_array_equal(padded[1][-37:], 0)
    for without, with_it in zip(*slope, strict=True):
        np.testing.assert_allclose(with_it, without, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("a", [1e-3, 0.7, 30.0, 1e4])
def test_log_rising(a):
    n = np.array([0, 1, 2, 3, 7, 40, 1e3, 1e6])
    exact = gammaln(a + n) - gammaln(a)
    with jax.enable_x64(True):
        np.testing.assert_allclose(log_rising(jnp.asarray(a), jnp.asarray(n))[0], exact, rtol=3e-6, atol=3e-6)
    single = log_rising(jnp.float32(a), jnp.asarray(n, jnp.float32))[0]
    np.testing.assert_allclose(single, exact, rtol=3e-6, atol=3e-6)


def test_proportions_sum_to_one_over_what_was_observed(mask):
    logits = parameters()[0].astype(np.float32)
    share = np.exp(log_proportions(jnp.asarray(logits), jnp.asarray(mask)))
    np.testing.assert_allclose(np.where(mask, share, 0).sum(axis=1), 1, rtol=1e-5)
    everything = np.exp(log_proportions(jnp.asarray(logits), None))
    np.testing.assert_allclose(everything.sum(axis=1), 1, rtol=1e-5)
    # what was not observed is on the same scale: all ratios between genes are those without a mask
    np.testing.assert_allclose(share / share[:, :1], everything / everything[:, :1], rtol=1e-5)


def test_a_cell_in_which_nothing_was_observed_stays_finite(mask):
    mask[1] = False
    logits = jnp.asarray(parameters()[0], jnp.float32)

    def total(values):
        return jnp.where(mask, log_proportions(values, jnp.asarray(mask)), 0).sum()

    assert np.isfinite(log_proportions(logits, jnp.asarray(mask))).all()
    assert np.isfinite(jax.grad(total)(logits)).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("some", [False, True])
def test_the_sum_and_its_gradient_are_those_of_the_loss(halves, mask, masked, some):
    """By automatic differentiation of the law of each entry; a cell without molecules among them."""
    observed, genes = mask if masked else None, np.arange(N_GENES) % 3 > 0 if some else None
    x_in, x_out = halves if observed is None else (half * observed for half in halves)
    batch, (logits, log_theta, _) = to_batch(x_in, x_out, observed=observed), parameters()
    chosen = np.ones(N_GENES, bool) if genes is None else genes
    extra = np.random.default_rng(7).normal(size=(N_CELLS, 1))  # as if something else hung on the norm

    def plainly(logits, theta):
        log_rho = log_proportions(logits, observed)
        dense, stored = nb_loss(
            jnp.exp(log_rho), batch.total_in, batch.total_out, theta, entries_of(log_rho, batch), theta[batch.cols]
        )
        counted = chosen if observed is None else chosen & observed
        total = jnp.where(counted, dense, 0).sum() + jnp.where(chosen[batch.cols], stored, 0).sum()
        return 3 * total + (extra * log_norm(logits, observed)).sum()

    def own(logits, theta):
        total, norm = nb_sum(logits, theta, batch, observed, genes)
        return 3 * total + (extra * norm).sum()

    with jax.enable_x64(True):
        at = jnp.asarray(logits - 2), jnp.exp(log_theta)
        batch = jax.tree.map(jnp.asarray, batch)
        expected, slopes = jax.jit(jax.value_and_grad(plainly, argnums=(0, 1)))(*at)
        value, own_slopes = jax.jit(jax.value_and_grad(own, argnums=(0, 1)))(*at)
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    for found, known in zip(own_slopes, slopes, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-6)  # Stirling's series and that of its slope


@pytest.mark.parametrize("n_cells", [1, 6, 8])
@pytest.mark.parametrize("theta", [1e-2, 1e4])
def test_slopes_hold_in_single_precision(theta, n_cells):
    """However many cells go into one logarithm."""
    rng = np.random.default_rng(5)
    rho = rng.dirichlet(np.full(400, 0.3), n_cells) + 1e-9
    x_in, x_out = (rng.poisson(total * rho) for total in rng.uniform(200, 2000, (2, n_cells, 1)))

    def slopes(kind):
        batch = to_batch(x_in, x_out, dtype=kind)
        at = jnp.asarray(np.log(rho), kind), jnp.full(400, theta, kind)
        return jax.jit(jax.grad(lambda *x: nb_sum(*x, batch)[0], argnums=(0, 1)))(*at)

    with jax.enable_x64(True):
        exact = slopes(np.float64)
    # where counts are all but Poisson, the slope in the dispersion is a small difference of what cells and zeros ask
    # for
    for found, known, error in zip(slopes(np.float32), exact, (4e-6, 2e-6 if theta < 1 else 5e-3), strict=True):
        np.testing.assert_allclose(found, known, rtol=2e-3, atol=error * np.abs(known).max())


def test_a_law_of_enormous_spread_stays_finite():
    """A count of a million under a dispersion near nothing: products of four such ratios would overflow."""
    x_out = np.zeros((8, 3), np.float32)
    x_out[:, 0] = 1e6
    batch = to_batch(np.zeros_like(x_out), x_out, dtype=np.float32)
    at = jnp.zeros((8, 3)), jnp.full(3, 1e-6)
    value, slopes = jax.jit(jax.value_and_grad(lambda *x: nb_sum(*x, batch)[0], argnums=(0, 1)))(*at)
    assert np.isfinite(value) and all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("a", [1e-3, 0.7, 30.0, 1e4])
def test_the_slope_of_log_rising(a):
    n = np.array([0, 1, 2, 3, 7, 40, 1e3, 1e6])
    with jax.enable_x64(True):
        found = log_rising(jnp.asarray(a), jnp.asarray(n))[1]
        slope = jax.jit(jax.vmap(jax.grad(lambda *x: log_rising(*x)[0]), (None, 0)))(a, jnp.asarray(n))
    np.testing.assert_allclose(found, digamma(a + n) - digamma(a), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-9)
