"""Names of layers and columns, which files have to hold, and of genes, which have to be there."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

__all__ = ["check_name", "fit_for_files", "names_of_genes"]

_MOST = 200  # bytes: in a zarr store a name is that of a folder, with what belongs to it behind it


def check_name(value: object, argument: str) -> None:
    """Raise ValueError unless `value` can be the name of a layer or a column."""
    if not isinstance(value, str) or not fit_for_files(value):
        raise ValueError(
            f"{argument}={value!r}: use a name without '/', not empty, '.' or '..'; it becomes the name of what is written."
        )
    if len(os.fsencode(value)) > _MOST:
        raise ValueError(
            f"{argument}={value[:20]!r}...: use a name of at most {_MOST} bytes, not {len(os.fsencode(value))}; it becomes the name "
            "of what is written."
        )


def fit_for_files(name: object) -> bool:
    """Return whether .h5ad and .zarr files can hold an entry of that name, which must not be a path."""
    return isinstance(name, str) and "/" not in name and "\0" not in name and name not in ("", ".", "..")


def names_of_genes(index: pd.Index, what: str = "var_names") -> np.ndarray:
    """Return the names of genes as text.

    Parameters
    ----------
    index
        Names, of whatever dtype (n_vars,).
    what
        What the error calls them.

    Returns
    -------
    numpy.ndarray
        str (n_vars,).

    Raises
    ------
    ValueError
        Some are missing (None, NaN or pandas' NA): as text they would be one and the same name.

    Examples
    --------
    >>> import pandas as pd
    >>> names_of_genes(pd.Index(["CD3D", None]))
    Traceback (most recent call last):
    ...
    ValueError: var_names: 1 of 2 gene name(s) is missing, the first at position 1, and models know genes by name. Leave these genes out, adata[:, adata.var_names.notna()].copy(), or give them names.
    """
    missing = np.flatnonzero(pd.isna(index))
    if len(missing):
        raise ValueError(
            f"{what}: {len(missing):,} of {len(index):,} gene name(s) {'is' if len(missing) == 1 else 'are'} missing, the first at "
            f"position {missing[0]:,}, and models know genes by name. Leave these genes out, "
            "adata[:, adata.var_names.notna()].copy(), or give them names."
        )
    return np.asarray([str(name) for name in index], dtype=np.str_)
