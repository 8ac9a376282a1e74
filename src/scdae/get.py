"""Read what `scdae.pp.impute` wrote, as pandas objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from scdae.arguments.objects import check_adata
from scdae.matrices.annotation import frame_of
from scdae.matrices.columns import columns_of
from scdae.matrices.rows import is_dask
from scdae.outputs.group_tables import fidelity
from scdae.outputs.names import output_layers, outputs_of
from scdae.outputs.results import results
from scdae.outputs.tables import RENAMED, RankedGenes, RunReport

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.model import DAE

__all__ = ["evaluation", "fidelity", "genes", "imputed", "model", "rank_genes", "report", "results", "tuning"]

_REPORT = (  # order in which a report is shown; files sort it by name
    "skill",
    "skill_restored",
    "efficiency",
    "n_genes_helped",
    "n_genes",
    "held_out_molecules",
    "zero_inflated_genes",
    "mean_gate",
    "n_epochs",
    "stopped_early",
    "verdict",
    "fit",
)


def imputed(
    adata: AnnData, key: str = "scdae", genes: str | Iterable[str] | None = None, *, output: str | None = None
) -> pd.DataFrame:
    """Restored values as a table of cells by genes.

    Of a lazy layer these genes are restored and no others, once: this is the cheap way to look at some of them.

    Parameters
    ----------
    adata
        Object that `scdae.pp.impute` has been called on.
    key
        The `key_added` of that call.
    genes
        One gene or several, in the order wanted; all genes when left out.
    output
        Which of several outputs, such as ``"log1p"`` of a call with ``output=("mean", "log1p")``; the first when left
        out.

    Returns
    -------
    DataFrame of shape ``(n_cells, n_genes)``
        A copy, named by ``obs_names`` and the genes. Its unit is in ``adata.uns[key]["units"]``, by the layer.

    Raises
    ------
    KeyError
        When there is no such layer or output, or a gene is not in ``var_names``.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.pp.impute(adata, max_epochs=2)
    >>> scdae.get.imputed(adata, genes=["gene_7", "gene_2"]).shape
    (80, 2)
    >>> scdae.pp.impute(adata, output=("mean", "log1p"), max_epochs=2)
    >>> scdae.get.imputed(adata, output="log1p", genes="gene_7").shape
    (80, 1)
    """
    check_adata(adata)
    name = key if output is None else _layer_of(adata, key, output)
    if name not in adata.layers:
        raise KeyError(_nothing_under(adata, key, f"layers[{name!r}]"))
    layer = adata.layers[name]
    names = list(adata.var_names) if genes is None else [genes] if isinstance(genes, str) else list(genes)
    columns = None if genes is None else positions(adata, names)
    values = None if columns is None else _restored(layer, columns)
    if values is None:
        values = columns_of(layer, columns, f"layers[{name!r}]")
    return pd.DataFrame(values, index=adata.obs_names.copy(), columns=names)


def _restored(layer: Any, columns: np.ndarray) -> np.ndarray | None:
    """Return some genes of a lazy layer, of which no others are worked out; None where the layer is of another kind."""
    if not is_dask(layer) or not str(layer.name).startswith("scdae-"):
        return None
    from scdae.model.lazy import some_genes  # late: other readers need no JAX

    part = some_genes(layer, columns)
    if part is None:
        return None
    values = part.compute()
    return values.toarray() if issparse(values) else values


def model(adata: AnnData, key: str = "scdae") -> DAE:
    """Return the model behind what `scdae.pp.impute` wrote, while this process keeps it.

    Parameters
    ----------
    adata, key
        As for `imputed`.

    Returns
    -------
    DAE
        The fitted model, to save, to apply to other cells or to pass on as ``model=``.

    Raises
    ------
    KeyError
        When `scdae.pp.impute` has written nothing under `key`, in another process, or so long ago that other fits took its
        place (:attr:`scdae.settings.kept_fits`).

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.pp.impute(adata, max_epochs=2)
    >>> scdae.get.model(adata).latent(adata).shape
    (80, 12)
    """
    from scdae.model.known_fits import known_fit  # late: other readers need no JAX

    check_adata(adata)
    stored_report(adata, key)
    name = adata.uns[key].get("fit")
    known = known_fit(str(name))
    if known is None:
        raise KeyError(
            f"The fit behind adata.uns[{key!r}] is not kept in this process: it was made in another, or later fits took its place "
            "(scdae.settings.kept_fits). Fit again with scdae.DAE().fit(adata), and keep it with model.save(path)."
        )
    return known


def report(adata: AnnData, key: str = "scdae") -> pd.Series:
    """Return what the held-out molecules said about a run: one number or word a line.

    Parameters
    ----------
    adata, key
        As for `imputed`.

    Returns
    -------
    Series
        The plain entries of ``adata.uns[key]["report"]``, such as ``skill``, by how much held-out molecules are
        likelier by what the other genes of a cell say than by the gene averages, in nats per molecule. The verdict is
        shown first. Arrays (the training history) are left out.

    Raises
    ------
    KeyError
        When `scdae.pp.impute` has written nothing under `key`.

    Notes
    -----
        The skill is the same quantity as that of :func:`scdae.tl.evaluate`. Genes that are helped beyond chance are counted
    alike, too, but here on the few molecules that a fit sets aside (3 to 10 %), by which fewer genes can be told.
    """
    check_adata(adata)
    entries = stored_report(adata, key)
    plain = {name: value for name, value in entries.items() if np.ndim(value) == 0 and not isinstance(value, Mapping)}
    order = [name for name in _REPORT if name in plain] + [name for name in plain if name not in _REPORT]
    return RunReport({name: plain[name] for name in order}, name=key, dtype=object)


def evaluation(adata: AnnData, key: str = "scdae") -> pd.DataFrame:
    """Return what `scdae.tl.evaluate` found: one method a row.

    Parameters
    ----------
    adata
        Object that `scdae.tl.evaluate` has been called on.
    key
        The `key` of that call.

    Returns
    -------
    DataFrame
        ``skill``, by how much held-out molecules are likelier (Poisson) than by the gene means, in nats per molecule;
        and ``log_likelihood`` of the held-out molecules, in nats per molecule (negative binomial).

    Raises
    ------
    KeyError
        When there is no evaluation under that key.
    """
    check_adata(adata)
    entry = adata.uns.get(f"{key}_evaluation")
    if not isinstance(entry, Mapping) or "methods" not in entry:
        raise KeyError(f"There is no adata.uns[{f'{key}_evaluation'!r}]. Call scdae.tl.evaluate(adata) first.")
    return pd.DataFrame(
        {name: np.asarray(entry[name]) for name in ("skill", "log_likelihood")},
        index=pd.Index([str(name) for name in entry["methods"]], name="method"),
    )


def genes(adata: AnnData, key: str = "scdae") -> pd.DataFrame:
    """Return what was learned about each gene.

    Parameters
    ----------
    adata, key
        As for `imputed`.

    Returns
    -------
    DataFrame, one row a gene
        The columns of ``adata.var`` that the run wrote, without their prefix: ``dispersion`` (1 / theta), ``dropout``
        (mean probability of a technical zero), ``gain`` (held-out gain, in nats per molecule) and ``helped`` (whether
        it is beyond chance).

    Raises
    ------
    KeyError
        When `scdae.pp.impute` has written nothing under `key`.
    """
    check_adata(adata)
    prefix = f"{key}_"
    columns = [name for name in ("dispersion", "dropout", "gain", "helped") if prefix + name in adata.var]
    if not columns:
        raise KeyError(_nothing_under(adata, key, f"var[{prefix + 'gain'!r}]"))
    return frame_of(adata.var[[prefix + name for name in columns]]).set_axis(columns, axis=1)


def rank_genes(adata: AnnData, group: str | None = None, key: str = "rank_genes_scdae") -> pd.DataFrame:
    """Return what `scdae.tl.rank_genes` found, with the intervals that scanpy's table leaves out.

    Parameters
    ----------
    adata
        Object that `scdae.tl.rank_genes` has been called on.
    group
        One group; all of them, one below the other, when left out.
    key
        The `key_added` of that call.

    Returns
    -------
    DataFrame, one row a gene, best first
        ``scores``, ``logfoldchanges``, ``lfc_lower``, ``lfc_upper``, ``prob_no_change`` (share of the draws in which the
        gene differs by no more than `delta`: 0 is less than one of `n_samples`) and ``expected_fdr`` (expected fraction
        of false discoveries among this gene and all before it). The index is the gene, or group and gene. Scanpy's own
        table calls these two ``pvals`` and ``pvals_adj``; they are no p-values.

    Raises
    ------
    KeyError
        When there is no such result, or no such group in it.
    """
    check_adata(adata)
    entry = adata.uns.get(key)
    if not isinstance(entry, Mapping) or "lfc_lower" not in entry:
        raise KeyError(
            f"There is no result of scdae in adata.uns[{key!r}]. Call scdae.tl.rank_genes(adata, ...) first."
        )
    groups = list(entry["names"].dtype.names)
    if group is not None and group not in groups:
        raise KeyError(
            f"group: {group!r} is not a group of adata.uns[{key!r}]; there are {', '.join(map(repr, groups))}."
        )
    columns = ("scores", "logfoldchanges", "lfc_lower", "lfc_upper", *RENAMED)
    tables = {
        name: pd.DataFrame(
            {RENAMED.get(column, column): entry[column][name] for column in columns},
            index=pd.Index(entry["names"][name], name="gene", dtype=object),
        )
        for name in (groups if group is None else [group])
    }
    return RankedGenes(pd.concat(tables, names=["group"]) if group is None else tables[group])


def tuning(adata: AnnData, key: str = "scdae_tuning") -> pd.DataFrame:
    """Return the trials of `scdae.tl.tune`, best first.

    Parameters
    ----------
    adata
        Object that `scdae.tl.tune` has been called on.
    key
        The `key_added` of that call.

    Returns
    -------
    DataFrame, one row a trial
        The settings that were searched (empty: the default), ``log_likelihood`` of the held-out molecules in nats per
        molecule, its ``gain`` over the defaults (trial 0), and the standard error of that, ``gain_se``.

    Raises
    ------
    KeyError
        When there is no such result.
    """
    check_adata(adata)
    entry = adata.uns.get(key)
    if not isinstance(entry, Mapping) or "trials" not in entry:
        raise KeyError(f"There is no adata.uns[{key!r}] of scdae. Call scdae.tl.tune(adata) first.")
    numbers = {name: np.asarray(entry[name]) for name in ("log_likelihood", "gain", "gain_se")}
    table = pd.DataFrame({**{name: list(map(str, part)) for name, part in entry["trials"].items()}, **numbers})
    return table.rename_axis("trial").sort_values("gain", ascending=False, kind="stable")


def positions(adata: AnnData, names: Iterable[str]) -> np.ndarray:
    """Positions of genes by name; unknown ones are named in the error."""
    names = list(names)
    index = adata.var_names
    repeated = [name for name in names if not index.is_unique and (index == name).sum() > 1]
    if repeated:
        raise KeyError(
            f"{repeated[0]!r} names {int((index == repeated[0]).sum())} genes in adata.var_names. Make the names unique "
            "(adata.var_names_make_unique()) first."
        )
    first = index[~index.duplicated()]
    first_of_name = np.flatnonzero(~index.duplicated())[first.get_indexer(names)] if len(first) < len(index) else None
    first_of_name = (
        index.get_indexer(names) if first_of_name is None else np.where(first.get_indexer(names) < 0, -1, first_of_name)
    )
    missing = [name for name, at in zip(names, first_of_name, strict=True) if at < 0]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise KeyError(f"{len(missing)} of {len(names)} genes are not in adata.var_names: {shown}.")
    return np.asarray(first_of_name)


def stored_report(adata: AnnData, key: str) -> Mapping[str, Any]:
    """Return the report mapping, or say what is missing."""
    written = adata.uns.get(key)
    if not isinstance(written, Mapping) or "report" not in written:
        raise KeyError(_nothing_under(adata, key, f"uns[{key!r}]"))
    return written["report"]


def _layer_of(adata: AnnData, key: str, output: str) -> str:
    """Name of the layer of one of the outputs of a run; a KeyError that names those there are."""
    stored_report(adata, key)
    outputs = outputs_of(adata.uns[key])
    if output not in outputs:
        raise KeyError(
            f"output={output!r} was not asked for: adata.uns[{key!r}] has {', '.join(map(repr, outputs))}. Call "
            f"scdae.pp.impute(adata, output={(*outputs, output)!r}), which takes the fit that is there."
        )
    return output_layers(key, outputs)[outputs.index(output)]


def _nothing_under(adata: AnnData, key: str, slot: str) -> str:
    """Say that a run left nothing there, and which runs there are."""
    runs = [name for name, value in adata.uns.items() if isinstance(value, Mapping) and "report" in value]
    hint = f"Runs found: {runs}; pass one as key." if runs else "Call scdae.pp.impute(adata) first."
    return f"There is no adata.{slot}. {hint}"
