import bz2
import gzip
import lzma
import tarfile
import zipfile

import pytest

import scdae

TEXT = ">a one\nACGT\nACGT\n\n>b two\nGGGG\n"
FOUND = {"a one": "ACGTACGT", "b two": "GGGG"}


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT[:21].encode(), mtime=0) + gzip.compress(TEXT[21:].encode(), mtime=0),
        bz2.compress(TEXT.encode()),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        ("\n\n" + TEXT).encode(),
    ],
    ids=["plain", "gzip", "two gzip members", "bzip2", "CRLF", "CR", "byte order mark", "empty lines"],
)
def test_sequences_are_read_whatever_the_file_is_packed_in(tmp_path, content):
    path = tmp_path / "genes.txt"
    path.write_bytes(content)
    assert scdae.pp.read_fasta(path) == FOUND == scdae.pp.read_fasta(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_may_hold_other_letters(tmp_path, encoding):
    (tmp_path / "a.fasta").write_bytes(">a Bäcillus\nACGT\n".encode(encoding))
    assert scdae.pp.read_fasta(tmp_path / "a.fasta") == {"a Bäcillus": "ACGT"}


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data/dna-sequences.fasta", TEXT)


def tarred(path):
    (path.parent / "inside.fasta").write_text(TEXT)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        archive.add(path.parent / "inside.fasta", "inside.fasta")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.qza", zipped, "artifact of QIIME 2.*dna-sequences.fasta"),
        ("a.zip", zipped, "a zip archive. Unpack it with unzip"),
        ("a.fasta.xz", lzma.compress(TEXT.encode()), "packed with xz, .* xz -d"),
        ("a.fasta.zst", b"\x28\xb5\x2f\xfd" + bytes(20), "packed with Zstandard, .* zstd -d"),
        ("a.tar", tarred, "a tar archive. Unpack it with tar xf"),
        ("a.tar.gz", tarred, "a tar archive. Unpack it with tar xf"),
        ("a.fasta", TEXT.encode("utf-16"), "text in UTF-16. Save it as UTF-8"),
        ("a.fastq", b"@a\nACGT\n+\nIIII\n@b\nACGT\n+\nII", "read 2 is not a line with '@'"),
        ("a.fastq.gz", gzip.compress(b"@a\nACGT\n+\nIIII\n" * 99, mtime=0)[:-9], "truncated or damaged"),
        ("a.gb", b"LOCUS       AB1 1400 bp", "is GenBank format"),
        ("a.aln", b"CLUSTAL W (1.83)\n\na  AC-GT\n", "a Clustal alignment"),
        ("a.fasta", b"<!DOCTYPE html><html></html>", "a page of HTML or XML"),
        ("a.fasta", b"\x89HDF\r\n\x1a\n" + bytes(90), "it is binary"),
        ("a.csv", b"name,sequence\na,ACGT\n", "begins with 'name,sequence'"),
        ("a.fasta", b"", "holds no sequences"),
        ("a.fasta", b"\n \n", "holds no sequences"),
        ("a.fasta.gz", gzip.compress(b"", mtime=0), "holds no sequences"),
        ("a.fasta", b">a\n>b\nACGT\n", "is not read as FASTA"),
        ("a.fasta", b">a\nAC\n>a\nGT\n", "1 header lines are repeated, the first being 'a'"),
    ],
)
def test_what_is_no_fasta_is_named_with_what_to_do(tmp_path, name, content, words):
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)
    for read in (scdae.pp.read_fasta, scdae.pp.kmers):
        with pytest.raises(ValueError, match=words) as raised:
            read(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_damaged_file_is_named(tmp_path, packed):
    genes = scdae.datasets.simulate_16s(n_genera=60, length=600, seed=0)
    content = packed("".join(f">{name}\n{text}\n" for name, text in genes.items()).encode())
    path = tmp_path / "refs.fasta.gz"
    middle = len(content) // 2
    flipped = content[:middle] + bytes(255 - byte for byte in content[middle : middle + 40]) + content[middle + 40 :]
    for damaged in (content[:30], content[:middle], content[:-3], flipped):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match="truncated or damaged.*Copy or download it again|is not read as FASTA"
        ) as raised:
            scdae.pp.read_fasta(path)
        assert str(path) in str(raised.value)


def test_a_folder_and_no_file_are_told_apart(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is a folder"):
        scdae.pp.read_fasta(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        scdae.pp.read_fasta(tmp_path / "none.fasta")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.fasta").write_text(TEXT)
    assert scdae.pp.read_fasta("~/a.fasta") == FOUND


def test_repeated_lineages_of_a_training_set_are_numbered(tmp_path):
    genes = list(scdae.datasets.simulate_16s(n_genera=4, n_per_genus=3, length=400, seed=0).values())
    lineage = "Bacteria;Bacillota;Clostridia;Clostridiales;Clostridiaceae;Clostridium sensu stricto {};"
    path = tmp_path / "silva_train_set.fa"
    path.write_text("".join(f">{lineage.format(i // 3)}\n{text}\n" for i, text in enumerate(genes)))
    adata = scdae.pp.kmers(path, k=2, n_windows=3)
    assert adata.obs_names[:3].tolist() == [lineage.format(0), f"{lineage.format(0)}#2", f"{lineage.format(0)}#3"]
    assert adata.obs["genus"].tolist() == [f"Clostridium sensu stricto {i // 3}" for i in range(12)]


def test_fastq_is_read_packed_or_not(tmp_path):
    text = b"@a one\nACGT\n+\nII@I\n@b;size=3\nGGCC\n+b\n@III\n"
    (tmp_path / "a.fastq").write_bytes(text)
    (tmp_path / "a.fastq.gz").write_bytes(gzip.compress(text))
    for path in tmp_path.iterdir():
        assert scdae.pp.read_fasta(path) == {"a one": "ACGT", "b;size=3": "GGCC"}
