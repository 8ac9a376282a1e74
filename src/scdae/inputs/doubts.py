"""Values that pass as counts and may be none: what speaks against them is said, and training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scdae._log import get_logger
from scdae.core.data.non_zeros import entry_rows
from scdae.inputs.validate import transformation

__all__ = ["say_columns", "say_doubts", "say_few_cells"]

_FEW = 100  # cells
_CELLS = 1000  # looked at
_LEAST_CELLS = 10
_LEAST_RATIOS = 20  # that tell multiples from chance
_MULTIPLES = 20  # of a unit up to which a ratio tells whether it is whole
_LOG_LIMIT = 20  # above any log1p of counts per cell
_SPREAD = 1e-3  # relative, of totals that rounding alone tells apart
_TARGETS = (1e4, 1e5, 1e6)
_LARGEST = 2**24  # whole numbers up to which float32 has each


def say_few_cells(n_obs: int) -> None:
    """Warn of a fit to very few cells."""
    if n_obs < _FEW:
        get_logger().warning(
            f"scdae: {n_obs:,} cells are few to learn from; hundreds are of use. Look at scdae.tl.evaluate(adata) before you use "
            "what is restored."
        )


def say_columns(adata: AnnData) -> None:
    """Warn of columns of `obs` and `var` whose names are no text, before hours go into results that cannot be saved."""
    for where in ("obs", "var"):
        wrong = [name for name in getattr(adata, where).columns if not isinstance(name, str)]
        if wrong:
            get_logger().warning(
                f"scdae: {where} has {len(wrong):,} column(s) whose names are no text, the first being {wrong[0]!r}: anndata writes no "
                f"such object. adata.{where}.columns = adata.{where}.columns.astype(str) makes them text."
            )


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


def _divided(some: sp.csr_matrix) -> str:
    """Say what was done to counts, if they were divided: what is left are multiples of a unit that each cell, or gene, has.

    Fractions of estimated counts are no multiples of one another, or the same for all cells, such as halves.
    """
    values, rows, columns = some.data.astype(np.float64), entry_rows(some), some.indices
    odd = values != np.rint(values)
    values, rows, columns = values[odd], rows[odd], columns[odd]
    if _has_units(values, rows):
        return "divided by the size of each cell, and not counted"
    if values.max(initial=0) < _LOG_LIMIT and _has_units(np.expm1(values), rows):
        return "log-normalized (log1p of counts that were divided by the size of each cell)"
    return "scaled (divided by the spread of each gene)" if _has_units(values, columns) else ""


def _has_units(values: np.ndarray, groups: np.ndarray) -> bool:
    """Return whether the values of each group are multiples of its smallest, which differs from group to group."""
    unit = np.full(int(groups.max(initial=-1)) + 1, np.inf)
    np.minimum.at(unit, groups, values)
    ratio = values / unit[groups] if len(values) else values
    ratio = ratio[(ratio > 1.5) & (ratio < _MULTIPLES)]
    found = unit[np.isfinite(unit)]
    if len(ratio) < _LEAST_RATIOS or len(found) < 3 or len(np.unique(found.round(6))) < 0.5 * len(found):
        return False
    return float((np.abs(ratio - np.rint(ratio)) < 1e-3 * ratio).mean()) > 0.95


def _doubts(some: sp.csr_matrix, uns: Mapping[str, Any], boolean: bool, fractional: bool) -> list[str]:
    if boolean:
        return ["is boolean: it is read as counts of 0 and 1. If it is a mask, pass the counts, and this as mask=."]
    if fractional:
        certain, looks = transformation(AnnData(some, uns={key: uns[key] for key in uns if key == "log1p"}), None)
        if not certain:
            looks = _divided(some)
        if not looks:
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
