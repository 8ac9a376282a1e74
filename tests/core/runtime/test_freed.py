"""Freed memory goes back to the system."""

import subprocess
import sys

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


@pytest.mark.skipif(freed._trim() is None, reason="this C library cannot be asked for it")
def test_what_was_freed_is_given_back():
    done = subprocess.run([sys.executable, "-c", _JOB], capture_output=True, text=True, check=True)
    released, total = map(float, done.stdout.split())
    assert released > 100
    assert total == 6_000


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(freed.sys, "platform", "darwin")
    freed._trim.cache_clear()
    assert freed._trim() is None
    freed.give_back()
    freed._trim.cache_clear()
