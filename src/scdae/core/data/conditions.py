"""What is known about a cell besides its counts: its batch and covariates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Conditions", "effect_of", "no_conditions"]

Array = Any  # NumPy outside of compiled functions, JAX within


class Conditions(NamedTuple):
    """Levels of categorical columns and values of continuous ones, for `n` cells.

    Levels are numbered consecutively across columns, those of the first column first. Effects are one array: a row for
    each level, followed by a row for each continuous column.
    """

    levels: Array  # int32 (n, n_categorical)
    values: Array  # float32 (n, n_continuous)

    def take(self, cells: Any) -> Conditions:
        """Select some of the cells."""
        return Conditions(self.levels[cells], self.values[cells])

    @property
    def any(self) -> bool:
        """Whether there is any column."""
        return bool(self.levels.shape[1] + self.values.shape[1])


def no_conditions(n_obs: int) -> Conditions:
    """Make the conditions of cells without batch or covariates."""
    return Conditions(np.zeros((n_obs, 0), np.int32), np.zeros((n_obs, 0), np.float32))


def effect_of(effects: Array, conditions: Conditions) -> Array:
    """Add up the effects on each cell.

    Parameters
    ----------
    effects
        float32 (n_levels + n_continuous, m).
    conditions
        Of `n` cells.

    Returns
    -------
    Array
        float32 (n, m)

    Examples
    --------
    >>> import numpy as np
    >>> effects = np.array([[0.0, 1.0], [2.0, 3.0], [10.0, 20.0]], np.float32)
    >>> cells = Conditions(np.array([[1], [0]], np.int32), np.array([[0.0], [0.5]], np.float32))
    >>> effect_of(effects, cells).tolist()
    [[2.0, 3.0], [5.0, 11.0]]
    """
    n_values = conditions.values.shape[1]
    n_levels = effects.shape[0] - n_values
    total = effects[:n_levels][conditions.levels].sum(axis=1)
    return total + conditions.values @ effects[n_levels:] if n_values else total
