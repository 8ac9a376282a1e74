"""One pass over all counts, in which every value is checked and some cells are kept; processes of one job share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from scdae.core.data.survey import Survey
from scdae.inputs.validate import Tally

if TYPE_CHECKING:
    from scdae.core.minibatches.devices import Devices

__all__ = ["Pass", "as_parts", "pass_over", "shared_pass"]

Part = tuple[sp.csr_matrix, "sp.csr_matrix | None"]  # counts, float32, and what was not observed
Read = Callable[[int, int], tuple[sp.csr_matrix, Any]]
Span = tuple[int, int]


class Pass(NamedTuple):
    """What a pass found, and the counts themselves where they are not too many."""

    tally: Tally
    survey: Survey
    held: list[Part] | None


def as_parts(block: sp.csr_matrix, missing: Any) -> Part:
    """Convert rows to what is computed with: counts in float32, and booleans or None."""
    with np.errstate(over="ignore"):
        values = block.data.astype(np.float32, copy=False)
    matrix = sp.csr_matrix((values, block.indices, block.indptr), shape=block.shape)
    matrix.has_canonical_format = True
    return matrix, None if missing is None else sp.csr_matrix(missing, dtype=bool)


def pass_over(read: Read, spans: Sequence[Span], survey: Survey, most: int) -> Pass:
    """Look at the rows of `spans`, and hold them as long as they have no more than `most` stored entries."""
    tally = Tally(len(survey.totals))
    held: list[Part] | None = []
    for start, stop in spans:
        block, missing = read(start, stop)
        tally.add(block, start)
        part = as_parts(block, missing)
        survey.add(*part, start)
        if tally.n_stored > most:
            held = None
        elif held is not None:
            held.append(part)
    return Pass(tally, survey, held)


def shared_pass(read: Read, spans: Sequence[Span], survey: Survey, most: int, together: Devices | None) -> Pass:
    """Return the same, where each process looks at its share of the rows alone, and all hear what each has found.

    Counts that turn out to be few enough to be held are then read by every process.
    """
    if together is None or together.processes == 1 or len(spans) < together.processes:
        return pass_over(read, spans, survey, most)
    bounds = np.linspace(0, len(spans), together.processes + 1).astype(int)
    mine = spans[bounds[together.process] : bounds[together.process + 1]]
    survey.draw(together.gather(survey.mean_of(read(*mine[0])[0]))[0])  # all draw the same cells
    passes = together.gather(pass_over(read, mine, survey, 0)[:2])
    tally, survey = (reduce(lambda one, other: one + other, parts) for parts in zip(*passes, strict=True))
    if tally.n_stored > most:
        return Pass(tally, survey, None)
    return pass_over(read, spans, Survey(survey.shape, survey.seed), most)
