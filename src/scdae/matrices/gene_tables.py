"""Tables of genes beside a matrix: which column has ids, which symbols, which the kind of a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scdae.matrices.features import is_gene

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["gene_columns"]

_IDS = ("gene_id", "gene_ids", "id", "ensembl", "ensembl_id")
_NAMES = ("gene_name", "gene_names", "gene_symbol", "gene_symbols", "symbol", "name")
_TYPES = ("feature_type", "feature_types", "type")
_UNNAMED = ("gene_ids", "name", "feature_types")  # as 10x orders them
_ABSENT = ("", "NA")


def gene_columns(rows: pd.DataFrame, symbols: pd.Series | None = None) -> pd.DataFrame:
    """Columns `gene_ids`, `name` and `feature_types` of a table of genes, as far as they are there.

    Parameters
    ----------
    rows
        str, a gene each. Columns with names are found by them, upper case or lower; others are in the order of 10x.
    symbols
        From a file of their own, (n,); None where there is none.

    Returns
    -------
    pandas.DataFrame
        Genes without a symbol (nothing, or NA as R writes it) have their id as `name`.

    Examples
    --------
    >>> import pandas as pd
    >>> gene_columns(pd.DataFrame({"ID": ["ENSG1", "ENSG2"], "Symbol": ["CD3E", "NA"]}))["name"].to_list()
    ['CD3E', 'ENSG2']
    """
    columns = _by_name(rows) if isinstance(rows.columns[0], str) else {}
    if not columns:
        columns = {key: rows.iloc[:, i] for i, key in zip(range(rows.shape[1]), _UNNAMED, strict=False)}
        if isinstance(rows.columns[0], str):
            columns.pop("feature_types", None)
    if symbols is not None:
        columns["name"] = symbols
    features = pd.DataFrame(columns)
    if "name" in features and "gene_ids" in features:
        features["name"] = features["name"].where(~features["name"].isin(_ABSENT), features["gene_ids"])
    return features


def _by_name(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns that are called as one of ours is; the first one, if it is none of them, has ids."""
    known = [str(name).lower() for name in rows.columns]
    found = {}
    for key, names in zip(_UNNAMED, (_IDS, _NAMES, _TYPES), strict=True):
        at = next((known.index(name) for name in names if name in known), None)
        if at is not None:
            found[key] = rows.iloc[:, at]
    if "type" in known and "feature_types" in found and not is_gene(found["feature_types"].to_numpy()).any():
        del found["feature_types"]  # of genes: protein_coding and the like
    if found and "gene_ids" not in found and known[0] not in (*_NAMES, *_TYPES):
        found = {"gene_ids": rows.iloc[:, 0], **found}
    return found
