"""From whatever the user has to validated counts: the one place where an AnnData becomes arrays.

Every value is looked at once, block by block. Counts that fit are then in memory; of more than that, the pass keeps
what a fit has to know beforehand, and the blocks are read again when they are needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse as sp

from scdae._log import get_logger
from scdae._settings import settings
from scdae.arguments.names import names_of_genes
from scdae.arguments.objects import RAW, check_adata
from scdae.core.data.chunks import Blocks
from scdae.core.data.survey import Survey
from scdae.core.runtime.memory import entries_to_hold
from scdae.files.errors import first_line
from scdae.inputs.checking import CheckedReader, problem_of
from scdae.inputs.count_types import AnyCounts, CountBlocks, Counts, UnreadCounts
from scdae.inputs.doubts import say_columns, say_doubts
from scdae.inputs.mask import drop_unobserved, open_mask
from scdae.inputs.scan import as_parts, shared_pass
from scdae.inputs.validate import check_orientation, describe_source, whole_count_sources, without_noise
from scdae.matrices.features import warn_other_features
from scdae.matrices.rows import Rows, canonical_csr, in_memory, open_rows

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.core.minibatches.devices import Devices

__all__ = [
    "AnyCounts",
    "CountBlocks",
    "Counts",
    "UnreadCounts",
    "counts_to_apply",
    "matrix_of",
    "open_counts",
    "read_counts",
    "unread_counts",
]

_FEW = 5  # names shown before "..."


def read_counts(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask: Any = None,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    for_fit: bool = True,
) -> Counts:
    """Read the counts of an AnnData and check each of them.

    The matrix may be dense, sparse, a view, on disk (backed) or a dask array. It is read by blocks of rows, never made
    dense as a whole, and never written to.

    Parameters
    ----------
    adata
        Cells in rows, genes in columns.
    layer
        Layer that holds the counts; None for `X`.
    mask
        What was observed: name of a boolean layer, or boolean array or sparse matrix (n_obs, n_vars), True = observed.
        None: everything. Values at other entries are not looked at.
    allow_fractional
        Admit values that are not whole numbers, such as the expected counts of Salmon or alevin.
    allow_nan
        Take NaN for entries that were not observed.
    for_fit
        Ask for what training needs: two cells, two genes, a count. False for data that a trained model is applied to.

    Returns
    -------
    Counts

    Raises
    ------
    TypeError
        `adata` is not an AnnData, or its matrix is of a kind that holds no counts.
    ValueError
        The layer does not exist, values are negative, NaN, infinite or fractional, nothing was counted, a gene has no
        name, or `mask` does not fit. The message says which values, how many, where the first one is, and what to do.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> counts = read_counts(anndata.AnnData(np.array([[0, 2], [3, 0]])))
    >>> counts.matrix.nnz, counts.matrix.dtype
    (2, dtype('float32'))
    """
    counts = open_counts(
        adata,
        layer=layer,
        mask=mask,
        allow_fractional=allow_fractional,
        allow_nan=allow_nan,
        for_fit=for_fit,
        most=sys.maxsize,
    )
    return cast(Counts, counts)


def open_counts(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask: Any = None,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    for_fit: bool = True,
    most: int | None = None,
    seed: int = 0,
    together: Devices | None = None,
) -> Counts | CountBlocks:
    """Check each count of an AnnData, and read them into memory if they are not too many.

    Parameters and errors are those of :func:`read_counts`, but for these.

    Parameters
    ----------
    most
        Stored entries that are held in memory; None for ``scdae.settings.max_entries``, or less where a job's limit is
        low.
    seed
        Seed of the cells that are drawn where there are more.
    together
        Devices of the processes that share the pass over the counts; None for this process alone.
    """
    check_adata(adata)
    name = describe_source(layer)
    rows = open_rows(matrix_of(adata, layer), name)
    obs_names, var_names = _names(adata.obs_names), names_of_genes(adata.var_names)
    _check_shape(adata, for_fit=for_fit)
    if for_fit:
        check_orientation(obs_names, var_names)
        _warn_repeated(var_names)
        say_columns(adata)
    observed = None if mask is None else open_mask(mask, adata)

    read = _reader(rows, observed, allow_nan, None if in_memory(matrix_of(adata, layer)) else name)
    if most is None:
        most = entries_to_hold(settings.max_entries)
        most = most if together is None else min(together.gather(most))
    tally, survey, held = shared_pass(read, list(rows.spans()), Survey(rows.shape, seed), most, together)
    problem = problem_of(tally, adata, layer, allow_fractional=allow_fractional)
    if problem is not None:
        raise ValueError(problem)
    if for_fit and tally.n_stored == 0:
        raise ValueError(_nothing_counted(adata, layer, masked=survey.hidden is not None))
    fractional = "fractional" in tally
    if for_fit:
        warn_other_features(var_names, adata.var, survey.totals)
    if held is not None:
        counts = Counts(*_join(held, rows.shape), obs_names, var_names, fractional)
    else:
        chosen, parts = survey.sample()
        counts = Counts(*_join(parts, (len(chosen), rows.shape[1])), obs_names[chosen], var_names, fractional)
    if for_fit:
        say_doubts(counts.matrix, name, adata.uns, boolean=rows.dtype.kind == "b", fractional=fractional)
    if held is not None:
        return counts
    again = partial(_read_again, read)
    blocks = Blocks(rows.bounds, again, survey.lengths, survey.hidden, survey.totals, chosen, survey.hidden_cells)
    return CountBlocks(blocks, counts, obs_names, var_names, fractional)


def counts_to_apply(adata: AnnData, **options: Any) -> Counts | CountBlocks | UnreadCounts:
    """Read the counts that a model is applied to: checked at once in memory, or when they are read from disk.

    Parameters are those of :func:`read_counts`.
    """
    check_adata(adata)
    here = in_memory(matrix_of(adata, options.get("layer")))
    return open_counts(adata, for_fit=False, **options) if here else unread_counts(adata, **options)


def unread_counts(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask: Any = None,
    allow_fractional: bool = False,
    allow_nan: bool = False,
) -> UnreadCounts:
    """Prepare to read the counts of an AnnData, without reading them. Parameters are those of :func:`read_counts`."""
    check_adata(adata)
    rows = open_rows(matrix_of(adata, layer), describe_source(layer))
    _check_shape(adata, for_fit=False)
    read = _reader(rows, None if mask is None else open_mask(mask, adata), allow_nan, describe_source(layer))
    checked = CheckedReader(read, adata, layer, allow_fractional)
    return UnreadCounts(list(rows.spans()), checked, _names(adata.obs_names), names_of_genes(adata.var_names))


def _reader(
    rows: Rows, observed: Any, allow_nan: bool, stored_as: str | None
) -> Callable[[int, int], tuple[sp.csr_matrix, Any]]:
    """Reads rows as canonical CSR, whatever their dtype, without what was not observed, and where that is.

    Rows that come from a file or a graph, called `stored_as`, are checked first: SciPy does not survive all of them.
    """
    return partial(_read_observed, rows, observed, allow_nan, stored_as)


def _read_observed(
    rows: Rows, observed: Any, allow_nan: bool, stored_as: str | None, start: int, stop: int
) -> tuple[sp.csr_matrix, np.ndarray | None]:
    missing = None if observed is None else ~observed(start, stop)
    block = rows.read(start, stop) if stored_as is None else _sound(rows, start, stop, stored_as)
    return drop_unobserved(without_noise(canonical_csr(block)), missing, allow_nan=allow_nan)


def _sound(rows: Rows, start: int, stop: int, name: str) -> Any:
    try:
        block = rows.read(start, stop)
        if sp.issparse(block) and block.format in ("csr", "csc"):
            block.check_format(full_check=True)
    except (MemoryError, TypeError):
        raise
    except Exception as error:  # of zarr's codecs, h5py, dask, SciPy
        if "has been closed" in str(error):  # in words already
            raise
        raise ValueError(
            f"{name} cannot be read: rows {start:,} to {stop - 1:,} are truncated or damaged ({first_line(error)})."
        ) from error
    return block


def _read_again(read: Any, start: int, stop: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
    return as_parts(*read(start, stop))


def matrix_of(adata: AnnData, layer: str | None) -> Any:
    """`X` or a layer; a ValueError that says what there is, and what to do where a name is meant for something else."""
    layers = [key for key in adata.layers if key is not None]
    shown = ", ".join(repr(key) for key in layers) or "none"
    if layer is None:
        if adata.X is None:
            raise ValueError(f"adata.X is None. Pass layer=... with the layer that holds counts. Layers here: {shown}.")
        return adata.X
    if layer not in layers:
        hint = " Leave layer out for adata.X." if layer == "X" else ""
        if layer == "raw":
            hint = " There is no .raw either." if adata.raw is None else f" {RAW}"
        raise ValueError(f"layer={layer!r} does not exist. Layers here: {shown}.{hint}")
    return adata.layers[layer]


def _names(index: Any) -> np.ndarray:
    return np.asarray([str(name) for name in index], dtype=np.str_)


def _check_shape(adata: AnnData, *, for_fit: bool) -> None:
    n_obs, n_vars = adata.shape
    if n_obs == 0 or n_vars == 0:
        raise ValueError(f"adata is empty: {n_obs} cells x {n_vars} genes.")
    if for_fit and n_obs < 2:
        raise ValueError("adata has one cell. Training needs at least 2 cells, and hundreds to be of use.")
    if for_fit and n_vars < 2:
        raise ValueError("adata has one gene. Training needs at least 2 genes: it is others that tell about a gene.")


def _warn_repeated(var_names: np.ndarray) -> None:
    unique, number = np.unique(var_names, return_counts=True)
    repeated = unique[number > 1]
    if repeated.size:
        first = ", ".join(repr(str(name)) for name in repeated[:_FEW])
        _warn(
            f"var_names holds {repeated.size:,} name(s) more than once ({first}{', ...' if repeated.size > _FEW else ''}"
            "). Genes are told apart by their position; adata.var_names_make_unique() gives each its own name."
        )


def _nothing_counted(adata: AnnData, layer: str | None, *, masked: bool) -> str:
    name = describe_source(layer)
    if masked:
        return f"{name} has no count among the observed entries: they are all zero, or none was observed (see mask)."
    places = whole_count_sources(adata, layer)
    use = f"Counts are in {'; '.join(places)}." if places else "There is nothing to learn from."
    return f"{name} has no counts: all {adata.n_obs:,} x {adata.n_vars:,} values are zero. {use}"


def _join(
    parts: list[tuple[sp.csr_matrix, sp.csr_matrix | None]], shape: tuple[int, int]
) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
    """Join blocks to one CSR, a copy that shares nothing with the input; None where all was observed."""
    matrices = [matrix for matrix, _ in parts]
    ends = np.cumsum(np.concatenate([[0], *(np.diff(matrix.indptr) for matrix in matrices)]), dtype=np.int64)
    index = np.int32 if max(ends[-1], shape[1]) <= np.iinfo(np.int32).max else np.int64
    values = np.concatenate([np.zeros(0, np.float32), *(matrix.data for matrix in matrices)])
    columns = np.concatenate([np.zeros(0, index), *(matrix.indices for matrix in matrices)]).astype(index, copy=False)
    joint = sp.csr_matrix((values, columns, ends.astype(index)), shape=shape)
    joint.has_canonical_format = True
    if not any(gaps is not None and gaps.nnz for _, gaps in parts):
        return joint, None
    hidden = [sp.csr_matrix(matrix.shape, dtype=bool) if gaps is None else gaps for matrix, gaps in parts]
    return joint, sp.vstack(hidden, format="csr")


def _warn(message: str) -> None:
    get_logger().warning(message)
