"""Data that stay on disk: files opened without reading their matrices, and many files as one."""

from __future__ import annotations

import glob
import os
import secrets
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae.containers import Rows, canonical_csr, open_rows
from scdae.writing import check_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["find_files", "join_files", "open_on_disk", "stored_entries"]

_SPARSE = ("csr_matrix", "csc_matrix")


def open_on_disk(path: str | os.PathLike[str]) -> AnnData:
    """Open an AnnData file without reading `X` and the layers.

    Parameters
    ----------
    path
        .h5ad or .zarr.

    Returns
    -------
    anndata.AnnData
        `obs` and `var` are in memory; `X` and layers are sparse datasets of anndata or dask arrays. The rest is left out.

    Examples
    --------
    >>> import anndata, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anndata.AnnData(np.ones((3, 2))).write_h5ad(folder + "/a.h5ad")
    ...     open_on_disk(folder + "/a.h5ad").shape
    (3, 2)
    """
    import anndata
    from anndata.io import read_elem

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old formats
        group = _open_group(Path(path))
        layers = {name: _on_disk(group["layers"][name]) for name in group["layers"]} if "layers" in group else {}
        return anndata.AnnData(
            _on_disk(group["X"]) if "X" in group else None,
            obs=read_elem(group["obs"]),
            var=read_elem(group["var"]),
            layers=layers,
        )


def stored_entries(path: str | os.PathLike[str]) -> int:
    """Stored entries of the largest matrix (`X` or a layer) of an .h5ad or .zarr file; all of them if it is dense."""
    group = _open_group(Path(path))
    matrices = [group["X"]] if "X" in group else []
    matrices += [group["layers"][name] for name in group["layers"]] if "layers" in group else []
    sizes = [m["data"].shape[0] if m.attrs.get("encoding-type") in _SPARSE else m.size for m in matrices]
    return int(max(sizes, default=0))


def find_files(pattern: str | os.PathLike[str]) -> list[Path]:
    """Files that a pattern such as ``samples/*.h5ad`` stands for, by name; the path itself if it is none or exists."""
    text = os.fspath(pattern)
    if not glob.has_magic(text) or Path(text).exists():
        return [Path(text)]
    found = sorted(map(Path, glob.glob(text, recursive=True)))
    if not found:
        raise FileNotFoundError(f"No file matches {text!r}.")
    return found


def join_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    layer: str | None = None,
    label: str = "sample",
    mask_added: str = "observed",
) -> AnnData:
    """Many files as one AnnData whose counts stay on disk.

    Parameters
    ----------
    paths
        Files (.h5ad, .zarr), or a pattern such as ``"samples/*.h5ad"``.
    layer
        Layer of each file with the counts; None for `X`.
    label
        Column of `obs` that gets the name of each cell's file, without its ending, for ``batch_key=``.
    mask_added
        Layer that says what was observed, where the files have not all the same genes: for ``mask=``.

    Returns
    -------
    anndata.AnnData
        Cells of all files below one another, called ``cell-sample``; genes in the order in which they come first. `X` is a
        dask array of sparse chunks. Columns of `obs` that all files have are kept.

    Raises
    ------
    ValueError
        Names of files or genes are repeated, or the files share no gene.

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
    import anndata
    import dask.array as da

    files = find_files(paths) if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    check_name(mask_added, "mask_added")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"paths: two files are called {twice!r}, and cells are named by their file. Rename one.")
    parts = [open_on_disk(file) for file in files]
    var_names = _union([part.var_names for part in parts], names)
    columns = [var_names.get_indexer(part.var_names) for part in parts]
    rows = [
        open_rows(part.X if layer is None else part.layers[layer], f"{name}: counts")
        for name, part in zip(names, parts, strict=True)
    ]
    obs = pd.concat([part.obs for part in parts], join="inner")
    obs.index = [f"{cell}-{name}" for name, part in zip(names, parts, strict=True) for cell in part.obs_names]
    obs[label] = pd.Categorical(np.repeat(names, [part.n_obs for part in parts]), categories=names)

    blocks = [(i, start, stop) for i, one in enumerate(rows) for start, stop in one.spans()]
    chunks = tuple(stop - start for _, start, stop in blocks), (len(var_names),)
    read = partial(_read_block, blocks=blocks, rows=rows, columns=columns, n_vars=len(var_names))
    meta = sp.csr_matrix((0, 0), dtype=np.float32)
    x = da.map_blocks(read, chunks=chunks, dtype=np.float32, meta=meta, name=f"scdae-join-{secrets.token_hex(8)}")
    joint = anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=var_names))
    if any(len(part) < len(var_names) for part in columns):
        known = np.zeros((len(files), len(var_names)), bool)
        for i, part in enumerate(columns):
            known[i, part] = True
        mask = partial(_mask_block, blocks=blocks, known=known)
        joint.layers[mask_added] = da.map_blocks(
            mask, chunks=chunks, dtype=bool, meta=np.zeros((0, 0), bool), name=f"scdae-observed-{secrets.token_hex(8)}"
        )
    return joint


def _read_block(
    block_id: tuple[int, ...], blocks: list[tuple[int, int, int]], rows: list[Rows], columns: list[Any], n_vars: int
) -> sp.csr_matrix:
    """Counts of some rows of one file, over the genes of all."""
    i, start, stop = blocks[block_id[0]]
    block = canonical_csr(rows[i].read(start, stop)).tocoo()
    return sp.csr_matrix((block.data, (block.row, columns[i][block.col])), shape=(stop - start, n_vars))


def _mask_block(block_id: tuple[int, ...], blocks: list[tuple[int, int, int]], known: np.ndarray) -> np.ndarray:
    i, start, stop = blocks[block_id[0]]
    return np.repeat(known[i][None], stop - start, axis=0)


def _union(several: list[pd.Index], names: list[str]) -> pd.Index:
    """All genes, in the order in which they come first."""
    for name, genes in zip(names, several, strict=True):
        if not genes.is_unique:
            raise ValueError(f"{name!r} repeats gene names. Make them unique (adata.var_names_make_unique()) first.")
    joint = several[0]
    for genes in several[1:]:
        joint = joint.append(genes.difference(joint, sort=False))
    if len(several) > 1 and not set.intersection(*map(set, several)):
        raise ValueError(
            f"The files share no gene. Their names look different: {[str(g[0]) for g in several if len(g)]}."
        )
    return joint


def _open_group(path: Path) -> Any:
    if path.is_dir():
        import zarr

        return zarr.open_group(path, mode="r")
    import h5py

    return h5py.File(path, "r")


def _on_disk(element: Any) -> Any:
    """A sparse dataset of anndata, or a dask array."""
    from anndata.experimental import read_elem_lazy
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if element.attrs.get("encoding-type") in _SPARSE else read_elem_lazy(element)
