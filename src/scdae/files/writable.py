"""Can this object be written? Found out before time is spent: each small part is written to memory, on trial."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import zarr
from anndata.io import write_elem

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_writable", "nullable_strings"]

_FEW = 5  # parts named before "..."
_LONGEST_NAME = 255  # bytes
_LONGEST = 150  # letters of a reason in the words of another package
_NAMELESS = (
    "its name is empty"  # the path of such a part is that of the whole, which it replaces or breaks, mostly in silence
)


@contextmanager
def nullable_strings() -> Iterator[None]:
    """Let anndata write names and columns that are nullable strings, as files of anndata 0.13 hold them.

    anndata 0.12 reads but does not write these unless it is told to.
    """
    with anndata.settings.override(allow_write_nullable_strings=True):
        yield


def check_writable(adata: AnnData, path: str | os.PathLike[str], *, alone: bool = False) -> None:
    """Find out whether all parts of an AnnData can be written to a file of this kind.

    `obs`, `var` and `uns` are written to memory as they are; of matrices, the first row.

    Parameters
    ----------
    adata
        What will be written, but for the results.
    path
        Ends in .h5ad or .zarr.
    alone
        Whether the results will be written alone: then only `obs` and `var` matter.

    Raises
    ------
    ValueError
        Parts cannot be written; the message names them and says why.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> adata = anndata.AnnData(np.ones((3, 2)), uns={"model": object()})
    >>> check_writable(adata, "out.h5ad")
    Traceback (most recent call last):
    ...
    ValueError: uns['model'] cannot be written to out.h5ad (it is an object). Take it out, or turn it into text, numbers or arrays.
    """
    path = Path(path)
    parts: dict[str, Any] = {"obs": adata.obs, "var": adata.var}
    if not alone:
        parts |= {"uns": dict(adata.uns)}
        for name in ("layers", "obsm", "varm", "obsp", "varp"):
            parts[name] = {key: _first_row(value) for key, value in getattr(adata, name).items() if key is not None}
        if adata.X is not None:
            parts["X"] = _first_row(adata.X)
        if adata.raw is not None:
            parts["raw.var"] = adata.raw.var
    with _store(path.suffix) as store, warnings.catch_warnings(), nullable_strings():
        warnings.simplefilter("ignore")
        wrong = [found for name, part in parts.items() for found in _try(store.create_group(name), part, name)]
        if path.suffix == ".zarr":
            wrong += [found for name, part in parts.items() for found in _too_long(part, name)]
    if wrong:
        names = ", ".join(name for name, _ in wrong[:_FEW]) + (", ..." if len(wrong) > _FEW else "")
        them = "it" if len(wrong) == 1 else "them"
        raise ValueError(
            f"{names} cannot be written to {path.name} ({wrong[0][1]}). Take {them} out, or turn {them} into text, numbers or "
            "arrays."
        )


@contextmanager
def _store(suffix: str) -> Iterator[Any]:
    """Open a group in memory of the same format as the file."""
    if suffix == ".zarr":
        yield zarr.group(zarr.storage.MemoryStore())
        return
    with h5py.File("trial.h5", "w", driver="core", backing_store=False) as file:
        yield file


def _try(group: Any, part: Any, name: str) -> Iterator[tuple[str, str]]:
    """Return the elements within `part` that cannot be written into an empty group, each with the reason."""
    if hasattr(part, "columns") and hasattr(part, "iloc"):
        part = yield from _named(part, name)
        reason = _failure(group, "trial", part)
        if reason is not None:
            yield from _in_frame(group, part, name, reason)
    elif isinstance(part, Mapping):
        for i, (key, value) in enumerate(part.items()):
            shown = f"{name}[{key!r}]"
            if not isinstance(key, str):
                yield shown, f"its key is {_kind(key)}, but keys have to be text"
            elif not key:
                yield shown, _NAMELESS
            elif isinstance(value, Mapping) or hasattr(value, "columns"):
                reason = _failure(group, key, {})
                yield from _try(group.create_group(f"scdae-{i}"), value, shown) if reason is None else [(shown, reason)]
            else:
                reason = _failure(group, key, value)
                if reason is not None:
                    yield shown, reason
    else:
        reason = _failure(group, "trial", part)
        if reason is not None:
            yield name, reason


def _too_long(part: Any, name: str) -> Iterator[tuple[str, str]]:
    """Return the elements whose names are too long for the folders that they become in a zarr store."""
    inner = part.items() if isinstance(part, Mapping) else ((key, None) for key in getattr(part, "columns", ()))
    for key, value in inner:
        size = len(os.fsencode(str(key)))
        if size > _LONGEST_NAME:
            yield f"{name}['{str(key)[:20]}...']", f"its name has {size} bytes, and a folder's at most {_LONGEST_NAME}"
        elif value is not None:
            yield from _too_long(value, f"{name}[{key!r}]")


def _named(frame: Any, name: str) -> Generator[tuple[str, str], None, Any]:
    """What has an empty name in a data frame; returned is the rest of it."""
    if frame.index.name == "":
        yield f"{name}.index.name", "it is empty"
        frame = frame.rename_axis(index=None)
    if "" in frame.columns:
        yield f"{name}['']", _NAMELESS
        frame = frame.loc[:, frame.columns != ""]
    return frame


def _in_frame(group: Any, frame: Any, name: str, reason: str) -> Iterator[tuple[str, str]]:
    """Columns of a data frame that cannot be written; its names, where it is not the columns."""
    failed = False
    for i, key in enumerate(frame.columns):
        column = frame.iloc[:, [i]].reset_index(drop=True)
        column.index = column.index.astype(str).astype(object)
        why = _failure(group, f"column-{i}", column)
        if why is not None:
            failed = True
            yield f"{name}[{key!r}]", why
    if not failed:
        yield f"{name}_names" if name in ("obs", "var", "raw.var") else f"the index of {name}", reason


def _failure(group: Any, key: str, part: Any) -> str | None:
    """Return why an element cannot be written, or None."""
    try:
        write_elem(group, key, part)
    except Exception as error:  # noqa: BLE001  (whatever anndata, h5py or zarr do not take)
        return _reason(part, error)
    return None


def _first_row(matrix: Any) -> Any:
    """Take the first row of a matrix, which shows whether it can be written; lazy arrays and tables stay whole."""
    if type(matrix).__module__.partition(".")[0] == "dask":
        return 0
    try:
        return matrix[:1]
    except (TypeError, IndexError, KeyError, NotImplementedError):
        return matrix


def _reason(part: Any, error: Exception) -> str:
    dtypes = [str(value) for value in getattr(part, "dtypes", [getattr(part, "dtype", "")])]
    unknown = type(error).__name__ in ("IORegistryError", "NotImplementedError")
    lines = str(error).strip().splitlines()
    if len(dtypes) == 1 and dtypes[0] and (unknown or dtypes[0] in ("object", "category")):
        mixed = dtypes[0] in ("object", "category")
        return "it mixes kinds of values" if mixed else f"it is of dtype {dtypes[0]}"
    if unknown or not lines:
        return f"it is {_kind(part)}"
    return lines[0].rstrip(".")[:_LONGEST]


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
