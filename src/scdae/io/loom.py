"""Loom files: one dense matrix, genes x cells, with names and columns beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scdae._log import get_logger

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    from anndata import AnnData

__all__ = ["read_loom"]

# As loompy's writers call them: velocyto, kb, HTSeq, dropEst, SCope, anndata
_CELL_NAMES = ("CellID", "barcode", "barcodes", "Barcode", "cell_id", "cell_names", "obs_names", "_index", "index")
_GENE_NAMES = ("Gene", "gene_name", "gene_names", "GeneName", "gene", "genes", "var_names", "_index", "index")
_GENE_IDS = ("Accession", "gene_id", "gene_ids", "GeneID", "ensembl", "feature_id", "target_name")
_BLOCK = 2**22  # values that are made sparse at a time


def read_loom(file: h5py.File) -> AnnData:
    """Read a loom file, with the names of cells and genes that it has.

    Parameters
    ----------
    file
        Opened for reading.

    Returns
    -------
    AnnData
        `X`: the main matrix, CSR, cells in rows; in files of velocyto the molecules of all kinds. Layers as in the
        file. Attributes become columns of `obs` and `var`; those of numbers with two dimensions, such as coordinates,
        `obsm` and `varm`.

    Raises
    ------
    ValueError
        The parts do not fit together.
    """
    n_genes, n_cells = file["matrix"].shape
    obs = _frame(file["col_attrs"], n_cells, _CELL_NAMES, (), "cell")
    var = _frame(file["row_attrs"], n_genes, _GENE_NAMES, _GENE_IDS, "gene")
    layers = file.get("layers", {})
    for name in layers:
        if layers[name].shape != (n_genes, n_cells):
            raise ValueError(f"layer {name!r} has shape {layers[name].shape}, but the matrix {(n_genes, n_cells)}")
    return AnnData(
        _sparse(file["matrix"]),
        obs=obs,
        var=var,
        obsm=_arrays(file["col_attrs"], n_cells),
        varm=_arrays(file["row_attrs"], n_genes),
        layers={str(name): _sparse(layers[name]) for name in layers},
    )


def _sparse(dataset: Any) -> sp.csr_matrix:
    """Transpose to CSR, some rows at a time."""
    n_genes, n_cells = dataset.shape
    step = max(1, _BLOCK // max(1, n_cells))
    blocks = [sp.csr_matrix(dataset[start : start + step]) for start in range(0, n_genes, step)]
    return sp.csr_matrix((n_cells, n_genes), dtype=np.float32) if not blocks else sp.vstack(blocks).T.tocsr()


def _frame(attributes: Any, n: int, names: tuple[str, ...], ids: tuple[str, ...], what: str) -> pd.DataFrame:
    columns = {}
    for key in attributes:
        values = attributes[key]
        if not hasattr(values, "shape") or values.shape not in ((n,), (n, 1)):
            continue
        column = values[:].reshape(n)
        if column.dtype.kind in "OS":
            column = np.array(
                [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in column], dtype=object
            )
        columns[str(key)] = column
    called = next((key for key in (*names, *ids) if key in columns), None)
    if called is None:
        called = next(
            (key for key, values in columns.items() if values.dtype == object and len(set(values)) == n), None
        )
    if called is None and what == "cell":
        _info(
            f"No attribute names the cells ({', '.join(list(columns)[:5]) or 'there are none'}): they are called by their number."
        )
        return pd.DataFrame(columns, index=pd.Index([str(i) for i in range(n)], dtype=object))
    if called is None:
        raise ValueError(
            f"its row_attrs name no gene (none of {', '.join(names[:3])}); there are: {', '.join(list(columns)[:5]) or 'none'}"
        )
    index = pd.Index(columns.pop(called).astype(str), dtype=object)
    return pd.DataFrame(columns, index=index)


def _arrays(attributes: Any, n: int) -> dict[str, np.ndarray]:
    """Return the numeric attributes with two dimensions."""
    arrays = {str(key): attributes[key] for key in attributes if len(getattr(attributes[key], "shape", ())) == 2}
    return {key: v[:] for key, v in arrays.items() if v.shape[0] == n and v.shape[1] > 1 and v.dtype.kind in "biuf"}


def _info(text: str) -> None:
    get_logger().info(text)
