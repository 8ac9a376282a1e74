"""Columns of `obs` in a text file of their own, joined to cells by name: formats of counts alone, as of 10x, have none."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scdae._log import get_logger
from scdae.arguments.objects import listed
from scdae.arguments.text_tables import counts_rows, decoded, parse_table

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["join_obs", "read_obs_table"]

_ABSENT = ("", "NA", "N/A", "NaN", "nan")
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.I)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_CODE = re.compile(r"0\d+")  # 007: a name and no number


class ObsTable(NamedTuple):
    """A table whose first line names the columns."""

    columns: dict[str, list[str]]  # R's names of rows are called ""
    quoted: frozenset[str]  # columns that R wrote as text


def join_obs(adata: AnnData, path: Path, *, if_there: bool = False) -> None:
    """Write the columns of a table into ``adata.obs``, each cell's by its name.

    Parameters
    ----------
    adata
        The cells. Columns of the same names are replaced, with a warning if they differ.
    path
        Text with commas, semicolons, tabs or, as R writes it, spaces between fields; gzipped or not. The column with
        the names of the cells is found by them. Numbers become numbers, TRUE and FALSE booleans, other text
        categories, as does all that stands in quotation marks throughout; NA and nothing are missing values.
    if_there
        Whether a table without any of the cells is left alone.

    Raises
    ------
    ValueError
        It is no such table; a cell of `adata` has no line in it, or several; or names of cells or columns are repeated.

    Examples
    --------
    >>> import scdae, tempfile
    >>> adata = scdae.datasets.simulate(n_cells=20, n_genes=10, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cells.csv")
    ...     adata.obs[["batch"]].rename(columns={"batch": "run"}).to_csv(path)
    ...     join_obs(adata, path)
    >>> bool((adata.obs["run"] == adata.obs["batch"]).all())
    True
    """
    table = read_obs_table(path)
    names = pd.Index([str(name) for name in adata.obs_names], dtype=object)
    if not names.is_unique:
        again = names[names.duplicated()]
        raise ValueError(
            f"columns are joined to cells by name, but adata.obs_names repeat {len(again.unique()):,} name(s), the first being "
            f"{again[0]!r}. Make them unique first."
        )
    column = _cell_column(table, names)
    if if_there and not names.isin(table.columns[column]).any():
        return
    lines = _lines_of(table.columns[column], names, column)
    new = {
        name: _typed([fields[i] for i in lines], name in table.quoted)
        for name, fields in table.columns.items()
        if name not in (column, "")  # R's names of rows, where the cells are named in another column
    }
    if not new:
        raise ValueError("the table has the names of the cells and no further column.")
    left_out = len(table.columns[column]) - len(lines)
    if left_out:
        get_logger().info(f"{path.name}: {left_out:,} line(s) of other cells are not used.")
    for name, values in new.items():
        if name in adata.obs and not _same(adata.obs[name], values):
            get_logger().warning(f"scdae: obs[{name!r}] has other values in {path.name}, which replace those of INPUT.")
        adata.obs[name] = values


def read_obs_table(path: Path) -> ObsTable:
    """Read the columns of a table, row numbers of R left out. Arguments and errors as above."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError("the table is truncated or damaged. Copy it again.") from error
    text = decoded(content)
    text = text.strip("\n\r")
    first = text.partition("\n")[0]
    parsed = parse_table(text, comma="\t" not in first and ("," in first or ";" in first))
    rows = parsed.rows
    if len(rows) < 2:
        raise ValueError("the table is empty: it needs a line with the names of the columns and one for each cell.")
    header = [str(name).strip() for name in rows.iloc[0]]
    columns = {i: rows.iloc[1:, i].tolist() for i in range(len(header))}
    for i in [i for i, name in enumerate(header) if not name and i > 0]:
        if any(columns[i]):
            raise ValueError(f"column {i + 1} of the table has no name in its first line. Name it.")
        del columns[i]  # lines that end in a separator
    if not header[0] and counts_rows(columns[0]) and len(columns) > 1:
        del columns[0]
    kept = [header[i] for i in columns]
    twice = list(dict.fromkeys(name for name in kept if kept.count(name) > 1))
    if twice:
        raise ValueError(
            f"the table has {len(twice)} name(s) of columns that repeat: {listed(twice)}. Rename all but one."
        )
    quoted = frozenset(header[i] for i in columns if parsed.quoted[i])
    return ObsTable({header[i]: values for i, values in columns.items()}, quoted)


def _cell_column(table: ObsTable, names: pd.Index) -> str:
    """Name of the column that has the names of the cells: the first with all of them, or most."""
    best, most = next(iter(table.columns)), 0
    for column, fields in table.columns.items():
        found = int(names.isin(fields).sum())
        if found == len(names):
            return column
        if found > most:
            best, most = column, found
    if any(str(name) in names for name in table.columns):
        raise ValueError("the first line of the table is that of a cell. Put the names of the columns before it.")
    return best


def _lines_of(fields: list[str], names: pd.Index, column: str) -> np.ndarray:
    """Line of each cell, from 0 on below the first."""
    where = f"column {column!r}" if column else "its first column"
    of_cells = pd.Index(fields, dtype=object)
    missing = names[~names.isin(of_cells)]
    if len(missing):
        at = int(np.flatnonzero(names == missing[0])[0])
        raise ValueError(
            f"{len(missing):,} of the {len(names):,} cells have no line in the table, the first being {missing[0]!r} (row {at}); "
            f"{where} has names such as {fields[0]!r}. Give each cell a line, under the name that it has in INPUT."
        )
    repeated = of_cells[of_cells.duplicated() & of_cells.isin(names)].unique()
    if len(repeated):
        lines = np.flatnonzero(of_cells == repeated[0]) + 2
        raise ValueError(
            f"{len(repeated):,} cell(s) have more than one line in the table, the first being {repeated[0]!r} (lines {lines[0]:,} and "
            f"{lines[1]:,}, {where}). Keep one for each."
        )
    first = np.flatnonzero(~of_cells.duplicated())  # cells that are not asked for may have several
    return np.asarray(first[of_cells[first].get_indexer(names)])


def _typed(fields: list[str], quoted: bool) -> Any:
    """Values of a column: numbers, booleans or categories."""
    values = np.array(fields, dtype=object)
    absent = values == "" if quoted else np.isin(values, _ABSENT)
    there = values[~absent]
    distinct = set(there)
    if len(there) and not quoted:
        if {text.lower() for text in distinct} <= {"true", "false"}:
            flags = np.array([text.lower() == "true" for text in values])
            return pd.arrays.BooleanArray(flags, absent) if absent.any() else flags
        numbers = _numbers(distinct)
        if numbers is not None:
            if not absent.any() and all(_WHOLE.fullmatch(text) for text in distinct):
                return np.array([int(text) for text in values])
            return np.array([np.nan if gap else numbers[text] for text, gap in zip(values, absent, strict=True)])
    values[absent] = None
    return pd.Categorical(values)


def _numbers(distinct: set[str]) -> dict[str, float] | None:
    """Texts as numbers, also with a comma for the point (write.csv2); None where one is none."""
    if any(_CODE.fullmatch(text) for text in distinct):
        return None
    if all(_NUMBER.fullmatch(text) for text in distinct):
        return {text: float(text) for text in distinct}
    if all(_DECIMAL_COMMA.fullmatch(text) for text in distinct):
        return {text: float(text.replace(",", ".")) for text in distinct}
    return None


def _same(old: pd.Series, new: Any) -> bool:
    """Return whether two columns have the same values, whatever their types."""
    fresh = pd.Series(new, index=old.index)
    gaps = old.isna().to_numpy()
    return bool((gaps == fresh.isna().to_numpy()).all() and (old.astype(str)[~gaps] == fresh.astype(str)[~gaps]).all())
