"""Batches and covariates: columns of `obs`, read into what the model calls conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_integer_dtype

from scdae._log import get_logger
from scdae.arguments.objects import listed, nearest
from scdae.core.data.conditions import Conditions
from scdae.matrices.obs_columns import column_of, is_categorical, is_name, level_name, read_batches, read_numbers

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["AVERAGE", "Covariates", "read_covariates"]

AVERAGE = "average"  # value of transform_batch
_SAME = 1e-7  # of their size, by which values may differ and are one number: what float32 leaves of it


@dataclass(frozen=True)
class Covariates:
    """Columns of `obs` that a model was fitted with.

    Parameters
    ----------
    batch_key
        Column of the batches, or None.
    levels
        Levels of each categorical column, the batches first.
    scales
        Mean and standard deviation of each continuous column.
    moved
        Whether all cells are taken for moved from those of a reference, which the model was adapted from.
    ranges
        Least and largest value of each continuous column in the fit. Models of earlier versions have none.
    """

    batch_key: str | None = None
    levels: dict[str, list[str]] = field(default_factory=dict)
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    moved: bool = False
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def n_levels(self) -> int:
        """Number of levels of all categorical columns that have more than one: one alone says nothing."""
        return sum(len(names) for names in self.levels.values() if len(names) > 1)

    @property
    def batches(self) -> bool:
        """Whether there are several batches."""
        return len(self.batch_levels) > 1

    @property
    def batch_levels(self) -> list[str]:
        """Names of the batches."""
        return [] if self.batch_key is None else self.levels[self.batch_key]

    @property
    def others(self) -> list[str]:
        """Columns other than that of the batches."""
        return [name for name in (*self.levels, *self.scales) if name != self.batch_key]

    def conditions(self, adata: AnnData) -> Conditions | None:
        """Encode the conditions of other cells by the levels and scales of the fit.

        Raises
        ------
        ValueError
            A column is missing, a value is missing or not a number, or a level is not known.
        """
        codes, first = [], 0
        for name, known in self.levels.items():
            codes_of_cells, levels = read_batches(adata, name, "batch_key" if name == self.batch_key else "covariates")
            unknown = [level for level in levels if level not in known]
            if unknown:
                raise ValueError(
                    f"obs[{name!r}] has {len(unknown)} level(s) that the model was not fitted to, the first being "
                    f"{unknown[0]!r}. It knows {listed(known)}: fit a model to all data together, or let it learn "
                    "new batches with DAE.adapt(adata)."
                )
            if len(known) > 1:
                codes.append(first + np.array([known.index(level) for level in levels], np.int32)[codes_of_cells])
                first += len(known)
        values = [np.ones(adata.n_obs)] if self.moved else []
        values += [(self._within(adata, name) - mean) / sd for name, (mean, sd) in self.scales.items()]
        conditions = Conditions(_columns(codes, adata.n_obs, np.int32), _columns(values, adata.n_obs, np.float32))
        return conditions if conditions.any else None

    def _within(self, adata: AnnData, name: str) -> np.ndarray:
        """Return a continuous column, float64 (n_obs,), no value below or above those of the fit: beyond them nothing is known."""
        values = read_numbers(adata, name)
        if name not in self.ranges:
            return values
        low, high = self.ranges[name]
        margin = _SAME * max(abs(low), abs(high))
        outside = np.flatnonzero((values < low - margin) | (values > high + margin))
        if outside.size:
            get_logger().warning(
                f"scdae: obs[{name!r}] lies outside of what the model was fitted to, {low:g} to {high:g}, in {outside.size:,} of "
                f"{adata.n_obs:,} cells, the first being {str(adata.obs_names[outside[0]])!r} with {values[outside[0]]:g}. The nearest "
                "value of the fit is taken in its place."
            )
        return np.clip(values, low, high)

    def batch_weights(self, transform_batch: str) -> np.ndarray | None:
        """Share of each batch in the one named, float32 (n_batches,), or None if there is one batch; an error if none is.

        Raises
        ------
        ValueError
            There is no column of batches, or no batch of that name; the error names those there are.
        """
        if self.batch_key is None:
            raise ValueError(
                f"transform_batch={transform_batch!r} needs batch_key=..., the column of obs with the batch."
            )
        names = self.batch_levels
        name = level_name(transform_batch)
        if not self.batches and name in (*names, AVERAGE):
            return None
        if name in names:
            return np.array([name == other for other in names], np.float32)
        if name == AVERAGE:
            return np.full(len(names), 1 / len(names), np.float32)
        raise ValueError(
            f"transform_batch={transform_batch!r} is not a batch of obs[{self.batch_key!r}].{nearest(name, names)} Choose "
            f"{AVERAGE!r} or one of {listed(names)}."
        )


def read_covariates(
    adata: AnnData, batch_key: str | None, covariates: str | Sequence[str] | None
) -> tuple[Covariates, Conditions | None]:
    """Read the columns that a model is to be fitted with.

    Parameters
    ----------
    adata
        The data.
    batch_key
        Column of the batches, taken as categories whatever its type; None for none.
    covariates
        Further columns. Text, booleans and categories are categorical, numbers continuous.

    Returns
    -------
    tuple
        What the columns are, and the conditions of the cells; None where there are no columns.

    Raises
    ------
    ValueError, TypeError
        A column does not exist, is named twice, has missing or infinite values, or has one value throughout.
    """
    if hasattr(covariates, "iloc"):  # the names of its rows or columns are not meant
        raise TypeError(
            f"covariates is a pandas {type(covariates).__name__}. Put its columns into adata.obs first, and pass their names: "
            "covariates=['age', 'sex']."
        )
    batch_key = batch_key if batch_key is None or not is_name(batch_key) else str(batch_key)
    given: Any = [] if covariates is None else [covariates] if is_name(covariates) else covariates
    names = [str(name) if is_name(name) else name for name in given]
    repeated = [name for i, name in enumerate(names) if name == batch_key or name in names[:i]]
    if repeated:
        raise ValueError(f"covariates={covariates!r}: {repeated[0]!r} is given twice (batch_key={batch_key!r}).")
    levels: dict[str, list[str]] = {}
    scales: dict[str, tuple[float, float]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    if batch_key is not None:
        levels[batch_key] = read_batches(adata, batch_key)[1]
    for name in names:
        if is_categorical(column_of(adata, name, "covariates")):
            levels[name] = read_batches(adata, name, "covariates")[1]
            if len(levels[name]) == 1 and adata.n_obs > 1:
                raise ValueError(_says_nothing(name, repr(levels[name][0]), adata.n_obs))
            continue
        values = read_numbers(adata, name)
        low, high = float(values.min()), float(values.max())
        whole = is_integer_dtype(column_of(adata, name, "covariates"))
        if high - low <= (0 if whole else _SAME * max(abs(low), abs(high))):
            raise ValueError(_says_nothing(name, f"{values[0]:g}", adata.n_obs))
        scales[name] = (float(values.mean()), float(values.std()))
        ranges[name] = (low, high)
    columns = Covariates(batch_key, levels, scales, ranges=ranges)
    return columns, columns.conditions(adata)


def _says_nothing(name: str, value: str, n_obs: int) -> str:
    return f"covariates: obs[{name!r}] is {value} in all {n_obs:,} cells and says nothing. Leave it out."


def _columns(parts: list[np.ndarray], n_obs: int, dtype: type) -> np.ndarray:
    return np.stack(parts, axis=1).astype(dtype) if parts else np.zeros((n_obs, 0), dtype)
