"""How many cores this process may use, and pools of threads held to that.

A core that is shared makes OpenMP's threads wait for one another, each at full speed: on a few thousand rows that takes
many times as long as one thread does.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scdae.core.runtime.memory import levels

__all__ = ["few_threads", "hold_to_share", "one_for_products", "share_of_cores", "usable_cores"]

_FEW_ROWS = 20_000  # up to which threads gain nothing
# What a user or a scheduler has set; schedulers that bind no process to its cores say no more than this.
_ASKED = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", "NSLOTS", "LSB_DJOB_NUMPROC")
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")  # the last is XLA's


def usable_cores() -> int:
    """Cores that this process may use: by affinity, the quota of its control groups, and what it was told."""
    return min(count for _, count in share_of_cores())


def share_of_cores(root: Path = Path("/")) -> list[tuple[str, int]]:
    """Who says how many cores, and how many."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = [("affinity", bound)]
    quotas = [quota for quota in (_quota(folder, new) for folder, new in levels("cpu", root)) if quota is not None]
    if quotas:
        counts.append(("cgroup quota", max(math.ceil(min(quotas)), 1)))
    for name in _ASKED:
        value = os.environ.get(name, "").split(",")[0]  # OpenMP's may be a list, one for each level
        if value.isdigit() and int(value) > 0:
            counts.append((name, int(value)))
    return counts


def hold_to_share(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let pools of threads that are not yet there have as many as :func:`usable_cores`, where they would take more."""
    bound, *others = (count for _, count in share_of_cores())
    fewest = min([bound, *others])
    if fewest < bound:
        for name in _POOLS:
            environment.setdefault(name, str(fewest))


@contextmanager
def few_threads(n_rows: int) -> Iterator[None]:
    """Hold scikit-learn's OpenMP pool to one thread for a few thousand rows, and to :func:`usable_cores` for more."""
    with _pools().limit(limits=1 if n_rows <= _FEW_ROWS else usable_cores(), user_api="openmp"):
        yield


@contextmanager
def one_for_products() -> Iterator[None]:
    """Hold NumPy's pool for matrix products to one thread: between many small ones the others wait at full speed.

    Of several threads of this process that ask for it at a time, the last one to end gives the pool back.
    """
    with _held.lock:
        if not _held.number:
            from threadpoolctl import ThreadpoolController  # NumPy's and SciPy's pools are there whatever else is

            _held.limit = ThreadpoolController().limit(limits=1, user_api="blas")
        _held.number += 1
    try:
        yield
    finally:
        with _held.lock:
            _held.number -= 1
            if not _held.number:
                _held.limit.restore_original_limits()


class _Held:
    """Whoever holds the pool for matrix products to one thread."""

    def __init__(self) -> None:
        self.lock, self.number, self.limit = threading.Lock(), 0, None


_held: Any = _Held()


@functools.cache
def _pools() -> Any:
    """Return the pools that are there. Looking for them reads all that the process has mapped: with JAX that takes longer than k-means."""
    import sklearn.cluster  # noqa: F401 (brings its pool)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _quota(folder: Path, new: bool) -> float | None:
    """Cores' worth of time that a control group has; None for all."""
    try:
        if new:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
