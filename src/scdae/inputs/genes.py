"""Bring the genes of a query into the order of a model, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import scipy.sparse as sp

from scdae._log import get_logger

__all__ = ["GeneMap", "map_genes", "place_genes"]

_ENSEMBL = re.compile(r"(ENS[A-Z]*[GT]\d{6,})\.\d+", re.IGNORECASE)
_NONE = np.zeros(0, np.int64)
_LEAST_SHARE = 0.5  # of the model's genes that a query has to have


@dataclass(frozen=True)
class GeneMap:
    """Where the genes of a model are in a query.

    Parameters
    ----------
    known
        Bool (n_vars,): genes of the query that the model knows.
    columns
        int (n_kept,): column of the query for each gene of the network, -1 where it has none.
    silent
        int (n_silent,): columns of the genes that the model names and that are not in the network, since the fit
        counted none of them.
    silent_source
        int (n_silent,): the same in the query, where `silent` is about some of its genes.
    silent_unknown
        Bool (n_silent,): those that no cell of the fit observed.
    """

    known: np.ndarray
    columns: np.ndarray
    silent: np.ndarray = field(default_factory=_NONE.copy)
    silent_source: np.ndarray = field(default_factory=_NONE.copy)
    silent_unknown: np.ndarray = field(default_factory=partial(np.zeros, 0, bool))

    def choose(self, wanted: np.ndarray) -> tuple[np.ndarray, GeneMap]:
        """Genes of the network that are wanted, int (n,), and where these are among those wanted.

        Parameters
        ----------
        wanted
            Columns of the query, int (n_wanted,).
        """
        network = np.full(len(self.known), -1)
        present = np.flatnonzero(self.columns >= 0)
        network[self.columns[present]] = present
        genes = network[wanted]
        position = np.full(len(self.known), -1)
        position[self.silent] = np.arange(len(self.silent))
        quiet = position[wanted]
        at, quiet = np.flatnonzero(quiet >= 0), quiet[quiet >= 0]
        silent = at, self.silent_source[quiet], self.silent_unknown[quiet]
        return genes[genes >= 0], GeneMap(self.known[wanted], np.flatnonzero(genes >= 0), *silent)

    def take(
        self, matrix: sp.csr_matrix, unobserved: sp.csr_matrix | None
    ) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        """Return the counts of the query over the genes of the network, and their missing values.

        Parameters
        ----------
        matrix
            float32 CSR (n_obs, n_vars).
        unobserved
            Boolean CSR of the same shape, or None.

        Returns
        -------
        tuple
            float32 CSR (n_obs, n_kept), and boolean CSR of this shape, or None: genes that the query lacks were not
            observed in it.
        """
        columns, present = self.columns, self.columns >= 0
        if present.all():
            return _sorted(matrix[:, columns]), None if unobserved is None else unobserved[:, columns].tocsr()
        wanted = np.flatnonzero(present)
        widen = sp.csr_matrix(
            (np.ones(len(wanted), np.float32), (np.arange(len(wanted)), wanted)), shape=(len(wanted), len(columns))
        )
        wide = _sorted(matrix[:, columns[wanted]] @ widen)
        absent = sp.csr_matrix(np.broadcast_to(~present, wide.shape))
        if unobserved is not None:
            absent = absent + (unobserved[:, columns[wanted]].astype(np.float32) @ widen).astype(bool)
        return wide, absent.tocsr()


def map_genes(
    query: np.ndarray, var_names: np.ndarray, genes: np.ndarray, *, unknown: np.ndarray = _NONE, quiet: bool = False
) -> GeneMap:
    """Find the genes of a model in a query, by name.

    Parameters
    ----------
    query
        Names of the query's genes, str (n_vars,).
    var_names
        Names of all genes the model was fitted to, str (n_model,).
    genes
        Which of them the network has, int (n_kept,): those that were counted at least once.
    unknown
        Which of them no cell of the fit observed, int (n,).
    quiet
        Whether to leave out the warnings about genes that are missing or unknown: said before.

    Raises
    ------
    ValueError
        Gene names are repeated and not those of the model in its order, or too few genes match.
    """
    if np.array_equal(query, var_names):
        columns, silent = np.asarray(genes), np.setdiff1d(np.arange(len(var_names)), genes)
        return GeneMap(np.ones(len(var_names), bool), columns, silent, silent, np.isin(silent, unknown))
    known, columns, others = _by_name(query, var_names, genes, quiet)
    quiet_ones = np.setdiff1d(np.arange(len(var_names)), genes)[others >= 0]
    silent = others[others >= 0]
    return GeneMap(known, columns, silent, silent, np.isin(quiet_ones, unknown))


def place_genes(query: np.ndarray, var_names: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Match each gene of a query to one of the network: int (n_vars,), -1 for none. Arguments and errors as above."""
    _, columns, _ = _by_name(query, var_names, genes, quiet=False, adapting=True)
    gene_in_model = np.full(len(query), -1, np.int64)
    known = columns >= 0
    gene_in_model[columns[known]] = np.flatnonzero(known)
    return gene_in_model


def _by_name(
    query: np.ndarray, var_names: np.ndarray, genes: np.ndarray, quiet: bool, adapting: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Genes of the query that are known, and the places in it of those of the network and of the model's others."""
    for names, where in ((query, "var_names of the query"), (var_names, "the genes of the model")):
        unique, number = np.unique(names, return_counts=True)
        if len(unique) < len(names):
            raise ValueError(
                f"{where} repeat {int((number > 1).sum())} name(s), the first being {str(unique[number > 1][0])!r}: genes "
                "cannot be matched by name. Make them unique (adata.var_names_make_unique()) before fit and here."
            )
    columns = _find(query, var_names[genes])
    others = _find(query, var_names[np.setdiff1d(np.arange(len(var_names)), genes)], taken=columns)
    known = np.zeros(len(query), bool)
    for positions in (columns, others):
        known[positions[positions >= 0]] = True
    spelled = [(str(var_names[g]), str(query[c])) for g, c in zip(genes, columns, strict=True) if c >= 0]
    spelled = [pair for pair in spelled if pair[0] != pair[1]]
    n_found = int((columns >= 0).sum())
    if n_found < _LEAST_SHARE * len(columns):
        raise ValueError(_too_few(n_found, query, var_names[genes]))
    if spelled and not quiet:
        get_logger().warning(
            f"scdae: {len(spelled):,} gene(s) were matched though they are spelled otherwise, the first being {spelled[0][1]!r} for "
            f"{spelled[0][0]!r} of the model (versions of Ensembl ids, case, and Seurat's dashes for underscores are overlooked where that leaves no doubt)."
        )
    if n_found < len(columns) and not quiet and not adapting:
        get_logger().warning(
            f"scdae: {len(columns) - n_found:,} of the {len(columns):,} genes of the model are missing; they are taken as "
            "not observed."
        )
    if not known.all() and not quiet and not adapting:
        get_logger().warning(
            f"scdae: {int((~known).sum()):,} gene(s) unknown to the model, the first being "
            f"{str(query[~known][0])!r}, come back as NaN."
        )
    return known, columns, others


def _too_few(n_found: int, query: np.ndarray, wanted: np.ndarray) -> str:
    """Say why too few genes match, and what to do: names of another kind, or a panel of a part of the genes."""
    message = f"{n_found:,} of the {len(wanted):,} genes of the model are in var_names, less than half. "
    here, kind_of_wanted = _kind(query), _kind(wanted)
    if n_found <= _LEAST_SHARE * min(len(query), len(wanted)):  # most of the query's are unknown, too
        also = "" if here == kind_of_wanted else f"{here} "
        message += (
            f"The model has {kind_of_wanted} such as {str(wanted[0])!r}, the query {also}such as {str(query[0])!r}."
        )
        if here != kind_of_wanted:
            return message + f" Put {kind_of_wanted} into adata.var_names: a column of adata.var may have them."
        return message + " Are they of another species, annotation or assay? Fit a model on the query itself."
    return message + (
        f"The query is a panel of {len(query):,} genes, most of which the model knows. Fit a model on the panel, or join it with the "
        "data of the model, scdae.pp.align([reference, query]), and call impute on the joint object with mask='observed'."
    )


_KINDS = {  # what names of genes look like, where most of them do
    "Ensembl ids": re.compile(r"ENS[A-Z]*[GT]\d{6,}(\.\d+)?", re.IGNORECASE),
    "names with a genome before them": re.compile(r"(GRC[hm]\d+|hg\d+|mm\d+|\w*(human|mouse))_+.+", re.IGNORECASE),
    "numbers": re.compile(r"\d+"),
    "RefSeq accessions": re.compile(r"[NX][MR]_\d+(\.\d+)?"),
    "probe names": re.compile(r"\d+(_[a-z]+)?_at"),
    "symbols in capitals": re.compile(r"[A-Z0-9][A-Z0-9.\-]*(orf\d+)?"),
    "symbols with a capital first": re.compile(r"[A-Z][a-z0-9.\-]*"),
}


def _kind(names: np.ndarray) -> str:
    """Return what most of the names are, in words."""
    some = [str(name) for name in names[:: max(len(names) // 200, 1)]]
    for kind, pattern in _KINDS.items():
        if sum(pattern.fullmatch(name) is not None for name in some) > 0.6 * len(some):
            return kind
    return "names"


def _find(query: np.ndarray, wanted: np.ndarray, taken: np.ndarray = _NONE) -> np.ndarray:
    """Place in `query` of each wanted name, int64, -1 for none: the same name, or the only one like it.

    Places in `taken` are those of other genes already.
    """
    names, targets = [str(name) for name in query], [str(name) for name in wanted]
    places = np.full(len(targets), -1, np.int64)
    for alike in (str, _without_version, _without_case, _dashed, lambda name: _dashed(name).casefold()):
        left = np.flatnonzero(places < 0)
        if not len(left):
            break
        free = set(range(len(names))) - set(taken.tolist()) - set(places[places >= 0].tolist())
        here = _only(alike, [(names[i], i) for i in sorted(free)])
        unique_names = _only(alike, [(targets[j], int(j)) for j in left])
        for name, j in unique_names.items():
            places[j] = here.get(name, -1)
    return places


def _only(alike: Callable[[str], str], named: list[tuple[str, int]]) -> dict[str, int]:
    """Places by simplified name, without the names that more than one has."""
    position_of_name: dict[str, int] = {}
    repeated = set()
    for name, position in named:
        simple = alike(name)
        if simple in position_of_name:
            repeated.add(simple)
        position_of_name[simple] = position
    return {name: position for name, position in position_of_name.items() if name not in repeated}


def _without_version(name: str) -> str:
    """Return an Ensembl id without the version behind its point."""
    match = _ENSEMBL.fullmatch(name)
    return match[1] if match else name


def _without_case(name: str) -> str:
    return _without_version(name).casefold()


def _dashed(name: str) -> str:
    """Return a name as Seurat calls the gene, in which dashes stand for underscores and bars, without its version."""
    return _without_version(name).replace("_", "-").replace("|", "-")


def _sorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return matrix
