import jax
import numpy as np
import pytest

import small
from scdae.core.data.conditions import Conditions, effect_of, no_conditions

N_OBS, N_GENES = 7, 4
RNG = np.random.default_rng(0)
FIRST, SECOND, VALUES = RNG.integers(0, 2, N_OBS), RNG.integers(2, 5, N_OBS), RNG.normal(size=(2, N_OBS))
EFFECTS = RNG.normal(size=(7, N_GENES)).astype(np.float32)  # of two and three levels, and of two continuous columns


def by_cell(first=None, second=None, values=()):
    """Sum of the effects, cell by cell."""
    total = np.zeros((N_OBS, N_GENES))
    for i in range(N_OBS):
        for column in (first, second):
            if column is not None:
                total[i] += EFFECTS[column[i]]
        for row, column in zip(EFFECTS[5:], values, strict=False):
            total[i] += row * column[i]
    return total


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("columns", [1, 2])
def test_effects_are_those_of_all_columns(columns, continuous, compiled):
    levels, values = (FIRST, SECOND)[:columns], VALUES if continuous else ()
    effects = EFFECTS if continuous else EFFECTS[:5]
    total = (jax.jit(effect_of) if compiled else effect_of)(effects, small.of_levels(*levels, values=values))
    assert total.shape == (N_OBS, N_GENES) and total.dtype == np.float32
    np.testing.assert_allclose(total, by_cell(*levels, values=values), rtol=1e-5, atol=1e-6)


def test_effects_of_continuous_columns_alone():
    total = effect_of(EFFECTS[5:], small.of_levels(values=VALUES))
    np.testing.assert_allclose(total, by_cell(values=VALUES), rtol=1e-5, atol=1e-6)


def test_no_conditions_do_nothing():
    nothing = no_conditions(N_OBS)
    assert not nothing.any and nothing.take(np.array([2, 3])).levels.shape == (2, 0)
    total = effect_of(np.zeros((0, N_GENES), np.float32), nothing)
    assert total.shape == (N_OBS, N_GENES) and not total.any()


def test_some_of_the_cells():
    conditions = small.of_levels(FIRST, SECOND, values=VALUES)
    assert conditions.any and small.of_levels(FIRST).any and small.of_levels(values=VALUES).any
    cells = np.array([4, 0, 4])
    part = conditions.take(cells)
    assert isinstance(part, Conditions)
    np.testing.assert_array_equal(part.levels, np.stack([FIRST, SECOND], axis=1)[cells])
    np.testing.assert_array_equal(part.values, VALUES.T[cells].astype(np.float32))
    assert part.levels.dtype == np.int32 and part.values.dtype == np.float32
    np.testing.assert_array_equal(effect_of(EFFECTS, part), effect_of(EFFECTS, conditions)[cells])
