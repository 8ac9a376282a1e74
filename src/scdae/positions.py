"""Cells and genes that were asked for, as positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["positions"]


def positions(index: pd.Index, chosen: Any, what: str) -> np.ndarray:
    """Positions in `index` of what was chosen by name, number, slice or boolean array.

    Parameters
    ----------
    index
        Names of the cells or genes.
    chosen
        A name or several, positions, a slice, a boolean array of the length of `index`; None for all.
    what
        Name of the argument, for the error.

    Returns
    -------
    numpy.ndarray
        int64 (n,), in the order asked for.

    Raises
    ------
    ValueError
        When names or positions are not there, or the array has another length.
    """
    everything = np.arange(len(index))
    if chosen is None:
        return everything
    if isinstance(chosen, slice):
        return everything[chosen]
    values = np.atleast_1d(np.asarray(chosen))
    if values.dtype.kind == "b":
        if len(values) != len(index):
            raise ValueError(
                f"{what}: the boolean array has {len(values):,} values, but there are {len(index):,} names."
            )
        return np.flatnonzero(values)
    if values.dtype.kind in "iu":
        wrong = (values < -len(index)) | (values >= len(index))
        if wrong.any():
            raise ValueError(
                f"{what}: {values[wrong][0]} is no position among {len(index):,} (0 to {len(index) - 1:,})."
            )
        return everything[values]
    if not index.is_unique:
        raise ValueError(f"{what} by name: names are repeated. Make them unique, or give positions.")
    found = index.get_indexer(values.astype(str))
    missing = values[found < 0]
    if len(missing):
        raise ValueError(
            f"{what}: {len(missing):,} of {len(values):,} names are not there, the first being {str(missing[0])!r}."
        )
    return found
