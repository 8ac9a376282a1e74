"""Lists of genes in text files, as people save them: from an editor, a spreadsheet, R or pandas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["read_gene_list"]

_TITLES = frozenset(
    "gene genes gene_name gene_names gene_symbol gene_symbols gene_id gene_ids symbol symbols hgnc_symbol name names id ids "
    "feature features feature_name marker markers var_names index ensembl ensembl_id x".split()
)
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


def read_gene_list(path: Path, var_names: Iterable[str]) -> list[str]:
    r"""Names of genes in a text file.

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
    lines = [line.strip() for line in _decode(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"The list of genes {path} is empty. Give one name a line.")
    known = {str(name) for name in var_names}
    fields = [[part.strip().strip("\"'") for part in re.split(r"[,;\t]", line)] for line in lines]
    whole = [line.strip("\"'") for line in lines]
    choices = [whole, [part for line in fields for part in line if part]]
    for column in (0, -1):  # of a table; R writes row numbers or names before the column that is meant
        chosen = [line[column] for line in fields]
        others = [part for line in fields for part in (line[1:] if column == 0 else line[:-1])]
        if len(lines) > 1 and others and not known.intersection(others):
            choices.append(chosen)
    has_title = len(lines) > 1 and (fields[0][0].lower().replace(" ", "_") in _TITLES or len(fields[0]) > 1)
    choices += [choice[1:] for choice in choices if len(choice) > 1 and choice[0] not in known] if has_title else []
    complete = next((choice for choice in choices if known.issuperset(choice)), None)
    best = complete or max(choices, key=lambda choice: sum(name in known for name in choice))
    return list(dict.fromkeys(best))


def _decode(path: Path) -> str:
    content = path.read_bytes()
    coding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    if coding == "utf-8" and content[1:2] == b"\x00":
        coding = "utf-16-le"
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        raise ValueError(f"The list of genes {path} is not text in UTF-8 or UTF-16. Save it as plain text.") from error
    if "\x00" in text:
        raise ValueError(f"The list of genes {path} is not text. Save it as plain text, one name a line.")
    return text
