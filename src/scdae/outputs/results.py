"""Results on their own: what `scdae.pp.impute` wrote, without the data that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import scipy.sparse as sp

from scdae.arguments.numbers import check_form
from scdae.arguments.objects import check_adata
from scdae.arguments.selection import positions
from scdae.matrices.annotation import frame_of
from scdae.matrices.rows import in_memory, is_dask
from scdae.outputs.names import layers_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["results"]


def results(adata: AnnData, key: str = "scdae", *, genes: Any = None, dtype: Any = "float32") -> AnnData:
    """Return an AnnData of the results alone, to be written where the data are too large to be copied.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on.
    key
        The `key_added` of that call.
    genes
        Genes that are wanted: names, positions, a slice or a boolean array. None: all.
    dtype
        float32, or float16 for half of the space and three digits.

    Returns
    -------
    anndata.AnnData
        `obs` and `var` (of the genes wanted), ``layers[key]`` and those of further outputs and of quantiles, ``obsm["X_" + key]`` and ``uns[key]``.
        No `X`. Layers that are lazy stay so: ``.write_zarr`` and ``.write_h5ad`` then restore and write them chunk by
        chunk.

    Raises
    ------
    KeyError
        When there is no such layer.
    ValueError
        When a gene is not there, or the dtype is another one.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.pp.impute(adata, max_epochs=2, lazy=True)
    >>> part = scdae.get.results(adata, genes=["gene_7", "gene_2"], dtype="float16")
    >>> part.shape, part.layers["scdae"].dtype
    ((80, 2), dtype('float16'))
    """
    check_adata(adata)
    own = layers_of(adata, key)
    names = [name for name in adata.layers if name is not None and (name in own or name == key)]
    if key not in names:
        raise KeyError(f"There is no layers[{key!r}]. Call scdae.pp.impute(adata, key_added={key!r}) first.")
    columns = positions(adata.var_names, genes, "genes")
    everything = len(columns) == adata.n_vars and bool((columns == np.arange(adata.n_vars)).all())
    layers = {}
    for name in names:
        layer = adata.layers[name]
        if not (in_memory(layer) or is_dask(layer)):  # a dataset of a file
            layer = layer[:]
        is_sparse = sp.issparse(getattr(layer, "_meta", layer))
        check_form(1.0 if is_sparse else None, dtype)
        layer = layer if everything else layer[:, columns]
        layers[name] = layer.astype(dtype) if layer.dtype != np.dtype(dtype) else layer
    return anndata.AnnData(
        obs=frame_of(adata.obs).copy(),
        var=frame_of(adata.var).iloc[columns].copy(),
        obsm={f"X_{key}": adata.obsm[f"X_{key}"]},
        uns={key: adata.uns[key]},
        layers=layers,
    )
