"""Data that stay on disk: files opened without reading their matrices, and many files as one."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae.containers import Rows, canonical_csr, open_rows
from scdae.io import is_anndata, read_any
from scdae.stored import open_on_disk, stored_entries
from scdae.writing import check_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["find_files", "join_files", "open_on_disk", "stored_entries"]

_FEW = 5  # names shown before "..."


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
    if not files:
        raise ValueError("paths names no file.")
    opened = [_open_part(file, layer) for file in files]
    parts = [part for part, _ in opened]
    var_names = _union([part.var_names for part in parts], names)
    columns = [var_names.get_indexer(part.var_names) for part in parts]
    rows = [open_rows(counts, f"{file}: counts") for file, (_, counts) in zip(files, opened, strict=True)]
    obs = pd.concat([part.obs for part in parts], join="inner")
    obs.index = [f"{cell}-{name}" for name, part in zip(names, parts, strict=True) for cell in part.obs_names]
    obs[label] = pd.Categorical(np.repeat(names, [part.n_obs for part in parts]), categories=names)

    blocks = [(i, start, stop) for i, one in enumerate(rows) for start, stop in one.spans()]
    chunks = tuple(stop - start for _, start, stop in blocks), (len(var_names),)
    read = partial(_read_block, blocks=blocks, rows=rows, columns=columns, n_vars=len(var_names))
    meta = sp.csr_matrix((0, 0), dtype=np.float32)
    x = da.map_blocks(read, chunks=chunks, dtype=np.float32, meta=meta, name=f"scdae-join-{secrets.token_hex(8)}")
    joint = anndata.AnnData(x, obs=obs, var=_feature_types(parts, columns, var_names))
    if any(len(part) < len(var_names) for part in columns):
        known = np.zeros((len(files), len(var_names)), bool)
        for i, part in enumerate(columns):
            known[i, part] = True
        mask = partial(_mask_block, blocks=blocks, known=known)
        joint.layers[mask_added] = da.map_blocks(
            mask, chunks=chunks, dtype=bool, meta=np.zeros((0, 0), bool), name=f"scdae-observed-{secrets.token_hex(8)}"
        )
    return joint


def _feature_types(parts: list[AnnData], columns: list[Any], var_names: pd.Index) -> pd.DataFrame:
    """What tells genes from proteins and others, where all files say it, and alike."""
    var = pd.DataFrame(index=var_names)
    if not all("feature_types" in part.var for part in parts):
        return var
    types = np.full(len(var_names), "", dtype=object)
    for part, own in zip(parts, columns, strict=True):
        given = part.var["feature_types"].astype(str).to_numpy()
        if ((types[own] != "") & (types[own] != given)).any():
            return var
        types[own] = given
    var["feature_types"] = types
    return var


def _open_part(file: Path, layer: str | None) -> tuple[AnnData, Any]:
    """A file left on disk, and the matrix of its counts."""
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist.")
    if not is_anndata(file):
        read_any(file)  # says what is wrong with it
        raise ValueError(f"{file} is no .h5ad or .zarr: only these can be read together. Save it as .h5ad first.")
    part = open_on_disk(file)
    layers = [key for key in part.layers if key is not None]
    if layer == "raw" and layer not in layers:
        part = open_on_disk(file, raw=True)
        return part, part.X
    if layer is not None and layer not in layers:
        shown = ", ".join(repr(key) for key in layers[:_FEW]) + (", ..." if len(layers) > _FEW else "")
        raise ValueError(f"{file}: layer={layer!r} does not exist. Layers there: {shown or 'none'}.")
    if layer is None and part.X is None:
        raise ValueError(f"{file} has no X. Pass layer=... with the layer that holds counts, or leave the file out.")
    return part, part.X if layer is None else part.layers[layer]


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
