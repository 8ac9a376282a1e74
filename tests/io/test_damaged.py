"""Damaged files end in one line, whatever was damaged: bytes cut, turned, set to zero; numbers changed; parts deleted.

What is read is read in this process, so inputs that kill a library are not among these; the seeds were looked through.
The probe that finds those is tested by a stand-in.
"""

import os
import random
import shutil
import signal
import subprocess
import sys

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from cases import barcodes, write_10x_v2, write_10x_v3
from scdae.inputs.counts import read_counts
from scdae.io.on_disk import open_on_disk
from scdae.io.read import read_any
from scdae.io.write import write_atomic

X = np.random.default_rng(0).poisson(1.0, (20, 12))
CELLS, GENES, IDS = barcodes(20), [f"gene{j}" for j in range(12)], [f"ENSG{j:011d}" for j in range(12)]


def _whole(folder, kind):
    path = folder / kind
    if kind in ("a.h5ad", "a.zarr"):
        obs = pd.DataFrame({"donor": pd.Categorical(list("abcd") * 5)}, index=CELLS)
        x = sp.csr_matrix(X.astype("f4"))
        write_atomic(ad.AnnData(x, obs=obs, var=pd.DataFrame(index=GENES), layers={"c": x.tocsc()}), path)
    elif kind == "v3.h5":
        write_10x_v3(path, X, GENES, IDS, ("Gene Expression",) * 12, CELLS)
    elif kind == "v2.h5":
        write_10x_v2(path, {"hg": (X, GENES, IDS)}, CELLS)
    else:
        path.mkdir()
        scipy.io.mmwrite(path / "matrix.mtx", sp.coo_matrix(X.T))
        (path / "barcodes.tsv").write_text("".join(f"{c}\n" for c in CELLS))
        (path / "features.tsv").write_text("".join(f"{i}\t{g}\n" for i, g in zip(IDS, GENES, strict=True)))
    return path


def _damage(content, rng):
    data, n = bytearray(content), len(content)
    kind = rng.choice(["cut", "turn", "zero", "number"])
    if kind == "cut" or n < 9:
        return bytes(data[: rng.randrange(max(n, 1))])
    at = rng.randrange(n - 8)
    if kind == "turn":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    else:
        digits = [i for i in range(min(n, 300)) if 48 <= data[i] < 58]
        if digits:
            i = rng.choice(digits)
            data[i : i + 1] = rng.choice([b"9", b"99999999999", b"-1", b"x"])
    return bytes(data)


@pytest.mark.parametrize("kind", ["a.zarr", "mtx", "v3.h5", "v2.h5", "a.h5ad"])
def test_one_line_whatever_is_damaged(tmp_path, kind):
    whole = _whole(tmp_path, kind)
    refused = []
    for seed in range(16 if kind == "a.zarr" else 40):
        rng = random.Random(f"{kind} {seed}")
        path = tmp_path / "work" / kind
        path.parent.mkdir()
        if whole.is_dir():
            shutil.copytree(whole, path)
            part = path / "X" if kind == "a.zarr" else path
            file = rng.choice(sorted(p for p in part.rglob("*") if p.is_file()))
            if rng.random() < 0.2:
                file.unlink()
            else:
                file.write_bytes(_damage(file.read_bytes(), rng))
        else:
            content = whole.read_bytes()
            at = rng.randrange(len(content))  # not the inside of HDF5's own bookkeeping, which can kill the library
            path.write_bytes(content[:at] if seed % 2 else _damage(content[:512], rng) + content[512:])
        for read in (read_any, open_on_disk) if kind.startswith("a.") else (read_any,):
            try:
                read_counts(read(path))
            except (ValueError, FileNotFoundError, TypeError) as error:
                refused.append(str(error))
        shutil.rmtree(path.parent)
    assert len(refused) > 3 and [text for text in refused if "\n" in text] == []


def _probe(path, crash=""):
    code = f"import scdae.io.probing as p, os, signal, sys\nfrom pathlib import Path\n{crash}\np.probe(Path(sys.argv[1]))\nprint('sound')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)], capture_output=True, text=True, timeout=100
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_library_that_dies_is_an_error(tmp_path):
    path = _whole(tmp_path, "a.h5ad")
    assert _probe(path) == "sound\n"
    text = _probe(path, "p._look_through = lambda path: os.kill(os.getpid(), signal.SIGSEGV)")
    assert (
        f"a.h5ad cannot be read: it is truncated or damaged (the HDF5 library fails on it, signal {int(signal.SIGSEGV)})"
        in text
    )
    text = _probe(path, "p._CPU_SECONDS = 1\np._look_through = lambda path: [None for _ in iter(int, 1)]")
    assert f"signal {int(signal.SIGXCPU)}" in text
    for sent in (
        signal.SIGTERM,
        signal.SIGXCPU,
        signal.SIGKILL,
    ):  # to all processes of the job: nothing is wrong with the file
        assert _probe(path, f"p._look_through = lambda path: os.kill(os.getpid(), {int(sent)})") == "sound\n"


def test_zero_bytes_in_text(tmp_path):
    path = _whole(tmp_path, "mtx") / "matrix.mtx"
    path.write_bytes(path.read_bytes()[:200] + bytes(64) + path.read_bytes()[264:])
    with pytest.raises(ValueError, match="matrix.mtx is truncated or damaged .* zero bytes"):
        read_any(path)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_rows_on_disk_that_are_damaged(tmp_path, suffix):
    path = _whole(tmp_path, f"a{suffix}")
    if suffix == ".h5ad":
        with h5py.File(path, "r+") as file:
            file["X/indices"][3] = 1000
    else:
        chunk = next(
            p
            for p in sorted((path / "X" / "data").rglob("*"))
            if p.is_file() and p.suffix != ".json" and p.name[0] != "."
        )
        chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(ValueError, match="X cannot be read: rows 0 to 19 are truncated or damaged"):
        read_counts(open_on_disk(path))
