"""Numbers that a compiled step is handed, so that what is compiled for one training serves others on as many genes.

Written into the program they would make it another for each data set, and an array of jobs would compile it as often as
it has tasks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scdae.core.evaluation.zero_inflation import DROPOUT_COST
from scdae.core.minibatches.loader import Source
from scdae.core.runtime.buckets import bucket

__all__ = ["Pace", "Terms"]

_SLOW_START = 0.05  # share of the steps in which the learning rate rises
_FEW = 1024  # genes


class Terms(NamedTuple):
    """What a data set adds to the loss: numbers that a compiled step is handed, so that it serves other data as well.

    Parameters
    ----------
    molecules
        Of a minibatch, on average: the unit of the loss.
    cost
        Of the probability of dropout of each gene, in that unit.
    inflated
        bool (n_vars,): genes that are scored by the distribution with dropout; None for none.
    genes, column
        int32 (w,): these genes, filled up; and int32 (n_vars,): place of each among them.
    real
        bool (w,): False where it is filling.
    """

    molecules: float
    cost: float
    inflated: np.ndarray | None = None
    genes: np.ndarray | None = None
    column: np.ndarray | None = None
    real: np.ndarray | None = None

    @classmethod
    def of(cls, source: Source, inflated: np.ndarray, *, batch_size: int, parts: int) -> Terms:
        """Make them for a minibatch of `batch_size` cells that is computed in so many parts."""
        molecules = float(batch_size * source.molecules / source.n_obs)
        cost = float(DROPOUT_COST * batch_size / (source.n_obs * parts))
        found = np.flatnonzero(inflated)
        if not len(found):
            return cls(molecules, cost)
        width = min(bucket(len(found), _FEW), len(inflated))
        column = np.maximum(np.cumsum(inflated) - 1, 0).astype(np.int32)
        real = np.arange(width) < len(found)
        genes = np.zeros(width, np.int32)
        genes[real] = found
        return cls(molecules, cost, inflated, genes, column, real)


class Pace(NamedTuple):
    """How fast one training moves: numbers that a compiled step is handed, so that it serves other trainings as well."""

    weight_decay: float
    n_rising: float  # steps in which the learning rate rises
    n_falling: float  # and those in which it falls
    towards: Any = None  # parameters to which the weights decay; None for zero

    @classmethod
    def of(cls, weight_decay: float | None, n_steps: int, towards: Any = None) -> Pace:
        """Make the pace of a training of `n_steps`.

        Examples
        --------
        >>> Pace.of(0.5, 400)
        Pace(weight_decay=0.5, n_rising=20.0, n_falling=380.0, towards=None)
        """
        n_rising = max(1, int(_SLOW_START * n_steps))
        return cls(float(weight_decay or 0), float(n_rising), float(max(2, n_steps) - n_rising), towards)
