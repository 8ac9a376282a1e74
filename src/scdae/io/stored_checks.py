"""Do the parts of a stored AnnData fit together, and is all of it there? Found out before its matrices are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scdae._log import get_logger

__all__ = ["check_stored", "is_group", "sparse_format"]

_SPARSE = {"csr_matrix": "csr", "csc_matrix": "csc"}
_LARGE = 2**28  # bytes of an array from which on its files are counted
_UNLIKELY = 30.0  # values above 0 that are to be expected where there is none
_MOST_PACKED = 4000  # times that chunks may grow when they are unpacked


def is_group(element: Any) -> bool:
    """Return whether an element of HDF5 or zarr is a group."""
    return hasattr(element, "keys")


def sparse_format(element: Any) -> str | None:
    """Return ``"csr"`` or ``"csc"`` for a stored sparse matrix of any version of anndata, None for others."""
    if not is_group(element):
        return None
    kind = element.attrs.get("h5sparse_format")  # before 0.7
    if kind is not None:
        return str(kind.decode() if isinstance(kind, bytes) else kind)
    return _SPARSE.get(str(element.attrs.get("encoding-type")))


def check_stored(group: Any) -> None:
    """Hold shapes and lengths of the parts of an AnnData against one another, and look for chunks that are missing.

    Parameters
    ----------
    group
        Of h5py or zarr, opened for reading.

    Raises
    ------
    ValueError
        They do not fit, or parts of a matrix are not there; the message says which.
    """
    if not {"obs", "var"} <= set(group):
        raise ValueError("it holds no AnnData (no obs and var)")
    n_obs, n_vars = _length(group["obs"], "obs"), _length(group["var"], "var")
    sides = {"X": (group.get("X"), n_vars)}
    if "layers" in group and is_group(group["layers"]):
        sides |= {f"layers[{key!r}]": (group["layers"][key], n_vars) for key in group["layers"]}
    if "raw" in group and is_group(group["raw"]) and {"X", "var"} <= set(group["raw"]):
        sides["raw.X"] = group["raw"]["X"], _length(group["raw"]["var"], "raw.var")
    for name, (matrix, n) in sides.items():
        if matrix is not None:
            _check_matrix(matrix, name, (n_obs, n))
    for name, array in _arrays(group):
        _check_size(array, name)


def _check_matrix(matrix: Any, name: str, wanted: tuple[int | None, int | None]) -> None:
    if not is_group(matrix):
        if len(matrix.shape) == 2:
            _check_shape(tuple(matrix.shape), wanted, name)
            _check_dense_chunks(matrix, name)
        return
    kind = sparse_format(matrix)
    if kind is None:
        return
    parts = {"data", "indices", "indptr"}
    if not parts <= set(matrix):
        raise ValueError(f"it is truncated or damaged ({name} lacks {', '.join(sorted(parts - set(matrix)))})")
    shape = tuple(int(n) for n in matrix.attrs.get("shape", matrix.attrs.get("h5sparse_shape", ())))
    if len(shape) != 2 or min(shape) < 0:
        raise ValueError(f"it is truncated or damaged (the shape of {name} is {shape})")
    _check_shape(shape, wanted, name)
    n_data, n_indices, n_ends = (math.prod(matrix[part].shape) for part in ("data", "indices", "indptr"))
    if n_data != n_indices:
        raise ValueError(f"it is truncated or damaged ({name} has {n_data:,} values, but {n_indices:,} indices)")
    major = shape[0] if kind == "csr" else shape[1]
    if n_ends != major + 1:
        raise ValueError(f"it is truncated or damaged ({name} has {n_ends:,} pointers, but {major + 1:,} are needed)")
    for part in ("indptr", "indices", "data"):
        _check_chunks(matrix, part, name)
    ends = np.asarray(matrix["indptr"][:]).ravel()
    last = int(ends[-1])
    if int(ends[0]) != 0 or (ends[1:] < ends[:-1]).any():
        raise ValueError(f"it is truncated or damaged (the pointers of {name} do not rise from 0)")
    if last != n_data:
        raise ValueError(
            f"it is truncated or damaged (the pointers of {name} end at {last:,}, but it has {n_data:,} values)"
        )


def _check_shape(shape: tuple[int, ...], wanted: tuple[int | None, int | None], name: str) -> None:
    if any(n is not None and n != side for n, side in zip(wanted, shape, strict=True)):
        shown = tuple("?" if n is None else n for n in wanted)
        raise ValueError(
            f"it is truncated or damaged ({name} is {shape[0]} x {shape[1]}, but obs and var {shown[0]} x {shown[1]})"
        )


def _length(frame: Any, name: str) -> int | None:
    """Return the number of rows of a stored data frame; None where it can't be told."""
    if not is_group(frame):
        return int(frame.shape[0]) if len(frame.shape) == 1 else None
    key = frame.attrs.get("_index")
    if key is None:
        return None
    if key not in frame:
        raise ValueError(f"it is truncated or damaged ({name} has no names)")
    names = frame[key]
    if is_group(names):
        names = names.get("values", names.get("codes"))
        if names is None:
            return None
    if _n_missing(names):
        raise ValueError(f"it is truncated or damaged (parts of {name}_names are not there)")
    return int(names.shape[0]) if len(names.shape) == 1 else None


def _check_chunks(matrix: Any, part: str, name: str) -> None:
    """A sparse matrix has no empty chunks: what the library fills in for one that is lost would count as zeros."""
    missing = _n_missing(matrix[part])
    if missing == 0 or (part == "data" and missing == _n_chunks(matrix[part])):  # zeros that were written down
        return
    if part == "indices" and not _repeats(matrix):  # each in the first row or column, so that zeros they are
        return
    if part == "indptr" and not np.asarray(matrix["indptr"][-1:]).any():
        return
    raise ValueError(
        f"it is truncated or damaged ({missing:,} of {_n_chunks(matrix[part]):,} chunks of the {part} of {name} are not there)"
    )


def _repeats(matrix: Any) -> bool:
    ends, indices = np.asarray(matrix["indptr"][:]), np.asarray(matrix["indices"][:])
    rows = np.repeat(np.arange(len(ends) - 1), np.clip(np.diff(ends), 0, len(indices)))[: len(indices)]
    same = rows[1:] == rows[:-1]
    return bool((same & (indices[1 : len(rows)] == indices[: max(len(rows) - 1, 0)])).any())


def _check_dense_chunks(matrix: Any, name: str) -> None:
    """Zarr does not write chunks of nothing but zeros; one where the cells and genes have counts elsewhere is lost."""
    missing = _n_missing(matrix)
    if not missing:
        return
    words = f"{missing:,} of {_n_chunks(matrix):,} chunks"
    none = missing == _n_chunks(matrix) or matrix.dtype == bool
    expected = 0.0 if none else _expected_in_zeros(matrix)
    if expected > _UNLIKELY:
        raise ValueError(
            f"it is truncated or damaged ({words} of {name} are not there; one of them, by the counts of these cells and genes "
            f"elsewhere, would hold about {expected:,.0f} that are not 0). Zeros that are meant are written down if "
            "zarr.config has 'array.write_empty_chunks': True"
        )
    get_logger().warning(
        f"{name}: {words} are not in the store, so their values are taken as they are filled in, mostly 0. Copy the store again "
        "if that is not meant."
    )


def _expected_in_zeros(matrix: Any) -> float:
    """Most values above 0 to be expected in a chunk that has none, by its rows and its columns elsewhere."""
    height, width = matrix.chunks
    starts = np.arange(0, matrix.shape[1], width)
    rows = range(0, matrix.shape[0], height)
    found = np.array([np.add.reduceat(np.count_nonzero(matrix[i : i + height], axis=0), starts) for i in rows], float)
    heights = np.minimum(matrix.shape[0] - np.array(rows), height)
    of_rows, total = found.sum(axis=1), found.sum()
    if not total:
        return 0.0
    some = of_rows > 0  # cells without a single count are none, in so great a number
    of_rows = np.where(some, of_rows, heights * of_rows[some].sum() / heights[some].sum())
    return float(np.max(np.outer(of_rows, found.sum(axis=0)) / total, where=found == 0, initial=0.0))


def _n_chunks(array: Any) -> int:
    """Chunks of an array; its shards, where it has any, as each is a file that is there or not."""
    if getattr(array, "shards", None):
        return math.prod(-(-n // side) for n, side in zip(array.shape, array.shards, strict=True))
    if hasattr(array, "nchunks"):
        return int(array.nchunks)
    chunks = getattr(array, "chunks", None)
    return math.prod(-(-n // c) for n, c in zip(array.shape, chunks, strict=True)) if chunks else 0


def _n_missing(array: Any) -> int:
    """Count the chunks that were never written, or are lost."""
    if hasattr(array, "nchunks_initialized"):
        found = int(array.nchunks_initialized)
        # zarr counts all chunks that a shard has room for, also beyond the end of the array.
        if getattr(array, "shards", None):
            found //= math.prod(whole // part for whole, part in zip(array.shards, array.chunks, strict=True))
        return _n_chunks(array) - found
    if getattr(array, "chunks", None) and not array.is_virtual:
        return max(0, _n_chunks(array) - int(array.id.get_num_chunks()))
    return 0


def _arrays(group: Any) -> Iterator[tuple[str, Any]]:
    """Arrays of a zarr store; those of HDF5 have been looked at when it was opened."""
    if not hasattr(group, "members"):
        return
    for name, member in group.members(max_depth=None):
        if not is_group(member):
            yield name, member


def _check_size(array: Any, name: str) -> None:
    wanted = math.prod(array.shape) * array.dtype.itemsize
    if wanted <= _LARGE:
        return
    root = Path(str(array.store_path).removeprefix("file://"))
    if not root.is_dir():
        return
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    if wanted > max(_LARGE, _MOST_PACKED * size):
        raise ValueError(
            f"it is truncated or damaged ({name} would take {wanted:,} bytes, more than {size:,} bytes on disk can hold)"
        )
