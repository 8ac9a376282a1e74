"""Values that pass as counts and may be none: what speaks against them is said, and training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scdae._log import get_logger
from scdae.inputs.validate import transformation

__all__ = ["say_doubts"]

_CELLS = 1000  # looked at
_LEAST_CELLS = 10
_SPREAD = 1e-3  # relative, of totals that rounding alone tells apart
_TARGETS = (1e4, 1e5, 1e6)
_LARGEST = 2**24  # whole numbers up to which float32 has each


def say_doubts(matrix: sp.csr_matrix, name: str, uns: Mapping[str, Any], *, boolean: bool, fractional: bool) -> None:
    """Warn of values that were rounded after they had been normalized, of logs among estimated counts, and of odd values.

    Parameters
    ----------
    matrix
        Canonical CSR (n_obs, n_vars): what was found to be counts.
    name
        What the user calls it.
    uns
        Of the AnnData.
    boolean
        Whether it was True and False.
    fractional
        Whether some are not whole numbers.
    """
    for doubt in _doubts(matrix[:_CELLS], uns, boolean, fractional):
        get_logger().warning(f"scdae: {name} {doubt}")


def _doubts(some: sp.csr_matrix, uns: Mapping[str, Any], boolean: bool, fractional: bool) -> list[str]:
    if boolean:
        return ["is boolean: it is read as counts of 0 and 1. If it is a mask, pass the counts, and this as mask=."]
    if fractional:
        certain, looks = transformation(AnnData(some, uns={key: uns[key] for key in uns if key == "log1p"}), None)
        if not certain:
            return []
        return [f"looks {looks}. allow_fractional=True is for estimated counts; results of other values mean little."]
    doubts = []
    has = np.flatnonzero(np.diff(some.indptr))
    total = np.asarray(some.sum(axis=1), dtype=np.float64).ravel()[has]
    if len(total) >= _LEAST_CELLS and np.ptp(total) > 0:
        middle, lone = float(np.median(total)), np.minimum.reduceat(some.data, some.indptr[has]) <= 1
        target = min(_TARGETS, key=lambda target: abs(target - middle))
        if abs(middle / target - 1) < _SPREAD and total.std() < _SPREAD * middle and lone.mean() < 0.5:
            doubts.append(
                f"looks normalized and then rounded: each cell adds up to about {target:,.0f}, and hardly any gene has just one "
                "molecule. Use raw counts."
            )
    largest = float(some.data.max(initial=0))
    if largest >= _LARGEST:
        doubts.append(
            f"has values as large as {largest:.6g}, which are rounded to float32 from {_LARGEST:,} on. Are they molecules?"
        )
    return doubts
