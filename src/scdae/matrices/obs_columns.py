"""Columns of `obs` by name, each cell with a value: batches as levels, continuous columns as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from scdae._log import get_logger
from scdae.arguments.objects import nearest
from scdae.matrices.annotation import obs_column
from scdae.matrices.joining import JOINED

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["column_of", "has_column", "is_categorical", "is_name", "level_name", "read_batches", "read_numbers"]


def read_batches(
    adata: AnnData, batch_key: str, argument: str = "batch_key", *, gaps: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Read the batch of each cell.

    Labels are names, whatever their type: numbers and dates become levels as text. Levels that no cell has are left
    out.

    Parameters
    ----------
    adata
        Annotated data.
    batch_key
        Column of `obs`.
    argument
        Name of the argument, for errors.
    gaps
        Whether cells may be without a batch.

    Returns
    -------
    codes
        int32, (n_obs,): place of each cell's batch in `levels`; -1 where it has none.
    levels
        Names of the batches: categories in their order, other labels sorted.

    Raises
    ------
    TypeError
        `batch_key` is not one name.
    ValueError
        There is no such column, or a cell has no batch.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> adata = anndata.AnnData(np.ones((3, 2)))
    >>> adata.obs["day"] = [7, 10, 7]
    >>> read_batches(adata, "day")
    (array([0, 1, 0], dtype=int32), ['7', '10'])
    """
    labels = column_of(adata, batch_key, argument, gaps=gaps)
    known = labels.dropna()
    if isinstance(labels.dtype, pd.CategoricalDtype):
        distinct = known.cat.remove_unused_categories().cat.categories
    else:
        distinct = pd.Index(known.unique())
        try:
            distinct = distinct.sort_values()
        except TypeError:  # numbers next to text
            distinct = sorted(distinct, key=str)
    levels = list(dict.fromkeys(level_name(value) for value in distinct))
    codes = np.full(adata.n_obs, -1, np.int32)
    named = pd.Categorical([level_name(value) for value in known], categories=levels)
    codes[labels.notna().to_numpy()] = named.codes
    if len(levels) > max(20, adata.n_obs // 4):
        asked = "Are they groups?" if argument == "groupby" else "Is it a batch?"
        get_logger().warning(f"{argument}={batch_key!r} has {len(levels):,} levels for {adata.n_obs:,} cells. {asked}")
    return codes, levels


def level_name(label: Any) -> str:
    """Name of a batch: 7 and 7.0 are the same one, and midnight is left out of dates."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    text = str(label)
    return text.removesuffix(" 00:00:00")


def read_numbers(adata: AnnData, name: str) -> np.ndarray:
    """Read a continuous covariate: float64 (n_obs,); an error where a value is not a finite number."""
    column = column_of(adata, name, "covariates")
    if is_categorical(column):
        raise ValueError(
            f"covariates: obs[{name!r}] held numbers in the fit, but is {column.dtype} here, the first value {column.iloc[0]!r}. "
            f"Make it numbers: adata.obs[{name!r}] = adata.obs[{name!r}].astype(float)."
        )
    if column.dtype.kind == "c":
        raise TypeError(
            f"covariates: obs[{name!r}] holds complex numbers. Pass real ones, such as their absolute values."
        )
    values = column.to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise ValueError(
            f"covariates: obs[{name!r}] is not finite in {wrong.size:,} of {adata.n_obs:,} cells, the first being "
            f"{str(adata.obs_names[wrong[0]])!r} (row {wrong[0]})."
        )
    return values


def column_of(adata: AnnData, name: Any, argument: str, *, gaps: bool = False) -> pd.Series:
    """Return a column of `obs` in which every cell has a value, unless there may be gaps."""
    columns = adata.obs.columns
    if not is_name(name):
        if hasattr(name, "iloc"):
            raise TypeError(
                f"{argument} is a pandas {type(name).__name__}. Put it into adata.obs first, and pass the name of the column."
            )
        several = "To combine several, make a column of their joined labels"
        raise TypeError(
            f"{argument}={name!r}: pass the name of one obs column. {several}"
            f"{'.' if argument == 'groupby' else ', or pass the others as covariates=.'}"
        )
    alike = _alike(columns, name)
    if alike is None:
        joined = adata.uns.get(JOINED)
        lacking = joined.get("left_out", {}).get(str(name)) if isinstance(joined, Mapping) else None
        if lacking is not None:
            raise ValueError(
                f"{argument}={name!r} is a column of obs in some of the joined files, but not in {lacking}. Add it there, or leave "
                f"{argument} out."
            )
        raise ValueError(
            f"{argument}={name!r} not found in adata.obs.{nearest(name, columns)} Columns there: "
            f"{', '.join(repr(column) for column in columns) or 'none'}."
        )
    name = alike
    labels = obs_column(adata, name)
    if labels.ndim != 1:
        raise ValueError(f"{argument}={name!r}: obs has {labels.shape[1]} columns of this name. Rename all but one.")
    absent = np.flatnonzero(labels.isna().to_numpy())
    if absent.size and not gaps:
        raise ValueError(
            f"obs[{name!r}] ({argument}) has no value in {absent.size:,} of {adata.n_obs:,} cells, the first being "
            f"{str(adata.obs_names[absent[0]])!r} (row {absent[0]}). Give these cells a value or remove them."
        )
    return labels


def has_column(adata: AnnData, name: str) -> bool:
    """Return whether `obs` has a column of that name, which may be a number there."""
    return _alike(adata.obs.columns, name) is not None


def _alike(columns: pd.Index, name: Any) -> Any:
    """Return the column of that name, or the only one that is a number and reads so; None where there is none."""
    if name in columns:
        return name
    alike = [column for column in columns if str(column) == str(name)]
    return alike[0] if len(alike) == 1 else None


def is_name(name: Any) -> bool:
    """Return whether this names one column: text or a number, no truth value."""
    return isinstance(name, (str, int, np.integer)) and not isinstance(name, bool)


def is_categorical(column: pd.Series) -> bool:
    """Return whether a column holds labels: everything but numbers."""
    return is_bool_dtype(column) or not is_numeric_dtype(column)
