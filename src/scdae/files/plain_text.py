"""Text without missing values is written in the form that every reader of AnnData's files knows."""

from __future__ import annotations

from typing import Any

import h5py
import pandas as pd
from anndata.io import write_elem

__all__ = ["write_text_plainly"]


def write_text_plainly(
    function: Any, group: Any, name: str, part: Any, *, dataset_kwargs: Any, iospec: Any = None
) -> None:
    """Write an element of an AnnData; names, and in HDF5 other text, have a mask only if values are missing.

    pandas 3 reads all text as ``str``, and anndata 0.13 then writes it with a mask: as a group, which HDF5Array and
    rhdf5 of R and anndata before 0.11 do not take for names. A callback of `anndata.experimental.write_dispatched`.

    Parameters
    ----------
    function, group, name, part, dataset_kwargs, iospec
        As `anndata.experimental.WriteCallback` has them.

    Examples
    --------
    >>> import anndata, h5py, numpy as np
    >>> adata = anndata.AnnData(np.ones((3, 2)))
    >>> with h5py.File("a.h5ad", "w", driver="core", backing_store=False) as file:
    ...     anndata.experimental.write_dispatched(file, "/", adata, callback=write_text_plainly)
    ...     file["obs/_index"].attrs["encoding-type"]
    'string-array'
    """
    if _is_plain(part, group, name):
        write_elem(group, name, part.to_numpy(dtype=object), dataset_kwargs=dataset_kwargs)
    else:
        function(group, name, part, dataset_kwargs=dataset_kwargs)


def _is_plain(part: Any, group: Any, name: str) -> bool:
    """Return whether this is text that needs no mask.

    Names of cells and genes never need one. Columns keep the type "string", and in zarr theirs, which is read as another.
    """
    dtype = getattr(part, "dtype", None)
    if not isinstance(dtype, pd.StringDtype) or part.isna().any():
        return False
    key = name.rsplit("/", 1)[-1]
    return key in ("_index", group.attrs.get("_index")) or (
        dtype.na_value is not pd.NA and isinstance(group, h5py.Group)
    )
