"""`scdae chimeras`."""

import gzip

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scdae
from scdae.cli import app


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Whole verified genes, and amplicons of other genera, with chimeras of these."""
    folder = tmp_path_factory.mktemp("chimeras")
    genes = scdae.datasets.simulate_16s(n_genera=155, length=900, seed=3)
    rng = np.random.default_rng(0)
    pairs = np.array(list(genes)).reshape(-1, 2)[rng.permutation(155)]
    known, normal, unseen = pairs[:80, 0], pairs[80:105].ravel(), pairs[105:, 0]
    with gzip.open(folder / "reference.fasta.gz", "wt") as file:
        file.writelines(f">{name}\n{genes[name]}\n" for name in known)
    (folder / "calibration.fasta").write_text("".join(f">{name}\n{genes[name][200:650]}\n" for name in normal))
    whole = [genes[name][250:600] for name in unseen]
    reads = [(f"real_{i}", text, int(rng.integers(200, 900))) for i, text in enumerate(whole)]
    while len(reads) < 70:
        a, b = rng.choice(50, 2, replace=False)
        if unseen[a].split()[2] != unseen[b].split()[2]:  # phyla
            reads.append((f"made_{len(reads) - 50}", whole[a][:170] + whole[b][170:], int(rng.integers(5, 20))))
    (folder / "new.fasta").write_text("".join(f">{name};size={n}\n{text}\n" for name, text, n in reads))
    with gzip.open(folder / "new.fastq.gz", "wt") as file:
        file.writelines(f"@{name}\n{text.lower()}\n+\n{'I' * len(text)}\n" for name, text, _ in reads)
    (folder / "counts.tsv").write_text("name\tone\n" + "".join(f"{name}\t{n}\n" for name, _, n in reads))
    return folder


def test_amplicons_are_scored_by_a_reference_of_whole_genes(files):
    done = run(
        "chimeras", files / "new.fastq.gz", files / "s.tsv", "--reference", files / "reference.fasta.gz", "--level", "0.05",
        "--calibration", files / "calibration.fasta",
        "--max-epochs", 15, "--chimeras", files / "c.fasta", "--nonchimeras", files / "n.fasta",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "fewer than 6" not in done.stderr, "windows were cut to the amplicons"
    table = pd.read_csv(files / "s.tsv", sep="\t", index_col="sequence")
    made = table.index.str.startswith("made")
    assert table["is_chimera"][made].mean() > 0.7 and table["is_chimera"][~made].mean() <= 0.2
    assert table["chimera_pvalue"][made].median() < table["chimera_pvalue"][~made].median()
    found, others = (scdae.pp.read_fasta(files / name) for name in ("c.fasta", "n.fasta"))
    assert set(found) == set(table.index[table["is_chimera"]]) and set(others) == set(table.index) - set(found)
    again = run("chimeras", files / "new.fastq.gz", files / "s.tsv", "--reference", files / "reference.fasta.gz")
    assert again.exit_code != 0 and "s.tsv" in again.stderr, "it is there already"


def test_abundances_alone_find_exact_chimeras(files):
    for n, words in enumerate(
        (["new.fasta"], ["new.fastq.gz", "--abundance", files / "counts.tsv"]),
    ):
        done = run("chimeras", files / words[0], files / f"d{n}.csv", *words[1:])
        assert done.exit_code == 0, done.stderr
        table = pd.read_csv(files / f"d{n}.csv", index_col="sequence")
        made = table.index.str.startswith("made")
        assert table["is_chimera"].tolist() == made.tolist()
        assert table["denovo_left"][made].str.startswith("real").mean() > 0.8, "or another chimera of the same"
    assert "20 of 70 sequences are chimeras" in done.stdout


def test_what_is_missing_is_said(files):
    words = "chimeras", files / "new.fastq.gz", files / "e.tsv"
    assert "--abundance TABLE" in run(*words).stderr
    assert "e.txt" in run("chimeras", files / "new.fasta", files / "e.txt").stderr
    (files / "few.fasta").write_text((files / "new.fasta").read_text().split(">real_3")[0])
    assert "too few to hold some out" in run(*words, "--reference", files / "few.fasta").stderr
