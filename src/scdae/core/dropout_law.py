"""The law with dropout and the law without, fitted to some genes while the means are held still.

The genes are independent of each other then, and each has three numbers to be found: that takes no gradient, but a grid
and a search from its best point, for all genes at once.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.conditions import Conditions, effect_of
from scdae.core.objective import Dropout, Entries, zinb_loss

__all__ = ["DROPOUT_COST", "CellMeans", "Evidence", "GeneBlock", "first_look", "fit_laws", "losses"]

DROPOUT_COST = 3.0  # penalty on a gene's dropout probability, in nats
# Points of the search: change of the log dispersion, and logit of the dropout probability.
_GRID = list(product((0.0, 1.0, 2.5, 4.0), (-3.0, -1.5, -0.3, 1.0)))
_FIRST = list(product((1.0, 2.5), (-1.5, -0.3)))  # enough to rule most genes out
_MOVES = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (1.0, 1.0), (-1.0, -1.0)]
_STEPS = (0.5, 0.25)  # lengths of the moves from the best point of the grid
_GRID_WITHOUT = (-3.0, -1.5, 0.0, 1.5, 3.0, 4.5)  # change of the log dispersion without dropout
_STEPS_WITHOUT = (0.75, 0.35, 0.15)
_NEVER = -200.0  # logit of no dropout
Array = Any  # NumPy outside of compiled functions, JAX within


class Evidence(NamedTuple):
    """What speaks for dropout in some genes, and its law there; float64 (n_genes,) each."""

    lead: np.ndarray  # log likelihood that dropout adds
    square: np.ndarray  # sum of its squares over the entries
    zeros: np.ndarray  # zeros beyond those expected without dropout, weighted by the square of the expected share
    predicted: np.ndarray  # the same as predicted with it
    logit_pi: np.ndarray
    log_theta: np.ndarray


class CellMeans(NamedTuple):
    """What the network knows about the cells from the visible half."""

    latent: Array  # (n, n_latent)
    norm: Array  # (n, 1): log of the sum over genes
    conditions: Conditions
    total_in: Array  # (n,)
    total_out: Array  # (n,)


class GeneBlock(NamedTuple):
    """A block of genes: how the decoder gets to them, and their molecules."""

    loading: Array  # (n_latent, w)
    base: Array  # (w,)
    effects: Array | None  # (n_levels + n_continuous, w)
    log_theta: Array  # (w,)
    rows: Array  # (k,): cells of the stored entries
    cols: Array  # (k,)
    x_in: Array  # (k,)
    x_out: Array  # (k,)
    observed: Array | None  # (n, w)


def first_look(cells: CellMeans, genes: GeneBlock) -> np.ndarray:
    """Log likelihood that dropout adds to each gene of a block, roughly."""
    cells, genes = jax.device_put((cells, genes))
    theta = np.asarray(genes.log_theta, dtype=np.float64)
    without, law = _Best(cells, genes), _Best(cells, genes)
    without.look(theta, _NEVER)
    for change, logit in _FIRST:
        law.look(theta + change, logit)
    with np.errstate(invalid="ignore"):  # a network that diverged predicts nothing; that is said where it is repeated
        return without.loss - law.loss


def fit_laws(cells: CellMeans, genes: GeneBlock) -> Evidence:
    """Search for the laws of a block of genes."""
    cells, genes = jax.device_put((cells, genes))
    theta = np.asarray(genes.log_theta, dtype=np.float64)
    without, law = _Best(cells, genes), _Best(cells, genes)
    for change in _GRID_WITHOUT:
        without.look(theta + change, _NEVER)
    for step, side in product(_STEPS_WITHOUT, (1, -1)):
        without.look(without.log_theta + side * step, _NEVER)
    for change, logit in _GRID:
        law.look(theta + change, logit)
    for step, (change, logit) in product(_STEPS, _MOVES):
        law.look(law.log_theta + step * change, law.logit + step * logit)
    entries, _, zeros, predicted = losses(cells, genes, law.law)
    lead = np.asarray(losses(cells, genes, without.law)[0]) - np.asarray(entries)
    square = (lead.astype(np.float64) ** 2).sum(axis=0)
    return Evidence(without.loss - law.loss, square, np.asarray(zeros), np.asarray(predicted), law.logit, law.log_theta)


class _Best:
    """The best law found so far for each gene of a block."""

    def __init__(self, cells: CellMeans, genes: GeneBlock):
        self._data = cells, genes
        n_genes = len(genes.log_theta)
        self.loss = np.full(n_genes, np.inf)
        self.log_theta, self.logit = np.zeros((2, n_genes))

    @property
    def law(self) -> np.ndarray:
        """Log dispersion, and logit of the dropout probability: float32 (2, n_genes)."""
        return np.stack([self.log_theta, self.logit]).astype(np.float32)

    def look(self, log_theta: np.ndarray, logit: np.ndarray | float) -> None:
        """Take these instead where they are better."""
        law = np.stack([log_theta, np.broadcast_to(logit, log_theta.shape)])
        loss = np.asarray(losses(*self._data, law.astype(np.float32))[1])
        better = loss < self.loss
        self.loss = np.where(better, loss, self.loss)
        self.log_theta, self.logit = np.where(better, law, [self.log_theta, self.logit])


@jax.jit
def losses(cells: CellMeans, genes: GeneBlock, law: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Loss under a `law` (2, w), by entry, (n, w), and by gene, and its zeros beyond chance as in :class:`Evidence`."""
    head = Dropout(jnp.exp(law[0]), jax.nn.log_sigmoid(law[1]), jax.nn.log_sigmoid(-law[1]))
    log_rho = cells.latent @ genes.loading + genes.base - cells.norm - head.log_keep
    if genes.effects is not None:
        log_rho += effect_of(genes.effects, cells.conditions)
    total_in, total_out = cells.total_in, cells.total_out
    at, rho = (genes.rows, genes.cols), jnp.exp(log_rho)

    def seen(dense: jax.Array) -> jax.Array:
        return dense if genes.observed is None else jnp.where(genes.observed, dense, 0)

    entries = Entries(genes.x_in, genes.x_out, total_in[genes.rows], total_out[genes.rows], log_rho[at])
    dense, stored = zinb_loss(rho, total_in, total_out, head, entries, head.at(genes.cols))
    loss = seen(dense).at[at].add(stored)

    by_chance = jnp.exp(-head.theta * jnp.log1p((total_in + total_out)[:, None] * rho / head.theta))
    weight, pi = seen(rho**2), jnp.exp(head.log_drop)
    counted = jnp.where(genes.x_in + genes.x_out > 0, weight[at], 0)
    zeros = (weight * (1 - by_chance)).sum(axis=0)
    return loss, loss.sum(axis=0) + DROPOUT_COST * pi, zeros.at[genes.cols].add(-counted), pi * zeros
