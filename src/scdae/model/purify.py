"""Profiles to be purified: counts or log-normalized values are checked, and purified some cells at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.data.conditions import Conditions
from scdae.core.guard.purification import (
    SCALES,
    Purification,
    counts_of_logs,
    purify_counts,
    purify_logs,
    thinned_draws,
)
from scdae.core.minibatches.build import cells_at_once
from scdae.core.network.fitted import Fitted

__all__ = ["check_scale", "purified_rows"]


def check_scale(value: object, argument: str) -> None:
    """Raise a ValueError that names the scales there are."""
    if value not in SCALES:
        choices = " or ".join(f"{name!r} ({what})" for name, what in SCALES.items())
        raise ValueError(f"{argument}={value!r}: choose {choices}.")


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
        As for :func:`scdae.core.guard.purification.project_profiles`.
    rng
        For the thinning.
    input_scale
        What `matrix` holds, one of :data:`scdae.core.guard.purification.SCALES`.
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
            purified = purify_counts(fitted, values, how, drawn=thinned_draws(values, how, rng), **options)
        else:
            deep = np.ones(n_obs, np.float32)[rows] if depth is None else np.asarray(depth, np.float32)[rows]
            drawn = thinned_draws(np.asarray(counts_of_logs(values, deep)), how, rng)
            purified = purify_logs(fitted, values, deep, how, drawn=drawn, **options)
        stop = min(start + size, n_obs)
        yield slice(start, stop), np.asarray(purified)[: stop - start]
