"""Files of kinds that are not read: what they are, by their first bytes, and what to do about them in one line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

__all__ = ["BIOM", "FROM_R", "READ", "check_is_file", "describe_other", "first_bytes", "of_r_folder"]

READ = (
    "scdae reads .h5ad, .zarr, .loom, 10x .h5, Matrix Market files (.mtx, with barcodes and features beside them), folders "
    "with these, and tables of text (.csv, .tsv, .txt)"
)
_TABLE = (
    "Read it with pandas.read_csv or anndata.io.read_csv(path, first_column_names=True), turn it with .T if genes are in "
    "rows, and save it with .write_h5ad"
)
FROM_R = "In R, DropletUtils::write10xCounts('counts.h5', {counts}, version = '3') writes a file that is read here"
_SAVED = (
    FROM_R.format(counts="counts")
    + ", with counts = SingleCellExperiment::counts(sce) or Seurat::GetAssayData(object, slot = 'counts'); "
    "zellkonverter::writeH5AD(sce, 'counts.h5ad') takes the columns of the cells along"
)
BIOM = (
    "a BIOM table: counts of taxa or sequences in samples, which this model is not for. To look for chimeras among the sequences, "
    "pass them as FASTA to scdae chimeras, or in Python to scdae.pp.kmers and scdae.tl.score_sequences"
)
_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4"),
}
_ARCHIVES = {b"7z\xbc\xaf": ("a 7z archive", "7z x"), b"Rar!": ("a RAR archive", "unrar x")}
_BYTES = (
    (b"PAR1", "a Parquet table", "Read it with pandas.read_parquet and save it as AnnData with .write_h5ad"),
    (b"ARROW1", "a Feather table", "Read it with pandas.read_feather and save it as AnnData with .write_h5ad"),
    (b"BAM\x01", "a BAM file of reads", "Count molecules first, with STARsolo, kb or Cell Ranger"),
    (b"CRAM", "a CRAM file of reads", "Count molecules first, with STARsolo, kb or Cell Ranger"),
    (b"@HD\t", "a SAM file of reads", "Count molecules first, with STARsolo, kb or Cell Ranger"),
    (b"RDX", "a workspace of R", _SAVED),
    (b"RDA", "a workspace of R", _SAVED),
    (b"X\n\x00\x00\x00", "an object of R", _SAVED),
    (b"A\n2\n", "an object of R", _SAVED),
    (b"A\n3\n", "an object of R", _SAVED),
    (b"\x93NUMPY", "a NumPy array", "Wrap it: anndata.AnnData(numpy.load(path)).write_h5ad(...)"),
    (b"MATLAB 5", "a file of MATLAB", "Read it with scipy.io.loadmat and save it as AnnData with .write_h5ad"),
    (b"%PDF", "a PDF", READ),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself", "Fetch it with git lfs pull"),
    (b"<!DOCTYPE", "a web page", "Look at it: what was downloaded is not the file"),
    (b"<!doctype", "a web page", "Look at it: what was downloaded is not the file"),
    (b"<html", "a web page", "Look at it: what was downloaded is not the file"),
    (b"<?xml", "XML", "Look at it: what was downloaded is perhaps not the file"),
    (
        b">",
        "FASTA",
        "For chimeras among 16S sequences use scdae chimeras, in Python scdae.pp.kmers and scdae.tl.score_sequences; reads of "
        "cells have to be counted first, by a program such as STARsolo",
    ),
    (b"@", "FASTQ", "Count molecules first, with STARsolo, kb or Cell Ranger"),
)


def check_is_file(path: Path) -> None:
    """Refuse what cannot be read twice: pipes, sockets, devices, standard input.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    ValueError
        It is neither a file nor a folder.
    """
    if str(path) == "-":
        raise ValueError(
            "INPUT is '-', standard input: a pipe, but HDF5 needs a file. Save the counts to a file first."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a pipe" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "a device"
        raise ValueError(f"{path} is {what}; HDF5 needs a file. Save the counts to a file first.")


def first_bytes(path: Path, number: int = 512) -> bytes:
    """Read the first bytes of a file, decompressed where it is packed by gzip, bzip2 or xz."""
    with path.open("rb") as stream:
        start = stream.read(number)
    opener: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    for magic, unpack in opener.items():
        if start.startswith(magic):
            try:
                with unpack(path, "rb") as inner:
                    return bytes(inner.read(number))
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                return b""
    return start


def of_r_folder(path: Path) -> str | None:
    """Say what a folder is that HDF5Array's saveHDF5SummarizedExperiment wrote, and what to do; None for others."""
    if not (path / "assays.h5").is_file() or not list(path.glob("*.rds")):
        return None
    line = FROM_R.format(counts=f"SummarizedExperiment::assay(HDF5Array::loadHDF5SummarizedExperiment('{path.name}'))")
    return f"{path} is a SummarizedExperiment of R (saveHDF5SummarizedExperiment). {line}."


def describe_other(path: Path) -> str:
    """Return what a file of a kind that is not read is, and what to do, in one line that begins with its name."""
    with path.open("rb") as stream:
        start = stream.read(512)
    inner = first_bytes(path)
    what, remedy = _zip(path) if start.startswith(b"PK") else _known(path, start, inner)
    return f"{path} is {what}. {remedy}."


def _known(path: Path, start: bytes, inner: bytes) -> tuple[str, str]:
    for magic, (what, command) in _ARCHIVES.items():
        if start.startswith(magic):
            return what, f"Unpack it with {command} {path.name}, and pass what it holds"
    packed = next((names for magic, names in _PACKED.items() if start.startswith(magic)), None)
    if inner[257:262] == b"ustar" or (packed and ".tar" in path.name) or path.name.endswith(".tgz"):
        return "a tar archive", f"Unpack it with tar xf {path.name}, and pass what it holds"
    suffix = "".join(path.suffixes).lower()
    if suffix.endswith((".rds", ".rda", ".rdata")):
        return "an object of R", _SAVED
    for magic, what, remedy in _BYTES:
        if inner.startswith(magic):
            return what, remedy
    if packed and not _is_text(inner):
        return f"packed by {packed[0]}", f"Unpack it with {packed[1]} {path.name}, and pass the file inside"
    if inner[:2] in (b"\xff\xfe", b"\xfe\xff") or _is_text(inner):
        if suffix.endswith((".fastq", ".fq", ".fastq.gz", ".fq.gz")):
            return "FASTQ", "Count molecules first, with STARsolo, kb or Cell Ranger"
        if suffix.endswith((".biom", ".biom.gz")) or b"Biological Observation Matrix" in inner:
            what, _, remedy = BIOM.partition(". ")
            return what, remedy
        return "a kind that cannot be read here: text", f"{READ}. {_TABLE}"
    if start[:1] == b"\x80" and suffix.endswith((".pkl", ".pickle")):
        return "a pickle", "Load it in Python and save it as AnnData with .write_h5ad"
    if suffix.endswith((".h5", ".h5ad", ".hdf5", ".loom", ".h5mu")):
        return "truncated or damaged", "It does not begin as HDF5 files do: copy or download it again"
    return "of a kind that cannot be read here", READ


def _zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a zip archive that is truncated or damaged", "Copy or download it again"
    if "header.npy" in names or path.suffix == ".scdae":
        return "a model of scdae and not counts", "Pass it as MODEL"
    if path.suffix in (".qza", ".qzv"):
        inside = next((name for name in names if "/data/" in name), "data/...")
        what = inside.partition("/")[2] or inside
        remedy = f"Take {what} out of it: unzip -j {path.name} '{inside}'"
        is_biom = inside.endswith(".biom")
        return "a zip archive (QIIME 2)", remedy + (", and read it with biom and pandas" if is_biom else "")
    if any(name.startswith("xl/") for name in names):
        return "a table of Excel", "Read it with pandas.read_excel and save it as AnnData with .write_h5ad"
    if names and all(name.endswith(".npy") for name in names):
        return (
            "an archive of NumPy arrays",
            "Load it with numpy.load or scipy.sparse.load_npz and save it with .write_h5ad",
        )
    return "a zip archive", f"Unpack it with unzip {path.name}, and pass what it holds"


def _is_text(start: bytes) -> bool:
    if not start or b"\x00" in start:
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # cut within a letter
    return True
