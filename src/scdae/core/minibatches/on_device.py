"""Training with the counts on the device, which makes and thins the minibatches and takes many steps in one call.

An accelerator trains faster than the host can prepare minibatches for it, so the host only chooses the cells of each
step. The computation is that of :mod:`scdae.core.minibatches.corruption` and :mod:`scdae.core.network.encoder_input`,
with random numbers of JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, Size
from scdae.core.minibatches.loader import Source
from scdae.core.network.encoder_input import Axes, project_entries
from scdae.core.runtime.platforms import on_accelerator

__all__ = [
    "DeviceData",
    "fits",
    "make_minibatch",
    "make_run",
    "pick",
    "put",
    "thin_on_device",
]

_FEW = 32  # molecules that are drawn one by one
_SHARE = 0.4  # fraction of the device's memory that counts may take
_BYTES = 8  # per stored entry


class Lists(NamedTuple):
    """Entries of a sparse matrix, row by row."""

    starts: jax.Array  # int32 (n_obs,)
    lengths: jax.Array  # int32 (n_obs,)
    columns: jax.Array  # int32 (nnz,)
    values: Any = None  # float32 (nnz,); None for entries without values


class DeviceData(NamedTuple):
    """Training molecules, on the device."""

    counts: Lists
    hidden: Lists | None  # missing values
    conditions: Conditions
    share: jax.Array  # float32 (n_obs,)


def fits(source: Source) -> bool:
    """Tell whether there is an accelerator with enough memory for the counts of `source`."""
    if not on_accelerator() or source.n_stored >= 2**31:
        return False
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit is None or _BYTES * source.n_stored < _SHARE * limit


def put(source: Source) -> tuple[DeviceData, np.ndarray]:
    """Copy all cells of `source` to the device; also return the position there of each cell, int32."""
    numbers, counts, gaps, known = [], [], [], []
    for some, data in source.everything():  # the host holds one part at a time
        numbers.append(some)
        counts.append(_listed(data.counts))
        gaps.append(None if data.unobserved is None else _listed(data.unobserved, with_values=False))
        known.append((data.conditions, jnp.asarray(data.share)))
    cells = np.concatenate(numbers)
    position_of_cell = np.zeros(int(cells.max()) + 1, np.int32)
    position_of_cell[cells] = np.arange(len(cells))
    conditions = Conditions(*(jnp.concatenate(part) for part in zip(*(these for these, _ in known), strict=True)))
    share = jnp.concatenate([of_cells for _, of_cells in known])
    hidden = None if gaps[0] is None else _joined([part for part in gaps if part is not None])
    return DeviceData(_joined(counts), hidden, conditions, share), position_of_cell


def _listed(matrix: sp.csr_matrix, with_values: bool = True) -> tuple[np.ndarray, jax.Array, jax.Array | None]:
    """Return the lengths of the rows on the host, and columns and values on the device."""
    values = jnp.asarray(matrix.data, jnp.float32) if with_values else None
    return np.diff(matrix.indptr).astype(np.int32), jnp.asarray(matrix.indices, jnp.int32), values


def _joined(parts: list[tuple[np.ndarray, jax.Array, jax.Array | None]]) -> Lists:
    lengths = np.concatenate([part[0] for part in parts])
    starts = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]).astype(np.int32)
    values = [part[2] for part in parts if part[2] is not None]
    return Lists(
        jnp.asarray(starts),
        jnp.asarray(lengths),
        jnp.concatenate([part[1] for part in parts]),
        jnp.concatenate(values) if values else None,
    )


def pick(lists: Lists, cells: jax.Array, capacity: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Find the entries of `cells` (b,).

    Returns three arrays (capacity,): index in `cells`, position in the lists, and False for padding.
    """
    lengths = lists.lengths[cells]
    ends = jnp.cumsum(lengths)
    number = jnp.arange(capacity, dtype=jnp.int32)
    rows = jnp.minimum(jnp.searchsorted(ends, number, side="right"), len(cells) - 1).astype(jnp.int32)
    real = number < ends[-1]
    index = lists.starts[cells][rows] + number - (ends - lengths)[rows]
    return rows, jnp.where(real, index, 0), real


def thin_on_device(key: jax.Array, values: jax.Array, keep: jax.Array) -> jax.Array:
    """Keep each molecule with probability `keep` (k,): float32 (k,). The fractional part of a count is kept or not.

    The first 32 molecules of an entry are drawn one by one. How many of the others are kept is drawn from a normal
    distribution, corrected to the mean, variance and skewness of the binomial (Cornish and Fisher 1938). Rejection
    sampling would wait for the slowest entry, and took two thirds of a step's time.
    """
    one_by_one, at_once, rounding = jax.random.split(key, 3)
    whole = jnp.floor(values)
    drawn = jax.random.uniform(one_by_one, (_FEW, *values.shape), jnp.float32) < keep[None, :]
    few = (drawn & (jnp.arange(_FEW, dtype=jnp.float32)[:, None] < whole[None, :])).sum(axis=0)

    beyond = jnp.maximum(whole - _FEW, 0)
    normal = jax.random.normal(at_once, values.shape, jnp.float32)
    variance = beyond * keep * (1 - keep)
    skewed = jnp.where(variance > 1, (1 - 2 * keep) / 6 * (normal**2 - 1), 0)
    spread = jnp.sqrt(jnp.maximum(variance - 1 / 6, 0))  # random rounding adds a sixth, and keeps the mean
    many = jnp.floor(beyond * keep + spread * normal + skewed + jax.random.uniform(rounding, values.shape, jnp.float32))
    by_lot = (
        jax.random.uniform(jax.random.fold_in(key, 3), values.shape, jnp.float32) < keep
    )  # so that the three keys above do not change
    return few.astype(values.dtype) + jnp.clip(many, 0, beyond) + jnp.where(by_lot, values - whole, 0)


def make_minibatch(
    axes: Axes, noise: tuple[float, float], size: Size, n_vars: int
) -> Callable[[DeviceData, jax.Array, jax.Array], Batch]:
    """Make a function that can be compiled and corrupts by thinning and builds minibatches.

    It does what :func:`~scdae.core.minibatches.corruption.corrupt` and
    :func:`~scdae.core.minibatches.build.make_batch` do on the host.

    Parameters
    ----------
    axes
        Fixed first layer.
    noise
        Range of the fraction of molecules set aside.
    size
        Capacities of the lists of a minibatch.
    n_vars
        Number of genes.

    Returns
    -------
    callable
        From data, positions of the cells, int32 (b,), and key to the minibatch.
    """
    weight, mean = jnp.asarray(axes.weight), jnp.asarray(axes.gene_mean)
    effects = None if axes.effects is None else jnp.asarray(axes.effects)
    listed = None if size.genes is None else jnp.asarray(size.genes)

    def minibatch(data: DeviceData, cells: jax.Array, key: jax.Array) -> Batch:
        of_noise, of_thinning = jax.random.split(key)
        level = jax.random.uniform(of_noise, cells.shape, jnp.float32, minval=noise[0], maxval=noise[1])
        rows, index, real = pick(data.counts, cells, size.stored)
        cols = jnp.where(real, data.counts.columns[index], 0)
        x = jnp.where(real, data.counts.values[index], 0)
        x_in = thin_on_device(of_thinning, x, (1 - level)[rows])
        conditions, share = Conditions(*(part[cells] for part in data.conditions)), data.share[cells]
        inputs = project_entries(weight, mean, effects, x_in, rows, cols, conditions, share)
        hidden_rows = hidden_cols = jnp.zeros(0, jnp.int32)
        if data.hidden is not None:
            hidden_rows, at, is_hidden = pick(data.hidden, cells, size.hidden)
            hidden_cols = jnp.where(is_hidden, data.hidden.columns[at], n_vars)
            means = jnp.where(is_hidden, mean[jnp.minimum(hidden_cols, n_vars - 1)], 0)
            gaps = jnp.zeros((len(cells), n_vars), jnp.float32).at[hidden_rows, hidden_cols].add(means, mode="drop")
            inputs = inputs + gaps @ weight
        no_cells, chosen = jnp.zeros(len(cells), jnp.float32), jnp.zeros(0, jnp.int32)
        if listed is not None:
            (chosen,) = jnp.nonzero(listed[cols] & real, size=size.chosen, fill_value=size.stored - 1)
        return Batch(
            inputs=inputs,
            rows=jnp.where(real, rows, 0),
            cols=cols,
            x_in=x_in,
            x_out=x - x_in,
            total_in=no_cells.at[rows].add(x_in),
            total_out=no_cells.at[rows].add(x - x_in),
            conditions=conditions,
            share=share,
            hidden_rows=hidden_rows,
            hidden_cols=hidden_cols,
            chosen=chosen.astype(jnp.int32),
        )

    return minibatch


def make_run(update: Callable[..., Any], minibatch: Callable[..., Batch]) -> Callable[..., tuple[Any, Any, jax.Array]]:
    """Compile many steps as one call.

    Parameters
    ----------
    update
        One step, from parameters, optimizer state and minibatch to both and the loss.
    minibatch
        From :func:`make_minibatch`.

    Returns
    -------
    callable
        From parameters, state, data, order (n_steps, b), first and last (excluded) step, and key to parameters, state
        and the mean of the losses. Other step numbers need no other compilation.
    """

    @partial(jax.jit, donate_argnums=(1,))
    def run(
        params: Any, state: Any, data: DeviceData, order: jax.Array, start: int, stop: int, key: jax.Array
    ) -> tuple[Any, Any, jax.Array]:
        def step(i: jax.Array, carry: tuple[Any, Any, jax.Array]) -> tuple[Any, Any, jax.Array]:
            params, state, total = carry
            params, state, loss = update(params, state, minibatch(data, order[i], jax.random.fold_in(key, i)))
            return params, state, total + loss

        params, state, total = jax.lax.fori_loop(start, stop, step, (params, state, jnp.float32(0)))
        return params, state, total / jnp.asarray(stop - start, jnp.float32)

    return run
