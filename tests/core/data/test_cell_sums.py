import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.data.cell_sums import over_rows, sum_rows

VALUES = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def test_sums_over_cells():
    np.testing.assert_allclose(sum_rows(jnp.asarray(VALUES)), VALUES.sum(axis=0), rtol=1e-5)


def test_a_row_for_every_cell_and_its_gradient():
    row = jnp.asarray(VALUES[0])
    np.testing.assert_array_equal(over_rows(row, 7), np.broadcast_to(VALUES[0], (7, 5)))
    slope = jax.grad(lambda x: (over_rows(x, 7) ** 2 * VALUES).sum())(row)
    np.testing.assert_allclose(slope, 2 * VALUES[0] * VALUES.sum(axis=0), rtol=1e-5)
