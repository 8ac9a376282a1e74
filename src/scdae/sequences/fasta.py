"""FASTA files: what they hold, or why they are none."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO, cast

import jax

from scdae._log import get_logger
from scdae.sequences.taxonomy import is_lineage

__all__ = ["as_header", "import_scikit_bio", "read_fasta"]

_PACKED = {
    b"\xfd7zXZ\x00": ("xz", "Unpack it with xz -d"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "Unpack it with zstd -d"),
    b"\x04\x22\x4d\x18": ("LZ4", "Unpack it with lz4 -d"),
    b"7z\xbc\xaf\x27\x1c": ("7z", "Unpack it with 7z x"),
    b"Rar!": ("rar", "Unpack it with unrar x"),
}
_NOT_FASTA = {
    "LOCUS": "GenBank format. Turn it into FASTA, for example with Bio.SeqIO.convert of Biopython",
    "ID  ": "EMBL format. Turn it into FASTA, for example with Bio.SeqIO.convert of Biopython",
    "CLUSTAL": "a Clustal alignment. Turn it into FASTA without gaps",
    "# STOCKHOLM": "a Stockholm alignment. Turn it into FASTA without gaps",
    "#NEXUS": "NEXUS format. Turn it into FASTA without gaps",
    "<": "a page of HTML or XML: the download went wrong, or has to be of another kind. Take the file in FASTA format",
    "{": "JSON. Take the sequences themselves, in FASTA format",
}
_TAR_AT = 257


def read_fasta(path: str | PathLike[str]) -> dict[str, str]:
    """Read sequences by their header line.

    Parameters
    ----------
    path
        FASTA or FASTQ file, packed with gzip or bzip2 or not.

    Returns
    -------
    dict
        ``{"id description": "ACGT..."}``, as :func:`kmers` takes it. Where header lines are nothing but a lineage, as
        in the training sets for DADA2, those that are repeated get a number: ``"Bacteria;...;Bacillus;#2"``.

    Raises
    ------
    ImportError
        scikit-bio is not installed.
    FileNotFoundError
        There is no such file.
    ValueError
        It is not FASTA, is truncated or damaged, or header lines are repeated.

    Examples
    --------
    >>> import scdae
    >>> sequences = scdae.pp.read_fasta("genes.fasta.gz")  # doctest: +SKIP
    """
    path = Path(fspath(path)).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Give the FASTA file in it.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    sequences: dict[str, str] = {}
    repeated: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for header, text in _records(path):
        header = as_header(header)
        if header in sequences and is_lineage(header):
            numbers[header] += 1
            header = f"{header}#{numbers[header] + 1}"
        if header in sequences:
            repeated[header] += 1
        sequences[header] = text
    if repeated:
        first = next(iter(repeated))
        raise ValueError(
            f"{path}: {repeated.total():,} header lines are repeated, the first being {first!r}. Give each sequence its own."
        )
    if numbers:
        get_logger().info(
            f"scdae: {path}: {numbers.total():,} lineages are the header lines of several sequences; numbers tell them apart."
        )
    return sequences


def as_header(header: str) -> str:
    """Return a header line without blanks at its ends and without the mark."""
    return header.strip().removeprefix(">").strip()


def import_scikit_bio() -> Any:
    """scikit-bio. Importing it (0.7.4) turns JAX to double precision for everybody, so the setting is put back."""
    before = jax.config.read("jax_enable_x64")
    try:
        import skbio
    except ImportError as error:
        raise ImportError(
            "Reading FASTA needs scikit-bio, which is not installed. Run: pip install 'scdae[seq]'"
        ) from error
    finally:
        jax.config.update("jax_enable_x64", before)
    return skbio


def _records(path: Path) -> Iterator[tuple[str, str]]:
    """Header lines and sequences, in turn; a ValueError that names the file where it cannot be read."""
    skbio = None if _begins_fastq(path) else import_scikit_bio()
    encoding = _check_start(path)
    if skbio is None:
        yield from _reads(path, encoding)
        return
    try:
        with _opened(path) as stream, io.TextIOWrapper(stream, encoding=encoding) as lines:
            for one in skbio.io.read(lines, format="fasta", verify=False, constructor=skbio.Sequence):
                yield f"{one.metadata['id']} {one.metadata['description']}", str(one)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}). Copy or download it again.") from error
    except OSError as error:  # bz2 has no error of its own
        if error.errno is not None:
            raise
        raise ValueError(f"{path} is truncated or damaged ({error}). Copy or download it again.") from error
    except (skbio.io.FASTAFormatError, UnicodeError, ValueError) as error:
        raise ValueError(f"{path} is not read as FASTA: {_one_line(error)}") from error


def _reads(path: Path, encoding: str) -> Iterator[tuple[str, str]]:
    """Header lines and letters of a FASTQ file: four lines a read."""
    try:
        with _opened(path) as stream, io.TextIOWrapper(stream, encoding=encoding) as lines:
            number = 0
            for header in lines:
                if not header.strip():
                    continue
                number += 1
                text, plus, quality = (lines.readline().strip() for _ in range(3))
                if header[:1] != "@" or plus[:1] != "+" or len(text) != len(quality):
                    raise ValueError(
                        f"{path} is not read as FASTQ: read {number:,} is not a line with '@', one of letters, one with '+' and one "
                        "of as many qualities. Is the file cut off?"
                    )
                yield header.strip()[1:], text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}). Copy or download it again.") from error


def _begins_fastq(path: Path) -> bool:
    """Whether the first sign of a file, packed or not, is that of FASTQ."""
    try:
        with _opened(path) as stream:
            return stream.read(2**10).lstrip()[:1] == b"@"
    except (EOFError, OSError, zlib.error):
        return False  # said when it is looked at


def _check_start(path: Path) -> str:
    """Encoding of a file whose beginning may be FASTA or FASTQ; a ValueError that says what else it is, and what to do."""
    with open(path, "rb") as stream:
        start = stream.read(_TAR_AT + 5)
    if start.startswith(b"PK"):
        raise ValueError(f"{path} is {_zip_words(path)}")
    for mark, (name, fix) in _PACKED.items():
        if start.startswith(mark):
            raise ValueError(f"{path} is packed with {name}, which is not read here. {fix}, and give what comes out.")
    try:
        with _opened(path) as stream:
            start = stream.read(2**16)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}). Copy or download it again.") from error
    if start[_TAR_AT:].startswith(b"ustar"):
        raise ValueError(f"{path} is a tar archive. Unpack it with tar xf, and give the FASTA file in it.")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is text in UTF-16. Save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8.")
    if b"\x00" in start:
        raise ValueError(
            f"{path} is not read as FASTA: it is binary. Give a text file whose header lines begin with '>'."
        )
    text = start.decode("utf-8-sig", "replace").lstrip()
    if not text:
        raise ValueError(f"{path} holds no sequences: there are none in it.")
    for sign, what in _NOT_FASTA.items():
        if text.startswith(sign):
            raise ValueError(f"{path} is {what}.")
    if not text.startswith((">", ";", "@")):
        line = text.splitlines()[0][:40]
        raise ValueError(f"{path} is not read as FASTA: it begins with {line!r}, and not with a header line ('>...').")
    return _encoding(path)


def _encoding(path: Path) -> str:
    """UTF-8 where all of the file is, with or without its mark; else one byte a letter, as old databases write names."""
    with _opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8") as lines:
        try:
            while lines.read(2**20):
                pass
        except UnicodeDecodeError:
            return "latin-1"
        except (EOFError, OSError, zlib.error):
            pass  # said when it is read
    return "utf-8-sig"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Bytes of a file, unpacked."""
    with open(path, "rb") as stream:
        start = stream.read(3)
    opener: Any = gzip.open if start[:2] == b"\x1f\x8b" else bz2.open if start == b"BZh" else open
    with opener(path, "rb") as opened:
        yield cast(BinaryIO, opened)


def _zip_words(path: Path) -> str:
    if path.suffix == ".qza":
        return (
            "an artifact of QIIME 2, which is a zip archive. Take dna-sequences.fasta out of it, for example with qiime tools "
            "export or unzip, and give that."
        )
    return "a zip archive. Unpack it with unzip, and give the FASTA file in it (of QIIME 2: data/dna-sequences.fasta)."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
