"""Data that stay on disk: files opened without reading their matrices, and many files as one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anndata
import numpy as np
import pandas as pd

from scdae.arguments.names import check_name
from scdae.arguments.objects import spelled
from scdae.io.read import is_anndata, read_any
from scdae.io.stored import open_on_disk, rows_of, stored_entries
from scdae.matrices.joining import JOINED, Part, join_lazily, own_mask
from scdae.matrices.rows import Rows
from scdae.matrices.union import joint_obs, union_of_genes

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["find_files", "join_files", "open_on_disk", "stored_entries"]

_FEW = 5  # names shown before "..."


def find_files(pattern: str | os.PathLike[str]) -> list[Path]:
    """List the files that match a pattern such as ``samples/*.h5ad``, by name; any other path stands for itself."""
    text = os.fspath(pattern)
    if not glob.has_magic(text) or Path(text).exists():
        return [Path(text)]
    files = sorted(map(Path, glob.glob(text, recursive=True)))
    if not files:
        raise FileNotFoundError(f"No file matches {text!r}.")
    return files


@spelled
def join_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    layer: str | None = None,
    label: str = "sample",
    mask_added: str = "observed",
) -> AnnData:
    """Join many files to one AnnData whose counts stay on disk.

    Parameters
    ----------
    paths
        Files (.h5ad, .zarr), or a pattern such as ``"samples/*.h5ad"``.
    layer
        Layer of each file with the counts; None for `X`.
    label
        Column of `obs` that gets the name of each cell's file, without its ending, for ``batch_key=``. A column that
        the files have under this name is kept with ``_own`` behind it.
    mask_added
        Layer that says what was observed, for ``mask=``: where the files have not all the same genes, or have such a
        layer of their own, which is kept.

    Returns
    -------
    anndata.AnnData
        Cells of all files below one another, called ``cell-sample``; genes in the order in which they come first. `X`
        is a dask array of sparse chunks, which other processes can work out, too: files are opened where they are read.
        Columns of `obs` that all files have are kept; ``uns["joined_files"]`` names the files.

    Raises
    ------
    ValueError
        A file cannot be read, or lacks the layer; names of files or genes are repeated, or the files share no gene. The
        message names the file.

    Examples
    --------
    >>> import scdae, tempfile
    >>> adata = scdae.datasets.simulate(n_cells=60, n_genes=40, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adata[:30].write_h5ad(folder + "/a.h5ad")
    ...     adata[30:, 10:].write_h5ad(folder + "/b.h5ad")
    ...     joint = scdae.pp.join_files(folder + "/*.h5ad")
    ...     joint.shape, joint.X[:5, :3].compute().shape
    ((60, 40), (5, 3))
    """
    files = find_files(paths) if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    if not files:
        raise ValueError("paths is empty: pass files (.h5ad, .zarr), or a pattern such as 'samples/*.h5ad'.")
    check_name(mask_added, "mask_added")
    check_name(label, "label")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"paths: two files are called {twice!r}, and cells are named by their file. Rename one.")
    described = [_described(file, layer, mask_added) for file in files]
    var_names = union_of_genes([one.var.index for one in described], names, "files")
    columns = [var_names.get_indexer(one.var.index.astype(str)).astype(np.int32) for one in described]
    obs = joint_obs([one.obs for one in described], names, label, everything=False, what="file")

    n_vars = len(var_names)
    parts = [Part(len(one.obs), where, one.counts) for one, where in zip(described, columns, strict=True)]
    joint = anndata.AnnData(
        join_lazily(parts, n_vars, np.float32, sparse=True),
        obs=obs,
        var=_feature_types([one.var for one in described], columns, var_names),
        uns={JOINED: {"label": label, "files": [file.name for file in files]}},
    )
    left_out = _left_out([one.obs for one in described], files)
    if left_out:
        joint.uns[JOINED]["left_out"] = left_out
    if any(len(part.columns) < n_vars for part in parts) or any(one.mask is not None for one in described):
        masks = [Part(len(one.obs), where, one.mask) for one, where in zip(described, columns, strict=True)]
        joint.layers[mask_added] = join_lazily(masks, n_vars, bool, sparse=False)
    return joint


def _left_out(tables: list[pd.DataFrame], files: list[Path]) -> dict[str, str]:
    """Return the columns of `obs` that some files lack, each with the first file that lacks it."""
    known = [set(map(str, table.columns)) for table in tables]
    columns = sorted(set().union(*known))
    lacking = {c: [file.name for file, own in zip(files, known, strict=True) if c not in own] for c in columns}
    return {column.replace("/", "_"): names[0] for column, names in lacking.items() if names}


class _Described(NamedTuple):
    """One of the files."""

    obs: pd.DataFrame
    var: pd.DataFrame
    counts: Rows
    mask: Rows | None


def _described(path: Path, layer: str | None, mask: str) -> _Described:
    """Return what is known of a file without reading its matrices."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not is_anndata(path):
        read_any(path)  # says what is wrong with it
        raise ValueError(f"{path} is no .h5ad or .zarr: only these can be read together. Save it as .h5ad first.")
    adata = open_on_disk(path)
    layers = [name for name in adata.layers if name is not None]
    shown = ", ".join(map(repr, layers[:_FEW])) + (", ..." if len(layers) > _FEW else "") or "none"
    element = "X" if layer is None else f"layers/{layer}"
    if layer == "raw" and layer not in layers:
        adata, element = open_on_disk(path, raw=True), "raw/X"
    elif layer is None and adata.X is None:
        raise ValueError(f"{path} has no X. Pass layer= with the layer that holds counts. Layers there: {shown}.")
    elif layer is not None and layer not in layers:
        raise ValueError(f"layer={layer!r} is not in {path}. Layers there: {shown}.")
    known = own_mask(adata, mask, str(path))
    known = None if known is None else rows_of(path, f"layers/{mask}", f"{path}: layers[{mask!r}]")
    return _Described(adata.obs, adata.var, rows_of(path, element, f"{path}: counts"), known)


def _feature_types(tables: list[pd.DataFrame], columns: list[np.ndarray], var_names: pd.Index) -> pd.DataFrame:
    """Return what tells genes from proteins and others, where all files say it, and alike."""
    var = pd.DataFrame(index=var_names)
    if not all("feature_types" in table for table in tables):
        return var
    types = np.full(len(var_names), "", dtype=object)
    for table, own in zip(tables, columns, strict=True):
        given = table["feature_types"].astype(str).to_numpy()
        if ((types[own] != "") & (types[own] != given)).any():
            return var
        types[own] = given
    var["feature_types"] = types
    return var
