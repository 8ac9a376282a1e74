"""AnnData in .h5ad and .zarr: read as a whole or left on disk, of any version, once its parts are found to fit together."""

from __future__ import annotations

import os
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import zarr
from anndata.experimental import read_elem_lazy
from anndata.io import read_elem, sparse_dataset

from scdae._log import get_logger
from scdae.files.errors import reading
from scdae.io.hdf5 import open_hdf5
from scdae.io.stored_checks import check_stored, is_group, sparse_format
from scdae.matrices.rows import Rows, open_rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["is_store", "on_disk", "open_group", "open_on_disk", "read_anndata", "stored_entries"]

_MISSING = object()
_FEW = 5  # elements named before "..."
_MAPPINGS = ("uns", "layers", "obsm", "varm", "obsp", "varp")


def is_store(path: Path) -> bool:
    """Return whether a folder is a zarr store, or a group in one."""
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json", ".zmetadata"))


def read_anndata(path: Path) -> AnnData:
    """Read all of an AnnData file into memory.

    Elements of kinds that this anndata does not know are left out, which the log says.

    Raises
    ------
    ValueError
        It is damaged, or `X`, `obs` or `var` is of a kind that is not known.
    """
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old formats, names that repeat: said elsewhere where it matters
        check_stored(open_group(path))
        try:
            return anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
        except Exception as error:
            if not _is_unknown(error):
                raise
        return _read_what_is_known(path)


def open_on_disk(path: str | os.PathLike[str], *, raw: bool = False) -> AnnData:
    """Open an AnnData file without reading `X` and the layers.

    Parameters
    ----------
    path
        .h5ad or .zarr.
    raw
        Whether to open ``.raw`` in place of `X`: its matrix and its genes, and no layers.

    Returns
    -------
    anndata.AnnData
        `obs` and `var` are in memory; `X` and layers are sparse datasets of anndata or dask arrays. The rest is left
        out.

    Raises
    ------
    ValueError
        It is damaged, no AnnData, or has no ``.raw``. The message names the file.

    Examples
    --------
    >>> import anndata, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anndata.AnnData(np.ones((3, 2))).write_h5ad(folder + "/a.h5ad")
    ...     open_on_disk(folder + "/a.h5ad").shape
    (3, 2)
    """
    path = Path(path)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old formats
        group = open_group(path)
        if not {"obs", "var"} <= set(group):
            raise ValueError("it holds no AnnData (no obs and var)")
        check_stored(group)
        layers = {name: on_disk(group["layers"][name]) for name in group["layers"]} if "layers" in group else {}
        home, x = group, group.get("X")
        if raw:
            if "raw" not in group or not is_group(group["raw"]):
                raise ValueError("it has no .raw")
            home, layers = group["raw"], {}
            x = home.get("X")
        if is_group(group["obs"]) and is_group(home["var"]):
            obs, var = read_elem(group["obs"]), read_elem(home["var"])
        else:  # anndata before 0.7 keeps categories in uns
            whole = anndata.read_h5ad(path, backed="r")
            obs, var = whole.obs, (whole.raw if raw else whole).var
            whole.file.close()
        return anndata.AnnData(None if x is None else on_disk(x), obs=obs, var=var, layers=layers)


def stored_entries(path: str | os.PathLike[str]) -> int:
    """Count the stored entries of the largest matrix (`X`, a layer or ``.raw``) of a file; all if it is dense."""
    path = Path(path)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = open_group(path)
        matrices = [group["X"]] if "X" in group else []
        matrices += [group["layers"][name] for name in group["layers"]] if "layers" in group else []
        raw = group.get("raw")
        matrices += [raw["X"]] if raw is not None and is_group(raw) and "X" in raw else []
        sizes = [m["data"].shape[0] if sparse_format(m) else m.size for m in matrices]
        return int(max(sizes, default=0))


def open_group(path: Path) -> Any:
    """Open the root of a .zarr or .h5ad file, read-only."""
    if path.is_dir():
        return zarr.open_group(path, mode="r")
    return open_hdf5(path)


def on_disk(element: Any) -> Any:
    """Return a sparse dataset of anndata, or a dask array."""
    if sparse_format(element):
        return sparse_dataset(element)
    if "encoding-type" in element.attrs:
        return read_elem_lazy(element)
    import dask.array as da  # anndata before 0.7 says nothing of dense matrices

    return da.from_array(element, chunks=getattr(element, "chunks", None) or "auto")


def _is_unknown(error: BaseException | None) -> bool:
    """Return whether anndata has no reader for an element, whatever it wrapped that in."""
    while error is not None:
        if type(error).__name__ == "IORegistryError":
            return True
        error = error.__cause__ or error.__context__
    return False


def _read_what_is_known(path: Path) -> AnnData:
    group = open_group(path)
    left: list[str] = []
    parts = {name: _known(group[name], name, left) for name in ("obs", "var") if name in group}
    x = _known(group["X"], "X", left) if "X" in group else None
    for name, part in (("X", x), *parts.items()):
        if part is _MISSING:
            raise ValueError(
                f"{left[0]} is of a kind that this anndata does not know: update anndata, or the file is damaged"
            )
        if f"{name}.index" in left:
            raise ValueError(f"the names of {name} are of a kind that this anndata does not know: update anndata")
    for name in _MAPPINGS:
        if name in group:
            known = _known(group[name], name, left)
            parts[name] = {} if known is _MISSING else known
    if "raw" in group and is_group(group["raw"]):
        raw = {key: _known(group["raw"][key], f"raw.{key}", left) for key in group["raw"]}
        raw = {key: value for key, value in raw.items() if value is not _MISSING}
        if {"X", "var"} <= set(raw):
            parts["raw"] = raw
    shown = ", ".join(left[:_FEW]) + (", ..." if len(left) > _FEW else "")
    get_logger().warning(
        f"{path}: left out {shown}, of a kind that this anndata does not know. To keep it, update anndata and start again."
    )
    return anndata.AnnData(x, **parts)


def _known(element: Any, name: str, left: list[str]) -> Any:
    """Return an element as far as anndata knows it; the names of the rest are added to `left`."""
    try:
        return read_elem(element)
    except Exception as error:
        if not _is_unknown(error):
            raise
    kind = str(element.attrs.get("encoding-type", "dict" if is_group(element) else ""))
    if kind == "dataframe":
        return _known_columns(element, name, left)
    if kind in ("dict", "raw"):
        parts = {key: _known(element[key], f"{name}[{key!r}]", left) for key in element}
        return {key: value for key, value in parts.items() if value is not _MISSING}
    left.append(f"{name} ({kind or 'unknown'} {element.attrs.get('encoding-version', '')})".replace(" )", ")"))
    return _MISSING


def _known_columns(element: Any, name: str, left: list[str]) -> Any:
    key = element.attrs["_index"]
    index = _known(element[key], f"{name}.index", left)
    if index is _MISSING:
        return _MISSING
    frame = pd.DataFrame(index=pd.Index(np.asarray(index), name=None if key == "_index" else key))
    for column in element.attrs["column-order"]:
        values = _known(element[column], f"{name}[{column!r}]", left)
        if values is not _MISSING:
            frame[column] = values
    return frame


class Place(NamedTuple):
    """Where a matrix is."""

    path: str
    element: str  # such as "X" or "layers/counts"
    changed: int  # when the file was, in ns: another content is another place


def rows_of(path: Path, element: str, name: str) -> Rows:
    """Rows of a matrix in a file, which is opened when they are read, by each process that reads them."""
    place = Place(os.path.abspath(path), element, path.stat().st_mtime_ns)
    rows = _opened(place, name)
    return Rows(rows.shape, rows.dtype, rows.bounds, partial(_read, place, name))


def _read(place: Place, name: str, start: int, stop: int) -> Any:
    if not os.path.exists(place.path) or os.stat(place.path).st_mtime_ns != place.changed:
        raise OSError(f"{place.path} was moved or changed since it was joined. Join the files again.")
    try:
        return _opened(place, name).read(start, stop)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{place.path}: rows {start:,} to {stop - 1:,} of {place.element} cannot be read ({error}). The file is damaged, or "
            "lies on storage that failed."
        ) from error


@lru_cache(maxsize=64)  # files that are open at the same time
def _opened(place: Place, name: str) -> Rows:
    return open_rows(on_disk(open_group(Path(place.path))[place.element]), name)
