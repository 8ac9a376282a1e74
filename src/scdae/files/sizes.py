"""How large a file gets: bytes of an AnnData as HDF5 holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["bytes_of"]

_OF_AN_ELEMENT = 4096  # bytes of HDF5's own for a data set or group
_OF_A_TEXT = 48  # bytes of HDF5's own for each text of a list
_SOME = 2**16


def bytes_of(value: Any) -> int:
    """Estimate, from above, the bytes that an AnnData or a part of one takes in an uncompressed .h5ad.

    Lazy sparse arrays count as nothing: how much they hold is not known before they are there.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> bytes_of(anndata.AnnData(np.ones((1000, 100), np.float32))) > 400_000
    True
    """
    return int(1.02 * _bytes(value)) + _SOME


def _bytes(value: Any) -> int:
    if hasattr(value, "obs_names"):
        return _of_anndata(value)
    if isinstance(value, Mapping):
        return _OF_AN_ELEMENT + sum(_bytes(part) for part in value.values())
    if isinstance(value, pd.DataFrame):
        return _OF_AN_ELEMENT + _bytes(value.index) + sum(_bytes(value.iloc[:, i]) for i in range(value.shape[1]))
    if isinstance(value, (pd.Series, pd.Index)):
        if isinstance(value.dtype, pd.CategoricalDtype):
            codes = pd.Categorical(value)
            return 2 * _OF_AN_ELEMENT + codes.codes.nbytes + _bytes(codes.categories)
        if not isinstance(value.dtype, np.dtype):
            return 2 * _OF_AN_ELEMENT + len(value) + _bytes(np.asarray(value, object))
        return _bytes(value.to_numpy())
    if sp.issparse(value):
        parts = [value.data, value.indices, value.indptr] if hasattr(value, "indptr") else []
        return 2 * _OF_AN_ELEMENT + sum(part.nbytes for part in parts)
    if isinstance(value, str):
        return _OF_AN_ELEMENT + 4 * len(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUST":
        letters = sum(len(text) if isinstance(text, str) else 8 for text in value.ravel().tolist())
        return _OF_AN_ELEMENT + letters + _OF_A_TEXT * value.size
    if hasattr(value, "dask") and sp.issparse(getattr(value, "_meta", None)):
        return 2 * _OF_AN_ELEMENT
    size = getattr(value, "nbytes", 0)
    return _OF_AN_ELEMENT + (int(size) if isinstance(size, (int, np.integer)) else 0)


def _of_anndata(adata: AnnData) -> int:
    parts = [adata.obs, adata.var, dict(adata.uns)]
    parts += [dict(getattr(adata, name)) for name in ("obsm", "varm", "obsp", "varp")]
    parts.append({name: layer for name, layer in adata.layers.items() if name is not None})  # anndata 0.13: None is X
    if adata.X is not None:
        parts.append(adata.X)
    if adata.raw is not None:
        parts += [adata.raw.X, adata.raw.var]
    return sum(_bytes(part) for part in parts)
