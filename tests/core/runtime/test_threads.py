"""Cores that a process may use, and pools that are held to them."""

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from scdae.core.runtime import threads
from scdae.core.runtime.threads import few_threads, hold_to_share, one_for_products, share_of_cores, usable_cores


@pytest.fixture(autouse=True)
def _four(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    for name in threads._ASKED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "levels", lambda controller, root: [])


def test_the_fewest_that_anybody_says(monkeypatch):
    assert usable_cores() == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert usable_cores() == 3
    monkeypatch.setenv("NSLOTS", "1")
    assert usable_cores() == 1 and ("NSLOTS", 1) in share_of_cores()
    monkeypatch.setenv("NSLOTS", "many")
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("new", "files", "cores"),
    [
        (True, {"cpu.max": "150000 100000"}, 2),
        (True, {"cpu.max": "max 100000"}, 4),
        (False, {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, 1),
        (False, {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 4),
        (False, {}, 4),
    ],
)
def test_a_quota_of_the_control_group(tmp_path, monkeypatch, new, files, cores):
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(threads, "levels", lambda controller, root: [(tmp_path, new)] if controller == "cpu" else [])
    assert usable_cores() == cores


def test_pools_are_held_where_they_would_take_more(monkeypatch):
    environment = {"MKL_NUM_THREADS": "7"}
    hold_to_share(environment)
    assert environment == {"MKL_NUM_THREADS": "7"}
    monkeypatch.setenv("NSLOTS", "2")
    hold_to_share(environment)
    assert environment == {"MKL_NUM_THREADS": "7"} | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), "2"
    )


def openmp():
    import sklearn.cluster  # noqa: F401 (brings one)

    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}


def test_few_rows_get_one_thread(monkeypatch):
    before = openmp()
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    with few_threads(1000):
        assert openmp() == {1}
    with few_threads(10**6):
        assert openmp() == {2}
    assert openmp() == before


def test_pools_are_looked_for_once(monkeypatch):
    """Each look reads all mappings of the process, of which JAX has thousands."""
    looks = []
    monkeypatch.setattr("threadpoolctl.ThreadpoolController._load_libraries", lambda self: looks.append(1))
    threads._pools.cache_clear()
    for _ in range(3):
        with few_threads(1000):
            pass
    threads._pools.cache_clear()
    assert len(looks) == 1


def test_batches_are_aligned_with_one_thread(monkeypatch):
    import numpy as np

    from scdae.core.network import batch_alignment as alignment

    seen = []
    monkeypatch.setattr(alignment, "few_threads", lambda n: seen.append(n) or few_threads(n))
    rng = np.random.default_rng(0)
    alignment.fit_alignment(rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2, 3, 0)
    assert seen and set(seen) == {60}


def blas():
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_whoever_ends_last_gives_the_pool_for_products_back():
    before = blas()
    first, second = one_for_products(), one_for_products()
    first.__enter__()
    assert set(blas().values()) == {1}
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas().values()) == {1}
    second.__exit__(None, None, None)
    assert blas() == before


def test_products_are_held_without_scikit_learn():
    """Its clustering, which brings no pool for products, takes a second to import."""
    code = (
        "import sys, numpy; from scdae.core.runtime.threads import one_for_products as one\n"
        "with one(): sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
