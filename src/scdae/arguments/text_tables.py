"""Tables in text files, as R, pandas, spreadsheets and people write them: quotation marks, row numbers, short headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

__all__ = ["MARKS", "TextTable", "counts_rows", "decoded", "is_marked", "parse_table", "unquoted"]

MARKS = "\"'"
_BYTE_ORDERS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_FIELD = r'"(?:[^"\\]|""|\\.)*"'
_SPACED = re.compile(rf"(?:{_FIELD}|NA|[-+.\deE]+)(?: (?:{_FIELD}|NA|[-+.\deE]+))*")
_NUMBERED = re.compile(r"(\d+) \S")
_SNIFFED = 20  # lines that tell what stands between the fields
_ABSENT = ("", "NA")  # what R writes without quotation marks in a column of text


class TextTable(NamedTuple):
    """A table in a text file, the names of its columns not yet told from its values."""

    rows: pd.DataFrame  # str, a line each; without the quotation marks around fields
    quoted: tuple[bool, ...]  # which columns had them: in R those of text
    is_short: (
        bool  # the first line was one field shorter than the others: names of columns, without one for R's row names
    )


def decoded(content: bytes) -> str:
    """Return text in UTF-8 or UTF-16, with a byte order mark or without.

    Raises
    ------
    ValueError
        It is no text.
    """
    coding = next((name for mark, name in _BYTE_ORDERS if content.startswith(mark)), "utf-8")
    if coding == "utf-8" and content[1:2] == b"\x00":
        coding = "utf-16-le"
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8 or UTF-16") from error
    if "\x00" in text:
        raise ValueError("it holds zero bytes, which are not text")
    return text


def is_marked(field: str, mark: str = '"') -> bool:
    """Return whether a field stands between quotation marks as a whole."""
    return len(field) > 1 and field[0] == field[-1] == mark


def unquoted(fields: Sequence[str]) -> list[str]:
    r"""Return fields without the quotation marks around them, where all have them.

    Fields that are empty, or NA as R writes it beside text in quotation marks, need none; they are then empty.

    Examples
    --------
    >>> unquoted(['"CD3E"', '"NKG7"', "NA"])
    ['CD3E', 'NKG7', '']
    >>> unquoted(['"CD3E"', "5'"])
    ['"CD3E"', "5'"]
    """
    for mark in MARKS:
        if _all_marked(fields, mark):
            return ["" if field in _ABSENT else _bare(field, mark) for field in fields]
    return list(fields)


def _all_marked(fields: Sequence[str], mark: str) -> bool:
    some = False
    for field in fields:
        if is_marked(field, mark):
            some = True
        elif field not in _ABSENT:
            return False
    return some


def _bare(field: str, mark: str) -> str:
    """Return what is between the marks; marks within are doubled (write.csv) or behind a backslash (write.table)."""
    return field[1:-1].replace(mark * 2, mark).replace("\\" + mark, mark)


def counts_rows(fields: Sequence[str]) -> bool:
    """Return whether fields are 1, 2, 3, ...: row numbers, which R writes unless it is told not to."""
    return len(fields) > 0 and all(field == str(i) for i, field in enumerate(fields, 1))


def parse_table(text: str, *, comma: bool = False) -> TextTable:
    r"""Split the lines of a text into fields.

    Parameters
    ----------
    text
        Fields separated by tabs, or by spaces as R does by itself: then they are in quotation marks or behind row
        numbers.
    comma
        Whether commas separate them, or semicolons where the first line has these and no comma.

    Returns
    -------
    TextTable
        Fields that a line lacks at its end are empty.

    Raises
    ------
    ValueError
        A line has more fields than the first two.

    Examples
    --------
    >>> parse_table('"x"\n"1" "AAAC-1"\n"2" "AAAG-1"\n').rows.to_numpy().tolist()
    [['', 'x'], ['1', 'AAAC-1'], ['2', 'AAAG-1']]
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    if not text:
        return TextTable(pd.DataFrame({0: []}, dtype=object), (False,), False)
    separator = _separator(text, comma)
    if separator not in text:
        columns, quoted = _without_marks([text.split("\n")], each=comma)
        return TextTable(pd.DataFrame(dict(enumerate(columns)), dtype=object), quoted, False)
    lines = _split(text, separator)
    width = max(len(line) for line in lines[:2])
    for number, line in enumerate(lines, 1):
        if len(line) > width:
            raise ValueError(f"line {number} has {len(line)} fields, the first ones have {width}")
    is_short = len(lines) > 1 and len(lines[0]) == width - 1
    if is_short:
        lines[0] = ["", *lines[0]]
    columns = [[line[i] if i < len(line) else "" for line in lines] for i in range(width)]
    columns, quoted = _without_marks(columns, each=separator in ",;")
    return TextTable(pd.DataFrame(dict(enumerate(columns)), dtype=object), quoted, is_short)


def _separator(text: str, comma: bool) -> str:
    lines = text.split("\n", _SNIFFED)[:_SNIFFED]
    if comma:
        return ";" if ";" in lines[0] and "," not in lines[0] else ","
    if any("\t" in line for line in lines):
        return "\t"
    body = lines[1:] or lines
    if all('"' in line and _SPACED.fullmatch(line) for line in body) and any(" " in line for line in body):
        return " "
    numbers = [match[1] for line in lines if (match := _NUMBERED.match(line))]
    return " " if counts_rows(numbers) and len(numbers) >= len(body) else "\t"


def _split(text: str, separator: str) -> list[list[str]]:
    """Split lines into fields with their quotation marks; separators and line ends between marks do not count."""
    if '"' not in text:
        return [line.split(separator) for line in text.split("\n")]
    gap = re.escape(separator)
    token = re.compile(rf"(?P<field>{_FIELD}(?={gap}|\n|\Z)|[^{gap}\n]*)(?P<end>{gap}|\n|\Z)")
    lines: list[list[str]] = [[]]
    for match in token.finditer(text):
        lines[-1].append(match["field"])
        if match["end"] == "\n":
            lines.append([])
        elif not match["end"]:
            break
    return lines


def _without_marks(columns: list[list[str]], *, each: bool = False) -> tuple[list[list[str]], tuple[bool, ...]]:
    """Take quotation marks off the columns in which all fields have them, or, where `each`, off every field.

    The first line can name the columns: R puts marks around names of columns of numbers, but not around the numbers.
    """
    header = [fields[0] for fields in columns]
    bare = [unquoted(fields) for fields in columns]
    quoted = tuple(new != old for new, old in zip(bare, columns, strict=True))
    if each:
        bare = [
            new if all_of_it else [_bare(field, '"') if is_marked(field) else field for field in new]
            for new, all_of_it in zip(bare, quoted, strict=True)
        ]
    elif any(quoted) and all(is_marked(field) or not field for field in header):
        for fields, field in zip(bare, header, strict=True):
            fields[0] = _bare(field, '"') if field else ""
    return bare, quoted
