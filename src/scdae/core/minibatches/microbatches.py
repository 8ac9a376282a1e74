"""A minibatch in parts, whose losses and gradients are summed.

Several devices take one part each, and a CPU takes its parts one after the other: the data of a part fit in its caches,
and its memory is reused from step to step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, Size
from scdae.core.minibatches.build import make_batch
from scdae.core.minibatches.corruption import Halves
from scdae.core.runtime.platforms import on_accelerator

__all__ = ["groups_of", "parts_for", "parts_of"]

_VALUES = 1.3e6  # entries of a dense array of cells by genes, several of which a CPU needs at a time


def parts_for(n_cells: int, n_vars: int) -> int:
    """Choose the number of parts in which a device takes so many cells."""
    return 1 if on_accelerator() else int(np.clip(np.ceil(n_cells * n_vars / _VALUES), 1, n_cells))


def groups_of(order: np.ndarray, parts: int) -> np.ndarray:
    """Return the cells of each part of each step; a part that is not full repeats the last cell."""
    width = -(-order.shape[1] // parts)
    return np.pad(order, ((0, 0), (0, width * parts - order.shape[1])), mode="edge").reshape(-1, width)


def parts_of(cells: CellData, halves: Halves, size: Size, width: int, numbers: Sequence[int]) -> list[Batch]:
    """Make the arrays of some parts, each of `width` cells, padded with cells without counts."""
    if len(numbers) == 1 and cells.n_obs == width:
        return [make_batch(cells, halves, size)]
    return [make_batch(*part, size) for part in _parts(cells, halves, width, numbers)]


def _parts(cells: CellData, halves: Halves, width: int, numbers: Sequence[int]) -> Iterator[tuple[CellData, Halves]]:
    extra = max(width * (max(numbers) + 1) - cells.n_obs, 0)
    inputs, scored = _more_rows(halves.inputs, extra), halves.scored
    scored = None if scored is None else _more_rows(scored, extra)
    conditions = Conditions(*(_more_rows(values, extra) for values in cells.conditions))
    hidden = None if cells.unobserved is None else _more_cells(cells.unobserved, extra)
    share = np.append(cells.share, np.ones(extra, "f4"))
    cells = CellData(_more_cells(cells.counts, extra), hidden, conditions, share)
    for i in numbers:
        rows = np.arange(i * width, (i + 1) * width)
        at = slice(*cells.counts.indptr[[rows[0], rows[-1] + 1]])
        shown = Halves(inputs[rows], halves.x_in[at], halves.x_out[at], None if scored is None else scored[rows])
        yield cells.take(rows), shown


def _more_rows(values: np.ndarray, extra: int) -> np.ndarray:
    return np.concatenate([values, np.zeros((extra, *values.shape[1:]), values.dtype)]) if extra else values


def _more_cells(matrix: sp.csr_matrix, extra: int) -> sp.csr_matrix:
    ends = np.pad(matrix.indptr, (0, extra), mode="edge")
    return sp.csr_matrix((matrix.data, matrix.indices, ends), shape=(matrix.shape[0] + extra, matrix.shape[1]))
