"""What was observed: the user's mask, and entries that it takes away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scdae.arguments.by_name import table_by_name
from scdae.core.data.non_zeros import entry_rows
from scdae.matrices.rows import Rows, open_rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["drop_unobserved", "mask_of_rows", "open_mask"]


def open_mask(mask: Any, adata: AnnData) -> Callable[[int, int], np.ndarray]:
    """Prepare a mask to be read by rows.

    Parameters
    ----------
    mask
        Name of a boolean layer, or boolean array, sparse matrix or DataFrame (n_obs, n_vars), True = observed. A
        DataFrame is taken by its names.
    adata
        The object that the mask is about.

    Returns
    -------
    `read(start, stop)`, which gives these rows as a dense boolean array.

    Raises
    ------
    TypeError
        The mask is not boolean.
    ValueError
        There is no such layer, the shape is not that of `adata`, or a DataFrame lacks names.
    """
    name = "mask"
    if isinstance(mask, str):
        layers = [key for key in adata.layers if key is not None]
        if mask not in layers:
            shown = ", ".join(repr(key) for key in layers) or "none"
            raise ValueError(f"mask={mask!r} does not exist. Layers here: {shown}.")
        name, mask = f"mask (layers[{mask!r}])", adata.layers[mask]
    elif hasattr(mask, "columns"):
        mask = table_by_name(mask, adata.obs_names, adata.var_names, name)
    elif hasattr(mask, "index") and hasattr(mask, "to_frame"):
        raise TypeError(
            "mask is a pandas Series, but each cell and gene needs a value. Where it is about genes, pass a DataFrame of "
            "cells by genes, or np.broadcast_to(mask[adata.var_names], adata.shape)."
        )
    elif isinstance(mask, (list, tuple)):
        mask = np.asarray(mask)
    if np.dtype(getattr(mask, "dtype", object)) != np.bool_:
        raise TypeError(
            f"{name} is of dtype {getattr(mask, 'dtype', type(mask).__name__)}; it has to be boolean, True where an "
            "entry was observed. Convert it with .astype(bool)."
        )
    if tuple(mask.shape) != adata.shape:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}; it has to be that of adata, {adata.shape}.")
    return partial(_read_mask, open_rows(mask, name))


def _read_mask(rows: Rows, start: int, stop: int) -> np.ndarray:
    block = rows.read(start, stop)
    return np.asarray(block.toarray() if sp.issparse(block) else block, dtype=bool)


def mask_of_rows(mask: Any, rows: np.ndarray, adata: AnnData) -> Any:
    """Select the rows of a mask by position; return the name of a layer unchanged, and order a DataFrame first."""
    if mask is None or isinstance(mask, str):
        return mask
    if hasattr(mask, "columns"):
        mask = table_by_name(mask, adata.obs_names, adata.var_names, "mask")
    return np.asarray(mask)[rows] if isinstance(mask, (list, tuple)) else mask[rows]


def drop_unobserved(
    block: sp.csr_matrix, missing: np.ndarray | None, *, allow_nan: bool
) -> tuple[sp.csr_matrix, np.ndarray | None]:
    """Take unobserved entries out of a canonical block.

    Parameters
    ----------
    block
        Canonical CSR (n, n_vars).
    missing
        Boolean (n, n_vars), True where nothing was measured; None: nowhere.
    allow_nan
        Whether NaN in the block are such entries, too.

    Returns
    -------
    block
        Without these entries; the same object where there are none.
    missing
        As passed, with the NaN added; None where everything was observed.
    """
    row = entry_rows(block)
    drop = np.zeros(block.nnz, dtype=bool) if missing is None else missing[row, block.indices]
    if allow_nan and block.dtype.kind == "f":
        absent = np.isnan(block.data)
        if absent.any():
            missing = np.zeros(block.shape, dtype=bool) if missing is None else missing
            missing[row[absent], block.indices[absent]] = True
            drop = drop | absent
    if missing is None:
        return block, None
    if drop.any():
        ends = np.concatenate([[0], np.cumsum(~drop)])[block.indptr]
        block = sp.csr_matrix((block.data[~drop], block.indices[~drop], ends), shape=block.shape)
        block.has_canonical_format = True
    return block, missing
