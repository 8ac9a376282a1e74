"""Columns of obs and var in memory, also where anndata reads them lazily, and copies of objects whose matrices stay on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["copied", "frame_of", "obs_column"]


def frame_of(table: Any) -> pd.DataFrame:
    """Return all of `obs` or `var` as a data frame; the same object if it is one already."""
    return table if isinstance(table, pd.DataFrame) else table.to_memory()


def obs_column(adata: AnnData, name: str) -> pd.Series:
    """One column of `obs` in memory.

    Objects of :func:`anndata.experimental.read_lazy` keep columns in the file; only this one is read.

    Parameters
    ----------
    adata
        The data.
    name
        Column of `obs`; it has to exist.

    Returns
    -------
    pandas.Series
        Indexed by ``obs_names``; a DataFrame if several columns have this name.

    Examples
    --------
    >>> import scdae
    >>> from scdae.matrices.annotation import obs_column
    >>> obs_column(scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0), "batch").shape
    (80,)
    """
    obs = adata.obs
    return obs[name] if isinstance(obs, pd.DataFrame) else frame_of(obs[[name]])[name]


def copied(adata: AnnData) -> AnnData:
    """Return a copy to write results to, in memory where the original is a file that anndata opened."""
    return adata.to_memory() if adata.isbacked or _holds_datasets(adata) else adata.copy()


def _holds_datasets(adata: AnnData) -> bool:
    """Return whether `X` or a layer is a sparse dataset of a file, which has no copy()."""
    matrices = [adata.X, *(adata.layers[name] for name in adata.layers)]
    return any(matrix is not None and not hasattr(matrix, "copy") for matrix in matrices)
