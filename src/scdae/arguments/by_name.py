"""What comes with names of its own, a pandas Series or DataFrame, is taken by these names and never by position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["by_name", "table_by_name", "whole_flags"]


def by_name(values: Any, names: pd.Index, argument: str, *, axis: str = "obs_names") -> Any:
    """Return the values of a Series in the order of `names`, and anything else but a table unchanged.

    Parameters
    ----------
    values
        What the user passed: a Series, a DataFrame of one column, or something without names.
    names
        Names of the cells or genes, (n,).
    argument
        Name of the argument, for errors.
    axis
        What `names` are, for errors: ``"obs_names"`` or ``"var_names"``.

    Returns
    -------
    Any
        For a Series a NumPy array (n,): missing numbers are NaN, other missing values stay as they are. Names that are
        not in `names` are left out. What has no names is returned as it was given.

    Raises
    ------
    ValueError
        Some of `names` are not in the index, or names are repeated and not those in `names` in their order.

    Examples
    --------
    >>> import pandas as pd
    >>> by_name(pd.Series([1.0, 2.0], index=["b", "a"]), pd.Index(["a", "b"]), "depth")
    array([2., 1.])
    """
    if isinstance(values, pd.DataFrame):
        if values.shape[1] != 1:
            raise ValueError(f"{argument} is a table of {values.shape[1]} columns. Pass one of them: table[column].")
        values = values.iloc[:, 0]
    if not isinstance(values, pd.Series):
        return values
    order = _places(values.index, names, argument, axis)
    values = values if order is None else values.iloc[order]
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        if pd.api.types.is_extension_array_dtype(values.dtype):
            return values.to_numpy(np.float64, na_value=np.nan) if values.isna().any() else values.to_numpy()
        return values.to_numpy()
    if pd.api.types.is_bool_dtype(values.dtype) and not values.isna().any():
        return values.to_numpy(bool)
    return values.to_numpy()


def whole_flags(values: np.ndarray, argument: str, names: pd.Index | None = None) -> np.ndarray:
    """Convert an object array of True and False to a boolean one; return other values unchanged.

    Parameters
    ----------
    values
        (n,), of any dtype.
    argument
        Name of the argument, for the error.
    names
        Of the cells or genes, (n,), to say where the first gap is; None where that is not known.

    Raises
    ------
    ValueError
        All that there is are True and False, but some values are missing.
    """
    if values.dtype.kind != "O":
        return values
    missing = np.asarray(pd.isna(values))
    if not len(values) or not all(isinstance(value, (bool, np.bool_)) for value in values[~missing]) or missing.all():
        return values
    if missing.any():
        where = "" if names is None else f", the first being {str(names[np.flatnonzero(missing)[0]])!r}"
        raise ValueError(
            f"{argument} has no value in {int(missing.sum()):,} of {len(values):,} places{where}. Say whether these are True or "
            "False, for example with .fillna(False)."
        )
    return values.astype(bool)


def table_by_name(table: pd.DataFrame, obs_names: pd.Index, var_names: pd.Index, argument: str) -> np.ndarray:
    """Return the values of a table in the order of the cells and genes.

    Parameters
    ----------
    table
        Cells in rows, genes in columns, in any order; further ones are left out.
    obs_names, var_names
        Names of the cells (n_obs,) and genes (n_vars,).
    argument
        Name of the argument, for errors.

    Returns
    -------
    numpy.ndarray
        (n_obs, n_vars), boolean where all columns are and no value is missing.

    Raises
    ------
    ValueError
        Names are missing, or repeated and not those of the data in their order.
    """
    rows = _places(table.index, obs_names, argument, "obs_names")
    columns = _places(table.columns, var_names, argument, "var_names")
    table = table if rows is None else table.iloc[rows]
    table = table if columns is None else table.iloc[:, columns]
    boolean = all(pd.api.types.is_bool_dtype(dtype) for dtype in table.dtypes) and not table.isna().any(axis=None)
    return table.to_numpy(bool) if boolean else table.to_numpy()


def _places(own: pd.Index, names: pd.Index, argument: str, axis: str) -> np.ndarray | None:
    """Place of each of `names` in `own`, int64; None where both are the same in the same order."""
    own_names, wanted = (pd.Index([str(name) for name in index], dtype=object) for index in (own, names))
    if len(own_names) == len(wanted) and bool((own_names == wanted).all()):
        return None
    kind = "index" if axis == "obs_names" else "columns"
    for index, where in ((own_names, f"the {kind} of {argument} repeats"), (wanted, f"adata.{axis} repeat")):
        if not index.is_unique:
            repeated = index[index.duplicated()]
            raise ValueError(
                f"{argument} is taken by name, but {where} {len(repeated.unique()):,} name(s), the first being "
                f"{repeated[0]!r}. Make names unique, or pass an array in the order of adata."
            )
    places = own_names.get_indexer(wanted)
    missing = wanted[places < 0]
    if len(missing):
        such = f"; it has names such as {own_names[0]!r}" if len(own_names) else ", which is empty"
        raise ValueError(
            f"{argument} is taken by name, but {len(missing):,} of the {len(wanted):,} names in adata.{axis} are not in its "
            f"{kind}, the first being {missing[0]!r}{such}. Pass values for all, or an array in the order of adata."
        )
    return np.asarray(places, np.int64)
