"""Differential expression from the posterior of log fold changes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae._log import progress
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings, listed, nearest, spelled
from scdae.core.prediction.change_ratios import log_ratio
from scdae.core.prediction.fold_changes import GroupSums, fit_fold_changes, sum_groups
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import read_counts
from scdae.inputs.options import DataOptions
from scdae.matrices.annotation import copied
from scdae.matrices.obs_columns import level_name
from scdae.model import DAE
from scdae.model.restore import query_cells
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.groups import read_groups
from scdae.tools.marker_words import say_ranked
from scdae.tools.model import fitted_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["rank_genes"]

REST = "rest"
_COLUMNS = {  # of the table in `uns`: what scanpy reads, then ours
    "names": "O",
    "scores": "float32",
    "logfoldchanges": "float32",
    "pvals": "float64",
    "pvals_adj": "float64",
    "lfc_lower": "float32",
    "lfc_upper": "float32",
}


@spelled
@own_switches
def rank_genes(
    adata: AnnData,
    groupby: str,
    model: DAE | None = None,
    *,
    groups: Iterable[Any] | Any = "all",
    reference: Any = REST,
    delta: float = 0.25,
    level: float = 0.9,
    n_samples: int | None = None,
    key_added: str = "rank_genes_scdae",
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Rank the genes of groups of cells by the posterior of their log fold changes.

    A group's mean expression has a posterior: the molecules counted in it, with the variance that the model gives them,
    and a prior of fold changes that is learned from all genes. A log fold change compares two such
    posteriors, so that a gene with few molecules gets a wide interval, shrunk towards no change, and not a small
    p-value.

    Parameters
    ----------
    adata
        Raw counts, as for :func:`scdae.pp.impute`.
    groupby
        Column of `obs` with the groups, whatever its type. Cells without one are left out.
    model
        A fitted :class:`scdae.DAE`; None: one is fitted.
    groups
        Groups to rank genes for, one or several, or ``"all"``.
    reference
        Group to compare with, or ``"rest"``: all other cells.
    delta
        Fold changes below it, on the log2 scale, are no difference.
    level
        Probability that the interval of a log fold change holds.
    n_samples
        Deprecated, of no effect: probabilities and intervals are worked out, and not drawn any more.
    key_added
        Entry of `uns`.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :func:`scdae.pp.impute`.
    seed
        Seed of the fit where there is one.
    overwrite
        Replace an entry of that name that this function did not write.
    copy
        Work on a copy and return it.
    **settings
        Settings of the model to fit.

    Returns
    -------
    anndata.AnnData or None
        The copy if `copy`, else None. ``uns[key_added]`` is laid out as by :func:`scanpy.tl.rank_genes_groups`, so that
        ``sc.get.rank_genes_groups_df(adata, group, key=key_added)`` and scanpy's plots read it. Genes are sorted by
        score.

        ``scores``
            Posterior mean of the log2 fold change over its standard deviation.
        ``logfoldchanges``
            Posterior mean of the log2 fold change; NaN for genes that are not called: those without counts, and those
            that `mask` says were measured in no cell of the group, or of those it is compared with. Their ``pvals`` and
            ``pvals_adj`` are 1, and their score is 0.
        ``pvals``
            Probability that the gene is no different: one minus the posterior probability of ``|lfc| > delta``. It is
            not a p-value, but takes its place.
        ``pvals_adj``
            Share of false discoveries to be expected among this gene and all that are more certainly different.
        ``lfc_lower``, ``lfc_upper``
            Ends of the interval. :func:`scdae.get.rank_genes` puts all of these into one table.

    Raises
    ------
    ValueError, TypeError
        The data are not counts, there is no such group, or an argument does not fit. Nothing was trained or written.

    Notes
    -----
    Restored values are not averaged: the network has seen the counts already, and an average of its values over a group
    repeats them with an error that looks far too small. Each molecule is counted once.

    The posterior knows of sampling and of the spread over cells, not of donors. **With biological replicates, sum the
    raw counts by sample and test those** (pseudobulk): a difference between two conditions that rests on one donor each
    is not known from any number of cells. Groups that were found by clustering the same counts differ by construction;
    their probabilities are a ranking and no evidence.

    Fold changes are of fractions of the molecules. Where a few genes take a large fraction of a group's, as in platelets, those
    of all others are lower there; a warning says where the median gene differs by more than `delta`.

    Adjusted p-values are expected fractions of false discoveries :cite:p:`Newton2004`; the prior of the fold changes is
    learned as in adaptive shrinkage :cite:p:`Stephens2017`.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.tl.rank_genes(adata, "cell_type", max_epochs=2)
    >>> table = sc.get.rank_genes_groups_df(adata, None, key="rank_genes_scdae")
    >>> "logfoldchanges" in table
    True
    """
    check_adata(adata)
    check_settings(rank_genes, settings, seed)
    check_name(key_added, "key_added")
    _check_numbers(delta, level)
    if n_samples is not None:
        warnings.warn(
            f"n_samples={n_samples!r} has no effect any more, because nothing is drawn. Leave it out.",
            FutureWarning,
            stacklevel=3,
        )
    codes, levels = read_groups(adata, groupby)
    chosen, reference = _chosen(groups, reference, levels, groupby)
    check_free(adata, {"uns": (key_added,)}, key_added, "scdae.tl.rank_genes", overwrite=overwrite, copy=copy)
    options = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    fitted = fitted_model(adata, model, settings, seed=seed, data=options).fitted_model()
    counts = read_counts(adata, for_fit=False, **options.counts)
    data, where = query_cells(fitted, counts, fitted.conditions(adata), silent="they are not called")
    columns = where.columns
    sums = sum_groups(fitted.network, data, codes, len(levels))
    known_columns = columns[columns >= 0]
    compare = _Comparison(sums, columns >= 0, delta, level)
    other = levels.index(reference) if reference != REST else None

    tables, n_left_out = {}, {}
    for name in progress(chosen, total=len(chosen), description="scdae: groups"):
        compared, called = compare(levels.index(name), other)
        tables[name] = _ranked(compared, known_columns[called], adata.var_names)
        n_left_out[name] = int((~called).sum())
    entry = _entry(tables, groupby, reference, layer, delta, level)
    if copy:
        adata = copied(adata)
    with writing_to(adata):
        adata.uns[key_added] = entry
    say_ranked(tables, n_left_out, delta)
    return adata if copy else None


class _Comparison:
    """Log fold changes between two groups."""

    def __init__(self, sums: GroupSums, present: np.ndarray, delta: float, level: float):
        self.sums, self.present = sums, present
        self.delta, self.level = delta, level

    def __call__(self, group: int, other: int | None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Columns of the table, (n_called,) each, and which of the genes that are present are called, bool (n_present,).

        A gene that was measured in no cell of one of the two, so that nothing is expected there, is not.
        """
        first = self.sums.pick(slice(group, group + 1))
        rest = [k for k in range(len(self.sums.counted)) if k != group] if other is None else [other]
        second = self.sums.pick(rest).together()
        pair = GroupSums(*(np.concatenate(parts) for parts in zip(first, second, strict=True)))
        measured = np.all(pair.base > 0, axis=0)
        changes = fit_fold_changes(pair.pick(slice(None), self.present & measured))
        found = log_ratio(changes, self.delta * np.log(2), (1 - self.level) / 2, (1 + self.level) / 2)
        columns = {
            "scores": found.mean / np.maximum(found.sd, 1e-9),
            "logfoldchanges": found.mean / np.log(2),
            "pvals": found.within,
            "lfc_lower": found.lower / np.log(2),
            "lfc_upper": found.upper / np.log(2),
        }
        return columns, measured[self.present]


def _ranked(compared: dict[str, np.ndarray], known_columns: np.ndarray, names: pd.Index) -> pd.DataFrame:
    """Return the genes of a group by score; those that are not called have score 0, and 1 for what takes the place of a p-value."""
    columns = {name: np.full(len(names), np.nan) for name in compared}
    for name, values in compared.items():
        columns[name][known_columns] = values
    columns["scores"] = np.nan_to_num(columns["scores"], nan=0.0)
    chance = compared["pvals"]
    order = np.argsort(chance, kind="stable")
    columns["pvals"][np.isnan(columns["pvals"])] = 1
    columns["pvals_adj"] = np.ones(len(names))
    columns["pvals_adj"][known_columns[order]] = np.cumsum(chance[order]) / np.arange(1, len(order) + 1)
    table = pd.DataFrame(columns)
    table["names"] = np.asarray(names, dtype=object)
    return table.sort_values("scores", ascending=False, kind="stable").reset_index(drop=True)


def _entry(
    tables: dict[str, pd.DataFrame], groupby: str, reference: str, layer: str | None, delta: float, level: float
) -> dict[str, Any]:
    params = {"groupby": groupby, "reference": reference, "method": "scdae", "use_raw": False, "layer": layer or "X"}
    entry: dict[str, Any] = {
        "written_by": "scdae.tl.rank_genes",
        "params": {**params, "corr_method": "expected false discoveries", "delta": delta, "level": level},
    }
    for column, kind in _COLUMNS.items():
        frame = pd.DataFrame({name: table[column] for name, table in tables.items()})
        entry[column] = frame.to_records(index=False, column_dtypes=dict.fromkeys(tables, kind))
    return entry


def _check_numbers(delta: float, level: float) -> None:
    if not delta >= 0:
        raise ValueError(f"delta={delta!r}: use a log2 fold change of 0 or more, such as 0.25.")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: use a probability between 0 and 1, such as 0.9.")


def _chosen(groups: Any, reference: Any, levels: list[str], groupby: str) -> tuple[list[str], str]:
    """Names of the groups to rank genes for, and that of the reference."""
    shown, where = listed(levels), f"obs[{groupby!r}]"
    reference = level_name(reference)
    if reference == REST and REST in levels and len(levels) > 2:
        raise ValueError(
            f"reference='rest' means all other cells, but {where} has a group of that name. Rename the group: "
            f"adata.obs[{groupby!r}].astype(str).replace('rest', 'others')."
        )
    if reference != REST and reference not in levels:
        raise ValueError(
            f"reference={reference!r} is not a group of {where}.{nearest(reference, levels)} Groups there: {shown}; or 'rest'."
        )
    several = isinstance(groups, Iterable) and not isinstance(groups, (str, bytes))
    wanted = list(groups) if several else [groups]
    wanted = levels if isinstance(groups, str) and groups == "all" else [level_name(name) for name in wanted]
    if not wanted:
        raise ValueError(f"groups={groups!r} names no group. Groups in {where}: {shown}; or 'all'.")
    for name in wanted:
        if name not in levels:
            raise ValueError(
                f"groups: {name!r} is not a group of {where}.{nearest(name, levels)} Groups there: {shown}."
            )
    chosen = [name for name in dict.fromkeys(wanted) if name != reference]
    if not chosen:
        raise ValueError(f"groups={groups!r} is the reference, and cannot be compared with itself. Name another group.")
    return chosen, reference
