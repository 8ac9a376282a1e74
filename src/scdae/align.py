"""Join data sets that measured different genes, and keep in mind what was not measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scdae.arguments import check_adata
from scdae.writing import check_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["align"]


def align(
    adatas: Mapping[str, AnnData] | Iterable[AnnData],
    *,
    keys: Sequence[str] | None = None,
    label: str = "batch",
    mask_added: str = "observed",
) -> AnnData:
    """Join cells of several data sets over the union of their genes.

    A gene that a data set did not measure is unknown in its cells and not zero. anndata's outer join fills it with zeros;
    this adds a boolean layer that says where they are, for ``mask=`` of :func:`scdae.pp.impute` and the other functions.

    Parameters
    ----------
    adatas
        Two data sets or more, by name or in a list. They are not changed.
    keys
        Names of those in a list; their numbers when left out.
    label
        Column of `obs` that gets the name of each cell's data set, for ``batch_key=``.
    mask_added
        Layer that gets what was observed: boolean, True = observed. Data sets that have such a layer keep its values.

    Returns
    -------
    anndata.AnnData
        Cells below one another, called ``cell-name``; `X`, layers and columns of `obs` as :func:`anndata.concat` joins them,
        which sorts the genes by name unless all data sets have the same.

    Raises
    ------
    ValueError
        There is one data set only, names are repeated, or the data sets share no gene.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(100, 60)
    >>> joint = scdae.pp.align({"whole": adata[:50], "panel": adata[50:, :40]})
    >>> joint.shape, int((~joint.layers["observed"]).sum())
    ((100, 60), 1000)
    """
    import anndata

    if isinstance(adatas, str) or hasattr(adatas, "obs_names"):
        raise TypeError(
            f"adatas is one {type(adatas).__name__}: pass a list of several anndata.AnnData, or a dict with their names."
        )
    named = _named(adatas, keys)
    check_name(mask_added, "mask_added")
    for name, adata in named.items():
        check_adata(adata, f"adatas[{name!r}]")
        if not adata.var_names.is_unique:
            raise ValueError(f"{name!r} repeats gene names. Make them unique (adata.var_names_make_unique()) first.")
    shared = set.intersection(*(set(adata.var_names) for adata in named.values()))
    if not shared:
        first = {name: str(adata.var_names[0]) for name, adata in named.items() if adata.n_vars}
        raise ValueError(f"The data sets share no gene. Their names look different: {first}.")
    parts = {
        name: anndata.AnnData(
            adata.X,
            obs=adata.obs,
            var=adata.var[[]],
            layers={key: value for key, value in adata.layers.items() if key not in (None, mask_added)},
        )
        for name, adata in named.items()
    }
    joint = anndata.concat(parts, join="outer", label=label, index_unique="-", fill_value=0)
    observed = np.zeros(joint.shape, bool)
    start = 0
    for adata in named.values():
        columns = joint.var_names.get_indexer(adata.var_names)
        mask = adata.layers[mask_added] if mask_added in adata.layers else np.ones(adata.shape, bool)
        mask = mask.toarray() if hasattr(mask, "toarray") else np.asarray(mask)
        observed[np.ix_(np.arange(start, start + adata.n_obs), columns)] = mask
        start += adata.n_obs
    joint.layers[mask_added] = observed
    return joint


def _named(adatas: Mapping[str, AnnData] | Iterable[AnnData], keys: Sequence[str] | None) -> dict[str, AnnData]:
    if isinstance(adatas, Mapping):
        if keys is not None:
            raise ValueError("keys= are for a list; these data sets have names already. Leave it out.")
        named = dict(adatas)
    else:
        several = list(adatas)
        names = [str(i) for i in range(len(several))] if keys is None else [str(key) for key in keys]
        if len(set(names)) != len(names) or len(names) != len(several):
            raise ValueError(f"keys={names!r}: give each of the {len(several)} data sets a name of its own.")
        named = dict(zip(names, several, strict=True))
    if len(named) < 2:
        raise ValueError(f"adatas holds {len(named)} data set(s): joining takes two.")
    return named
