"""Matrices of several data sets below one another, over the genes of all: in memory, or block by block when looked at."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
import scipy.sparse as sp

from scdae.matrices.rows import BLOCK_VALUES, Rows, canonical_csr, open_rows

if TYPE_CHECKING:
    import dask.array as da
    from anndata import AnnData

__all__ = ["JOINED", "Part", "join_lazily", "join_now", "own_mask"]

JOINED = "joined_files"  # entry of uns that says which files were joined


class Part(NamedTuple):
    """A matrix of one data set."""

    n_obs: int
    columns: np.ndarray  # int (n_vars,): place of its genes among all
    rows: Rows | None  # None: True throughout


def own_mask(adata: AnnData, layer: str, name: str) -> Rows | None:
    """Return what a data set says itself about what was observed; None where it has no such layer.

    Raises
    ------
    ValueError
        The layer is not boolean, so that it is something else.
    """
    if layer not in adata.layers:
        return None
    rows = open_rows(adata.layers[layer], f"{name}: layers[{layer!r}]")
    if rows.dtype != np.bool_:
        raise ValueError(
            f"{name}: layers[{layer!r}] is {rows.dtype}, but this is where it is to say what was observed, as booleans. Convert "
            "it with .astype(bool) if it says that, or pass another name as mask_added=."
        )
    return rows


def join_now(parts: Sequence[Part], n_vars: int, dtype: Any, *, sparse: bool) -> Any:
    """Return all of it in memory: a dense array, or a CSR matrix; zero where a data set has no such gene."""
    if sparse:
        blocks = [_block(part, *span, n_vars, dtype, True) for part in parts for span in _spans(part)]
        return sp.vstack([sp.csr_matrix((0, n_vars), dtype=dtype), *blocks], format="csr")
    joined, first = np.zeros((sum(part.n_obs for part in parts), n_vars), dtype), 0
    for part in parts:
        for start, stop in _spans(part):
            joined[first + start : first + stop] = _block(part, start, stop, n_vars, dtype, False)
        first += part.n_obs
    return joined


def join_lazily(parts: Sequence[Part], n_vars: int, dtype: Any, *, sparse: bool) -> da.Array:
    """Return the same as a dask array, which can be sent to other processes if the parts can."""
    blocks = [(i, start, stop) for i, part in enumerate(parts) for start, stop in _spans(part)]
    chunks = tuple(stop - start for _, start, stop in blocks), (n_vars,)
    meta = sp.csr_matrix((0, 0), dtype=dtype) if sparse else np.zeros((0, 0), dtype)
    read = partial(_numbered, blocks=blocks, parts=list(parts), n_vars=n_vars, dtype=dtype, sparse=sparse)
    return da.map_blocks(read, chunks=chunks, dtype=dtype, meta=meta, name=f"scdae-join-{secrets.token_hex(8)}")


def _spans(part: Part) -> list[tuple[int, int]]:
    if part.rows is not None:
        return list(part.rows.spans())
    step = max(1, BLOCK_VALUES // max(1, len(part.columns)))
    return [(start, min(start + step, part.n_obs)) for start in range(0, part.n_obs, step)]


def _numbered(
    block_id: tuple[int, ...], blocks: Sequence[tuple[int, int, int]], parts: Sequence[Part], **form: Any
) -> Any:
    i, start, stop = blocks[block_id[0]]
    return _block(parts[i], start, stop, **form)


def _block(part: Part, start: int, stop: int, n_vars: int, dtype: Any, sparse: bool) -> Any:
    """Return some rows of one data set over the genes of all."""
    block: Any = True if part.rows is None else part.rows.read(start, stop)
    if sparse:
        own = canonical_csr(block)
        wide = sp.csr_matrix((own.data, part.columns[own.indices], own.indptr), shape=(stop - start, n_vars))
        wide.sort_indices()
        return wide.astype(dtype)
    values = np.zeros((stop - start, n_vars), dtype)
    values[:, part.columns] = block.toarray() if sp.issparse(block) else block
    return values
