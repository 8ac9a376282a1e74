"""Layers computed on access: dask arrays whose chunks decode some cells each."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import scipy.sparse as sp

from scdae.core.data.conditions import Conditions
from scdae.core.runtime.memory import available_memory
from scdae.core.runtime.transfers import transfers
from scdae.inputs.count_types import AnyCounts
from scdae.inputs.genes import GeneMap
from scdae.inputs.silent import OwnCounts, counted_silent, fate, say_silent
from scdae.matrices.chunk_sizes import CHUNK_VALUES
from scdae.model.fitted_model import FittedModel
from scdae.model.options import InPlace
from scdae.model.restore import find_genes, read_blocks, read_quantile

if TYPE_CHECKING:
    import dask.array as da


__all__ = ["available_memory", "chunk_spans", "joined", "lazy_layer", "stacked"]


def lazy_layer(
    model: FittedModel,
    counts: AnyCounts,
    conditions: Conditions | None,
    output: str | float,
    depth: np.ndarray | None = None,
    batch: np.ndarray | None = None,
    genes: np.ndarray | None = None,
    threshold: float | None = None,
    dtype: Any = np.float32,
    quiet: bool = False,
) -> da.Array:
    """Restored counts as a dask array; nothing is read or decoded before it is accessed.

    Parameters
    ----------
    model
        Fitted model; it is kept by the array, as are the counts.
    counts
        The query.
    conditions
        Of its cells.
    output
        As for :func:`scdae.core.prediction.decode.read_out`, or the probability of a quantile.
    depth, batch
        As for that function.
    genes
        Columns of the query that are wanted, int (n,); None for all.
    threshold
        Values below it become zeros that are not stored, and chunks SciPy CSR matrices; None for dense chunks.
    dtype
        float32 or float16.
    quiet
        Whether to leave out the warnings about genes.

    Returns
    -------
    dask.array.Array
        (n_obs, n), one chunk of columns.
    """
    gene_map = find_genes(model, counts, quiet=quiet)
    n_vars = counts.shape[1]
    columns = np.arange(n_vars) if genes is None else genes
    spans = chunk_spans(counts, n_vars)

    wanted, chosen = (None, gene_map) if genes is None else gene_map.choose(columns)
    of_query = model, counts, conditions, gene_map
    silent = counted_silent(counts, chosen)
    said = [quiet or silent is not None]
    if not quiet:
        say_silent(silent, chosen, counts.var_names, fate(output))
    read: Any
    if isinstance(output, str):
        read = partial(read_blocks, *of_query, output, depth, None, batch)
    else:
        read = partial(read_quantile, *of_query, output, batch)

    decode = partial(
        _decode,
        spans=spans,
        read=read,
        wanted=wanted,
        gene_map=chosen,
        dtype=dtype,
        threshold=threshold,
        output=output,
        var_names=counts.var_names,
        said=said,
    )
    meta = np.zeros((0, 0), dtype) if threshold is None else sp.csr_matrix((0, 0), dtype=np.float32)
    heights = tuple(stop - start for start, stop in spans)
    name = f"scdae-{output}-{secrets.token_hex(8)}"  # a name of its own: nothing has to be hashed
    return da.map_blocks(decode, chunks=(heights, (len(columns),)), dtype=meta.dtype, meta=meta, name=name)


@transfers
def _decode(
    block_id: tuple[int, ...],
    spans: list[tuple[int, int]],
    read: Any,
    wanted: np.ndarray | None,
    gene_map: GeneMap,
    dtype: Any,
    threshold: float | None,
    output: str | float,
    var_names: np.ndarray,
    said: list[bool],
) -> Any:
    """One chunk. A function of the module, so that a layer can be pickled and sent to other processes."""
    start, stop = spans[block_id[0]]
    values = InPlace(stop - start, gene_map.columns, gene_map.known)
    own = OwnCounts(gene_map, output, values.array, start)
    for rows, part, *_ in read(spans=[(start, stop)], genes=wanted, own=own):
        values.put(slice(rows.start - start, rows.stop - start), part)
    if own.counted.any() and not said[0]:  # counts that were not looked at before: once for all chunks
        said[0] = True
        say_silent(own.counted, gene_map, var_names, fate(output))
    return values.array.astype(dtype, copy=False) if threshold is None else _sparse(values.array, threshold)


def _sparse(values: np.ndarray, threshold: float) -> sp.csr_matrix:
    """Values of `threshold` and more; genes that the model does not know stay NaN."""
    kept = ~(values < threshold)
    flat = np.flatnonzero(kept)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return sp.csr_matrix((values.ravel()[flat], flat % max(values.shape[1], 1), starts), shape=values.shape)


def joined(layer: da.Array) -> Any:
    """All of a lazy layer, in memory: one chunk after the other, as a dense array or a CSR matrix."""
    parts = (layer.blocks[i].compute(scheduler="synchronous") for i in range(layer.numblocks[0]))
    if sp.issparse(layer._meta):
        return stacked(list(parts), layer.shape)
    values, start = np.empty(layer.shape, layer.dtype), 0
    for part in parts:  # into its place, so that no second copy is ever there
        values[start : start + len(part)] = part
        start += len(part)
    return values


def stacked(parts: list[Any], shape: tuple[int, int]) -> Any:
    """CSR matrices, one below the other, each given up as soon as it is in its place; the list is empty afterwards."""
    kind, n_stored, start, row = type(parts[0]), sum(part.nnz for part in parts), 0, 0
    index = np.int32 if max(n_stored, shape[1]) <= np.iinfo(np.int32).max else np.int64
    data, indices = np.empty(n_stored, parts[0].dtype), np.empty(n_stored, index)
    starts = np.zeros(shape[0] + 1, index)
    parts.reverse()
    while parts:
        part = parts.pop()
        stop = start + part.nnz
        data[start:stop], indices[start:stop] = part.data, part.indices
        starts[row + 1 : row + 1 + part.shape[0]] = start + part.indptr[1:].astype(index)
        start, row = stop, row + part.shape[0]
    return kind((data, indices, starts), shape=shape)


def chunk_spans(counts: AnyCounts, n_vars: int) -> list[tuple[int, int]]:
    """First and last (excluded) row of each chunk: blocks as they are read, cut or joined to about one size."""
    height = max(CHUNK_VALUES // max(n_vars, 1), 1)
    spans: list[tuple[int, int]] = []
    for start, stop in counts.spans:
        if spans and stop - spans[-1][0] <= height:
            spans[-1] = spans[-1][0], stop
            continue
        spans += [(first, min(first + height, stop)) for first in range(start, stop, height)]
    return spans
