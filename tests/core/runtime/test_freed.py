"""Freed memory goes back to the system after a fit, and is kept within workers of Dask."""

import os
import subprocess
import sys
from functools import cache

import pytest

from scdae.core.runtime import freed

_JOB = """
import numpy as np
from scdae.core.runtime.freed import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

pieces = [np.ones(6_000) for _ in range(4_000)]  # of a size that comes from the heap: 183 MiB in all
last = np.ones(6_000)  # the heap cannot end before it
del pieces
before = resident()
give_back()
give_back()
print(before - resident(), last.sum())
"""


_ARRAYS = """
import resource, sys
import numpy as np
from scdae.core.runtime.freed import kept
from contextlib import nullcontext

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        values = np.ones(2**19)  # 4 MiB, 1024 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [faults()]
with kept():
    with kept():
        faults()
    found.append(faults())
print(*found, faults())
"""
glibc = pytest.mark.skipif(freed._function("malloc_trim") is None, reason="this C library cannot be asked for it")


@glibc
def test_what_was_freed_is_given_back():
    done = subprocess.run([sys.executable, "-c", _JOB], capture_output=True, text=True, check=True)
    released, total = map(float, done.stdout.split())
    assert released > 100
    assert total == 6_000


@cache
def page_faults(**environment):
    done = subprocess.run(
        [sys.executable, "-c", _ARRAYS], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


@glibc
def test_in_a_worker_of_dask_freed_memory_is_kept_within_and_as_told_before_and_after():
    before, within, after = page_faults(MALLOC_TRIM_THRESHOLD_="65536")
    assert min(before, after) > 10_000
    assert within < min(before, after) / 4


@glibc
def test_elsewhere_nothing_is_set(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(freed, "_function", lambda name: lambda *arguments: called.append((name, *arguments)))
    for told in ("", "MALLOC_TRIM_THRESHOLD_=1000000000", "MALLOC_TRIM_THRESHOLD_=65536\0MALLOC_MMAP_THRESHOLD_=4096"):
        (tmp_path / "environ").write_text(f"PATH=/bin\0{told}\0")
        monkeypatch.setattr(freed, "_ENVIRONMENT", tmp_path / "environ")
        freed._told.cache_clear()
        with freed.kept():
            assert called == []
    monkeypatch.setattr(freed, "_ENVIRONMENT", tmp_path / "none")
    freed._told.cache_clear()
    with freed.kept():
        assert called == []
    freed._told.cache_clear()


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(freed.sys, "platform", "darwin")
    freed._function.cache_clear()
    assert freed._function("malloc_trim") is None
    freed.give_back()
    freed._function.cache_clear()
