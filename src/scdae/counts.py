"""From whatever the user has to validated counts: the one place where an AnnData becomes arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scdae.containers import canonical_csr, open_rows
from scdae.masks import drop_unobserved, open_mask
from scdae.validate import Tally, check_orientation, describe_source, not_counts, whole_count_sources

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Counts", "read_counts"]

_FEW = 5  # names shown before "..."


@dataclass(frozen=True)
class Counts:
    """Counts that were checked, in memory of their own.

    Parameters
    ----------
    matrix
        float32 CSR (n_obs, n_vars): sorted, without repeated entries and stored zeros. Entries that were not observed
        are absent.
    unobserved
        Boolean CSR (n_obs, n_vars) that stores True where nothing was measured; None where everything was.
    obs_names, var_names
        str, (n_obs,) and (n_vars,).
    fractional
        Whether any value is not a whole number.
    """

    matrix: sp.csr_matrix
    unobserved: sp.csr_matrix | None
    obs_names: np.ndarray
    var_names: np.ndarray
    fractional: bool


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
        `adata` is no AnnData, or its matrix is of a kind that holds no counts.
    ValueError
        The layer does not exist, values are negative, NaN, infinite or fractional, nothing was counted, or `mask` does
        not fit. The message says which values, how many, where the first one is, and what to do.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> counts = read_counts(anndata.AnnData(np.array([[0, 2], [3, 0]])))
    >>> counts.matrix.nnz, counts.matrix.dtype
    (2, dtype('float32'))
    """
    _check_type(adata)
    name = describe_source(layer)
    rows = open_rows(_pick(adata, layer), name)
    obs_names, var_names = _names(adata.obs_names), _names(adata.var_names)
    _check_shape(adata, for_fit=for_fit)
    if for_fit:
        check_orientation(obs_names, var_names)
        _warn_repeated(var_names)
    observed = None if mask is None else open_mask(mask, adata)

    tally = Tally(rows.shape[1])
    values: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    unobserved: list[sp.csr_matrix] = []
    for start, stop in rows.spans():
        block = canonical_csr(rows.read(start, stop))
        missing = None if observed is None else ~observed(start, stop)
        block, missing = drop_unobserved(block, missing, allow_nan=allow_nan)
        tally.add(block, start)
        unobserved.append(sp.csr_matrix(block.shape if missing is None else missing, dtype=bool))
        with np.errstate(over="ignore"):
            values.append(block.data.astype(np.float32))
        columns.append(block.indices)
        lengths.append(np.diff(block.indptr))

    problem = not_counts(tally, adata, layer, allow_fractional=allow_fractional)
    if problem is not None:
        raise ValueError(problem)
    hidden = sp.vstack(unobserved, format="csr") if any(part.nnz for part in unobserved) else None
    if for_fit and tally.n_stored == 0:
        raise ValueError(_nothing_counted(adata, layer, masked=hidden is not None))
    return Counts(
        matrix=_join(values, columns, lengths, rows.shape),
        unobserved=hidden,
        obs_names=obs_names,
        var_names=var_names,
        fractional="fractional" in tally,
    )


def _check_type(adata: object) -> None:
    from anndata import AnnData

    if isinstance(adata, AnnData):
        return
    kind = f"{type(adata).__module__}.{type(adata).__qualname__}"
    modalities: Any = getattr(adata, "mod", None)
    if hasattr(modalities, "keys"):
        keys = ", ".join(repr(key) for key in modalities.keys())
        hint = f"Pass one of its modalities: adata.mod[...] with one of {keys}."
    elif isinstance(adata, str) or hasattr(adata, "__fspath__"):
        hint = "Read the file first, for example with anndata.read_h5ad."
    else:
        hint = "Wrap counts (cells in rows, genes in columns) as anndata.AnnData(counts)."
    raise TypeError(f"adata has to be an anndata.AnnData, but is a {kind}. {hint}")


def _pick(adata: AnnData, layer: str | None) -> Any:
    layers = [key for key in adata.layers if key is not None]
    shown = ", ".join(repr(key) for key in layers) or "none"
    if layer is None:
        if adata.X is None:
            raise ValueError(f"adata.X is None. Pass layer=... with the layer that holds counts. Layers here: {shown}.")
        return adata.X
    if layer not in layers:
        raise ValueError(f"layer={layer!r} does not exist. Layers here: {shown}.")
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
    values: list[np.ndarray], columns: list[np.ndarray], lengths: list[np.ndarray], shape: tuple[int, int]
) -> sp.csr_matrix:
    """One CSR from the parts of its blocks; joining copies, so nothing is shared with the input."""
    ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
    index = np.int32 if max(ends[-1], shape[1]) <= np.iinfo(np.int32).max else np.int64
    matrix = sp.csr_matrix(
        (np.concatenate(values), np.concatenate(columns).astype(index, copy=False), ends.astype(index)), shape=shape
    )
    matrix.has_canonical_format = True
    return matrix


def _warn(message: str) -> None:
    from scdae._log import get_logger

    get_logger().warning(message)
