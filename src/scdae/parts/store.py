"""The zarr store that grows: regions of whole chunks, pieces of sparse layers, and one matrix made of these."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr
from anndata.experimental import write_dispatched
from anndata.io import read_elem, write_elem

from scdae.files.plain_text import write_text_plainly
from scdae.files.writable import nullable_strings
from scdae.files.zarr_once import Ends
from scdae.matrices.chunk_sizes import zarr_version
from scdae.outputs.blocks import RestoredBlock
from scdae.parts.plan import Plan

__all__ = ["Writer", "check_whole", "join_pieces", "make_store", "write_annotations"]


def make_store(path: Path, plan: Plan) -> None:
    """Make a store with the layers and the latent space that will be filled in."""
    with _quietly():
        group = zarr.open_group(path, mode="w", zarr_format=zarr_version())
        group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("layers", "obsm"):
            group.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        if not plan.sparse:
            for name in plan.layers:
                _make(group["layers"], name, (plan.n_obs, plan.n_genes), plan.height, plan.dtype)
        _make(group["obsm"], f"X_{plan.key}", (plan.n_obs, plan.n_latent), plan.height, "float32")


def check_whole(array: Any, start: int, stop: int) -> None:
    """Raise unless some rows are whole shards, or chunks where there are no shards.

    Two processes that write to one file each read it, change their part of it and write it back: what one of them wrote is
    lost, and no error says so.

    Parameters
    ----------
    array
        The zarr array.
    start, stop
        First and last (excluded) row.

    Examples
    --------
    >>> import zarr
    >>> array = zarr.create_array({}, shape=(100, 3), chunks=(10, 3), shards=(20, 3), dtype="float32")
    >>> check_whole(array, 20, 40)
    >>> check_whole(array, 20, 50)
    Traceback (most recent call last):
    ...
    ValueError: rows 20 to 50 are not whole shards of 20 rows: another process may write to the same file, and values would be lost.
    """
    shards = getattr(array, "shards", None)
    height, what = (array.chunks[0], "chunks") if shards is None else (shards[0], "shards")
    if start % height or (stop % height and stop != array.shape[0]):
        raise ValueError(
            f"rows {start:,} to {stop:,} are not whole {what} of {height:,} rows: another process may write to the same file, and "
            "values would be lost."
        )


class Writer:
    """Writes the rows of one part.

    Parameters
    ----------
    store
        A store of zarr over the folder of :func:`make_store`.
    plan
        Its plan.
    rows
        First and last (excluded) row of the part.
    pieces
        Folder of each layer's pieces, where layers are sparse.

    Raises
    ------
    ValueError
        The rows are not whole shards or chunks of each array.
    """

    def __init__(self, store: Any, plan: Plan, rows: tuple[int, int], pieces: Sequence[Path]):
        group: Any = zarr.open_group(store, mode="r+", use_consolidated=False)
        self._latent = group["obsm"][f"X_{plan.key}"]
        self._dense = [] if plan.sparse else [group["layers"][name] for name in plan.layers]
        self._pieces = list(pieces) if plan.sparse else []
        self.entries = [0] * len(self._pieces)  # stored, of each sparse layer
        for array in (self._latent, *self._dense):
            check_whole(array, *rows)

    def write(self, start: int, block: RestoredBlock) -> None:
        """Write a block, whose first row is `start`, of one chunk."""
        rows = slice(start, start + len(block.latent))
        for array, values in zip((self._latent, *self._dense), (block.latent, *block.layers), strict=False):
            check_whole(array, rows.start, rows.stop)
            if array.shape[1]:
                array[rows] = values
        for number, (folder, piece) in enumerate(zip(self._pieces, block.layers, strict=False)):
            with _quietly():
                write_elem(zarr.open_group(folder / f"{start}", mode="w", zarr_format=zarr_version()), "piece", piece)
            self.entries[number] += int(piece.nnz)


def join_pieces(path: Path, name: str, pieces: Sequence[Path], shape: tuple[int, int], n_stored: int) -> None:
    """Make one CSR layer of pieces, which follow on one another; one piece at a time is in memory."""
    index = np.int32 if max(n_stored, shape[1]) <= np.iinfo(np.int32).max else np.int64
    with _quietly():
        root: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
        layers = root["layers"]
        if name in layers:  # of a collecting that was stopped
            del layers[name]
        group = layers.create_group(name)
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
        ends = [Ends(group, "data", np.float32), Ends(group, "indices", index)]
        starts, row = np.zeros(shape[0] + 1, index), 0
        for piece in pieces:
            part: sp.csr_matrix = read_elem(zarr.open_group(piece, mode="r")["piece"])
            until = part.indptr[1:].astype(index)
            starts[row + 1 : row + 1 + len(until)] = starts[row] + until
            row += len(until)
            for end, values in zip(ends, (part.data, part.indices), strict=True):
                end.add(values)
        found = row, int(starts[-1])
        if found != (shape[0], n_stored):
            raise ValueError(
                f"{path.parent}: the pieces of {name!r} have {found[0]:,} rows and {found[1]:,} values, not {shape[0]:,} and "
                f"{n_stored:,}. Remove the folder to begin anew."
            )
        for end in ends:
            end.close()
        write_elem(group, "indptr", starts)


def write_annotations(path: Path, elements: dict[str, Any]) -> None:
    """Write `obs`, `var`, `uns` and what else an AnnData has, and metadata for readers that look at one file first."""
    with _quietly(), nullable_strings():
        group: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
        for name, element in elements.items():
            if name in group:
                del group[name]
            write_dispatched(group, name, element, callback=write_text_plainly)
        zarr.consolidate_metadata(path)


def _make(group: Any, name: str, shape: tuple[int, ...], height: int, dtype: Any) -> Any:
    """Create an array in chunks of whole rows, without shards, with the attributes that anndata gives its arrays."""
    chunks = tuple(max(min(side, n), 1) for side, n in zip((height, *shape[1:]), shape, strict=True))
    array = group.create_array(name, shape=shape, chunks=chunks, dtype=np.dtype(dtype), fill_value=0)
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return array


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence warnings about file formats, on which a user can't act here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
