"""Lists of genes in text files, as people save them: from an editor, a spreadsheet, R or pandas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from scdae.arguments.text_tables import MARKS, counts_rows, decoded, is_marked, parse_table

__all__ = ["read_gene_list"]

_TITLES = frozenset(
    "gene genes gene_name gene_names gene_symbol gene_symbols gene_id gene_ids symbol symbols hgnc_symbol name names id ids "
    "feature features feature_name marker markers var_names index ensembl ensembl_id x".split()
)


def read_gene_list(path: Path, var_names: Iterable[str]) -> list[str]:
    r"""Read the names of genes from a text file.

    One a line, or several with commas, semicolons or tabs between them; or the first column of a table. The first line
    may be a title, such as "gene" or that of a table.

    Parameters
    ----------
    path
        In UTF-8 or UTF-16, with a byte order mark or without.
    var_names
        Genes of the data, which tell a title from a gene.

    Returns
    -------
    list of str
        In their order, each once. Those that the data do not have are among them.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, it is not text, or names no gene.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "genes.csv")
    ...     _ = path.write_text("gene,skill\nCD3E,0.2\nNKG7,0.1\n")
    ...     read_gene_list(path, ["CD3E", "MS4A1", "NKG7"])
    ['CD3E', 'NKG7']
    """
    if not path.is_file():
        raise FileNotFoundError(f"The list of genes {path} {'is not a file' if path.exists() else 'does not exist'}.")
    try:
        text = decoded(path.read_bytes())
    except ValueError as error:
        what = "text" if "zero" in str(error) else "text in UTF-8 or UTF-16"
        raise ValueError(f"The list of genes {path} is not {what}. Save it as plain text, one name a line.") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"The list of genes {path} is empty. Give one name a line.")
    known = {str(name) for name in var_names}
    fields = _fields(lines)
    whole = [_bare(line) for line in lines]
    choices = [whole, [part for line in fields for part in line if part]]
    for column in (
        *range(min(map(len, fields))),
        -1,
    ):  # of a table; R writes row numbers before the column that is meant
        chosen = [line[column] for line in fields]
        others = [part for line in fields for i, part in enumerate(line) if i != column % len(line)]
        if len(lines) > 1 and others and not known.intersection(others):
            choices.append(chosen)
    numbered = counts_rows([line[0] for line in fields])  # from the first line on: it is no title
    has_title = (
        len(lines) > 1 and not numbered and (fields[0][0].lower().replace(" ", "_") in _TITLES or len(fields[0]) > 1)
    )
    choices += [choice[1:] for choice in choices if len(choice) > 1 and choice[0] not in known] if has_title else []
    complete = next((choice for choice in choices if known.issuperset(choice)), None)
    best = complete or max(choices, key=lambda choice: sum(name in known for name in choice))
    return list(dict.fromkeys(best))


def _fields(lines: list[str]) -> list[list[str]]:
    """Split each line into fields at commas, semicolons or tabs, or, in tables of R, at spaces."""
    if not any(mark in line for line in lines for mark in ",;\t"):
        rows = parse_table("\n".join(lines)).rows
        if rows.shape[1] > 1:
            return [[str(part) for part in line] for line in rows.to_numpy().tolist()]
    return [[_bare(part.strip()) for part in re.split(r"[,;\t]", line)] for line in lines]


def _bare(name: str) -> str:
    """Return a name without quotation marks around it; those at one end, as of 5', are part of it."""
    return name[1:-1] if any(is_marked(name, mark) for mark in MARKS) else name
