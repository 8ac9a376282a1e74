"""Profiles to be purified: counts or log-normalised values are checked, and purified some cells at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.containers import canonical_csr, row_of_entry
from scdae.core.batches import cells_at_once
from scdae.core.conditions import Conditions
from scdae.core.fitted import Fitted
from scdae.core.purification import SCALES, Purification, counts_of_logs, purify_counts, purify_logs, thinned_draws

__all__ = ["check_logs", "check_scale", "purified_rows"]

_LARGEST = 20.0  # log1p of counts per 10,000 stays far below
_TOTALS = (1e3, 1e5)  # counts per 10,000 add up to 10,000, more or less, even where they were perturbed


def check_scale(value: object, argument: str) -> None:
    """Raise a ValueError that names the scales there are."""
    if value not in SCALES:
        choices = " or ".join(f"{name!r} ({what})" for name, what in SCALES.items())
        raise ValueError(f"{argument}={value!r}: choose {choices}.")


def check_logs(block: Any, name: str, start: int = 0) -> sp.csr_matrix:
    """Values that are to be log1p of counts per 10,000, as canonical float32 CSR.

    Parameters
    ----------
    block
        Rows of a matrix, dense or sparse. Negative values pass: a perturbation leaves them.
    name
        What the user calls the matrix.
    start
        Its first row, for the message.

    Raises
    ------
    ValueError
        Values are NaN, infinite or too large for a logarithm, or do not add up to about 10,000 when taken back.
    """
    csr = canonical_csr(block)
    values = csr.data
    with np.errstate(invalid="ignore"):
        kinds = {
            "NaN": np.isnan(values),
            "infinite": np.isinf(values),
            f"above {_LARGEST:g}, which no log1p of counts per 10,000 is": values > _LARGEST,
        }
    for kind, where in kinds.items():
        if where.any():
            at = int(np.flatnonzero(where)[0])
            row, column = start + int(row_of_entry(csr)[at]), int(csr.indices[at])
            raise ValueError(
                f"{name} is not log-normalised: {int(where.sum()):,} value(s) are {kind}; the first is {values[at]:.6g} in row "
                f"{row}, column {column}. Give log1p of counts per 10,000, or counts with input_scale='counts'."
            )
    back = np.expm1(np.maximum(values.astype(np.float64), 0))
    totals = np.bincount(row_of_entry(csr), back, csr.shape[0])
    totals = totals[totals > 0]
    if totals.size and not _TOTALS[0] <= np.median(totals) <= _TOTALS[1]:
        raise ValueError(
            f"{name} is not log1p of counts per 10,000: taken back by expm1, the values of a cell add up to "
            f"{np.median(totals):,.4g} (median). Normalise to 10,000 over all genes of the model "
            "(scanpy.pp.normalize_total(adata, target_sum=1e4), then scanpy.pp.log1p), or give counts with "
            "input_scale='counts'."
        )
    return sp.csr_matrix((values.astype(np.float32, copy=False), csr.indices, csr.indptr), shape=csr.shape)


def purified_rows(
    fitted: Fitted,
    matrix: sp.csr_matrix,
    how: Purification,
    rng: np.random.Generator,
    *,
    input_scale: str,
    scale: str,
    depth: np.ndarray | None = None,
    conditions: Conditions | None = None,
    observed: np.ndarray | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Purify cells, some at a time.

    Parameters
    ----------
    fitted
        The model.
    matrix
        float32 CSR (n_obs, n_kept) over the genes of the network: counts, or log1p of counts per 10,000.
    how, scale, conditions, observed
        As for :func:`scdae.core.purification.project_profiles`.
    rng
        For the thinning.
    input_scale
        What `matrix` holds, one of :data:`scdae.core.purification.SCALES`.
    depth
        float32 (n_obs,): molecules that each cell had, where `matrix` holds logs.

    Yields
    ------
    tuple
        Slice of cells, and float32 (cells, n_kept) values. All calls to the compiled function have the same shape.
    """
    n_obs, n_vars = matrix.shape
    size = cells_at_once(n_obs, n_vars) if n_obs else 1
    for start in range(0, n_obs, size):
        rows = np.minimum(np.arange(start, start + size), n_obs - 1)  # the last cell fills up the last block
        here = None if conditions is None else conditions.take(rows)
        values = matrix[rows].toarray()
        options: dict[str, Any] = {"scale": scale, "conditions": here, "observed": observed}
        if input_scale == "counts":
            found = purify_counts(fitted, values, how, drawn=thinned_draws(values, how, rng), **options)
        else:
            deep = np.ones(n_obs, np.float32)[rows] if depth is None else np.asarray(depth, np.float32)[rows]
            drawn = thinned_draws(np.asarray(counts_of_logs(values, deep)), how, rng)
            found = purify_logs(fitted, values, deep, how, drawn=drawn, **options)
        stop = min(start + size, n_obs)
        yield slice(start, stop), np.asarray(found)[: stop - start]
