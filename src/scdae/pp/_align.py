"""Join data sets that measured different genes, and keep in mind what was not measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, spelled
from scdae.matrices.annotation import frame_of
from scdae.matrices.joining import Part, join_lazily, join_now, own_mask
from scdae.matrices.rows import in_memory, open_rows
from scdae.matrices.union import joint_obs, union_of_genes

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["align"]


@spelled
def align(
    adatas: Mapping[str, AnnData] | Iterable[AnnData],
    *,
    keys: Sequence[str] | None = None,
    label: str = "batch",
    mask_added: str = "observed",
    layers: Sequence[str] | None = None,
) -> AnnData:
    """Join cells of several data sets over the union of their genes.

    A gene that a data set did not measure is unknown in its cells and not zero. It is filled with zeros, and this
    adds a boolean layer that says where they are, for ``mask=`` of :func:`scdae.pp.impute` and the other functions.

    Parameters
    ----------
    adatas
        Two data sets or more, by name or in a list. They are not changed.
    keys
        Names of those in a list; their numbers when left out.
    label
        Column of `obs` that gets the name of each cell's data set, for ``batch_key=``. A column that the data have
        under this name is kept with ``_own`` behind it.
    mask_added
        Layer that gets what was observed: boolean, True = observed. Data sets that have such a layer keep its values.
    layers
        Layers to keep, which all data sets have to have. None: all.

    Returns
    -------
    anndata.AnnData
        Cells below one another, called ``cell-name``; genes in the order in which they come first. `X` and layers are
        sparse if one of them is, and dask arrays if one of them is lazy or on disk. Columns of `obs` are all kept, with
        missing values where a data set has no such column.

    Raises
    ------
    ValueError
        There is one data set only, names are repeated, the data sets share no gene, or a layer (or `X`) is missing in
        one of them. The message names the data set.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(100, 60)
    >>> joint = scdae.pp.align({"whole": adata[:50], "panel": adata[50:, :40]})
    >>> joint.shape, int((~joint.layers["observed"]).sum())
    ((100, 60), 1000)
    """
    if isinstance(adatas, str) or hasattr(adatas, "obs_names"):
        raise TypeError(
            f"adatas is one {type(adatas).__name__}: pass a list of several anndata.AnnData, or a dict with their names."
        )
    named = _named(adatas, keys)
    check_name(mask_added, "mask_added")
    check_name(label, "label")
    names = list(named)
    var_names = union_of_genes([adata.var_names for adata in named.values()], names, "data sets")
    columns = [var_names.get_indexer(adata.var_names.astype(str)) for adata in named.values()]
    masks = [own_mask(adata, mask_added, repr(name)) for name, adata in named.items()]
    chosen = _layers(named, mask_added, layers)
    obs = joint_obs([frame_of(adata.obs) for adata in named.values()], names, label, everything=True, what="data set")

    def join(matrices: list[Any], what: str) -> Any:
        rows = [open_rows(matrix, f"{name!r}: {what}") for name, matrix in zip(names, matrices, strict=True)]
        parts = [Part(one.shape[0], where, one) for where, one in zip(columns, rows, strict=True)]
        sparse = any(map(_is_sparse, matrices))
        dtype = np.result_type(*(one.dtype for one in rows))
        dtype = np.dtype(np.float32) if sparse and dtype == np.float16 else dtype
        here = all(map(in_memory, matrices))
        return (join_now if here else join_lazily)(parts, len(var_names), dtype, sparse=sparse)

    matrices = [adata.X for adata in named.values()]
    joint = anndata.AnnData(
        None if matrices[0] is None else join(matrices, "X"),
        obs=obs,
        var=pd.DataFrame(index=var_names),
        layers={
            layer: join([adata.layers[layer] for adata in named.values()], f"layers[{layer!r}]") for layer in chosen
        },
    )
    parts = [Part(adata.n_obs, where, mask) for adata, where, mask in zip(named.values(), columns, masks, strict=True)]
    main = joint.X if joint.X is not None else next(iter(joint.layers.values()), None)
    here = main is None or in_memory(main)
    joint.layers[mask_added] = (join_now if here else join_lazily)(parts, len(var_names), bool, sparse=False)
    return joint


def _layers(named: dict[str, AnnData], mask: str, wanted: Sequence[str] | None) -> list[str]:
    """Layers that are joined; an error where one data set lacks what another has, which is not the same as zeros."""
    if wanted is not None and (isinstance(wanted, str) or mask in wanted):
        raise ValueError(f"layers={wanted!r}: give a list of names, without that of what was observed ({mask!r}).")
    layers_of = {name: [key for key in adata.layers if key not in (None, mask)] for name, adata in named.items()}
    chosen = list(dict.fromkeys(key for keys in layers_of.values() for key in keys)) if wanted is None else list(wanted)
    for layer in chosen:
        having = [name for name in named if layer in layers_of[name]]
        lacking = [name for name in named if layer not in layers_of[name]]
        if not having:
            raise ValueError(f"layers: no data set has a layer {layer!r}.")
        if lacking:
            common = [key for key in chosen if all(key in keys for keys in layers_of.values())]
            raise ValueError(
                f"layers[{layer!r}] is in {_shown(having)}, but not in {_shown(lacking)}, where it would be unknown and not zero. "
                f"Give it to all (adata.layers[{layer!r}] = adata.X, if that is the same), or leave it out: layers={common!r}."
            )
    without = [name for name, adata in named.items() if adata.X is None]
    if without and len(without) < len(named):
        raise ValueError(
            f"X is None in {_shown(without)}, but not in the others, so that counts would be unknown there and not zero. Set "
            "adata.X in all data sets, or in none."
        )
    return chosen


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")


def _is_sparse(matrix: Any) -> bool:
    """Return whether rows of it come as sparse matrices."""
    return sp.issparse(getattr(matrix, "_meta", matrix)) or hasattr(matrix, "to_memory")


def _named(adatas: Mapping[str, AnnData] | Iterable[AnnData], keys: Sequence[str] | None) -> dict[str, AnnData]:
    if isinstance(adatas, Mapping):
        if keys is not None:
            raise ValueError("keys= are for a list; these data sets have names already. Leave it out.")
        named = {str(name): adata for name, adata in adatas.items()}
    else:
        several = list(adatas)
        names = [str(i) for i in range(len(several))] if keys is None else [str(key) for key in keys]
        if len(set(names)) != len(names) or len(names) != len(several):
            raise ValueError(f"keys={names!r}: give each of the {len(several)} data sets a name of its own.")
        named = dict(zip(names, several, strict=True))
    for name, adata in named.items():
        check_adata(adata, f"adatas[{name!r}]")
    if len(named) < 2:
        raise ValueError(f"adatas holds {len(named)} data set(s): joining takes two.")
    return named
