"""Memory that this process can still take: what the machine has free, within the limits that a job lives under.

A job has its limit in a control group of its own, or in one above it, or as a limit of the process. What is used there
is counted without the cache of files, which the system gives back when memory is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Memory", "available_memory", "entries_to_hold", "in_words", "job_limit", "levels", "memory_limits"]

_UNLIMITED = 2**60  # what version 1 says where there is no limit is larger
_ROOT = Path("/")
_SHARE = 0.5  # of a job's limit that the counts may take


class Memory(NamedTuple):
    """One limit."""

    free: int  # bytes that are left
    limit: int  # bytes in all
    source: str  # who says so


def available_memory() -> int | None:
    """Bytes that this process can still take; None where nothing says."""
    limits = memory_limits()
    return limits[0].free if limits else None


def memory_limits() -> list[Memory]:
    """Return all limits that are known, the narrowest first."""
    limits = [*_of_machine(), *_of_groups(), *_of_process()]
    return sorted(limits, key=lambda memory: memory.free)


def entries_to_hold(most: int, each: int = 16) -> int:
    """Stored entries that are held: `most`, or those that fit into half of the job's limit, `each` bytes apiece.

    What is left of the limit would change from try to try, and with it the bits of a job that was started again.
    """
    limit = job_limit()
    return most if limit is None else min(most, int(_SHARE * limit.limit / each))


def job_limit() -> Memory | None:
    """Return the least that this job may have in all, whatever the machine has; None where it has no limit."""
    return min([*_of_groups(), *_of_process()], key=lambda memory: memory.limit, default=None)


def in_words(memory: Memory) -> str:
    """Return a limit as a phrase.

    Examples
    --------
    >>> in_words(Memory(2**30, 3 * 2**29, "ulimit -v"))
    '1.0 GiB free of 1.5 GiB (ulimit -v)'
    """
    return f"{memory.free / 2**30:,.1f} GiB free of {memory.limit / 2**30:,.1f} GiB ({memory.source})"


def levels(controller: str, root: Path = _ROOT) -> Iterator[tuple[Path, bool]]:
    """Folders of this process's control group and of all above it, and whether they are of version 2.

    Parameters
    ----------
    controller
        ``"memory"`` or ``"cpu"``.
    root
        Where ``proc`` and the mounts are.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        new = controllers == ""
        if not new and controller not in controllers.split(","):
            continue
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            kind, _, options = after.split(" ", 2)
            inner, mount_point = before.split()[3:5]
            if kind != ("cgroup2" if new else "cgroup") or not (new or controller in options.split(",")):
                continue
            top = root / mount_point.lstrip("/")
            # In a container the mount may begin below the root of what the path is told from.
            inside = path if inner == "/" else path.removeprefix(inner)
            here = top / inside.strip("/") if ".." not in inside else top
            for folder in (here, *here.parents):
                if folder.is_dir():
                    yield folder, new
                if folder == top:
                    break


def _of_machine() -> list[Memory]:
    try:
        lines = (_ROOT / "proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}
        return [Memory(sizes["MemAvailable"], sizes["MemTotal"], "the machine")]
    except (OSError, LookupError, ValueError):
        pass
    try:  # other systems: what is built in
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return []
    return [Memory(size, size, "the machine")]


def _of_groups(root: Path = _ROOT) -> list[Memory]:
    limits = []
    for folder, new in levels("memory", root):
        limit = _number(folder / ("memory.max" if new else "memory.limit_in_bytes"))
        used = _number(folder / ("memory.current" if new else "memory.usage_in_bytes"))
        if limit is None or used is None or limit >= _UNLIMITED:
            continue
        cache = sum(_statistics(folder, "" if new else "total_"))
        limits.append(Memory(max(limit - max(used - cache, 0), 0), limit, f"control group {folder.name}"))
    return limits


def _statistics(folder: Path, start: str) -> list[int]:
    """Bytes of files that are cached for a group and those below it."""
    with suppress(OSError, ValueError):
        lines = (folder / "memory.stat").read_text().splitlines()
        values = {name: int(value) for name, value in (line.split() for line in lines)}
        return [values.get(f"{start}{name}", 0) for name in ("inactive_file", "active_file")]
    return []


def _of_process() -> list[Memory]:
    try:
        import resource

        pages = [int(word) for word in (_ROOT / "proc/self/statm").read_text().split()]
    except (ImportError, OSError, ValueError):
        return []
    page = resource.getpagesize()
    limits = []
    for name, option, used in (("AS", "v", pages[0]), ("DATA", "d", pages[5]), ("RSS", "m", pages[1])):
        limit = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
        if limit != resource.RLIM_INFINITY and 0 < limit < _UNLIMITED:
            limits.append(Memory(max(limit - used * page, 0), limit, f"ulimit -{option}"))
    return limits


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
