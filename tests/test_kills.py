"""Sixty signals at random moments: whatever a job was doing, its exit code says which signal, and nothing is lost or left."""

import importlib.util
import random
import sys
import zlib
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "kills.py"
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
PHASES = ("training", "h5ad", "zarr", "replacing zarr", "end")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILE.exists(), reason="the benchmarks are not here"),
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("kills", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(kills, tmp_path_factory):
    place = tmp_path_factory.mktemp("kills")
    kills._data(place)
    return place


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_twice_in_each_phase(kills, place, phase, name, capsys):
    rng = random.Random(zlib.crc32(f"{phase} {name}".encode()))
    found = [kills.kill(place, phase, name, rng) for _ in range(2)]
    assert all(right for _, _, _, right, _ in found), capsys.readouterr().out
