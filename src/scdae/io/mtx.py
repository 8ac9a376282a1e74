"""Matrix Market files, with names of cells and genes in tables beside them, as many programs write them.

STARsolo (also Velocyto and the variants for reads of several genes), Cell Ranger and GEO, kb, alevin-fry, Parse, HTSeq.
Which table is of the cells and which side is theirs is told by names and by lengths.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import scipy.sparse as sp
from scipy.io import mmread

from scdae._log import get_logger
from scdae.arguments.text_tables import TextTable, counts_rows, decoded, parse_table
from scdae.files.errors import first_line
from scdae.matrices.features import genes_only
from scdae.matrices.gene_tables import gene_columns

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["find_matrices", "main_matrix", "read_mtx"]

_CELLS = re.compile(
    r"(all_|count_)?(barcodes?|cells?([._-](names?|metadata|ids?|barcodes?))?|rows|samples?|obs|colnames)\b", re.I
)
_GENES = re.compile(
    r"(all_|count_)?(features?([._-](names?|metadata|ids?))?|genes?([._-](names?|metadata|ids?))?|cols|var|rownames|transcripts?|ec)\b",
    re.I,
)
_TABLE = re.compile(r"\.(tsv|txt|csv)(\.gz)?$")
_MATRIX = re.compile(r"\.mtx(\.gz)?$")
_CELLS_IN_ROWS = re.compile(r"cells_x_|quants_mat|DGE|count_matrix")  # kb, alevin-fry, Parse
_HEADER = re.compile(
    r"gene_?(id|name|symbol)s?|genes?|id|name|symbol|feature(_id)?|bc_wells|barcodes?|cells?|cell_(barcode|id)|samples?|index"
    r"|x|v\d|(row|col)names\W.*",  # R's: of a vector, of columns without a name, of an expression
    re.I,
)
_FEW = 5  # names shown before "..."
_LEAST_LINE, _MOST_PACKED = 4, 1100  # bytes of an entry; times that gzip makes text smaller


class _Table(NamedTuple):
    """A table beside a matrix."""

    path: Path
    is_cells: bool
    rows: pd.DataFrame
    is_short: bool = False  # its first line is one field short: names of columns, as R writes them

    @property
    def has_header(self) -> bool:
        """Whether its first line names the columns."""
        first = [str(name).strip() for name in self.rows.iloc[0]] if len(self.rows) else [""]
        return self.is_short or any(_HEADER.fullmatch(name) for name in (first if first[0] == "" else first[:1]))


def find_matrices(folder: Path) -> list[Path]:
    """Return the Matrix Market files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if _MATRIX.search(p.name) and p.is_file())


def main_matrix(folder: Path) -> Path | None:
    """Return the one matrix of a folder; None where there is none.

    Raises
    ------
    ValueError
        There are several, and none is called matrix.mtx.
    """
    matrices = find_matrices(folder)
    named = [p for p in matrices if p.name.endswith(("matrix.mtx", "matrix.mtx.gz"))]
    if len(named) == 1 or (len(matrices) == 1 and not named):
        chosen = (named or matrices)[0]
        others = [p.name for p in matrices if p != chosen]
        if others:
            get_logger().info(
                f"Reading {chosen}. Others are beside it ({_several(others)}): pass one to read that instead."
            )
        return chosen
    if not matrices:
        return None
    names = _several([p.name for p in named or matrices])
    raise ValueError(f"{folder} holds several matrices ({names}). Pass one of them, such as {(named or matrices)[0]}.")


def read_mtx(path: Path, genome: str | None = None) -> AnnData:
    """Read a Matrix Market file and the names beside it.

    Parameters
    ----------
    path
        The matrix, with genes or cells in rows, gzipped or not.
    genome
        Such files do not say which genome a gene is of, so anything but None is an error.

    Returns
    -------
    AnnData
        `X` float32 CSR, cells in rows. Genes are called by symbol, with `var["gene_ids"]` where there are both.

    Raises
    ------
    ValueError
        A file is cut short or not what its name says, or no tables beside it have the right lengths.
    """
    sides = _sides(path)
    tables = _tables(path)
    named = _fitting(path, sides, tables)
    if named is None:
        raise ValueError(_no_names(path, sides, tables))
    cells, genes, in_rows = named
    matrix = _read_matrix(path)
    if matrix.shape != sides:
        raise ValueError(f"{path.name} is truncated or damaged (its lines are not those of its first one)")
    matrix = sp.csr_matrix(matrix if in_rows else matrix.T)
    return genes_only(matrix, _cell_frame(cells.rows), _gene_frame(genes, tables), genome)


class _Text:
    """A stream that ends in an error at what is not text: zeros, as of a disk that was full, kill SciPy's reader."""

    def __init__(self, stream: Any):
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        part: bytes = self._stream.read(size)
        if b"\x00" in part:
            raise ValueError("it holds zero bytes, which are not text")
        return part


def _open(path: Path) -> Any:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _read_matrix(path: Path) -> Any:
    try:
        with _open(path) as stream:
            return mmread(_Text(stream), spmatrix=False)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{path.name} is truncated or damaged ({first_line(error)})") from error


def _sides(path: Path) -> tuple[int, int]:
    """Read the numbers of rows and columns from the first lines, and check them before memory is taken for them."""
    try:
        with _open(path) as stream:
            is_zipped = isinstance(stream, gzip.GzipFile)
            banner = line = stream.readline(10_000)
            while line.startswith(b"%") or (line and not line.strip()):
                line = stream.readline(10_000)
        if not banner.startswith(b"%%MatrixMarket"):
            raise ValueError("it does not begin with %%MatrixMarket")
        numbers = [int(word) for word in line.split()]
        if len(numbers) not in (2, 3) or min(numbers) < 0:
            raise ValueError("its sizes are not whole numbers")
    except Exception as error:
        raise ValueError(f"{path.name} is truncated or damaged ({first_line(error)})") from error
    n_lines = numbers[2] if len(numbers) == 3 else numbers[0] * numbers[1] // 2
    room = path.stat().st_size * (_MOST_PACKED if is_zipped else 1)
    if n_lines * _LEAST_LINE > room:
        raise ValueError(
            f"{path.name} is truncated or damaged (it is too short for the {n_lines:,} entries that it names)"
        )
    return numbers[0], numbers[1]


def _tables(path: Path) -> list[_Table]:
    """Find the tables of cells and genes beside a matrix, those whose names are most like its own first."""
    tables = []
    for beside in sorted(path.parent.iterdir()):
        if not _TABLE.search(beside.name) or not beside.is_file():
            continue
        shared = max(_shared_start(path.name, beside.name), _own_start(path.name, beside.name), key=len)
        rest = beside.name[len(shared) :]
        is_cells = bool(_CELLS.match(rest))
        if is_cells or _GENES.match(rest):
            tables.append((-len(shared), len(beside.name), beside, is_cells))
    found = []
    for _, _, beside, is_cells in sorted(tables):
        table = _read_table(beside)
        found.append(_Table(beside, is_cells, table.rows, table.is_short))
    return found


def _shared_start(name: str, other: str) -> str:
    """Return what two names have in common, up to a mark that separates words."""
    end = 0
    for i, (a, b) in enumerate(zip(name, other, strict=False)):
        if a != b:
            break
        if a in "._-":
            end = i + 1
    return name[:end]


def _own_start(name: str, other: str) -> str:
    """Return the name of the matrix, with or without its ending, if the other name goes on from it."""
    for start in (name, _MATRIX.sub("", name)):
        if other.startswith(start) and other[len(start) : len(start) + 1] in ("_", ".", "-"):
            return other[: len(start) + 1]
    return ""


def _read_table(path: Path) -> TextTable:
    try:
        with _open(path) as stream:
            content = stream.read()
        return parse_table(decoded(content), comma=".csv" in path.name)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{path.name} is truncated or damaged ({first_line(error)})") from error


def _fitting(path: Path, sides: tuple[int, int], tables: list[_Table]) -> tuple[_Table, _Table, bool] | None:
    """Choose the tables of cells and genes whose lengths fit, and return whether cells are in rows."""
    for in_rows in (True, False) if _CELLS_IN_ROWS.search(path.name) else (False, True):
        n_cells, n_genes = sides if in_rows else sides[::-1]
        cells = next((t for table in tables if table.is_cells and (t := _of_length(table, n_cells))), None)
        genes = next((t for table in tables if not table.is_cells and (t := _of_length(table, n_genes))), None)
        if cells is not None and genes is not None:
            return cells, genes, in_rows
    return None


def _of_length(table: _Table, n: int) -> _Table | None:
    """Return the table, with its header as the names of its columns and without R's row numbers, if it then has `n` rows."""
    rows = table.rows
    while len(rows) > n and (rows.iloc[-1] == "").all():
        rows = rows.iloc[:-1]
    if len(rows) == n + 1 and (table.has_header or ".csv" in table.path.name):
        named = rows.iloc[1:].reset_index(drop=True)
        named.columns = [str(name) for name in rows.iloc[0]]
    elif len(rows) == n and not table.is_short:
        named = rows
    else:
        return None
    if named.shape[1] > 1 and counts_rows(named.iloc[:, 0].tolist()):
        get_logger().info(f"{table.path.name}: the first column counts the rows, as R writes it, and is left out.")
        named = named.iloc[:, 1:]
        named.columns = named.columns if isinstance(named.columns[0], str) else range(named.shape[1])
    return table._replace(rows=named)


def _cell_frame(rows: pd.DataFrame) -> pd.DataFrame:
    named = isinstance(rows.columns[0], str)
    others = {str(key): rows[key].to_numpy() for key in rows.columns[1:]} if named and rows.columns.is_unique else {}
    return pd.DataFrame(others, index=pd.Index(rows.iloc[:, 0].to_numpy(), dtype=object))


def _gene_frame(genes: _Table, tables: list[_Table]) -> pd.DataFrame:
    """Build the columns `gene_ids`, `name` and `feature_types`, as far as the file has them."""
    symbols = None
    if genes.rows.shape[1] == 1 and not isinstance(genes.rows.columns[0], str):  # kb has symbols in a file of their own
        stem = _TABLE.sub("", genes.path.name)
        beside = (table for table in tables if table.path.name.startswith(f"{stem}.names"))
        symbols = next((fits.rows.iloc[:, 0] for table in beside if (fits := _of_length(table, len(genes.rows)))), None)
    return gene_columns(genes.rows, symbols)


def _no_names(path: Path, sides: tuple[int, int], tables: list[_Table]) -> str:
    has = f"{path.name} has {sides[0]:,} rows and {sides[1]:,} columns"
    if not tables:
        return (
            f"{has}, but no tables with the names of cells and genes are beside it (barcodes.tsv and features.tsv, or genes.tsv). "
            "From R, write them with writeLines(colnames(counts), 'barcodes.tsv') and writeLines(rownames(counts), 'genes.tsv'). "
            "Without names: anndata.io.read_mtx(path).write_h5ad(...), with .T if genes are in rows"
        )
    cells, genes = [t for t in tables if t.is_cells], [t for t in tables if not t.is_cells]
    shown = _several([f"{t.path.name} names {len(t.rows):,}" for t in tables])
    for what, table, stems in (("cells", cells, ("barcodes",)), ("genes", genes, ("features", "genes"))):
        if not table:
            start = _shared_start(path.name, tables[0].path.name)
            wanted = ", ".join(f"{start}{stem}.tsv{end}" for stem in stems for end in (".gz", ""))
            return f"{has}, but beside it is neither of {wanted}, and no other table of {what} ({shown})"
    if len(cells) == len(genes) == 1:
        return (
            f"{has}, but {genes[0].path.name} names {len(genes[0].rows):,} features and {cells[0].path.name} "
            f"{len(cells[0].rows):,} cells"
        )
    return f"{has}, but the tables beside it do not fit: {shown}"


def _several(names: list[str]) -> str:
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
