"""Cells and genes that were asked for, as positions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae.arguments.by_name import by_name, whole_flags
from scdae.arguments.objects import nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["positions"]


def positions(index: pd.Index, chosen: Any, what: str) -> np.ndarray:
    """Return the positions in `index` that were chosen by name, number, slice or boolean array.

    Parameters
    ----------
    index
        Names of the cells or genes.
    chosen
        A name or several, positions, a slice, a boolean array of the length of `index`, or a boolean Series, which is
        taken by its names; None for all.
    what
        Name of the argument, for the error.

    Returns
    -------
    numpy.ndarray
        int64 (n,), in the order asked for.

    Raises
    ------
    ValueError
        When names or positions are not there, the array has another length, or nothing was chosen.
    """
    everything = np.arange(len(index))
    if chosen is None:
        return everything
    if isinstance(chosen, slice):
        return _some(everything[chosen], what)
    values = _values(index, chosen, what)
    if values.dtype.kind == "b":
        if values.shape != (len(index),):
            raise ValueError(
                f"{what}: the boolean array has {values.size:,} values, but there are {len(index):,} names."
            )
        return _some(np.flatnonzero(values), what)
    values = _some(values, what)
    if values.dtype.kind == "f":  # R's numbers
        odd = values[~(values % 1 == 0)]
        if len(odd):
            raise ValueError(
                f"{what}: {odd[0]} is not a position, which are whole numbers. Give names, or positions from 0 on."
            )
        values = values.astype(np.int64)
    if values.dtype.kind in "iu":
        wrong = (values < -len(index)) | (values >= len(index))
        if wrong.any():
            raise ValueError(
                f"{what}: {values[wrong][0]} is not a position among {len(index):,} (0 to {len(index) - 1:,})."
            )
        return everything[values]
    if not index.is_unique:
        raise ValueError(f"{what} by name: names are repeated. Make them unique, or give positions.")
    at = index.get_indexer(np.array([str(value) for value in values], dtype=object))
    missing = values[at < 0]
    if len(missing):
        raise ValueError(
            f"{what}: {len(missing):,} of {len(values):,} names are not there, the first being {str(missing[0])!r}."
            f"{nearest(missing[0], index) if len(index) < 100_000 else ''}"
        )
    return at


def _values(index: pd.Index, chosen: Any, what: str) -> np.ndarray:
    """Return what was chosen as an array (n,): booleans in the order of `index`, positions or names."""
    if isinstance(chosen, (pd.Series, pd.DataFrame)):
        dtypes = [chosen.dtype] if isinstance(chosen, pd.Series) else list(chosen.dtypes)
        flags = all(pd.api.types.is_bool_dtype(dtype) for dtype in dtypes)
        if isinstance(chosen, pd.DataFrame) and not flags:
            raise ValueError(f"{what} is a table. Pass one of its columns, or its index: table.index.")
        if flags:
            chosen = by_name(chosen, index, what, axis="var_names" if what.startswith("genes") else "obs_names")
    elif isinstance(chosen, Iterable) and not isinstance(chosen, (str, bytes)) and not hasattr(chosen, "__array__"):
        chosen = list(chosen)  # a set, the keys of a dict, a generator
    values = np.atleast_1d(np.asarray(chosen))
    if values.ndim == 1 and values.dtype.kind == "O":
        values = whole_flags(values, what)
    if values.ndim != 1:
        raise ValueError(f"{what} has shape {values.shape}: give names, positions, a slice or one boolean for each.")
    return values


def _some(values: np.ndarray, what: str) -> np.ndarray:
    if not len(values):
        raise ValueError(f"{what}: nothing is chosen, the list is empty. Leave {what.split()[0]}= out for all.")
    return values
