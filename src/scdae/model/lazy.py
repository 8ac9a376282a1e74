"""Layers computed on access: dask arrays whose chunks decode some cells each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
import scipy.sparse as sp
from dask.highlevelgraph import HighLevelGraph

from scdae.core.data.cells import adjacent_rows
from scdae.core.data.conditions import Conditions
from scdae.core.runtime.memory import available_memory
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.count_types import AnyCounts, Counts
from scdae.inputs.genes import GeneMap
from scdae.inputs.silent import OwnCounts, counted_silent, fate, say_silent
from scdae.matrices.chunk_sizes import row_spans
from scdae.matrices.sent import Sent
from scdae.model.fitted_model import FittedModel
from scdae.model.options import InPlace
from scdae.model.restore import find_genes, read_blocks, read_quantile

if TYPE_CHECKING:
    import dask.array as da


__all__ = ["available_memory", "joined", "lazy_layer", "some_genes", "stacked"]


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

    The graph holds the model once, and counts that are in memory once, each chunk its own: whatever works it out, threads, processes or
    a cluster, gets no more than that. Processes start JAX themselves, when they work out their first chunk.

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
    columns = np.arange(counts.shape[1]) if genes is None else genes
    wanted, chosen = (None, gene_map) if genes is None else gene_map.choose(columns)
    silent = counted_silent(counts, chosen)
    if not quiet:
        say_silent(silent, chosen, counts.var_names, fate(output))
    held = counts if isinstance(counts, Counts) else None
    shared = _Shared(
        model=model,
        counts=counts if held is None else _Elsewhere(held.shape, held.var_names),
        conditions=conditions,
        gene_map=gene_map,
        output=output,
        depth=depth,
        batch=batch,
        wanted=wanted,
        chosen=chosen,
        threshold=threshold,
        dtype=dtype,
        said=[quiet or silent is not None],
    )

    def of_genes(positions: np.ndarray) -> da.Array:
        form: dict[str, Any] = {"threshold": threshold, "dtype": dtype, "quiet": True}
        return lazy_layer(model, counts, conditions, output, depth, batch, columns[positions], **form)

    name = f"scdae-{output}-{secrets.token_hex(8)}"  # a name of its own: nothing has to be hashed
    stored = np.dtype(dtype) if threshold is None else None
    spans = row_spans(counts.spans, counts.shape, len(columns), stored)
    key, here = f"{name}-model", f"{name}-package"
    # What a worker cannot read takes it down: one that lacks the package is to say so before it gets anything of it.
    graph: dict[Any, Any] = {here: (bool, (import_module, "scdae"))}
    graph[key] = _known, here, Sent(shared, of_genes=of_genes)
    for i, (start, stop) in enumerate(spans):
        graph[name, i, 0] = _decode, here, key, start, stop, None if held is None else _Rows(held, start, stop)
    meta = np.zeros((0, 0), dtype) if threshold is None else sp.csr_matrix((0, 0), dtype=np.float32)
    heights = tuple(stop - start for start, stop in spans)
    layer = HighLevelGraph.from_collections(name, graph)
    return da.Array(layer, name, chunks=(heights, (len(columns),)), meta=meta, dtype=meta.dtype)


def some_genes(layer: Any, columns: np.ndarray) -> da.Array | None:
    """Lazy layer of some columns, int (n,), that restores no other genes; None where `layer` is not as :func:`lazy_layer` made it.

    A part of one is not, nor is one that was persisted, or came from another process.
    """
    layers = getattr(getattr(layer, "dask", None), "layers", {})
    task = layers.get(layer.name, {}).get(f"{layer.name}-model") if layers else None
    sent = task[-1] if isinstance(task, tuple) else None
    of_genes = sent.note("of_genes") if isinstance(sent, Sent) else None
    return None if of_genes is None else of_genes(np.asarray(columns))


class _Elsewhere(NamedTuple):
    """Counts whose rows the chunks bring along."""

    shape: tuple[int, int]
    var_names: np.ndarray


class _Rows:
    """Rows of counts that are in memory: they share it, and alone are sent."""

    def __init__(self, counts: Counts, start: int, stop: int):
        self.counts = adjacent_rows(counts.matrix, start, stop)
        self.unobserved = None if counts.unobserved is None else adjacent_rows(counts.unobserved, start, stop)


class _Given(NamedTuple):
    """The rows of one chunk, as counts that are read."""

    shape: tuple[int, int]
    var_names: np.ndarray
    rows: _Rows

    def read(self, start: int, stop: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        return self.rows.counts, self.rows.unobserved


@dataclass(frozen=True)
class _Shared:
    """What all chunks have in common; the fields are the arguments of :func:`lazy_layer`, but for these.

    Parameters
    ----------
    gene_map, chosen
        Where all genes of the network are in the query, and those that are wanted.
    wanted
        Genes of the network that are wanted, int (n,); None for all.
    said
        Whether the warning about counts of other genes was given: one value, which changes.
    """

    model: FittedModel
    counts: Any
    conditions: Conditions | None
    gene_map: GeneMap
    output: str | float
    depth: np.ndarray | None
    batch: np.ndarray | None
    wanted: np.ndarray | None
    chosen: GeneMap
    threshold: float | None
    dtype: Any
    said: list[bool]

    def read(self, counts: Any, **which: Any) -> Iterator[tuple[Any, ...]]:
        """Values of some rows of the counts, some cells at a time."""
        query = self.model, counts, self.conditions, self.gene_map
        if isinstance(self.output, str):
            return read_blocks(*query, self.output, self.depth, None, self.batch, genes=self.wanted, **which)
        return read_quantile(*query, self.output, self.batch, genes=self.wanted, **which)


def _known(here: bool, sent: Sent) -> Sent:
    """What all chunks share, on a worker that has the package."""
    return sent


@own_switches
def _decode(here: bool, sent: Sent, start: int, stop: int, rows: _Rows | None) -> Any:
    """One chunk. A function of the module, so that a layer can be pickled and sent to other processes."""
    shared: _Shared = sent.open()
    counts, chosen = shared.counts, shared.chosen
    if rows is not None:
        counts = _Given(counts.shape, counts.var_names, rows)
    values = InPlace(stop - start, chosen.columns, chosen.known)
    own = OwnCounts(chosen, shared.output, values.array, start)
    for block, part, *_ in shared.read(counts, spans=[(start, stop)], own=own):
        values.put(slice(block.start - start, block.stop - start), part)
    if own.counted.any() and not shared.said[0]:  # counts that were not looked at before: once for all chunks
        shared.said[0] = True
        say_silent(own.counted, chosen, counts.var_names, fate(shared.output))
    if shared.threshold is None:
        return values.array.astype(shared.dtype, copy=False)
    return _sparse(values.array, shared.threshold)


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
