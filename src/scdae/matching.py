"""Bring the genes of a query into the order of a model, by name."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae._log import get_logger
from scdae.counts import Counts

__all__ = ["match_genes"]

_LEAST_SHARE = 0.5  # of the model's genes that a query has to have


def match_genes(
    counts: Counts, var_names: np.ndarray, genes: np.ndarray, *, quiet: bool = False
) -> tuple[np.ndarray, sp.csr_matrix, sp.csr_matrix | None, np.ndarray]:
    """Counts of a query over the genes of a model.

    Parameters
    ----------
    counts
        The query.
    var_names
        Names of all genes the model was fitted to, str (n_model,).
    genes
        Which of them the network has, int (n_kept,): those that were counted at least once.
    quiet
        Whether to leave out the warnings about genes that are missing or unknown: said before.

    Returns
    -------
    known
        Bool (n_vars,): genes of the query that the model knows.
    matrix
        float32 CSR (n_obs, n_kept).
    unobserved
        Boolean CSR of the same shape, or None: genes that the query lacks were not observed in it.
    columns
        int (n_kept,): column of the query for each gene of the network, -1 where it has none.

    Raises
    ------
    ValueError
        Gene names are repeated and not those of the model in its order, or too few genes match.
    """
    if np.array_equal(counts.var_names, var_names):
        known, columns = np.ones(len(var_names), bool), np.asarray(genes)
    else:
        known, columns = _by_name(counts.var_names, var_names, genes, quiet)
    present = columns >= 0
    if present.all():
        hidden = None if counts.unobserved is None else counts.unobserved[:, columns].tocsr()
        return known, _sorted(counts.matrix[:, columns]), hidden, columns
    place = np.flatnonzero(present)
    widen = sp.csr_matrix(
        (np.ones(len(place), np.float32), (np.arange(len(place)), place)), shape=(len(place), len(columns))
    )
    matrix = _sorted(counts.matrix[:, columns[place]] @ widen)
    absent = sp.csr_matrix(np.broadcast_to(~present, matrix.shape))
    if counts.unobserved is not None:
        absent = absent + (counts.unobserved[:, columns[place]].astype(np.float32) @ widen).astype(bool)
    return known, matrix, absent.tocsr(), columns


def _by_name(query: np.ndarray, var_names: np.ndarray, genes: np.ndarray, quiet: bool) -> tuple[np.ndarray, np.ndarray]:
    for names, where in ((query, "var_names of the query"), (var_names, "the genes of the model")):
        unique, number = np.unique(names, return_counts=True)
        if len(unique) < len(names):
            raise ValueError(
                f"{where} repeat {int((number > 1).sum())} name(s), the first being {str(unique[number > 1][0])!r}: genes "
                "cannot be matched by name. Make them unique (adata.var_names_make_unique()) before fit and here."
            )
    position = {str(name): i for i, name in enumerate(query)}
    columns = np.array([position.get(str(name), -1) for name in var_names[genes]], np.int64)
    n_found = int((columns >= 0).sum())
    if n_found < _LEAST_SHARE * len(columns):
        raise ValueError(
            f"{n_found:,} of the {len(columns):,} genes of the model are in var_names, less than half. The model has "
            f"names such as {str(var_names[genes][0])!r}, the query such as {str(query[0])!r}."
        )
    known = np.isin(query, var_names)
    if n_found < len(columns) and not quiet:
        get_logger().warning(
            f"scdae: {len(columns) - n_found:,} of the {len(columns):,} genes of the model are missing; they are taken as "
            "not observed."
        )
    if not known.all() and not quiet:
        get_logger().warning(
            f"scdae: {int((~known).sum()):,} gene(s) unknown to the model, the first being "
            f"{str(query[~known][0])!r}, come back as NaN."
        )
    return known, columns


def _sorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return matrix
