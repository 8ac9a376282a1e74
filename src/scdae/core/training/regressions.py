"""Each gene as a Poisson regression on the positions of the cells: the cells on the device, and what is summed over them.

Everything that is as large as cells by genes is computed by JAX in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.data.cell_sums import sum_rows
from scdae.core.data.conditions import Conditions, no_conditions
from scdae.core.data.non_zeros import entry_rows
from scdae.core.network.autoencoder import effects_on
from scdae.core.runtime.platforms import on_accelerator

__all__ = ["Cells", "Expected", "Refit", "Regressions"]

_HIGHEST = 20.0  # log of the most molecules expected of an entry
_CELLS = 4096  # at once
_ENTRIES = 2**18  # stored entries at once
_VALUES, _VALUES_ON_ACCELERATOR = 2**19, 2**23  # entries at once


@dataclass(frozen=True)
class Cells:
    """Cells that the loadings are learned from.

    Parameters
    ----------
    counts
        float32 CSR (n_obs, n_vars).
    positions
        float32 (n_obs, n_axes), of mean 0 and variance 1.
    hidden
        Boolean CSR of the entries that were not observed, or None.
    conditions
        Of the cells, whose effects on the genes stay as they are.
    turned
        float32 (n_obs, n_turns): hidden units, whose loadings stay as they are; None for none.
    inputs
        float32 (nnz,): what the encoder gets of each stored entry, which is nothing for a zero; None: positions know nothing of
        the counts.
    response
        float32 (n_vars, n_axes): how far a unit of that of a gene moves the position of the average cell.
    """

    counts: sp.csr_matrix
    positions: np.ndarray
    hidden: sp.csr_matrix | None = None
    conditions: Conditions | None = None
    turned: np.ndarray | None = None
    inputs: np.ndarray | None = None
    response: np.ndarray | None = None


@dataclass
class Refit:
    """Loadings that were solved for, and how that went."""

    loading: np.ndarray  # float32 (n_axes, n_vars)
    intercept: np.ndarray  # float32 (n_vars,): log share at the mean position
    variance: np.ndarray  # float64 (n_axes, n_vars): prior variance of the loadings
    refused: list[int] = field(default_factory=list)  # genes of which no step gained anything, in each round
    gain: list[float] = field(default_factory=list)  # of the log posterior, per molecule, in each round
    evidence: np.ndarray | None = (
        None  # float64 (n_vars,): log likelihood over that of one share in all cells; None with conditions or a mask
    )


@dataclass
class Expected:
    """What is expected of some genes, summed over the cells."""

    sums: (
        np.ndarray
    )  # float64 (1 + n_axes, w): expected molecules, and the same times each position; or the first row alone
    rows: np.ndarray  # float64 (n_obs,)
    squares: np.ndarray  # float64 (w,): sum of the squares of what is expected; or empty
    products: np.ndarray  # float64 (n_pairs, w): expected molecules times each product of two positions; or empty


class Regressions:
    """The cells on the device, in parts, and the offsets of the regressions."""

    def __init__(
        self, cells: Cells, effects: np.ndarray | None, turn_loading: np.ndarray | None, kept: np.ndarray | None
    ):
        self.n_obs, n_vars = cells.counts.shape
        self.counts = cells.counts.astype(np.float64)
        self.width = 1 + cells.positions.shape[1]
        self.totals = np.asarray(cells.counts.sum(axis=1), np.float64).ravel()
        self.log_norm = np.zeros(self.n_obs)
        features = np.ones((self.n_obs, self.width), np.float32)
        features[:, 1:] = cells.positions
        self.all_sums = np.asarray(self.counts.T @ features.astype(np.float64)).T
        self.sums = self.all_sums.copy()
        self.cells = cells
        self.excess = np.ones(
            n_vars
        )  # variance of each gene's counts around what is expected, over that of Poisson's law
        self.pairs = np.triu_indices(self.width)
        seen = self.n_obs if cells.hidden is None else self.n_obs - np.diff(cells.hidden.tocsc().indptr)
        free = np.maximum(seen - self.width, 1) / np.maximum(seen, 1)  # what the loadings have fitted away
        self.free = np.broadcast_to(free, n_vars)
        self.kept = np.ones(n_vars, np.float32) if kept is None else kept.astype(np.float32)
        self.effects = None if effects is None else effects.astype(np.float32)
        self.turn_loading = None if turn_loading is None else turn_loading.astype(np.float32)
        self.size = min(_CELLS, self.n_obs)
        values = _VALUES_ON_ACCELERATOR if on_accelerator() else _VALUES
        self.at_once = int(np.clip(values // self.size, 32, n_vars)) if n_vars > 32 else n_vars
        self.n_vars = n_vars
        conditions = no_conditions(self.n_obs) if cells.conditions is None else cells.conditions
        self.conditions = conditions
        self.has_more = conditions.any or cells.hidden is not None
        self.parts = []
        for start in range(0, self.n_obs, self.size):
            rows = np.minimum(np.arange(start, start + self.size), self.n_obs - 1)
            hidden = None if cells.hidden is None else cells.hidden[rows].tocsc()
            turned = None if cells.turned is None else cells.turned[rows]
            fixed = jax.device_put((features[rows], conditions.take(rows), turned))
            products = _products(fixed[0], *self.pairs)
            self.parts.append((slice(start, min(start + self.size, self.n_obs)), fixed, products, hidden))

    def learn_excess(self, genes: np.ndarray, look: Expected, more: np.ndarray) -> None:
        """Variance of what is left over, over that of Poisson's law, from Pearson's statistic (quasi-likelihood, Wedderburn, 1974).

        Counts that vary more say less about the loadings, which are then drawn to their prior so much more strongly. The squares of
        what is left over are those of what is expected, from a curved `look` at the genes, and `more` of :meth:`square_left_over`.
        """
        square, expected = look.squares + more[genes], np.maximum(look.sums[0], 1e-12)
        self.excess[genes] = np.maximum(square / expected / self.free[genes], 1)

    def square_left_over(self, over: np.ndarray) -> np.ndarray:
        """By how much the squares of what is left over at the non-zeros, `over`, exceed those of what is expected: (n_vars,)."""
        x = self.cells.counts.data.astype(np.float64)
        return np.bincount(self.cells.counts.indices, over**2 - (x - over) ** 2, self.n_vars)

    def leave_out_own(self, over: np.ndarray) -> None:
        """Take from the sums what each entry has of itself in its cell's position.

        A gene's own molecules move the cell to where the gene is expected to be high, which a regression takes for a loading. The
        slope of the likelihood at positions that the entry had no part in is, to first order, less by the gene's response times
        the covariance of what the encoder gets of it and what the model leaves over, `over` of :meth:`left_over`.
        """
        cells = self.cells
        if cells.inputs is None or cells.response is None:
            return
        covariance = np.bincount(
            cells.counts.indices, over * cells.inputs, self.n_vars
        )  # the mean of what is left over is nothing
        self.sums[1:] = self.all_sums[1:] - cells.response.T * covariance

    def left_over(self, solution: Refit) -> np.ndarray:
        """Return the counts minus the expected counts, at the non-zeros: float64 (nnz,)."""
        cells = self.cells
        rows, cols = entry_rows(cells.counts), cells.counts.indices
        exposure = np.zeros(self.n_obs, np.float32)
        some = self.totals > 0
        exposure[some] = np.log(self.totals[some]) - self.log_norm[some]
        loading, ones = np.ascontiguousarray(solution.loading.T), np.ones(len(solution.loading), np.float32)
        over = np.empty(len(cols), np.float64)
        for start in range(0, len(cols), _ENTRIES):
            part = slice(start, start + _ENTRIES)
            logs = (cells.positions[rows[part]] * loading[cols[part]]) @ ones
            logs += solution.intercept[cols[part]] + exposure[rows[part]] + self.fixed_at(rows[part], cols[part])
            over[part] = cells.counts.data[part] - self.kept[cols[part]] * np.exp(np.minimum(logs, _HIGHEST))
        return over

    def fixed_at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return the effects of conditions and hidden units on some entries: float32 (k,)."""
        out = np.zeros(len(rows), np.float32)
        if self.effects is not None:
            levels, values = self.conditions
            for column in np.asarray(levels).T:
                out += self.effects[column[rows], cols]
            first = len(self.effects) - values.shape[1]
            for i, column in enumerate(np.asarray(values).T):
                out += self.effects[first + i, cols] * column[rows]
        if self.turn_loading is not None and self.cells.turned is not None:
            out += np.einsum("kd,dk->k", self.cells.turned[rows], self.turn_loading[:, cols])
        return out

    def blocks(self) -> list[np.ndarray]:
        """Genes that are worked on together."""
        return [np.arange(i, min(i + self.at_once, self.n_vars)) for i in range(0, self.n_vars, self.at_once)]

    def update_norm(self, rows: np.ndarray) -> None:
        """Take in how many molecules all genes are expected to have in each cell, which has to be as many as it has."""
        some = self.totals > 0
        self.log_norm[some] += np.log(rows[some] / self.totals[some])

    def evidence(self, solution: Refit, expected: np.ndarray) -> np.ndarray:
        """Log likelihood of each gene with the loadings found, over that of the same share of all cells' molecules.

        Molecules of each gene are `expected`, (n_vars,), with these loadings.
        """
        now = np.concatenate([solution.intercept[None], solution.loading]).astype(np.float64)
        counted = self.sums[0]
        log_share = np.log(np.maximum(counted, 1e-12) / max(float(self.totals.sum()), 1e-12))
        gained = (self.sums * now).sum(axis=0) - np.asarray(self.counts.T @ self.log_norm)
        return np.asarray((gained - expected - counted * log_share + counted) / self.excess)

    def look(self, solution: Refit | np.ndarray, genes: np.ndarray, *, curved: bool = False) -> Expected:
        """What some genes are expected to have, with the loadings found, or with coefficients (1 + n_axes, w).

        Where no more than the sums over cells and over genes is asked for, a look that is not `curved` takes half the time.
        """
        if isinstance(solution, Refit):
            solution = np.concatenate([solution.intercept[None, genes], solution.loading[:, genes]])
        fill = np.concatenate([genes, np.repeat(genes[:1], self.at_once - len(genes))])  # one shape for all blocks
        n = len(genes)
        coefficients = np.zeros((self.width, self.at_once), np.float32)
        coefficients[:, :n] = solution
        log_kept = np.log(np.maximum(self.kept[fill], 1e-6))
        log_kept[n:] = -np.inf
        of_genes = tuple(None if x is None else x[:, fill] for x in (self.effects, self.turn_loading))
        started = []
        for rows, fixed, products, hidden in self.parts:
            offset = np.full(self.size, -np.inf, np.float32)
            with np.errstate(divide="ignore"):
                offset[: rows.stop - rows.start] = np.log(self.totals[rows]) - self.log_norm[rows]
            mask = None if hidden is None else hidden[:, fill].toarray()
            started.append(_look(fixed, products if curved else None, offset, coefficients, of_genes, log_kept, mask))
        of_cells, n_sums = np.zeros(self.n_obs), len(self.pairs[0]) if curved else 1
        sums, squares = np.zeros((n_sums, n)), np.zeros(n if curved else 0)
        for (rows, *_), (by_gene, by_cell, square) in zip(self.parts, started, strict=True):
            sums += np.asarray(by_gene, np.float64)[:, :n]
            of_cells[rows] = np.asarray(by_cell)[: rows.stop - rows.start]
            if curved:
                squares += np.asarray(square, np.float64)[:n]
        # The first pairs are those of each position with the ones of the intercept.
        return Expected(sums[: self.width], of_cells, squares, sums if curved else sums[:0])

    def full(self, pairs: np.ndarray) -> np.ndarray:
        """Expand upper halves to symmetric matrices, float64 (w, 1 + n_axes, 1 + n_axes)."""
        out = np.empty((pairs.shape[1], self.width, self.width))
        out[:, self.pairs[0], self.pairs[1]] = pairs.T
        out[:, self.pairs[1], self.pairs[0]] = pairs.T
        return out


@jax.jit
def _products(features: jax.Array, one: Any, other: Any) -> jax.Array:
    return (features[:, one] * features[:, other]).T


@jax.jit
def _look(
    fixed: Any, products: Any, offset: Any, coefficients: Any, of_genes: Any, log_kept: Any, mask: Any
) -> tuple[Any, Any, Any]:
    features, conditions, turned = fixed
    effects, turn_loading = of_genes
    product = partial(jnp.matmul, precision="highest")
    logs = product(features, coefficients) + offset[:, None]
    if effects is not None:
        logs += effects_on(effects, conditions)
    if turn_loading is not None:
        logs += product(turned, turn_loading)
    mean = jnp.exp(jnp.minimum(logs, _HIGHEST))
    if mask is not None:
        mean = jnp.where(mask, 0, mean)
    counted = mean * jnp.exp(log_kept)[None, :]
    finite = jnp.isfinite(log_kept).astype(mean.dtype)
    rows = product(mean, finite)
    if products is None:
        return sum_rows(counted)[None, :], rows, None
    return product(products, counted), rows, sum_rows(counted**2)
