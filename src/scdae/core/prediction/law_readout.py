"""What the laws of the genes say of whole blocks of cells: restored counts, how sure they are, expected logs.

Most entries are zeros, for which sums over the components are worked out in place. Entries with counts are few, and each has
weights of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scdae.core.data.minibatch import Batch
from scdae.core.distributions.components import corrected, level_of
from scdae.core.distributions.expected_log1p import expected_log1p
from scdae.core.distributions.law_sums import at_zero, of_genes, of_stored, weights_at
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.distributions.log_polynomials import log_polynomial, log_value

__all__ = ["Block", "corrected_share", "counted_mean", "level_at", "log1p_of", "mean_of", "sd_of"]


class Block(NamedTuple):
    """Cells by genes, with the stored entries beside them."""

    laws: Laws  # of the genes of the block
    mean: jax.Array  # (b, n): expected counts before an entry's own count is known, had none been lost
    x: jax.Array  # (k,): counts of the stored entries, zero for padding
    rows: jax.Array  # (k,)
    cols: jax.Array  # (k,): column of the block; n for those that it has not
    again: Any = None  # (n,): column that each of the block's is the same as, if genes may be there twice
    observed: jax.Array | None = None  # bool (b, n)
    level: jax.Array | None = (
        None  # (b, n): from 0 where a gene is low to 1 where it is high; None: laws are the same everywhere
    )

    @classmethod
    def of(
        cls, laws: Laws, mean: jax.Array, batch: Batch, genes: Any, n_vars: int, observed: Any, level: jax.Array | None
    ) -> Block:
        """The block of a batch, for `genes` of its genes or all."""
        if genes is None:
            return cls(laws, mean, batch.x_in, batch.rows, batch.cols, None, observed, level)
        n = len(genes)
        column_of_gene = jnp.full(n_vars, n, jnp.int32).at[genes].set(jnp.arange(n, dtype=jnp.int32))
        cols, again = column_of_gene[batch.cols], column_of_gene[genes]
        return cls(laws, mean, batch.x_in, batch.rows, cols, again, observed, level)

    def stored(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Weight, shape and mean of the components of the stored entries, (c, k) each, by :func:`scdae.core.distributions.law_sums.of_stored`."""
        cols = jnp.minimum(self.cols, self.mean.shape[1] - 1)
        level = None if self.level is None else self.level[self.rows, cols]
        return of_stored(self.laws, self.x, self.mean[self.rows, cols], cols, level)

    def spread(self, values: jax.Array) -> jax.Array:
        """Values (k,) of the stored entries in their places: (b, n), zero elsewhere."""
        n_cells, n = self.mean.shape
        dense = jnp.zeros(n_cells * (n + 1), values.dtype).at[self.rows * (n + 1) + self.cols].add(values)
        dense = dense.reshape(n_cells, n + 1)
        return dense[:, :n] if self.again is None else dense[:, self.again]

    def put(self, dense: jax.Array, values: jax.Array, unknown: jax.Array | None = None) -> jax.Array:
        """`dense` (b, n) with `values` (k,) where there are counts, and `unknown` (b, n) where nothing was observed."""
        has = self.x > 0
        filled = jnp.where(self.spread(has.astype(jnp.float32)) > 0, self.spread(jnp.where(has, values, 0)), dense)
        return filled if unknown is None or self.observed is None else jnp.where(self.observed, filled, unknown)


def corrected_share(laws: Laws, log_share: jax.Array, observed_share: jax.Array) -> jax.Array:
    """The decoder's log shares among the observed genes, (b, n), as held-out molecules correct them: of the same shape."""
    if laws.correction is None or laws.log_share is None:
        return log_share
    usual = laws.log_share[None, :] - jnp.log(observed_share)[:, None]
    return corrected(log_share - usual, laws.correction, jnp) + usual


def level_at(laws: Laws, log_share: jax.Array, observed_share: jax.Array) -> jax.Array | None:
    """Level of entries, (b, n), of that log share among the observed genes, (b, n), which carry `observed_share`, (b,)."""
    if laws.log_share is None:
        return None
    return level_of(log_share + jnp.log(observed_share)[:, None] - laws.log_share[None, :], jnp)


def mean_of(block: Block) -> jax.Array:
    """Expected counts given the counts: (b, n)."""
    zeros = at_zero(block.laws, block.mean, block.level)
    return block.put(block.mean * (zeros.mean / zeros.probability), _mean_of_stored(block), block.mean)


def counted_mean(block: Block) -> jax.Array:
    """Expected counts of another measurement that loses what this one has lost: (b, n)."""
    zeros = at_zero(block.laws, block.mean, block.level)
    return block.put(block.mean * (zeros.kept / zeros.probability), _mean_of_stored(block))


def sd_of(block: Block) -> jax.Array:
    """Standard deviation of the expected counts given the counts: (b, n)."""
    zeros = at_zero(block.laws, block.mean, block.level)
    middle = zeros.mean / zeros.probability
    of_zero = block.mean * jnp.sqrt(jnp.maximum(zeros.square / zeros.probability - middle**2, 0))
    weight, shape, mean = block.stored()
    square = (weight * ((mean - (weight * mean).sum(axis=0, keepdims=True)) ** 2 + mean**2 / shape)).sum(axis=0)
    before = None
    if block.observed is not None:
        before = block.mean * jnp.sqrt(_dispersion(block.laws, block.level))
    return block.put(of_zero, jnp.sqrt(square), before)


def log1p_of(block: Block, ratio: jax.Array, scale: jax.Array) -> jax.Array:
    """Expected ``log1p(scale * y)`` of new counts `y`, `ratio` times as many, given the counts: (b, n).

    `ratio` is (b, n), `scale` (b, 1). A zero that was dropout, or not observed, says nothing of the rate.
    """
    cols = jnp.minimum(block.cols, block.mean.shape[1] - 1)
    again, of_cell = jnp.broadcast_to(ratio, block.mean.shape)[block.rows, cols], scale[block.rows, 0]
    weight, shape, mean = block.stored()
    stored = (weight * expected_log1p(again[None, :] * mean, shape, of_cell[None, :])).sum(axis=0)
    return block.put(_log_of_zeros(block, ratio, scale), stored)


def _mean_of_stored(block: Block) -> jax.Array:
    weight, _, mean = block.stored()
    return (weight * mean).sum(axis=0)


def _dispersion(laws: Laws, level: jax.Array | None) -> jax.Array:
    """Variance of the factor by gene, (1, n), or by entry where it depends on the level, (b, n)."""
    square = jnp.zeros_like(laws.lift[None, :] if level is None else level)
    for part in laws.parts:
        weights = weights_at(part, of_genes(level, part.genes))
        own = sum(weight * (1 + 1 / theta) for theta, weight in zip(GRID, weights, strict=True))
        own = own * part.scale[None, :] ** 2
        square = square + own if part.genes is None else square.at[:, part.genes].add(own)
    return jnp.maximum(square - 1, 0)


def _log_of_zeros(block: Block, ratio: jax.Array, scale: jax.Array) -> jax.Array:
    """The same for zeros: a sum over the components, each by a polynomial in its mean."""
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
    before = ratio * inner  # new counts of an entry of which nothing is known
    has_lost = part.genes is not None or observed is not None

    # What a zero leaves of the mean is no more than the inverse dispersion, whatever the mean.
    theta = jnp.asarray(GRID, mean.dtype)
    most, most_ratio = before.max(axis=1), ratio.max(axis=1)
    after_zero = log_polynomial(theta, scale, jnp.minimum(most[None, :], theta[:, None] * most_ratio[None, :]))
    unknown = log_polynomial(theta, scale, jnp.broadcast_to(most, (len(GRID), len(most)))) if has_lost else None

    def add(total: jax.Array, component: Any) -> tuple[jax.Array, None]:
        theta, low, high, after_zero, unknown = component
        weight = low[None, :] if level is None else low[None, :] + level * (high - low)[None, :]
        chance = jnp.exp(-theta * jnp.log1p(inner / theta))
        kept, gone = weight * (1 - lost) * chance / probability, weight * lost / probability
        if observed is not None:
            kept, gone = jnp.where(observed, kept, 0), jnp.where(observed, gone, weight)
        total = total + kept * log_value(after_zero, before * theta / (theta + inner))
        return (total if unknown is None else total + gone * log_value(unknown, before)), None

    components = theta, part.weight[0], part.weight[-1], after_zero, unknown
    return jax.lax.scan(add, jnp.zeros_like(mean), components)[0]
