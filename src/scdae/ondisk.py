"""Data that stay on disk: files opened without reading their matrices, and many files as one."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from scdae.containers import Rows
from scdae.joining import JOINED, Part, join_lazily, own_mask
from scdae.places import SPARSE, on_disk, open_group, rows_of
from scdae.union import joint_obs, union_of_genes
from scdae.writing import check_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["find_files", "join_files", "open_on_disk", "stored_entries"]


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

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    with warnings.catch_warnings(), _naming(path):
        warnings.simplefilter("ignore")  # old formats
        group = open_group(path)
        if not {"obs", "var"} <= set(group):
            raise ValueError("it has no obs and var")
        layers = {name: on_disk(group["layers"][name]) for name in group["layers"]} if "layers" in group else {}
        return anndata.AnnData(
            on_disk(group["X"]) if "X" in group else None,
            obs=read_elem(group["obs"]),
            var=read_elem(group["var"]),
            layers=layers,
        )


def stored_entries(path: str | os.PathLike[str]) -> int:
    """Stored entries of the largest matrix (`X` or a layer) of an .h5ad or .zarr file; all of them if it is dense."""
    with _naming(Path(path)):
        group = open_group(Path(path))
        matrices = [group["X"]] if "X" in group else []
        matrices += [group["layers"][name] for name in group["layers"]] if "layers" in group else []
        sizes = [m["data"].shape[0] if m.attrs.get("encoding-type") in SPARSE else m.size for m in matrices]
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
        Column of `obs` that gets the name of each cell's file, without its ending, for ``batch_key=``. A column that the files
        have under this name is kept with ``_own`` behind it.
    mask_added
        Layer that says what was observed, for ``mask=``: where the files have not all the same genes, or have such a layer of
        their own, which is kept.

    Returns
    -------
    anndata.AnnData
        Cells of all files below one another, called ``cell-sample``; genes in the order in which they come first. `X` is a
        dask array of sparse chunks, which other processes can work out, too: files are opened where they are read. Columns
        of `obs` that all files have are kept; ``uns["joined_files"]`` names the files.

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
    import anndata

    files = find_files(paths) if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    if not files:
        raise ValueError("paths is empty: pass files (.h5ad, .zarr), or a pattern such as 'samples/*.h5ad'.")
    check_name(mask_added, "mask_added")
    check_name(label, "label")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"paths: two files are called {twice!r}, and cells are named by their file. Rename one.")
    found = [_described(file, layer, mask_added) for file in files]
    var_names = union_of_genes([one.var_names for one in found], names, "files")
    columns = [var_names.get_indexer(one.var_names.astype(str)).astype(np.int32) for one in found]
    obs = joint_obs([one.obs for one in found], names, label, everything=False, what="file")

    n_vars = len(var_names)
    parts = [Part(len(one.obs), where, one.counts) for one, where in zip(found, columns, strict=True)]
    joint = anndata.AnnData(
        join_lazily(parts, n_vars, np.float32, sparse=True),
        obs=obs,
        var=pd.DataFrame(index=var_names),
        uns={JOINED: {"label": label, "files": [file.name for file in files]}},
    )
    if any(len(part.columns) < n_vars for part in parts) or any(one.mask is not None for one in found):
        masks = [Part(len(one.obs), where, one.mask) for one, where in zip(found, columns, strict=True)]
        joint.layers[mask_added] = join_lazily(masks, n_vars, bool, sparse=False)
    return joint


class _Described(NamedTuple):
    """One of the files."""

    obs: pd.DataFrame
    var_names: pd.Index
    counts: Rows
    mask: Rows | None


def _described(path: Path, layer: str | None, mask: str) -> _Described:
    """What is known of a file without reading its matrices."""
    adata = open_on_disk(path)
    layers = [name for name in adata.layers if name is not None]
    shown = ", ".join(map(repr, layers)) or "none"
    if layer is None and adata.X is None:
        raise ValueError(f"{path} has no X. Pass layer= with the layer that holds counts. Layers there: {shown}.")
    if layer is not None and layer not in layers:
        raise ValueError(f"layer={layer!r} is not in {path}. Layers there: {shown}.")
    element = "X" if layer is None else f"layers/{layer}"
    known = own_mask(adata, mask, str(path))
    known = None if known is None else rows_of(path, f"layers/{mask}", f"{path}: layers[{mask!r}]")
    return _Described(adata.obs, adata.var_names, rows_of(path, element, f"{path}: counts"), known)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in every failure to open it, in one line."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        if path.exists() and not isinstance(error, PermissionError):
            raise ValueError(f"{path} cannot be read: it is no .h5ad or .zarr file.") from error
        raise
    except Exception as error:  # readers of two formats and their codecs fail in many ways
        text = str(error).strip().splitlines()
        raise ValueError(
            f"{path} cannot be read: it is truncated, damaged or no AnnData ({text[0].rstrip('.') if text else type(error).__name__})."
        ) from error
