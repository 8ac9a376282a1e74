import os
import signal
import subprocess
import sys
import threading

import anndata
import numpy as np
import pytest

from scdae.core.runtime.stopping import Shield
from scdae.files import replacing
from scdae.files.closing_store import ClosingStore
from scdae.files.replacing import beside, in_place, put_back, remove, tidy_up


def store(path, word):
    path.mkdir(exist_ok=True)
    (path / "zarr.json").write_text(word)


def word_of(path):
    return (path / "zarr.json").read_text() if path.is_dir() else path.read_text()


@pytest.fixture(params=["exchange", "two renames"])
def system(request, monkeypatch):
    """With the system's call that exchanges two names, and without."""
    if request.param == "two renames":
        monkeypatch.setattr(replacing, "_library", lambda: None)
    return request.param


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_new_one_takes_the_place_with_the_mode_of_the_old(tmp_path, system, kind):
    target = tmp_path / "a.zarr"
    make = store if kind == "folder" else lambda path, word: path.write_text(word)
    make(target, "old")
    target.chmod(0o700)
    with in_place(target) as (complete, _):
        make(complete, "new")
    assert word_of(target) == "new" and os.listdir(tmp_path) == ["a.zarr"]
    assert target.stat().st_mode & 0o777 == 0o700


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_what_replaces_a_private_one_is_private_while_it_is_written(tmp_path):
    former = os.umask(0o022)
    try:
        for name, mode in (("a.h5ad", 0o600), ("a.zarr", 0o700), ("open.h5ad", 0o644)):
            target = tmp_path / name
            target.mkdir() if name == "a.zarr" else target.write_text("old")
            target.chmod(mode)
            with in_place(target) as (complete, _):
                if name == "a.zarr":
                    anndata.AnnData(np.ones((3, 2), "f4")).write_zarr(ClosingStore(complete))
                else:
                    complete.write_text("new")
                assert complete.stat().st_mode & 0o777 == mode
            assert target.stat().st_mode & 0o777 == mode
    finally:
        os.umask(former)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_came_in_the_meantime_is_left(tmp_path, system, kind):
    target = tmp_path / "a.zarr"
    make = store if kind == "folder" else lambda path, word: path.write_text(word)

    def late():
        with in_place(target, overwrite=False) as (complete, _):
            make(complete, "new")
            make(target, "other")

    with pytest.raises(FileExistsError, match=r"a\.zarr was made by something else in the meantime.*overwrite=True"):
        late()
    assert word_of(target) == "other" and os.listdir(tmp_path) == ["a.zarr"]
    with in_place(tmp_path / "b.zarr", overwrite=False) as (complete, _):
        make(complete, "new")
    assert word_of(tmp_path / "b.zarr") == "new"


def test_a_failed_second_rename_puts_the_old_one_back(tmp_path, monkeypatch):
    monkeypatch.setattr(replacing, "_library", lambda: None)
    store(tmp_path / "a.zarr", "old")
    real = os.rename

    def fails(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(replacing.os, "rename", fails)
    with pytest.raises(OSError, match="no"), in_place(tmp_path / "a.zarr") as (complete, _):
        store(complete, "new")
    assert word_of(tmp_path / "a.zarr") == "old" and os.listdir(tmp_path) == ["a.zarr"]


def test_signals_wait_for_the_renames_and_come_after(tmp_path, system):
    """Whoever handles them: here a handler that raises, which is called in the midst of the renames, twice."""
    store(tmp_path / "a.zarr", "old")
    real, came = os.chmod, []

    def handler(number, frame):
        came.append(number)
        raise SystemExit(143)

    def chmod(path, mode):
        real(path, mode)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    former = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replacing.os, "chmod", chmod)
            with pytest.raises(SystemExit), in_place(tmp_path / "a.zarr") as (complete, _):
                store(complete, "new")
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, former)
    assert came and word_of(tmp_path / "a.zarr") == "new" and os.listdir(tmp_path) == ["a.zarr"]


def test_a_signal_while_writing_ends_it_and_a_second_one_does_not_stop_the_tidying(tmp_path):
    def handler(number, frame):
        raise SystemExit(143)

    def write():
        with in_place(tmp_path / "a") as (complete, shield), shield.open():
            complete.write_text("half")
            signal.raise_signal(signal.SIGTERM)

    came = []

    def again(path):
        if not came:  # it is called once more when the tests end
            came.append(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        remove(path)

    former = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replacing, "remove", again)
            with pytest.raises(SystemExit):
                write()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert came and os.listdir(tmp_path) == []


def test_a_shield_elsewhere_than_in_the_main_thread_does_nothing():
    found = []
    thread = threading.Thread(target=lambda: found.append(Shield().__enter__()._former))
    thread.start()
    thread.join()
    assert found == [{}]


@pytest.fixture
def dead():
    """Number of a process that is no more."""
    job = subprocess.Popen([sys.executable, "-c", ""])
    job.wait()
    return job.pid


def test_what_dead_processes_left_goes_and_what_they_moved_aside_comes_back(tmp_path, dead, log):
    target = tmp_path / "a.zarr"
    own = beside(target)
    left = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{dead}-"))
    other = left.with_name(left.name.replace(".a.zarr", ".b.zarr"))
    elsewhere = left.with_name(left.name.replace(replacing.this_machine(), "0123abcd"))
    for path in (own, left, other, elsewhere):
        path.write_text("half")
    store(left.with_suffix(".old"), "old")
    put_back(target)
    assert word_of(target) == "old" and "what it held before is there again" in log.text
    tidy_up(target)
    assert sorted(os.listdir(tmp_path)) == sorted([own.name, other.name, elsewhere.name, "a.zarr"])
    store(left.with_suffix(".old"), "older")  # the new one was in its place when the process died
    tidy_up(target)
    assert word_of(target) == "old" and not left.with_suffix(".old").exists()


def test_what_another_machine_moved_aside_comes_back_when_it_has_had_time(tmp_path, monkeypatch, log):
    target = tmp_path / "a.zarr"
    left = beside(target, "old")
    left = left.with_name(left.name.replace(replacing.this_machine(), "0123abcd"))
    store(left, "old")
    put_back(target)
    assert not target.exists()  # it may be in the midst of it
    monkeypatch.setattr(replacing, "_LONGEST", 0.0)
    put_back(target)
    assert word_of(target) == "old" and "what it held before is there again" in log.text
    store(left, "older")
    tidy_up(target)
    assert word_of(target) == "old" and left.exists()  # whether it is at work nobody knows


def test_what_cannot_be_put_back_or_removed_is_left(tmp_path, dead, monkeypatch):
    target = tmp_path / "a.zarr"
    left = beside(target, "old")
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{dead}-"))
    store(left, "old")

    def refused(*_):
        raise PermissionError("another user's")

    monkeypatch.setattr(replacing.os, "rename", refused)
    put_back(target)
    left.with_suffix(".tmp").write_text("half")
    monkeypatch.setattr(replacing, "remove", refused)
    tidy_up(target)
    assert left.exists()


def test_a_signal_that_was_held_back_is_not_lost_where_writing_fails(tmp_path):
    def handler(number, frame):
        raise SystemExit(143)

    def write():
        with in_place(tmp_path / "a") as (complete, _):
            signal.raise_signal(signal.SIGTERM)
            raise OSError("no room")

    former = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit):
            write()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert os.listdir(tmp_path) == []


def test_long_names_have_short_hidden_ones(tmp_path):
    target = tmp_path / ("a" * 240 + ".h5ad")
    with in_place(target) as (complete, _):
        assert len(complete.name) < 120
        complete.write_text("new")
    assert os.listdir(tmp_path) == [target.name]
    assert beside(target).name.split(".")[1] != beside(tmp_path / ("a" * 241 + ".h5ad")).name.split(".")[1]


def test_a_folder_that_a_thread_makes_anew_is_removed_again(tmp_path):
    path = tmp_path / ".o.tmp"
    path.mkdir()
    late = threading.Timer(0.06, path.mkdir)
    late.start()
    replacing.remove(path)
    late.join()
    assert not path.exists()
