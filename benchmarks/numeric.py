"""Our numbers in float32 against SciPy in float64, and gradients at the corners: the largest errors and where they lie.

Relative errors are ``|ours - reference| / max(1, |reference|)`` for logarithms of probabilities and for deviances, where a
value near zero means that a count is no surprise, and ``|ours - reference| / |reference|`` for everything else. Inputs are
rounded to float32 first, so that both sides see the same numbers. Moments of draws are in standard errors of the mean
and of the variance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy import integrate, special, stats

from scdae import metrics
from scdae.core.data.thinning import thin_values
from scdae.core.distributions import likelihoods, posterior, predictive, predictive_numpy
from scdae.core.distributions.components import Components
from scdae.core.distributions.expected_log1p import expected_log1p
from scdae.core.distributions.law_sums import at_zero
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.distributions.mixtures import given_counts
from scdae.core.distributions.quantiles import cell_quantiles
from scdae.core.guard.anomaly import entry_deviance
from scdae.core.minibatches.on_device import thin_on_device
from scdae.core.prediction.law_readout import Block, log1p_of, mean_of, sd_of

GOAL, GOAL_QUANTILE, GOAL_MOMENT = 1e-4, 1e-3, 5.0
Array = Any


class Grid(NamedTuple):
    """Values of each argument; all combinations are tried."""

    counts: tuple[float, ...]
    means: tuple[float, ...]
    thetas: tuple[float, ...]
    pis: tuple[float, ...]


FULL = Grid(
    (0, 1, 2, 3, 10, 31, 100, 1e3, 1e4, 1e5, 1e6, 1e7),
    (1e-6, 1e-4, 1e-2, 0.3, 1, 1.01, 2.5, 9.7, 33, 99, 1.01e3, 1e4, 9.99e4, 1e6, 1.0003e6, 9.999e6, 1e7),
    (1e-3, 1e-2, 0.1, 0.3, 1, 4, 30, 1e3, 1e5, 1e6, 1e7, 1e8),
    (0, 1e-6, 1e-3, 0.3, 0.7, 0.999, 1),
)
SMALL = Grid((0, 1, 10, 1e3, 1e7), (1e-6, 0.3, 9.7, 1.01e3, 1.0003e7), (1e-3, 1, 30, 1e8), (0, 0.3, 1))


class Line(NamedTuple):
    """The largest error of a quantity, and where it lies."""

    name: str
    error: float
    goal: float
    where: str
    number: int  # values that were compared


def product(**axes: tuple[float, ...]) -> dict[str, np.ndarray]:
    """All combinations, as float32 columns."""
    columns = zip(*itertools.product(*axes.values()), strict=True)
    return {name: np.array(column, np.float32) for name, column in zip(axes, columns, strict=True)}


def compare(
    name: str, ours: Array, reference: np.ndarray, at: dict[str, np.ndarray], goal: float = GOAL, *, log: bool = False
) -> Line:
    """The largest error; what is infinite on both sides agrees, and a NaN of ours is an infinite error."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    known = ~np.isnan(reference)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(reference), 1.0 if log else 1e-30)
        error = np.where(ours == reference, 0.0, np.abs(ours - reference) / size)
    error = np.where(np.isnan(error), np.inf, error)[known]
    worst = int(np.argmax(error))
    place = ", ".join(f"{key}={values[known][worst]:.6g}" for key, values in at.items())
    value = f"{ours[known][worst]:.6g} for {reference[known][worst]:.6g}"
    return Line(name, float(error[worst]), goal, f"{place}: {value}", int(known.sum()))


def nb(x: Array, mean: Array, theta: Array) -> np.ndarray:
    """Textbook log probability in float64: by SciPy's log gamma, whose differences keep eight digits here."""
    x, mean, theta = (np.asarray(value, np.float64) for value in (x, mean, theta))
    return np.asarray(
        special.gammaln(theta + x)
        - special.gammaln(theta)
        - special.gammaln(x + 1)
        + special.xlogy(x, mean / theta)
        - (theta + x) * np.log1p(mean / theta)
    )


def zinb(x: Array, mean: Array, theta: Array, pi: Array) -> np.ndarray:
    """The same with dropout."""
    pi = np.asarray(pi, np.float64)
    with np.errstate(divide="ignore"):
        kept = np.log1p(-pi) + nb(x, mean, theta)
        return np.where(np.asarray(x) > 0, kept, np.logaddexp(np.log(pi), kept))


def lost_given_zero(mean: Array, theta: Array, pi: Array) -> np.ndarray:
    """Probability that a zero is a dropout."""
    mean, theta, pi = (np.asarray(value, np.float64) for value in (mean, theta, pi))
    with np.errstate(divide="ignore"):
        return np.asarray(special.expit(special.logit(pi) + theta * np.log1p(mean / theta)))


def of_likelihoods(grid: Grid) -> Iterator[Line]:
    """Log probabilities of counts, and of those set aside."""
    at = product(x=grid.counts, mean=grid.means)
    poisson = stats.poisson.logpmf(*(at[name].astype(np.float64) for name in ("x", "mean")))
    yield compare("log likelihood, Poisson", likelihoods.poisson_log_prob(**at), poisson, at, log=True)
    limit = likelihoods.nb_log_prob(at["x"], at["mean"], np.float32(np.inf))
    yield compare("log likelihood, NB at its Poisson limit", limit, poisson, at, log=True)
    at = product(x=grid.counts, mean=grid.means, theta=grid.thetas)
    yield compare("log likelihood, NB", likelihoods.nb_log_prob(**at), nb(**at), at, log=True)
    at = product(x=grid.counts, mean=grid.means, theta=grid.thetas, pi=grid.pis)
    yield compare("log likelihood, ZINB", likelihoods.zinb_log_prob(**at), zinb(**at), at, log=True)

    few, means = grid.counts[::2], grid.means[::2]
    at = product(x_out=few, x_in=few, mean_in=means, mean_out=means, theta=grid.thetas[::2], pi=grid.pis[::2])
    ours = predictive.zinb_predictive_log_prob(**at)
    wide = {name: values.astype(np.float64) for name, values in at.items()}
    y, x, mean, more, theta, pi = wide.values()
    kept = nb(y, more * (theta + x) / (theta + mean), theta + x)
    with np.errstate(divide="ignore"):
        lost = np.where(x > 0, 0.0, lost_given_zero(mean, theta, pi))
        # 1 - lost without cancellation
        log_keep = np.where(x > 0, 0.0, special.log_expit(-(special.logit(pi) + theta * np.log1p(mean / theta))))
        reference = np.where(y > 0, log_keep + kept, np.logaddexp(np.log(lost), log_keep + kept))
    yield compare("predictive log probability, ZINB", ours, reference, at, log=True)

    ratio, same = 0.25, np.abs(more - 0.25 * mean) <= 0.3 * mean  # any one of these pairs
    at = {name: values[same] for name, values in at.items() if name != "mean_out"}
    y, x, mean, theta, pi = (at[name].astype(np.float64) for name in ("x_out", "x_in", "mean_in", "theta", "pi"))
    law = predictive_numpy.predictive_law(x, mean, theta, None, ratio)
    reference = nb(y, ratio * mean * (theta + x) / (theta + mean), theta + x)
    if len(y):
        yield compare(
            "predictive log probability of reports, NB", predictive_numpy.log_prob(y, law), reference, at, log=True
        )


def of_posteriors(grid: Grid) -> Iterator[Line]:
    """Mean, standard deviation and quantiles of the expected counts."""
    at = product(x=grid.counts, mean=grid.means, theta=grid.thetas, pi=grid.pis)
    x, mean, theta, pi = (values.astype(np.float64) for values in at.values())
    lost = np.where(x > 0, 0.0, lost_given_zero(mean, theta, pi))
    kept = np.where(x > 0, 1.0, special.expit(-(special.logit(pi) + theta * np.log1p(mean / theta))))
    after = mean * (theta + x) / (theta + mean)
    middle = kept * after + lost * mean
    square = kept * after**2 / (theta + x) + lost * mean**2 / theta + lost * kept * (after - mean) ** 2
    yield compare("probability of dropout given the count", posterior.dropout_probability(**at), lost, at)
    yield compare("posterior mean", posterior.posterior_mean(**at), middle, at)
    yield compare("posterior sd", posterior.posterior_sd(**at), np.sqrt(square), at)

    at = product(q=(0.05, 0.5, 0.95), x=grid.counts, mean=grid.means, theta=grid.thetas)
    q, x, mean, theta = (values.astype(np.float64) for values in at.values())
    reference = stats.gamma.ppf(q, theta + x, scale=mean / (theta + mean))
    reference[reference < 1e-30] = np.nan  # no float32 holds them
    ours = posterior.posterior_quantile(q, x, mean.astype(np.float32), theta)
    yield compare("posterior quantile, one Gamma law", ours, reference, at, GOAL_QUANTILE)
    # Of a mixture: the distribution function at the quantile, which is what a root has to hit.
    at = product(q=(0.05, 0.5, 0.95), mean=grid.means, theta=grid.thetas, pi=grid.pis)
    q, mean, theta, pi = (values.astype(np.float64) for values in at.values())
    value = posterior.posterior_quantile(q, 0.0, mean, theta, pi)
    lost = lost_given_zero(mean, theta, pi)
    below = (1 - lost) * special.gammainc(theta, value * (theta + mean) / mean)
    below = below + lost * special.gammainc(theta, value * theta / mean)
    q[value < 1e-200] = np.nan  # no number holds the quantile
    yield compare("chance below the quantile of a zero with dropout", below, q, at, GOAL_QUANTILE)


def mixed(dtype: Any = np.float32) -> tuple[Laws, Components]:
    """Laws of genes that have one component each, or some, with and without dropout; and the same for NumPy."""
    n_single = len(GRID)
    weight = np.concatenate([np.eye(n_single), np.full((n_single, 1), 1 / n_single)], axis=1)
    two = np.zeros((n_single, 1))
    two[[1, -1], 0] = 0.125, 0.875
    weight = np.concatenate([weight, two], axis=1)
    n = weight.shape[1]
    ones = np.ones(n, np.float32)
    laws = Laws(Part(weight[None].astype(dtype), ones, 0 * ones), None, ones, 0 * ones)
    theta = np.broadcast_to(np.array(GRID)[:, None], weight.shape)
    return laws, Components(theta, weight, np.ones_like(theta), np.zeros_like(theta))


def of_mixtures(grid: Grid) -> Iterator[Line]:
    """Mixtures of Gamma laws: on the device, and in NumPy."""
    laws, same = mixed()
    n = same.theta.shape[1]
    at = product(x=grid.counts, mean=grid.means, gene=tuple(range(n)))
    x, mean, gene = at["x"].astype(np.float64), at["mean"].astype(np.float64), at["gene"].astype(int)
    theta, weight = same.theta[:, gene], same.weight[:, gene]
    with np.errstate(divide="ignore"):
        log = np.log(weight) + nb(x, mean, theta)
    chance = special.softmax(log, axis=0)
    shape = theta + x
    means = mean * shape / (theta + mean)
    middle = (chance * means).sum(axis=0)
    sd = np.sqrt((chance * (means**2 / shape + (means - middle) ** 2)).sum(axis=0))

    block = _block(laws, at, n)
    rows, cols = np.arange(len(gene)), gene
    yield compare("posterior mean, mixture", np.asarray(mean_of(block))[rows, cols], middle, at)
    yield compare("posterior sd, mixture", np.asarray(sd_of(block))[rows, cols], sd, at)
    found = given_counts(same.at(gene), x, mean)
    yield compare("posterior mean, mixture, NumPy", found.expected(), middle, at)
    yield compare("posterior sd, mixture, NumPy", found.sd(), sd, at)

    zero = at["x"] == 0
    plain = {name: values[zero] for name, values in at.items()}
    ours = np.log(np.asarray(at_zero(laws, block.mean).probability)[rows, cols])[zero]
    reference = special.logsumexp(log, axis=0)[zero]
    reference[reference < -48] = np.nan  # below it only their order is kept
    yield compare("log probability of a zero, mixture", ours, reference, plain, log=True)

    shown = slice(None, None, 3)  # quantiles take a while
    for q in (0.05, 0.5, 0.95):
        some = {name: values[shown] for name, values in at.items()}
        value = given_counts(same.at(gene[shown]), x[shown], mean[shown]).quantile(q)
        rate = shape[:, shown] / means[:, shown]
        below = (chance[:, shown] * special.gammainc(shape[:, shown], value * rate)).sum(axis=0)
        wanted = np.where(value > 0, q, np.nan)
        yield compare(f"chance below quantile {q}, mixture", below, wanted, some, GOAL_QUANTILE)
        at_mean = {"mean": np.repeat(np.float32(grid.means), n), "gene": np.tile(np.arange(n), len(grid.means))}
        prior = np.float32(grid.means)[:, None] * np.ones((1, n), np.float32)
        ours = cell_quantiles(q, sp.csr_matrix(prior.shape, dtype=np.float32), prior, same).ravel()
        exact = given_counts(same.at(at_mean["gene"]), np.zeros(prior.size), prior.ravel().astype(np.float64)).quantile(
            q
        )
        exact[exact < 1e-12 * prior.ravel()] = np.nan  # none of a molecule
        yield compare(f"quantile {q} of cells' zeros, mixture", ours, exact, at_mean, GOAL_QUANTILE)


def _block(laws: Laws, at: dict[str, np.ndarray], n: int) -> Block:
    """One cell for each row of `at`, with its count at one gene."""
    number = len(at["x"])
    mean = jnp.broadcast_to(jnp.asarray(at["mean"])[:, None], (number, n))
    rows, cols = jnp.arange(number, dtype=jnp.int32), jnp.asarray(at["gene"], jnp.int32)
    return Block(laws, mean, jnp.asarray(at["x"]), rows, cols)


def expected_log(mean: float, shape: float, scale: float) -> float:
    """Expectation of ``log1p(scale y)`` by quadrature of its Frullani integral, on the scale of ``log u``."""

    def part(log_u: float) -> float:
        u = np.exp(log_u)
        return float(-np.exp(-u) * np.expm1(-shape * np.log1p(-mean / shape * np.expm1(-scale * u))))

    value: float = integrate.quad(part, -60.0, 5.0, epsabs=0, epsrel=1e-9, limit=500, points=[-20.0, -8.0, 0.0])[0]
    return value


def of_logs(grid: Grid) -> Iterator[Line]:
    """Expected log1p, for depths at which ``scale * mean`` is at most ten thousand: counts per 10,000."""
    at = product(mean=grid.means[::2], shape=grid.thetas[::2], scale=(1e-3, 0.1, 1, 10, 1e3))
    inside = at["mean"] * at["scale"] <= 1.0001e4
    at = {name: values[inside] for name, values in at.items()}
    wide = [values.astype(np.float64) for values in at.values()]
    reference = np.array([expected_log(*row) for row in zip(*wide, strict=True)])
    yield compare("expected log1p", expected_log1p(**at), reference, at)

    laws, same = mixed()
    n = same.theta.shape[1]
    at = product(x=(0.0, 3.0), mean=tuple(m for m in grid.means[::2] if m <= 1e4), gene=tuple(range(n)))
    gene, scale = at["gene"].astype(int), 1.0
    block = _block(laws, at, n)
    ones = jnp.ones((len(gene), 1), jnp.float32)
    ours = np.asarray(log1p_of(block, ones, scale * ones))[np.arange(len(gene)), gene]
    weight, shape, mean = given_counts(same.at(gene), at["x"], at["mean"].astype(np.float64))
    reference = np.array(
        [
            sum(w * expected_log(m, s, scale) for w, s, m in zip(*column, strict=True) if w > 1e-12)
            for column in zip(weight.T, shape.T, mean.T, strict=True)
        ]
    )
    yield compare("expected log1p given the count, mixture", ours, reference, at)


def of_deviances(grid: Grid) -> Iterator[Line]:
    """Deviances, which NumPy computes in float64."""
    at = product(x=grid.counts, mean=grid.means)
    x, mean = (values.astype(np.float64) for values in at.values())
    reference = 2 * (special.xlogy(x, x / mean) - x + mean)
    yield compare("deviance, Poisson", metrics.poisson_deviance(x, mean), reference, at, log=True)
    at = product(x=grid.counts, mean=grid.means, theta=grid.thetas)
    x, mean, theta = (values.astype(np.float64) for values in at.values())
    reference = 2 * (special.xlogy(x, x / mean) - (theta + x) * np.log((theta + x) / (theta + mean)))
    one = Components(*(np.broadcast_to(value, (1, len(x))) for value in (theta, 1.0, 1.0, 0.0)))
    yield compare("deviance, NB", entry_deviance(x, mean, one), reference, at, log=True)


def of_draws(grid: Grid, n: int) -> Iterator[Line]:
    """Moments of draws, in standard errors: those of the mean, and of the variance."""
    rng = np.random.default_rng(0)
    cases = [(x, m, t) for x in (0.0, 3.0, 1e7) for m in (1e-6, 1.0, 1e7) for t in (0.1, 1.0, 1e8)]
    errors, places = [], []
    for x, mean, theta in cases:
        draws = posterior.posterior_sample(rng, np.full(n, x), np.full(n, mean), theta)
        law = stats.gamma(theta + x, scale=mean / (theta + mean))
        errors.append(_moments(draws, law.mean(), law.var(), float(law.stats("k"))))
        places.append(f"x={x:g}, mean={mean:g}, theta={theta:g}")
    yield _drawn("posterior draws", errors, places)
    wide, usual = (0.001, 0.1, 0.5, 0.8, 0.999), (0.1, 0.2, 0.5, 0.8, 0.9)  # fits keep 0.2 to 0.9 by default
    for name, thinned, fractions in (("thinning", _thin_numpy, wide), ("thinning on the device", _thin_jax, usual)):
        errors, places = [], []
        for count in [c for c in grid.counts if c > 0]:
            for keep in fractions:
                law = stats.binom(int(count), keep)
                errors.append(_moments(thinned(n, count, keep), law.mean(), law.var(), float(law.stats("k"))))
                places.append(f"count={count:g}, fraction={keep:g}")
        yield _drawn(name, errors, places)


def _moments(draws: np.ndarray, mean: float, var: float, kurtosis: float) -> float:
    n, draws = len(draws), np.asarray(draws, np.float64)
    rounding = 1e-7 * mean  # one rounding of float32
    of_mean = max(abs(draws.mean() - mean) - rounding, 0) / np.sqrt(var / n)
    of_var = abs(((draws - mean) ** 2).mean() / var - 1) / np.sqrt((2 + max(kurtosis, 0.0)) / n)
    return float(max(of_mean, of_var))


def _drawn(name: str, errors: list[float], places: list[str]) -> Line:
    worst = int(np.argmax(errors))
    return Line(f"moments, {name} (standard errors)", errors[worst], GOAL_MOMENT, places[worst], len(errors))


def _thin_numpy(n: int, count: float, keep: float) -> np.ndarray:
    return thin_values(np.full(n, count, np.float32), keep, np.random.default_rng(int(count * 7 + keep * 1000)))


def _thin_jax(n: int, count: float, keep: float) -> np.ndarray:
    key = jax.random.key(int(count + keep * 1000))
    return np.asarray(jax.jit(thin_on_device)(key, jnp.full(n, count, jnp.float32), jnp.full(n, keep, jnp.float32)))


def of_gradients() -> Iterator[Line]:
    """Gradients that are not finite, at the corners: means and counts of 0, probabilities of 0 and 1, ends of theta."""
    corners = (0.0, 1.0, 1e7), (0.0, 1e-6, 1.0, 1e7), (1e-10, 1e-3, 1.0, 1e8, np.inf), (0.0, 1e-6, 0.5, 1.0)
    at = product(**dict(zip(("x", "mean", "theta", "pi"), corners, strict=True)))
    parts: list[tuple[str, Callable[..., Any], dict[str, np.ndarray], tuple[int, ...]]] = [
        ("ZINB", likelihoods.zinb_log_prob, at, (1, 2, 3)),
        ("NB", likelihoods.nb_log_prob, {name: at[name] for name in ("x", "mean", "theta")}, (1, 2)),
        ("Poisson", likelihoods.poisson_log_prob, {name: at[name] for name in ("x", "mean")}, (1,)),
        ("posterior mean", posterior.posterior_mean, at, (1, 2, 3)),
    ]
    x, mean, theta, pi = corners
    both = product(x_out=x, x_in=x, mean_in=mean, mean_out=mean, theta=theta, pi=pi)
    parts.append(("predictive ZINB", predictive.zinb_predictive_log_prob, both, (2, 3, 4, 5)))
    logs = product(mean=mean[:3], shape=(1e-3, 1.0, 1e8), scale=(1e-3, 1.0, 1e4))
    parts.append(("expected log1p", expected_log1p, logs, (0, 1)))
    for name, function, values, wanted in parts:
        impossible = np.zeros(1, bool)
        if (
            "pi" in values and "posterior" not in name
        ):  # a positive count has no chance, and no slope, where all are lost
            impossible = (values["pi"] == 1) & (values.get("x", values.get("x_out")) > 0)
        gradients = jax.jit(jax.vmap(jax.grad(function, argnums=wanted)))(*values.values())
        bad = np.logical_or.reduce([~np.isfinite(np.asarray(one)) for one in gradients]) & ~impossible
        worst = int(np.argmax(bad))
        place = ", ".join(f"{key}={column[worst]:g}" for key, column in values.items()) if bad.any() else ""
        yield Line(f"gradients that are not finite, {name}", float(bad.sum()), 0.0, place, len(bad))


def lines(grid: Grid = FULL, draws: int = 100_000) -> Iterator[Line]:
    """All lines of the table, one after the other."""
    yield from of_likelihoods(grid)
    yield from of_posteriors(grid)
    yield from of_mixtures(grid)
    yield from of_logs(grid)
    yield from of_deviances(grid)
    yield from of_draws(grid, draws)
    yield from of_gradients()


def numeric() -> None:
    """Print the table."""
    print("\nOurs against SciPy in float64: the largest relative error (of logs and deviances: over max(1, |value|))")
    print(f"{'quantity':52s}{'values':>8s}{'error':>10s}{'goal':>9s}  where: ours for the reference")
    missed = 0
    for line in lines():
        missed += not line.error <= line.goal
        mark = " " if line.error <= line.goal else "*"
        print(f"{line.name:52s}{line.number:8,d}{line.error:10.2g}{line.goal:9.1g}{mark} {line.where}", flush=True)
    print(f"{missed} above their goal (*)" if missed else "all within their goals")
