import _thread
import os
import signal
import threading
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

import scdae.files.replacing
import scdae.files.targets
import scdae.io.write
from scdae.files.targets import check_target, write_text
from scdae.io.read import read_any
from scdae.io.write import write_atomic

X = np.random.default_rng(0).poisson(1.0, (6, 5))
GENES, CELLS = [f"gene{j}" for j in range(5)], [f"cell{i}" for i in range(6)]


def _adata():
    obs = pd.DataFrame({"donor": list("aabbcc")}, index=CELLS)
    return ad.AnnData(sp.csr_matrix(X.astype("f4")), obs=obs, var=pd.DataFrame(index=GENES))


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_write_replaces_only_on_request_and_leaves_nothing_else(tmp_path, suffix):
    path, adata = tmp_path / f"a{suffix}", _adata()
    write_atomic(adata, path)
    assert adata.obs["donor"].dtype == _adata().obs["donor"].dtype, "anndata makes such columns categories as it writes"
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_atomic(adata, path)
    write_atomic(adata[:2].copy(), path, overwrite=True)
    assert read_any(path).n_obs == 2
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_write_leaves_what_was_there(tmp_path, suffix, error, monkeypatch):
    path = tmp_path / f"a{suffix}"
    write_atomic(_adata(), path)

    def fails(first, second, *_, **options):
        Path(second).write_text("half") if suffix == ".h5ad" else first.create_group("half")
        raise error("disk full")

    monkeypatch.setattr(scdae.io.write, "_write_h5ad" if suffix == ".h5ad" else "write_dispatched", fails)
    with pytest.raises(error, match="disk full"):
        write_atomic(_adata()[:2].copy(), path, overwrite=True)
    assert os.listdir(tmp_path) == [path.name]
    assert read_any(path).n_obs == 6


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2])
def test_threads_of_zarr_that_outlive_a_stop_write_nothing_more(tmp_path, seconds, monkeypatch, request):
    """As on a slow disk: a chunk is on its way when the one that waits for it is stopped, and others are to follow."""
    put, at_work, stopped = zarr.storage._local._put, threading.Event(), threading.Event()

    def slow(*args, **options):
        at_work.set()
        time.sleep(0.05)
        if stopped.is_set():
            written_late.append(args)
        return put(*args, **options)

    def write():
        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage._local, "_put", slow)
            timer = threading.Thread(target=lambda: (at_work.wait(), time.sleep(seconds), _thread.interrupt_main()))
            timer.start()
            try:
                write_atomic(adata, tmp_path / "a.zarr")
            finally:
                stopped.set()
                timer.join()
                time.sleep(0.3)

    # A shell lets what it runs in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    written_late: list = []
    adata = ad.AnnData(np.ones((400, 300), np.float32), layers={f"layer {i}": np.ones((400, 300)) for i in range(20)})
    with pytest.raises(KeyboardInterrupt):
        write()
    assert written_late == [] and os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.h5ad").write_text("old")
    (tmp_path / "a.h5ad").symlink_to(tmp_path / "far" / "a.h5ad")
    write_atomic(_adata(), tmp_path / "a.h5ad", overwrite=True)
    assert (tmp_path / "a.h5ad").is_symlink()
    assert read_any(tmp_path / "far" / "a.h5ad").n_obs == 6


def test_targets_that_cannot_be(tmp_path):
    (tmp_path / "folder.h5ad").mkdir()
    (tmp_path / "file.zarr").touch()
    for path, error, words in (
        (tmp_path / "a.csv", ValueError, "end in .h5ad or .zarr"),
        (tmp_path / "no" / "a.h5ad", FileNotFoundError, "does not exist"),
        (tmp_path / "folder.h5ad", FileExistsError, "is a folder"),
        (tmp_path / "file.zarr", FileExistsError, "is a file"),
    ):
        with pytest.raises(error, match=words):
            check_target(path, overwrite=True)


def test_target_in_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def denied(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(scdae.files.targets.tempfile, "TemporaryFile", denied)
    with pytest.raises(PermissionError, match=r"cannot be written to \(Permission denied\)"):
        check_target(tmp_path / "a.h5ad")


def test_text_is_whole_or_not_there(tmp_path, monkeypatch):
    write_text(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"

    def fails(*_):
        raise OSError("full")

    monkeypatch.setattr(scdae.files.replacing.os, "replace", fails)
    with pytest.raises(OSError, match=r"a\.json could not be written: full"):
        write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "{}" and os.listdir(tmp_path) == ["a.json"]


def test_other_endings(tmp_path):
    check_target(tmp_path / "a.json", endings=(".json",))
    with pytest.raises(ValueError, match=r"has to end in \.json"):
        check_target(tmp_path / "a.txt", endings=(".json",))
