"""Sums over the components of the genes' laws, for whole blocks of cells on the device.

All that follows from a count is a sum over the components. Zeros, nine entries of ten, need only the probability of a zero
under each of them, ``(1 + mean / theta) ** -theta``, and the grid is made of powers of four, for which that is a division and
some squares or square roots.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.distributions.likelihoods import nb_log_weight

__all__ = [
    "Again",
    "Zeros",
    "at_zero",
    "least_chance",
    "of_genes",
    "of_stored",
    "total_of",
    "weights_at",
    "zero_again",
    "zero_probability",
]

_TINY = 1e-30
_MOST = 1 - 2.0**-24  # probability of any molecule in float32


class Zeros(NamedTuple):
    """Sums over the components at entries without counts, each an array (b, n) with the prior mean as the unit."""

    probability: jax.Array  # of a zero
    lost: jax.Array  # of a dropout
    mean: jax.Array  # probability times the expected factor g, which is what a kept zero says, or a lost one leaves
    kept: jax.Array  # the same without what was lost
    square: jax.Array  # probability times the expected square of g


def at_zero(laws: Laws, mean: jax.Array, level: jax.Array | None = None) -> Zeros:
    """Compute the sums over the components at entries of prior mean `mean` and `level`, (b, n) each, without counts."""
    zeros = Zeros(*_zeros(laws.plain, mean, level))
    if laws.dropout is None:
        return zeros
    genes = laws.dropout.genes
    more = _zeros(laws.dropout, mean[:, genes], of_genes(level, genes))
    return Zeros(*(one.at[:, genes].add(other) for one, other in zip(zeros, more, strict=True)))


def _zeros(part: Part, mean: jax.Array, level: jax.Array | None) -> list[jax.Array]:
    dropout, scale = part.lost[None, :], part.scale[None, :]
    inner = mean * scale
    zero = first = second = jnp.zeros_like(mean)
    before = jnp.zeros_like(scale)
    for theta, weight in zip(GRID, weights_at(part, level), strict=True):
        share, chance = _power(inner, theta)
        chance = weight * chance
        zero, first = zero + chance, first + chance * share
        second = second + chance * share * share * (1 + 1 / theta)
        before = before + weight * (1 + 1 / theta)
    kept = 1 - dropout
    lost = total_of(part.weight[0][:, None]) * dropout  # whatever the level
    everywhere = jnp.broadcast_to(lost, mean.shape)
    kept_mean = kept * scale * first
    square = scale**2 * (kept * second + dropout * before)
    return [kept * zero + lost, everywhere, kept_mean + lost * scale, kept_mean, square]


def total_of(components: jax.Array) -> jax.Array:
    """Add components (c, ...) term by term: XLA would fuse a reduction into the loop over entries, which takes ten times as long.

    The same holds of the maximum.
    """
    return sum(components[1:], components[0])


def zero_probability(laws: Laws, mean: jax.Array, level: jax.Array | None = None) -> jax.Array:
    """Compute the probability that an entry of prior mean `mean` and `level`, (b, n) each, has no counts."""
    probability = _zero_probability(laws.plain, mean, level)
    if laws.dropout is None:
        return probability
    genes = laws.dropout.genes
    return probability.at[:, genes].add(_zero_probability(laws.dropout, mean[:, genes], of_genes(level, genes)))


def _zero_probability(part: Part, mean: jax.Array, level: jax.Array | None) -> jax.Array:
    inner, dropout = mean * part.scale[None, :], part.lost[None, :]
    zero = jnp.zeros_like(mean)
    for theta, weight in zip(GRID, weights_at(part, level), strict=True):
        zero = zero + weight * _power(inner, theta)[1]
    return (1 - dropout) * zero + total_of(part.weight[0][:, None]) * dropout


class Again(NamedTuple):
    """Another measurement of entries without counts: float32 (b, n) each."""

    expected: jax.Array  # molecules, with the same dropout, given that there were none before
    log_zero: jax.Array  # log probability that there are none again
    log_zero_alone: jax.Array  # the same where it is not known what there was before; both -16.6 at least


@jax.jit
def zero_again(laws: Laws, mean: jax.Array, level: jax.Array | None, ratio: jax.Array) -> Again:
    """Compute what is to be expected of a measurement `ratio` times as deep, where there were no counts.

    `mean` and `level` are (b, n), as for :func:`at_zero`.

    Notes
    -----
    All is summed as what is missing to a probability of one, so that nothing cancels in genes that are nearly always zero: the error
    is a few millionths of each value at most. It goes cell by cell: of a whole block XLA writes and reads each intermediate array.
    """

    def of_cell(cell: tuple[jax.Array, jax.Array | None]) -> Again:
        mean, level = cell
        before, seen, gone, alone = _zero_again(laws.plain, mean, level, ratio)
        if laws.dropout is not None:
            genes = laws.dropout.genes
            own = _zero_again(laws.dropout, mean[genes], None if level is None else level[genes], ratio)
            pairs = zip((before, seen, gone, alone), own, strict=True)
            before, seen, gone, alone = (whole.at[genes].add(part) for whole, part in pairs)
        logs = (jnp.log1p(-jnp.minimum(part, _MOST)) for part in (gone / before, alone))
        return Again(ratio * mean * seen / before, *logs)

    found: Again = jax.lax.map(of_cell, (mean, level))
    return found


def _zero_again(
    part: Part, mean: jax.Array, level: jax.Array | None, ratio: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Sum over the components of entries (n,) of a cell.

    These are the probability of a zero, that times the expected factor g of what is not lost, the probability of a zero and molecules in
    the other measurement, and of molecules there whatever there was before.
    """
    inner, kept = mean * part.scale, 1 - part.lost
    before = total_of(part.weight[0]) * part.lost  # whatever the level
    seen = gone = alone = jnp.zeros_like(mean)
    for k, theta in enumerate(GRID):
        weight = part.weight[0][k]
        if level is not None and len(part.weight) > 1:
            weight = weight + level * (part.weight[1][k] - weight)
        weight = weight * kept
        odds = inner / theta
        share = 1 / (1 + odds)
        zero = weight * _chance(odds, theta)
        before, seen = before + zero, seen + zero * share
        gone = gone + zero * _rest(ratio * (odds * share), theta)
        alone = alone + weight * _rest(ratio * odds, theta)
    return before, seen * part.scale, gone, alone


def _rest(odds: jax.Array, theta: float) -> jax.Array:
    """``1 - (1 + odds) ** -theta``, with a small relative error: squares of ``1 - rest`` are steps of ``rest * (2 - rest)``."""
    rest, power = _first(odds, theta)
    while power < theta:
        rest, power = rest * (2 - rest), 2 * power
    return rest


def _chance(odds: jax.Array, theta: float) -> jax.Array:
    """``(1 + odds) ** -theta``, with a small relative error, and no less than :func:`least_chance`."""
    if theta <= 1:
        return 1 - _rest(odds, theta)
    rest, power = _first(odds, theta)
    chance = 1 / (1 + odds)
    while power < theta:  # a square doubles the error, so it is taken where the probability is small only
        rest, power = rest * (2 - rest), 2 * power
        chance = jnp.where(rest < 0.5, 1 - rest, chance * chance)
    return jnp.maximum(chance, least_chance(theta))


def _first(odds: jax.Array, theta: float) -> tuple[jax.Array, float]:
    """What :func:`_rest` starts with, and the power of that: 1, or the least of the grid, by the series of the exponential function."""
    if theta >= 1:
        return odds / (1 + odds), 1.0
    small = GRID[0] * jnp.log1p(odds)  # a quarter at most
    series = jnp.ones_like(small)
    for k in (6, 5, 4, 3, 2):
        series = 1 - small / k * series
    return small * series, GRID[0]


def weights_at(part: Part, level: jax.Array | None) -> list[jax.Array]:
    """Compute the weight of each component: (1, c), or (b, c) at entries of that `level`."""
    low = list(part.weight[0][:, None])
    if level is None or len(part.weight) == 1:
        return low
    return [one + level * (other - one) for one, other in zip(low, part.weight[1][:, None], strict=True)]


def of_genes(values: jax.Array | None, genes: Any) -> jax.Array | None:
    """Return the columns of some genes; all where `genes` is None."""
    return values if values is None or genes is None else values[:, genes]


def _own_weights(part: Part, columns: jax.Array, level: jax.Array | None) -> jax.Array:
    low = part.weight[0][:, columns]
    if level is None or len(part.weight) == 1:
        return low
    return low + level[None, :] * (part.weight[1][:, columns] - low)


def _power(mean: jax.Array, theta: float) -> tuple[jax.Array, jax.Array]:
    """``theta / (theta + mean)``, and the probability of a zero, which is that to the power of `theta`."""
    share = 1 / (1 + mean / theta)
    chance: jax.Array = share
    power = theta
    while power < 1:
        chance, power = jnp.sqrt(chance), power * 2
    while power > 1:
        chance, power = chance * chance, power / 2
    return share, jnp.maximum(chance, least_chance(theta)) if theta > 1 else chance


def least_chance(theta: Any) -> Any:
    """Compute the least probability of a zero that a component is given, by which float32 can still be divided.

    Without it a zero where a thousand counts were expected would have no probability under any component, and no posterior. It falls
    with `theta`, so that the widest component is what is left; components of 1 or less do not come near it.
    """
    return 1e-21 / theta**2


def of_stored(
    laws: Laws, x: jax.Array, mean: jax.Array, cols: jax.Array, level: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the posterior of entries with counts: its components.

    Parameters
    ----------
    laws
        Of all genes.
    x
        (k,) counts; where one is zero, what is given for it means nothing.
    mean
        (k,) prior means.
    cols
        (k,) genes.
    level
        (k,) levels; None where weights are the same everywhere.

    Returns
    -------
    tuple
        Weight, shape and mean of each component, (c, k) each. The weights of an entry sum to one. Dropout is ruled out.

    Notes
    -----
    All components are computed as one array: written out one by one, they took most of the time that a fit compiles.
    """
    theta = jnp.asarray(GRID, jnp.float32)[:, None]
    logs, means = [], []
    for part in laws.parts:
        if part.genes is None:
            weight, scale, lost, here = (
                _own_weights(part, cols, level),
                part.scale[cols],
                part.lost[cols],
                jnp.ones_like(x),
            )
        else:
            n = laws.lift.shape[0]
            column = jnp.full(n, -1, jnp.int32).at[part.genes].set(jnp.arange(len(part.genes), dtype=jnp.int32))[cols]
            at = jnp.maximum(column, 0)
            weight, scale, lost = _own_weights(part, at, level), part.scale[at], part.lost[at]
            here = (column >= 0).astype(x.dtype)
        inner, chance = mean * scale, weight * (1 - lost)[None, :] * here[None, :]
        logs.append(_log_chances(chance, x, inner))
        means.append(inner[None, :] * (1 + x[None, :] / theta) / (1 + inner[None, :] / theta))
    log = jnp.concatenate(logs)
    likely = jnp.exp(log - reduce(jnp.maximum, log)[None, :])
    shape = jnp.broadcast_to(theta + x[None, :], logs[0].shape)
    return likely / total_of(likely)[None, :], jnp.concatenate([shape] * len(logs)), jnp.concatenate(means)


def _log_chances(chances: jax.Array, x: jax.Array, mean: jax.Array) -> jax.Array:
    """Compute the log weight of each component with the probability of the counts under it, but for a term of the counts: (len(GRID), k).

    One component after the other, in a loop that XLA compiles once. Of all of them in one expression it makes a loop over the entries
    that computes some parts again and again, which takes two to six times as long.
    """

    def of_one(_: None, component: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        chance, theta = component
        log = nb_log_weight(x, mean, theta, jnp.maximum(chance, _TINY))
        return None, jnp.where(chance > 0, log, -jnp.inf)

    return jax.lax.scan(of_one, None, (chances, jnp.asarray(GRID, mean.dtype)))[1]
