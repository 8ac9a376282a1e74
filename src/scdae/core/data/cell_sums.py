"""Sums over cells, and their counterpart, in a way that is quick on every device.

XLA adds up the rows of a matrix on a CPU five times slower than a product with a row of ones takes, and the gradient of
everything that all cells share is such a sum.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

__all__ = ["over_rows", "sum_columns", "sum_rows"]


def sum_rows(values: jax.Array) -> jax.Array:
    """Sum over the cells: (b, n) to (n,)."""
    return jnp.matmul(jnp.ones(values.shape[0], values.dtype), values, precision="highest")


def sum_columns(values: jax.Array) -> jax.Array:
    """Sum over the genes: (b, n) to (b,). As a product it needs the values in memory, where a sum works them out once more."""
    return jnp.matmul(values, jnp.ones(values.shape[1], values.dtype), precision="highest")


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def over_rows(row: jax.Array, n_cells: int) -> jax.Array:
    """Return the same row for every cell: (n,) to (n_cells, n)."""
    return jnp.broadcast_to(row, (n_cells, row.shape[0]))


def _forward(row: jax.Array, n_cells: int) -> tuple[jax.Array, None]:
    return over_rows(row, n_cells), None


def _backward(n_cells: int, _: None, slope: jax.Array) -> tuple[jax.Array]:
    return (sum_rows(slope),)


over_rows.defvjp(_forward, _backward)
