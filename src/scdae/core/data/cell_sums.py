"""Sums over cells, and the repetition of a row for all cells, fast on every device.

On a CPU, XLA takes five times as long to add up the rows of a matrix as to multiply it by a row of ones. The gradient
of every parameter that all cells share is such a sum.
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
    """Sum over the genes: (b, n) to (b,). The product stores the values; a plain sum would compute them twice."""
    return jnp.matmul(values, jnp.ones(values.shape[1], values.dtype), precision="highest")


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def over_rows(row: jax.Array, n_cells: int) -> jax.Array:
    """Repeat a row for every cell: (n,) to (n_cells, n)."""
    return jnp.broadcast_to(row, (n_cells, row.shape[0]))


def _forward(row: jax.Array, n_cells: int) -> tuple[jax.Array, None]:
    return over_rows(row, n_cells), None


def _backward(n_cells: int, _: None, slope: jax.Array) -> tuple[jax.Array]:
    return (sum_rows(slope),)


over_rows.defvjp(_forward, _backward)
