"""Samples of many jobs: a folder, a pattern, or a sheet with a row for each and what is to be done otherwise with it."""

from __future__ import annotations

import csv
import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from scdae._log import get_logger
from scdae.arguments.text_tables import counts_rows, decoded
from scdae.files.targets import is_store
from scdae.io.mtx import main_matrix
from scdae.io.on_disk import find_files

__all__ = ["Sample", "read_samples"]

_ENDINGS = (".h5ad", ".zarr", ".loom", ".h5", ".mtx", ".mtx.gz")
_NAME = re.compile(r"[^\W_][\w.+ @=,-]*")  # what becomes the name of a file
_NEEDED = ("sample", "path")
_ABSENT = ("", "NA")  # as R writes what is missing
_FEW = 5  # names shown before "..."


class Sample(NamedTuple):
    """One job's input."""

    name: str
    path: Path
    options: tuple[tuple[str, str], ...] = ()  # of its own, without dashes in front


def read_samples(source: str | os.PathLike[str], known: Collection[str] = ()) -> list[Sample]:
    """Return the samples that a folder, a pattern or a sheet stands for, in order.

    Parameters
    ----------
    source
        A sheet, .csv or .tsv, with the columns `sample` and `path`, of which those that are not absolute begin at the
        sheet's folder; or a pattern of files; or a folder with files, whose names without their ending are those of the
        samples.
    known
        Options that may be further columns, such as ``batch-key``. Columns of other names are not used, and a warning
        says so.

    Returns
    -------
    list of Sample
        Their paths are absolute.

    Raises
    ------
    ValueError, FileNotFoundError
        There are none, a column is missing, a name repeats or cannot be one of a file, or a file is not there. The
        message says which and in which line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.h5ad", "b.h5ad"):
    ...         _ = (Path(folder) / name).write_text("")
    ...     [sample.name for sample in read_samples(folder)]
    ['a', 'b']
    """
    path = Path(source).expanduser()
    if path.suffix in (".csv", ".tsv"):
        samples = _of_sheet(path, known)
    elif path.is_dir() and not is_store(path) and not _is_matrix(path):
        samples = [Sample(_stem(file), file) for file in sorted(path.iterdir()) if _is_sample(file)]
        if not samples:
            raise FileNotFoundError(f"{path} has no sample: no file that ends in {', '.join(_ENDINGS)}.")
    elif path.exists() and not glob.has_magic(str(path)):
        raise ValueError(f"{path} is one sample. Name a sheet (.csv), a folder of samples or a quoted pattern.")
    else:
        samples = [Sample(_stem(file), file) for file in find_files(path)]
        if not samples[0].path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
    _check_names(samples, path)
    return [sample._replace(path=Path(os.path.abspath(sample.path))) for sample in samples]


def _of_sheet(sheet: Path, known: Collection[str]) -> list[Sample]:
    try:
        text = decoded(sheet.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"{sheet} cannot be read: {reason}.") from error
    lines = text.splitlines()
    delimiter = "\t" if sheet.suffix == ".tsv" else ";" if ";" in text and "," not in "".join(lines[:1]) else ","
    reader = csv.reader(lines, delimiter=delimiter)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    (_, header), *rest = _without_row_names([(line, row) for line, row in rows if any(row)]) or [(0, [])]
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise ValueError(
            f"{sheet} has no column {' and no column '.join(missing)}. Its first line has to name the columns: sample, path, and "
            "options of the command where samples differ in them."
        )
    twice = [name for name, number in Counter(header).items() if number > 1]
    if twice:
        raise ValueError(f"{sheet} has {len(twice)} columns that repeat: {_some(twice)}.")
    if not rest:
        raise ValueError(f"{sheet} has no sample: there is no line below the names of the columns.")
    options = _columns(sheet, header, known)
    samples, lost = [], []
    for line, row in rest:
        if len(row) != len(header):
            raise ValueError(f"{sheet}, line {line}: {len(row)} values for {len(header)} columns.")
        cells = dict(zip(header, row, strict=True))
        if not cells["path"]:
            raise ValueError(f"{sheet}, line {line} (sample {cells['sample'] or 'without a name'}): the path is empty.")
        file = sheet.parent / Path(cells["path"]).expanduser()
        if not file.exists():
            lost.append(f"{cells['sample'] or 'without a name'} ({file})")
        own = tuple((option, cells[name]) for name, option in options.items() if cells[name] not in _ABSENT)
        samples.append(Sample(cells["sample"], file, own))
    if lost:
        raise FileNotFoundError(f"{sheet}: {len(lost)} of {len(samples)} files do not exist: {_some(lost)}.")
    return samples


def _without_row_names(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Lines without the row numbers that R writes first: their column has no name, or no field in the first line."""
    (line, header), *rest = rows or [(0, [])]
    if not rest or not counts_rows([row[0] for _, row in rest]):
        return rows
    if all(len(row) == len(header) + 1 for _, row in rest):
        header = ["", *header]
    return [(number, row[1:]) for number, row in ((line, header), *rest)] if not header[0] else rows


def _columns(sheet: Path, header: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Return the columns that are options, and these; those that are nearly so are taken for misprints."""
    options, unused = {}, []
    for name in header:
        if name in _NEEDED:
            continue
        option = name.lstrip("-").replace("_", "-").lower()
        near = difflib.get_close_matches(option, known, 1, 0.85)
        if option in known:
            options[name] = option
        elif near:
            raise ValueError(
                f"{sheet}: the column {name!r} is not an option. Did you mean {near[0].replace('-', '_')!r}?"
            )
        else:
            unused.append(name)
    if unused:
        get_logger().warning(f"scdae: {sheet}: columns that are not options are not used: {_some(unused)}.")
    return options


def _check_names(samples: list[Sample], source: Path) -> None:
    bad = [repr(sample.name) for sample in samples if not _NAME.fullmatch(sample.name)]
    if bad:
        raise ValueError(
            f"{source}: {len(bad)} samples have names that cannot be those of files: {_some(bad)}. Use letters, digits, dots, dashes "
            "and underscores."
        )
    twice = [name for name, number in Counter(sample.name.casefold() for sample in samples).items() if number > 1]
    if twice:
        raise ValueError(
            f"{source}: {len(twice)} names stand for more than one sample: {_some(twice)}. Results are named by them."
        )


def _is_sample(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.name.endswith(_ENDINGS) or _is_matrix(path)


def _is_matrix(folder: Path) -> bool:
    """Return whether a folder is one sample: a matrix with its genes and cells."""
    try:
        return folder.is_dir() and main_matrix(folder) is not None
    except ValueError:  # several
        return False


def _stem(path: Path) -> str:
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if path.name.endswith(ending):
            return path.name[: -len(ending)]
    return path.name


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
