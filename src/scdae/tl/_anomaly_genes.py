"""Which genes of a cell are unlike those of normal cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae.arguments.objects import check_adata, spelled
from scdae.arguments.selection import positions
from scdae.core.guard.anomaly import entry_deviance, neighbors
from scdae.core.prediction.decode import law_of_genes, shares_at
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import read_counts
from scdae.inputs.options import DataOptions
from scdae.model.restore import query_cells, read_latent
from scdae.tools.model import fitted_model
from scdae.tools.normal import NormalCells, errors_of_normal

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.model import DAE

__all__ = ["anomaly_genes"]


@spelled
@own_switches
def anomaly_genes(
    adata: AnnData,
    model: DAE,
    cells: Any,
    *,
    normal: AnnData | Any = None,
    n: int | None = 10,
    layer: str | None = None,
    mask: Any = None,
    allow_fractional: bool = False,
    allow_nan: bool = False,
) -> pd.DataFrame:
    """Say which genes of a cell are unlike those of the normal cells nearest to it.

    Parameters
    ----------
    adata
        Raw counts.
    model
        Fitted model.
    cells
        Names, positions, a slice, or a boolean array or Series.
    normal
        As for :func:`anomaly_score`. None: all cells of `adata`.
    n
        Genes of each cell; None for all.
    layer, mask, allow_fractional, allow_nan
        As for :func:`anomaly_score`.

    Returns
    -------
    pandas.DataFrame
        A line for each cell and gene, the most unlike first: ``cell``, ``gene``, ``count``, ``expected`` (counts at the
        cell's depth in the ten nearest normal cells on average) and ``deviance``, negative where the count is below it.

    Raises
    ------
    ValueError, TypeError
        As for :func:`anomaly_score`.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=120, n_genes=50, seed=0)
    >>> model = scdae.DAE(max_epochs=2).fit(adata)
    >>> scdae.tl.anomaly_genes(adata, model, ["cell_3"], n=2).shape
    (2, 5)
    """
    check_adata(adata)
    options = DataOptions(layer, mask, None, None, allow_fractional, allow_nan)
    model = fitted_model(adata, model, {}, seed=0, data=options)
    rows = positions(adata.obs_names, cells, "cells")
    known = NormalCells.of(normal, adata, mask, fit_here=False, seed=0)
    if known.others is None:
        latent = model.latent(adata[known.rows], **options.of_rows(known.rows, adata).counts)
    else:
        with errors_of_normal():
            latent = model.latent(known.others, **options.counts)
    some = adata[rows]
    counts = read_counts(some, for_fit=False, **options.of_rows(rows, adata).counts)
    fitted = model.fitted_model()
    conditions = fitted.conditions(some)
    data, gene_map = query_cells(fitted, counts, conditions, silent="they are not in the table")
    own = read_latent(fitted, counts, conditions, quiet=True)
    near = latent[neighbors(own, latent)].mean(axis=1)
    lift = 1 if fitted.network.laws is None else np.asarray(fitted.network.laws.lift)
    expected = data.exposure[:, None] * shares_at(fitted.network, near, data.conditions) * lift
    x = data.counts.toarray()
    laws = law_of_genes(fitted.network)
    laws = laws.over_cells(laws.level(expected, data.exposure))
    deviance = entry_deviance(x, expected, laws) * np.where(x < expected, -1, 1)
    if data.unobserved is not None:
        deviance[data.unobserved.nonzero()] = 0
    names = np.asarray(adata.var_names)[np.maximum(gene_map.columns, 0)]
    tables = []
    for i, row in enumerate(rows):
        order = np.argsort(-np.abs(deviance[i]), kind="stable")
        order = order[gene_map.columns[order] >= 0][:n]
        table = {"cell": adata.obs_names[row], "gene": names[order], "count": x[i, order]}
        tables.append(pd.DataFrame(table | {"expected": expected[i, order], "deviance": deviance[i, order]}))
    return pd.concat(tables, ignore_index=True)
