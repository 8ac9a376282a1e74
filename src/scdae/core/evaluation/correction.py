"""The decoder's proportions where genes are low, corrected by what held-out molecules show.

Cells are placed with an error, so that a little of a marker is expected in all cells near those that have it, and less of it is
found. How much less depends on how far the gene's expected proportion lies below that in the average cell, and on how much that log
fold change varies over the cells; genes that are alike in both are taken together. So molecules expected and held-out molecules are
added up by both, and the log of their ratio is the correction. It is for what lies below the average alone: what spreads values further
apart makes them depend more on the seed, and above the average there is little to be gained. Proportions of a cell add up to one again afterwards.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.optimize import isotonic_regression

from scdae.core.data.cell_sums import sum_rows
from scdae.core.data.minibatch import Batch
from scdae.core.distributions.components import KNOTS
from scdae.core.evaluation.heldout import HeldOut, forward
from scdae.core.runtime.background import one_behind

__all__ = ["correction_of_sums", "fit_correction"]

_ENTRIES = 3e7  # cells times genes that are looked at
_FEWEST = 512  # cells at least
_SPREADS = (0.2, 0.4, 0.6, 0.85, 1.15, 1.45, 1.8)  # standard deviations of a gene's log fold change that are told apart
_MOLECULES = 5.0  # that weigh as much as what genes of less spread show
_KNOWN = 10  # training molecules from which on the decoder knows a gene
_LEAST = 1e-3  # rise of the corrected log fold change between two knots, so that none changes places


def fit_correction(graph: Any, params: Any, held_out: HeldOut, log_share: np.ndarray) -> np.ndarray:
    """Find the correction of each gene.

    Parameters
    ----------
    graph, params
        The network.
    held_out
        Molecules that it was not trained on.
    log_share
        Log of the share of each gene in the average cell, float64 (n_vars,).

    Returns
    -------
    numpy.ndarray
        float32 (len(KNOTS), n_vars): what is added to the log share of a gene that lies so far from its average.
    """
    n_vars = held_out.data.n_vars
    sums = np.zeros((2 * len(KNOTS) + 3, n_vars))
    usual = log_share.astype(np.float32)
    batches = held_out.batches(int(max(_FEWEST, _ENTRIES / n_vars)))
    for part in one_behind(_sums(graph, params, batch, usual, held_out.ratio) for _, batch in batches):
        sums += np.asarray(part, np.float64)
    known = np.asarray(held_out.data.counts.sum(axis=0)).ravel() >= _KNOWN
    expected, seen = sums[: len(KNOTS)] * known, sums[len(KNOTS) : -3] * known
    number, level, square = sums[-3:]
    mean = level / np.maximum(number, 1)
    spread = np.sqrt(np.maximum(square / np.maximum(number, 1) - mean**2, 0))
    return correction_of_sums(expected, seen, spread)


def correction_of_sums(expected: np.ndarray, seen: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the correction by what was expected and seen.

    Parameters
    ----------
    expected, seen
        Molecules of each gene, float64 (len(KNOTS), n_vars), by knots: an entry between two counts for both.
    spread
        Standard deviation of each gene's log fold change over the cells, float64 (n_vars,).

    Returns
    -------
    numpy.ndarray
        float32 (len(KNOTS), n_vars): zero or below, and zero from the average on.

    Examples
    --------
    >>> import numpy as np
    >>> seen = np.full((13, 2), 1e6)
    >>> seen[:, 1] *= 0.5
    >>> found = correction_of_sums(np.full((13, 2), 1e6), seen, np.array([0.0, 2.0]))
    >>> np.exp(found).round(2)[[0, -1]].tolist()
    [[1.0, 0.5], [1.0, 1.0]]
    """
    expected, seen = np.maximum(expected, 0), np.maximum(seen, 0)  # rounding takes differences of sums below zero
    shares = _shares(spread)
    of_expected, of_seen = (expected @ shares).T, (seen @ shares).T
    rising = [_rising(*of_spread) for of_spread in zip(_drawn(of_expected, of_seen), of_expected, strict=True)]
    return (shares @ np.stack(rising)).T.astype(np.float32)


def _drawn(expected: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Log ratios by spread and knot, (len(_SPREADS), len(KNOTS)): each is drawn to that of genes of less spread."""
    ratio, logs = np.ones(len(KNOTS)), []
    for of_expected, of_seen in zip(expected, seen, strict=True):
        ratio = (of_seen + _MOLECULES) / (of_expected + _MOLECULES / ratio)
        logs.append(np.log(ratio))
    return np.where(np.array(KNOTS) < 0, np.minimum(logs, 0), 0)


def _shares(spread: np.ndarray) -> np.ndarray:
    """How far each gene belongs to each of the spreads, float64 (n_vars, len(_SPREADS)): linear between two."""
    return np.stack([np.interp(spread, _SPREADS, row) for row in np.eye(len(_SPREADS))], axis=1)


def _rising(correction: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the nearest correction by which a log fold change rises with that of the decoder."""
    slack = np.array(KNOTS) - _LEAST * np.arange(len(KNOTS))
    return np.asarray(isotonic_regression(correction + slack, weights=weight + 1e-6).x - slack)


@partial(jax.jit, static_argnames=("graph",))
def _sums(graph: Any, params: Any, batch: Batch, log_share: Any, ratio: Any) -> jax.Array:
    """Sum molecules expected and seen by knot, cells, log fold changes and their squares: (2 len(KNOTS) + 3, n_vars).

    Expected molecules are summed cell by cell, so that no array of cells by genes is stored for each knot.
    """
    model = nnx.merge(graph, params)
    log_rho, observed = forward(model, batch, 1.0)
    fold = jax.nn.log_softmax(log_rho, axis=1) - log_share[None, :]
    real = jnp.broadcast_to((batch.total_in > 0)[:, None], fold.shape)
    if observed is not None:
        real &= observed
    mean = jnp.where(real, ratio * batch.total_in[:, None] * jnp.exp(log_rho), 0)
    of_entry, y = fold[batch.rows, batch.cols], batch.x_out
    fold = jnp.where(real, fold, 0)
    knots = jnp.asarray(KNOTS[:-1], fold.dtype)[:, None]
    steps = jnp.diff(jnp.asarray(KNOTS, fold.dtype))[:, None]

    def beyond(values: jax.Array) -> jax.Array:
        """How far values lie beyond each knot, in parts of the way to the next: (len(KNOTS) - 1, k), from 0 to 1."""
        return jnp.clip((values[None, :] - knots) / steps, 0, 1)

    def add(total: jax.Array, cell: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        of_cell, expected = cell
        return total + expected[None, :] * beyond(of_cell), None

    start = jnp.zeros((len(KNOTS) - 1, len(log_share)), fold.dtype)
    expected = jnp.concatenate([sum_rows(mean)[None, :], jax.lax.scan(add, start, (fold, mean))[0]])
    own = jnp.concatenate([y[None, :], y[None, :] * beyond(of_entry)])
    seen = jnp.zeros((len(log_share), len(KNOTS)), y.dtype).at[batch.cols].add(own.T).T
    expected, seen = (-jnp.diff(part, axis=0, append=0) for part in (expected, seen))
    cells = real.astype(fold.dtype)
    return jnp.concatenate([expected, seen, jnp.stack([sum_rows(cells), sum_rows(fold), sum_rows(fold**2)])])
