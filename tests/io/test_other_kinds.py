"""Files that are not read: the line says what they are and what to do."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from scdae.io.read import read_any

_HDF5 = b"\x89HDF\r\n\x1a\n" + b"\x00" * 600
_TO_H5 = "DropletUtils::write10xCounts('counts.h5', counts, version = '3')"
_TEXT = b"gene,a,b\nx,1,2\n"


def _zip(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")

    return write


def _tar(mode):
    def write(path):
        inner = path.with_name("inside.txt")
        inner.write_bytes(_TEXT)
        with tarfile.open(path, mode) as archive:
            archive.add(inner)

    return write


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.h5ad.gz", gzip.compress(_HDF5, mtime=0), ["packed by gzip", "gunzip a.h5ad.gz"]),
        ("a.h5.gz", gzip.compress(_HDF5, mtime=0), ["gunzip"]),
        ("a.loom.gz", gzip.compress(_HDF5, mtime=0), ["gunzip"]),
        ("a.h5ad.bz2", bz2.compress(_HDF5), ["bunzip2"]),
        ("a.h5ad.xz", lzma.compress(_HDF5), ["unxz"]),
        ("a.h5ad.zst", b"\x28\xb5\x2f\xfd" + b"\x80" * 50, ["unzstd"]),
        ("a.tar", _tar("w"), ["tar archive", "tar xf a.tar"]),
        ("a.tar.gz", _tar("w:gz"), ["tar archive", "tar xf"]),
        ("a.tgz", _tar("w:gz"), ["tar xf"]),
        ("a.zip", _zip("a.h5ad"), ["zip archive", "unzip a.zip"]),
        ("a.zarr.zip", _zip(".zgroup"), ["unzip"]),
        ("a.qza", _zip("u/metadata.yaml", "u/data/dna-sequences.fasta"), ["QIIME 2", "data/dna-sequences.fasta"]),
        ("a.xlsx", _zip("xl/workbook.xml"), ["Excel", "pandas.read_excel"]),
        ("a.npz", _zip("data.npy"), ["NumPy"]),
        ("a.scdae", _zip("header.npy"), ["a model of scdae"]),
        ("a.rds", gzip.compress(b"X\n\x00\x00\x00\x03" + b"\x00" * 50, mtime=0), ["object of R", "writeH5AD", _TO_H5]),
        ("a.rds", lzma.compress(b"X\n\x00\x00\x00\x03" + b"\x00" * 50), ["object of R"]),
        ("a.rda", gzip.compress(b"RDX3\nX\n", mtime=0), ["R", "writeH5AD", _TO_H5]),
        ("a.RData", bz2.compress(b"RDX3\nX\n"), ["R", "writeH5AD", _TO_H5]),
        ("a.RData", b"RDA3\nA\n3\n", ["object of R", _TO_H5]),
        ("a.biom", b'{"id": null, "format": "Biological Observation Matrix 1.0.0"', ["BIOM", "scdae.pp.kmers"]),
        ("table.json", b'{"id": null, "format": "Biological Observation Matrix 1.0.0"', ["BIOM"]),
        ("a.parquet", b"PAR1" + b"\x00" * 20, ["pandas.read_parquet"]),
        ("a.bam", gzip.compress(b"BAM\x01\x00", mtime=0), ["BAM", "Count"]),
        ("a.fastq.gz", gzip.compress(b"@r1\nACGT\n+\nIIII\n", mtime=0), ["FASTQ", "Count"]),
        ("a.fasta", b">s1\nACGT\n", ["FASTA", "scdae.pp.kmers"]),
        ("a.npy", b"\x93NUMPY\x01", ["numpy.load"]),
        ("a.md", _TEXT, ["read_csv", "first_column_names=True", ".T"]),
        ("a.dat.gz", gzip.compress(_TEXT, mtime=0), ["read_csv", ".T"]),
        ("a.txt", "gene\ta\n".encode("utf-16"), ["read_csv"]),
        ("a.h5ad", b"version https://git-lfs.github.com/spec/v1\n", ["git lfs pull"]),
        ("a.h5ad", b"<!DOCTYPE html><html>", ["web page"]),
        ("a.h5ad", b"\x00\x01\x02\x03" * 20, ["truncated or damaged"]),
        ("a.bin", b"\x00\x01\x02\x03" * 20, ["cannot be read here", ".h5ad"]),
    ],
)
def test_the_line_says_what_it_is_and_what_to_do(tmp_path, name, content, words):
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(ValueError, match=".") as caught:
        read_any(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    for word in words:
        assert word in text


def test_pipes_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "-"):
        with pytest.raises(ValueError, match="pipe.* HDF5 needs a file"):
            read_any(path)
    with pytest.raises(ValueError, match="is a device"):
        read_any("/dev/null")


def test_seurat(tmp_path):
    with h5py.File(tmp_path / "a.h5Seurat", "w") as file:
        file["assays/RNA/counts"], file["cell.names"] = np.ones(3), np.ones(3)
    with pytest.raises(ValueError, match="SeuratDisk"):
        read_any(tmp_path / "a.h5Seurat")


def _hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values


def _says(path, *words):
    with pytest.raises(ValueError, match=".") as caught:
        read_any(path)
    text = str(caught.value)
    assert "\n" not in text and str(path.parent) in text
    for word in words:
        assert word in text, text


def test_hdf5_of_r(tmp_path):
    """What rhdf5's h5write and HDF5Array's saveHDF5SummarizedExperiment write, and BIOM."""
    x = np.ones((3, 2))
    _hdf5(tmp_path / "a.h5", counts=x)
    _says(tmp_path / "a.h5", "it holds 'counts'", "'counts' is a matrix", _TO_H5)
    _hdf5(tmp_path / "b.h5", x__notes=np.ones(3), x__counts=x)
    _says(tmp_path / "b.h5", "'x/counts' is a matrix", _TO_H5)
    _hdf5(tmp_path / "c.h5", notes=np.ones(3))
    _says(tmp_path / "c.h5", "it holds 'notes'. scdae reads")
    (tmp_path / "saved").mkdir()
    _hdf5(tmp_path / "saved/assays.h5", assay001=x)
    _says(tmp_path / "saved/assays.h5", "'assay001' is a matrix")
    (tmp_path / "saved/se.rds").write_bytes(b"X\n")
    for path in (tmp_path / "saved", tmp_path / "saved/assays.h5"):
        _says(
            path, "saveHDF5SummarizedExperiment", "loadHDF5SummarizedExperiment('saved')", "write10xCounts('counts.h5'"
        )
    _hdf5(tmp_path / "t.biom", observation__ids=np.ones(3), sample__ids=np.ones(2))
    _says(tmp_path / "t.biom", "a BIOM table", "scdae.tl.score_sequences")


def test_a_matrix_of_write_mm_in_a_folder(tmp_path):
    (tmp_path / "counts").write_text("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1\n")
    _says(tmp_path, f"Pass a file in it, such as {tmp_path / 'counts'}")
    _says(
        tmp_path / "counts", "writeLines(colnames(counts), 'barcodes.tsv')", "writeLines(rownames(counts), 'genes.tsv')"
    )
    (tmp_path / "barcodes.tsv").write_text("c\n")
    (tmp_path / "genes.tsv").write_text("g\n")
    assert read_any(tmp_path / "counts").shape == (1, 1)
