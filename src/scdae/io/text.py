"""Counts as a table of text, as DCA, MAGIC and R write them: names in the first row and column, numbers in between."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae.io.other_kinds import first_bytes

__all__ = ["is_table", "read_table"]

_ENDINGS = (".csv", ".tsv", ".txt", ".tab")
_OTHERS = (b"", b">", b"@", b"<", b"%", b"{", b"[", b"\n")  # FASTA, SAM, web pages, Matrix Market, JSON
_ROWS = 500  # at a time: a block of numbers is dense, the table is held sparse


def is_table(path: Path) -> bool:
    """Return whether a file is a table of text by its name and its first line, packed or not."""
    name = path.name.lower()
    for packed in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(packed)
    start = first_bytes(path, 4096)
    return name.endswith(_ENDINGS) and start[:1] not in _OTHERS and b"\0" not in start and _separator(start) is not None


def read_table(path: Path, *, transpose: bool = False) -> anndata.AnnData:
    """Read counts from a table of text.

    Parameters
    ----------
    path
        The file: separated by commas, tabs, semicolons or blanks, packed by gzip, bzip2 or xz or not.
    transpose
        Whether genes are in rows, as DCA and R have them; else cells are.

    Returns
    -------
    anndata.AnnData
        Counts as a sparse matrix, named by the first row and column.

    Raises
    ------
    ValueError
        There is text among the numbers, lines differ in length, or there are no numbers.
    """
    separator = _separator(first_bytes(path, 4096))
    what = ("genes", "cells") if transpose else ("cells", "genes")
    options: dict[str, Any] = {"sep": separator, "header": None, "encoding": "utf-8-sig"}
    names: list[str] = []
    blocks: list[sp.csr_matrix] = []
    try:
        first = pd.read_csv(path, nrows=1, dtype=str, keep_default_na=False, **options).iloc[0].tolist()
        with pd.read_csv(path, skiprows=1, chunksize=_ROWS, dtype={0: str}, **options) as reader:
            for block in reader:
                columns = first[-(block.shape[1] - 1) :]  # R leaves out the name of the first column
                if len(columns) != block.shape[1] - 1 or len(first) > block.shape[1]:
                    raise pd.errors.ParserError(
                        f"{len(first)} names in the first row, and {block.shape[1]} fields in the second"
                    )
                names += block[0].fillna("NA").tolist()
                blocks.append(_numbers(block.drop(columns=0).set_axis(columns, axis=1), block[0], path))
    except pd.errors.EmptyDataError:
        blocks = []
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path} is no table of numbers with names in its first row and column ({text}).") from error
    if not blocks:
        raise ValueError(
            f"{path} holds no numbers: a row of names of {what[1]} and rows of counts of {what[0]} are needed."
        )
    matrix = sp.vstack(blocks, format="csr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that repeat: said when the counts are read
        adata = anndata.AnnData(
            matrix,
            obs=pd.DataFrame(index=pd.Index(names, dtype=object)),
            var=pd.DataFrame(index=pd.Index(columns, dtype=object)),
        )
        return adata.T.copy() if transpose else adata


def _numbers(block: pd.DataFrame, names: pd.Series, path: Path) -> sp.csr_matrix:
    """Return the rows as a sparse matrix; text among them is named."""
    text = np.flatnonzero([not pd.api.types.is_numeric_dtype(kind) for kind in block.dtypes])
    if len(text):
        values = block.iloc[:, text[0]].dropna().astype(str)
        wrong = values[pd.to_numeric(values, errors="coerce").isna()]
        shown = f", such as {wrong.iloc[0]!r} in row {names[wrong.index[0]]!r}" if len(wrong) else ""
        raise ValueError(
            f"{path}: {len(text):,} column(s) hold text and not counts, the first being {block.columns[text[0]]!r}{shown}. Only names "
            "of cells and genes may stand beside the counts, in the first row and column."
        )
    return sp.csr_matrix(block.to_numpy(np.float64))


def _separator(start: bytes) -> str | None:
    """Find the separator of the fields: the one that is most frequent in the first line."""
    line = start.decode("utf-8-sig", errors="ignore").split("\n")[0]
    number, found = max((line.count(mark), mark) for mark in "\t,; ")
    if number == 0:
        return None
    return r"\s+" if found == " " else found
