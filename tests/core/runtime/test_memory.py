"""Memory that a job has left: made-up control groups of both versions, and limits of a real process."""

import subprocess
import sys

import pytest

from scdae.core.runtime import memory
from scdae.core.runtime.memory import Memory, available_memory, entries_to_hold, memory_limits

MB = 2**20
_MOUNT = "36 32 0:31 {inner} {place} rw,relatime - {kind} cgroup rw{options}\n"


def made_up(root, path, groups, *, new=False, inner="/"):
    """A system in which this process is in the group `path`, and the groups have these files."""
    place = "/sys/fs/cgroup" if new else "/sys/fs/cgroup/memory"
    (root / "proc/self").mkdir(parents=True)
    other = "" if new else "5:cpu,cpuacct:/elsewhere\n"
    (root / "proc/self/cgroup").write_text(other + (f"0::{path}\n" if new else f"4:memory:{path}\n"))
    kind, options = ("cgroup2", "") if new else ("cgroup", ",memory")
    (root / "proc/self/mountinfo").write_text(_MOUNT.format(inner=inner, place=place, kind=kind, options=options))
    names = ("memory.max", "memory.current") if new else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for group, (limit, used, cache) in groups.items():
        folder = root / place[1:] / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, used), strict=True):
            (folder / name).write_text(f"{value}\n")
        start = "" if new else "total_"
        (folder / "memory.stat").write_text(f"anon 1\n{start}inactive_file {cache}\n{start}active_file 0\n")
    return memory._of_groups(root)


@pytest.mark.parametrize("new", [False, True])
def test_the_limit_is_that_of_any_level_and_cached_files_do_not_count(tmp_path, new):
    none = "max" if new else 9223372036854771712
    groups = {
        "slurm/job_25/step_batch/task_0": (none, 300 * MB, 0),
        "slurm/job_25": (1000 * MB, 900 * MB, 700 * MB),
        "slurm": (8000 * MB, 7500 * MB, 0),
        "": (none, 9000 * MB, 0),
    }
    found = made_up(tmp_path, "/slurm/job_25/step_batch/task_0", groups, new=new)
    assert found == [
        Memory(800 * MB, 1000 * MB, "control group job_25"),
        Memory(500 * MB, 8000 * MB, "control group slurm"),
    ]


def test_more_than_the_limit_is_nothing_left(tmp_path):
    assert made_up(tmp_path, "/a", {"a": (100, 300, 0)}) == [Memory(0, 100, "control group a")]


def test_in_a_container_the_path_may_begin_above_the_mount(tmp_path):
    groups = {"job": (500, 100, 0), "": (900, 100, 0)}
    found = made_up(tmp_path, "/docker/abc/job", groups, inner="/docker/abc")
    assert [one.limit for one in found] == [500, 900]
    (tmp_path / "b").mkdir()
    found = made_up(tmp_path / "b", "/docker/abc", {"": (900, 100, 0)})  # the folders of the path are not there
    assert [one.limit for one in found] == [900]
    assert memory._of_groups(tmp_path / "nothing") == []


_TOLD = """
import resource, sys
resource.setrlimit(getattr(resource, sys.argv[1]), (3 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
from scdae.core.runtime.memory import job_limit, memory_limits
print([one.source for one in memory_limits() if one.limit == 3 * 2**30 and one.free < one.limit], job_limit().limit <= 3 * 2**30)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize(
    ("name", "source"), [("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d"), ("RLIMIT_RSS", "ulimit -m")]
)
def test_limits_of_the_process(name, source):
    done = subprocess.run([sys.executable, "-c", _TOLD, name], capture_output=True, text=True, check=True)
    assert done.stdout == f"['{source}'] True\n"


def test_the_narrowest_comes_first(monkeypatch):
    monkeypatch.setattr(memory, "_of_groups", lambda: [Memory(5, 10, "a"), Memory(2, 20, "b")])
    monkeypatch.setattr(memory, "_of_process", lambda: [Memory(7, 8, "c")])
    assert memory_limits()[0].source == "b" and available_memory() == 2
    assert memory.job_limit().source == "c"
    assert entries_to_hold(100, each=2) == 2  # half of 8 bytes
    monkeypatch.setattr(memory, "_of_groups", list)
    monkeypatch.setattr(memory, "_of_process", list)
    assert entries_to_hold(100) == 100 and memory.job_limit() is None
