"""Outputs under the distributions of the genes, for blocks of cells: restored counts, their uncertainty, expected logs.

Most entries are zeros, for which sums over the components are computed densely. Non-zeros are few, and each has weights
of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scdae.core.data.minibatch import Batch
from scdae.core.distributions.components import corrected, level_of
from scdae.core.distributions.expected_log1p import expected_log1p
from scdae.core.distributions.law_sums import at_zero, least_chance, of_genes, of_stored, total_of, weights_at
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.distributions.log_polynomials import log_polynomial, log_value
from scdae.core.network.loss import log_proportions

__all__ = [
    "Block",
    "corrected_logits",
    "corrected_proportions",
    "counted_mean",
    "level_at",
    "log1p_of",
    "mean_of",
    "sd_of",
]


class Block(NamedTuple):
    """Cells by genes, and a list of the stored entries."""

    laws: Laws  # of the genes of the block
    mean: jax.Array  # (b, n): expected counts without dropout, before an entry's own count is used
    x: jax.Array  # (k,): counts of the stored entries, zero for padding
    rows: jax.Array  # (k,)
    cols: jax.Array  # (k,): column of the block; n for other genes
    again: Any = None  # (n,): first column of the same gene, if genes may be repeated
    observed: jax.Array | None = None  # bool (b, n)
    level: jax.Array | None = (
        None  # (b, n): from 0 where a gene is low to 1 where it is high; None if distributions do not depend on it
    )

    @classmethod
    def of(
        cls, laws: Laws, mean: jax.Array, batch: Batch, genes: Any, n_vars: int, observed: Any, level: jax.Array | None
    ) -> Block:
        """Make the block of a batch, for `genes` or all genes."""
        if genes is None:
            return cls(laws, mean, batch.x_in, batch.rows, batch.cols, None, observed, level)
        n = len(genes)
        column_of_gene = jnp.full(n_vars, n, jnp.int32).at[genes].set(jnp.arange(n, dtype=jnp.int32))
        cols, again = column_of_gene[batch.cols], column_of_gene[genes]
        return cls(laws, mean, batch.x_in, batch.rows, cols, again, observed, level)

    def stored(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Compute weight, shape and mean of the components of the stored entries, (c, k) each.

        See :func:`scdae.core.distributions.law_sums.of_stored`.
        """
        cols = jnp.minimum(self.cols, self.mean.shape[1] - 1)
        level = None if self.level is None else self.level[self.rows, cols]
        return of_stored(self.laws, self.x, self.mean[self.rows, cols], cols, level)

    def put(self, dense: jax.Array, values: jax.Array, unknown: jax.Array | None = None) -> jax.Array:
        """Put `values` (k,) of non-zeros and `unknown` (b, n) of missing values into `dense` (b, n).

        Only the non-zeros are written: padding is sent past the last cell, and other genes past the last column, where nothing is.
        """
        rows = jnp.where(self.x > 0, self.rows, len(dense))
        filled = dense.at[rows, self.cols].set(values, mode="drop")
        filled = filled if self.again is None else filled[:, self.again]
        return filled if unknown is None or self.observed is None else jnp.where(self.observed, filled, unknown)


def corrected_proportions(by_level: tuple[Any, Any] | None, logits: jax.Array, observed: jax.Array | None) -> jax.Array:
    """Compute log proportions as held-out molecules correct them; those of the observed genes add up to one.

    Parameters
    ----------
    by_level
        :attr:`scdae.core.distributions.laws.Laws.by_level` of all genes; None for no correction.
    logits
        Of the decoder, or log proportions, (b, n_vars).
    observed
        Boolean (b, n_vars); None for all.
    """
    return log_proportions(logits if by_level is None else corrected_logits(by_level, logits), observed)


def corrected_logits(by_level: tuple[Any, Any], logits: jax.Array) -> jax.Array:
    """The same before they add up to one."""
    usual = by_level[0][None, :]
    return corrected(jax.nn.log_softmax(logits, axis=1) - usual, by_level[1], jnp) + usual


def level_at(laws: Laws, log_share: jax.Array, observed_share: jax.Array) -> jax.Array | None:
    """Compute levels (b, n) from log fractions among observed genes, (b, n), whose sum is `observed_share`, (b,)."""
    if laws.log_share is None:
        return None
    return level_of(log_share + jnp.log(observed_share)[:, None] - laws.log_share[None, :], jnp)


def mean_of(block: Block) -> jax.Array:
    """Compute the expected counts given the counts: (b, n)."""
    zeros = at_zero(block.laws, block.mean, block.level)
    return block.put(block.mean * (zeros.mean / zeros.probability), _mean_of_stored(block), block.mean)


def counted_mean(block: Block) -> jax.Array:
    """Compute the expected counts of another measurement with the same dropout: (b, n)."""
    zeros = at_zero(block.laws, block.mean, block.level)
    return block.put(block.mean * (zeros.kept / zeros.probability), _mean_of_stored(block))


def sd_of(block: Block) -> jax.Array:
    """Compute the standard deviation of the expected counts given the counts: (b, n)."""
    zeros = at_zero(block.laws, block.mean, block.level)
    middle = zeros.mean / zeros.probability
    of_zero = block.mean * jnp.sqrt(jnp.maximum(zeros.square / zeros.probability - middle**2, 0))
    weight, shape, mean = block.stored()
    square = total_of(weight * ((mean - total_of(weight * mean)[None, :]) ** 2 + mean**2 / shape))
    before = None
    if block.observed is not None:
        before = block.mean * jnp.sqrt(_dispersion(block.laws, block.level))
    return block.put(of_zero, jnp.sqrt(square), before)


def log1p_of(block: Block, ratio: jax.Array, scale: jax.Array) -> jax.Array:
    """Compute the expected ``log1p(scale * y)`` of new counts `y`, `ratio` times as deep, given the counts: (b, n).

    `ratio` is (b, n), `scale` (b, 1). A zero from dropout, or a missing value, holds no information on the rate.
    """
    cols = jnp.minimum(block.cols, block.mean.shape[1] - 1)
    again = jnp.broadcast_to(ratio, block.mean.shape)[block.rows, cols]
    weight, shape, mean = block.stored()
    stored = total_of(weight * expected_log1p(again[None, :] * mean, shape, scale.T, block.rows))
    return block.put(_log_of_zeros(block, ratio, scale), stored)


def _mean_of_stored(block: Block) -> jax.Array:
    weight, _, mean = block.stored()
    return total_of(weight * mean)


def _dispersion(laws: Laws, level: jax.Array | None) -> jax.Array:
    """Compute the variance of the factor by gene, (1, n), or by entry if it depends on the level, (b, n)."""
    square = jnp.zeros_like(laws.lift[None, :] if level is None else level)
    for part in laws.parts:
        weights = weights_at(part, of_genes(level, part.genes))
        own = sum(weight * (1 + 1 / theta) for theta, weight in zip(GRID, weights, strict=True))
        own = own * part.scale[None, :] ** 2
        square = square + own if part.genes is None else square.at[:, part.genes].add(own)
    return jnp.maximum(square - 1, 0)


def _log_of_zeros(block: Block, ratio: jax.Array, scale: jax.Array) -> jax.Array:
    """Compute the expected log of zeros: a sum over the components, each by a polynomial in its mean."""
    probability = at_zero(block.laws, block.mean, block.level).probability
    ratio = jnp.broadcast_to(ratio, block.mean.shape)
    total = jnp.zeros_like(block.mean)
    for part in block.laws.parts:
        own = _log_of_part(part, block, probability, ratio, scale[:, 0])
        total = total + own if part.genes is None else total.at[:, part.genes].add(own)
    return total


def _log_of_part(part: Part, block: Block, probability: jax.Array, ratio: jax.Array, scale: jax.Array) -> jax.Array:
    """Sum over the components of a part, one after the other: (b, c)."""

    def own(values: Any) -> Any:
        return values if values is None or part.genes is None else values[:, part.genes]

    mean, ratio, probability, observed = own(block.mean), own(ratio), own(probability), own(block.observed)
    level, lost = own(block.level), part.lost[None, :]
    inner = mean * part.scale[None, :]
    before = ratio * inner  # expected new count if the entry holds no information
    has_lost = part.genes is not None or observed is not None

    # After a zero, the posterior mean is at most the inverse dispersion, however large the prior mean.
    theta = jnp.asarray(GRID, mean.dtype)
    most, most_ratio = before.max(axis=1), ratio.max(axis=1)
    after_zero = log_polynomial(theta, scale, jnp.minimum(most[None, :], theta[:, None] * most_ratio[None, :]))
    unknown = log_polynomial(theta, scale, jnp.broadcast_to(most, (len(GRID), len(most)))) if has_lost else None

    def add(total: jax.Array, component: Any) -> tuple[jax.Array, None]:
        theta, low, high, after_zero, unknown = component
        weight = low[None, :] if level is None else low[None, :] + level * (high - low)[None, :]
        chance = jnp.exp(-theta * jnp.log1p(inner / theta))
        chance = jnp.where(theta > 1, jnp.maximum(chance, least_chance(theta)), chance)
        kept, gone = weight * (1 - lost) * chance / probability, weight * lost / probability
        if observed is not None:
            kept, gone = jnp.where(observed, kept, 0), jnp.where(observed, gone, weight)
        total = total + kept * log_value(after_zero, before * theta / (theta + inner))
        return (total if unknown is None else total + gone * log_value(unknown, before)), None

    components = theta, part.weight[0], part.weight[-1], after_zero, unknown
    return jax.lax.scan(add, jnp.zeros_like(mean), components)[0]
