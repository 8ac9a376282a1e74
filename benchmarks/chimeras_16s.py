"""Chimeras of 16S rRNA genes by distance to the nearer parent, beside vsearch and DADA2.

The referee of ../shared (bench/chimeras.py, which needs edlib) makes the chimeras, calls vsearch and draws the table: at
the score that 1 % of the normal test genes reach. What is not installed is left out, with a line that says so. Amplicons
are scored by whole genes of the reference: windows are cut by `region=`. Some genes are taken out of the reference, to
see how often genes of its genera are called chimeras.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import scdae
from scdae.sequences.abundances import find_bimeras

SETTINGS = {"n_latent": 128, "n_components": 256, "n_hidden": 256, "likelihood": "poisson", "max_epochs": 60}
REGIONS = ("full", "v34", "v4")
LEVELS = (0.05, 0.01)
PARENTS, CHIMERAS = (300, 1500), (8, 15)  # reads in the samples that are judged without a reference
OTHERS = 200  # real genes as rare as the chimeras
R_CODE = """
suppressMessages(library(dada2))
x <- read.csv(commandArgs(TRUE)[1]); counts <- setNames(x$reads, x$sequence)
write.csv(data.frame(found = isBimeraDenovo(counts)), commandArgs(TRUE)[2], row.names = FALSE)
"""


def chimeras_16s(shared: Path, seed: int = 11) -> None:
    """Print what each method finds."""
    referee = shared / "bench/chimeras.py"
    try:
        import edlib  # noqa: F401
    except ImportError:
        print("skipped: the referee needs edlib (pip install edlib)")
        return
    print(f"\nChimeras of 16S rRNA genes, in percent, parents in the reference / of genera that it lacks; seed {seed}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, referee, "make", folder, "--seed", str(seed)], check=True)
        if shutil.which("vsearch"):
            subprocess.run([sys.executable, referee, "vsearch", folder], check=True)
        else:
            print("vsearch is not installed (apt-get install vsearch): left out")
        for region in REGIONS:
            _score(folder, region)
            subprocess.run(
                [sys.executable, referee, "table", folder, f"scdae {region}={folder / region}_scores.csv", region],
                check=True,
            )
        print("\nWithout a reference, by abundance: percent found, and of the other genes that are as rare (FP)")
        for region in REGIONS:
            _de_novo(folder, region, np.random.default_rng(seed))


def _read(folder: Path, region: str, *parts: str) -> dict[str, str]:
    read: dict[str, str] = {}
    for part in parts:
        read |= scdae.pp.read_fasta(folder / f"{region}_{part}.fasta")
    return read


def _mates(folder: Path, region: str, names: list[str]) -> list[str]:
    """One gene of every other genus that has two or more, unless a chimera is made of it."""
    rows = [line.split("\t") for line in (folder / f"{region}_chim.tsv").read_text().splitlines()]
    parents = {parent for row in rows for parent in row[3:5]}
    genera: dict[str, list[str]] = {}
    for name in names:
        genera.setdefault(name.split()[1], []).append(name)
    several = [of_genus for of_genus in genera.values() if len(of_genus) > 1]
    free = ([name for name in of_genus if name.split()[0] not in parents] for of_genus in several[::2])
    return [of_genus[0] for of_genus in free if of_genus]


def _score(folder: Path, region: str) -> None:
    texts = _read(folder, region, "test", "chim")
    genes = _read(folder, "full", "ref")
    mates = {name: genes.pop(name) for name in _mates(folder, region, list(genes))}
    reference = scdae.pp.kmers(genes, region=None if region == "full" else texts)
    calibration = scdae.pp.kmers(_read(folder, "full", "cal"), reference=reference)
    model = scdae.DAE(**SETTINGS).fit(reference, mask="observed")
    query = scdae.pp.kmers(texts, reference=reference, min_length=50)
    scdae.tl.score_sequences(query, model, reference, calibration)
    query.obs["guard_chimera"].rename("score").to_csv(folder / f"{region}_scores.csv", index_label="name")
    pvalue = query.obs["guard_chimera_pvalue"][~query.obs_names.str.startswith("chim_")]
    shares = ", ".join(f"{(pvalue <= level).mean():.1%} at p <= {level:g}" for level in LEVELS)
    print(f"scdae {region}: false positives {shares}")
    known = scdae.pp.kmers(mates, reference=reference)
    scdae.tl.score_sequences(known, model, reference, calibration)
    pvalue = known.obs["guard_chimera_pvalue"]
    shares = ", ".join(f"{(pvalue <= level).mean():.1%} at p <= {level:g}" for level in LEVELS)
    print(f"scdae {region}: {len(mates)} genes of genera of the reference {shares}")


def _de_novo(folder: Path, region: str, rng: np.random.Generator) -> None:
    genes = {name.split()[0]: text for name, text in _read(folder, region, "ref", "test").items()}
    made = _read(folder, region, "chim")
    rows = [line.split("\t") for line in (folder / f"{region}_chim.tsv").read_text().splitlines()]
    parents = {parent for row in rows for parent in row[3:5]}
    of_parents = {genes[name] for name in parents}
    rest = sorted(name for name in genes if genes[name] not in of_parents)
    others = [rest[i] for i in rng.permutation(len(rest))[:OTHERS]]
    reads: dict[str, tuple[str, int]] = {}  # sequences that are equal are one
    for texts, (low, high) in (
        ([genes[name] for name in sorted(parents)], PARENTS),
        ([genes[name] for name in others], CHIMERAS),
        (list(made.values()), CHIMERAS),
    ):
        for text in texts:
            reads.setdefault(text, (f"s{len(reads)}", int(rng.integers(low, high + 1))))
    texts = list(reads)
    chimeric = np.isin(texts, list(made.values())) & ~np.isin(texts, list(genes.values()))
    rare = np.isin(texts, [genes[name] for name in others])
    counts = np.array([n for _, n in reads.values()], float)
    found = {"scdae": find_bimeras(texts, counts[None]).chimeric}
    if shutil.which("vsearch"):
        found["--uchime3_denovo"] = _uchime(folder, reads)
    if region != "full" and shutil.which("Rscript"):  # of whole genes DADA2 takes hours
        try:
            found["isBimeraDenovo"] = _dada(folder, texts, counts)
        except subprocess.CalledProcessError:
            print("DADA2 is not installed (apt-get install r-bioc-dada2): left out")
    for name, flag in found.items():
        print(f"{region:5s}{name:20s}{100 * flag[chimeric].mean():6.1f}   FP {100 * flag[rare].mean():.1f}")


def _uchime(folder: Path, reads: dict[str, tuple[str, int]]) -> np.ndarray:
    source, out = folder / "denovo.fasta", folder / "denovo.txt"
    ordered = sorted(reads.items(), key=lambda one: -one[1][1])
    source.write_text("".join(f">{name};size={n}\n{text}\n" for text, (name, n) in ordered))
    subprocess.run(
        ["vsearch", "--uchime3_denovo", source, "--uchimeout", out, "--sizein", "--quiet"],
        check=True,
        capture_output=True,
    )
    rows = [line.split("\t") for line in out.read_text().splitlines()]
    called = {row[1].split(";")[0] for row in rows if row[-1] == "Y"}
    return np.array([name in called for name, _ in reads.values()])


def _dada(folder: Path, texts: list[str], counts: np.ndarray) -> np.ndarray:
    source, out, code = (folder / name for name in ("dada.csv", "dada_found.csv", "dada.R"))
    source.write_text("sequence,reads\n" + "".join(f"{text},{n:.0f}\n" for text, n in zip(texts, counts, strict=True)))
    code.write_text(R_CODE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(["Rscript", code, source, out], check=True, capture_output=True, env=environment)
    return np.array([line == "TRUE" for line in out.read_text().splitlines()[1:]])
