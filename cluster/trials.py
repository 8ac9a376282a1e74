"""Jobs on a cluster of this machine: what was started, what was done to it, its state and exit code, and what it left.

python cluster/trials.py [--only WORD] [--seconds N]. It ends with 1 where something is not right, and with 0, and a sentence, where
SLURM cannot run. What the time is too short for is named, and is not counted as wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from jobs import LANES, OVER
from slurm import Cluster, NotHere, install, state


class Table:
    """What all trials have come to, printed line by line; lanes of trials write to it side by side."""

    def __init__(self, seconds: float):
        self.until = time.monotonic() + seconds
        self.stopped = threading.Event()
        self.wrong, self.right = 0, 0
        self.late: list[str] = []
        self.not_here: list[str] = []
        self._lock = threading.Lock()
        self.write(f"{'started':34s}{'done to it':36s}{'state, exit code':24s}{'.tmp':>5s}")

    def add(self, line: str, right: bool, more: list[str]) -> None:
        """A line, and what a job has said where it is not right."""
        with self._lock:
            self.right += right
            self.wrong += not right
            print("\n".join([line, *more]), flush=True)

    def write(self, line: str) -> None:
        """A line that is no trial."""
        with self._lock:
            print(line, flush=True)

    def leave_out(self, name: str, why: str) -> None:
        """A trial of what is not on this machine, which is not wrong."""
        self.not_here.append(name)
        self.write(f"{name:34s}not here: {why}")

    def check(self) -> None:
        """Raise TimeoutError where no more is to be tried."""
        if self.stopped.is_set() or time.monotonic() > self.until:
            raise TimeoutError


class Trial:
    """One of the trials: a folder with samples for its jobs, and what they come to."""

    def __init__(self, folder: Path, samples: Path, cluster: Cluster, table: Table):
        self.folder, self.cluster, self.table = folder, cluster, table
        shutil.copytree(samples, folder / "samples")

    def say(self, started: str, done: str, jobs: list[str], right: bool, note: str = "", states: str = "") -> None:
        """A line of the table, of SLURM's jobs or of what has ended in the `states` given."""
        states = states or ", ".join(dict.fromkeys(" ".join(state(job)) for job in jobs))
        hidden = sum(path.name.startswith(".") for path in self.folder.rglob(".*.tmp"))
        right = right and not hidden
        line = f"{started:34s}{done:36s}{states:24s}{hidden:5d}  {'right' if right else 'WRONG'}  {note}"
        self.table.add(
            line, right, [f"    job {job}: {self.log(job)[-600:]}" for job in jobs if job] if not right else []
        )

    def submit(self, script: str | Path, *options: str, arguments: Sequence[str] = (), **environment: str) -> str:
        """Submit a script with its arguments, and return the job's number; its log is JOB.log."""
        name = "%A_%a" if any(option.startswith("--array") for option in options) else "%j"
        words = ["sbatch", "--parsable", f"--output={self.folder}/{name}.log", *options, str(script), *arguments]
        done = subprocess.run(
            words, cwd=self.folder, env=os.environ | environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def wrap(self, command: str, *options: str, mem: str = "1500M") -> str:
        """A job of one command, which has the shell's place."""
        script = self.folder / f"wrapped-{time.monotonic_ns()}.sh"
        script.write_text(
            f"#!/bin/bash\n#SBATCH --mem={mem}\n#SBATCH --cpus-per-task=2\n#SBATCH --open-mode=append\nexec {command}\n"
        )
        return self.submit(script, *options)

    def ended(self, job: str) -> tuple[str, str]:
        """State and exit code of a job, once it is over."""
        self.wait(lambda: state(job)[0] in OVER)
        return state(job)

    def all_completed(self, *jobs: str) -> bool:
        """Whether all of some jobs end with 0."""
        return [self.ended(job) for job in jobs] == [("COMPLETED", "0:0")] * len(jobs)

    def wait(self, there: Callable[[], object], seconds: float = float("inf")) -> bool:
        """Until something is so, or so many seconds are over; whether it is so."""
        deadline = time.monotonic() + seconds
        while not there():
            self.table.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def log(self, job: str) -> str:
        """What a job has said."""
        path = self.folder / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def said(self, job: str, words: str, times: int = 1) -> bool:
        """Whether a log has some words; a file system may show them a little later than the state."""
        return self.wait(lambda: self.log(job).count(words) >= times, seconds=10)

    def step(self, job: str, kept: str = "kept") -> None:
        """Wait until a job has a checkpoint of its training, or is over."""
        folder = self.folder / kept
        self.wait(lambda: any(path.name.isdigit() for path in folder.glob("*")) or state(job)[0] in OVER)

    def tool(
        self,
        name: str,
        words: list[str],
        files: list[str],
        needs: str | None = None,
        also: Callable[[], bool] = lambda: True,
        note: str = "",
    ) -> None:
        """A program of another project, where it is installed: it has to end with 0, make some files, and what else is asked has to hold."""
        if shutil.which(words[0]) is None or (needs is not None and find_spec(needs) is None):
            self.table.leave_out(name, f"{needs or words[0]} is not installed")
            return
        log = self.folder / "tool.log"
        with log.open("wb") as said:  # no pipe: whoever is left of a tool would keep it open
            tool = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        try:
            self.wait(lambda: tool.poll() is not None)
        finally:
            if tool.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(tool.pid, signal.SIGKILL)
                tool.wait()
        right = tool.returncode == 0 and all((self.folder / file).exists() for file in files) and also()
        self.say(
            name, "", [], right, note if right else log.read_text()[-1500:].strip(), states=f"code {tool.returncode}"
        )


def prepare(folder: Path) -> None:
    """Samples, and the command as it is called on a cluster; all jobs keep what they compile in one place."""
    import scdae

    (folder / "samples").mkdir()
    (folder / "bin").mkdir()
    command = folder / "bin/scdae"
    # Nobody knows the names of these nodes, by the first of which processes meet.
    meet = "[ -z $SLURM_STEP_NODELIST ] || export SLURM_STEP_NODELIST=127.0.0.1"
    command.write_text(f'#!/bin/bash\n{meet}\nexec {sys.executable} -m scdae "$@"\n')
    command.chmod(0o755)
    for i in range(3):
        adata = scdae.datasets.simulate(n_cells=200 + 10 * i, n_genes=100, seed=i)
        adata.obs["sample"] = f"s{i}"
        adata.write_h5ad(folder / f"samples/s{i}.h5ad")
    os.environ["PATH"] = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def try_all(lane: list[Callable[[Trial], None]], place: Path, cluster: Cluster, table: Table) -> None:
    """Some trials, one after the other."""
    for i, one in enumerate(lane):
        try:
            table.check()
            one(Trial(place / one.__name__, place / "samples", cluster, table))
        except NotHere as reason:
            table.leave_out(one.__name__, str(reason))
        except TimeoutError:
            table.late += [other.__name__ for other in lane[i:]]
            return
        except (RuntimeError, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
            table.add(f"{one.__name__}: WRONG: {type(error).__name__}: {error}", False, [])


def try_on(cluster: Cluster, place: Path, table: Table, wanted: list[str]) -> None:
    """The lanes side by side, as jobs on a cluster are."""
    lanes = [[one for one in lane if any(word in one.__name__ for word in wanted)] for lane in LANES]
    threads = [threading.Thread(target=try_all, args=(lane, place, cluster, table), daemon=True) for lane in lanes]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:  # stopped from outside: they look at this some times a second
        table.stopped.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(30)


def main() -> int:
    """All trials, within a time."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--only", default="", help="trials whose names have one of these words in them, with commas between"
    )
    parser.add_argument("--seconds", type=float, default=600, help="time for all")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        install(given.seconds / 2)
        with tempfile.TemporaryDirectory(prefix="scdae-cluster-", ignore_cleanup_errors=True) as place:
            os.chmod(place, 0o755)
            with Cluster(Path(place)) as cluster:
                work = Path(place) / "work"
                work.mkdir()
                prepare(work)
                how = "control groups" if cluster.confined else "no control groups: they are not to be had here"
                print(f"SLURM is up after {time.monotonic() - began:.0f} s, with {how}\n")
                table = Table(given.seconds - (time.monotonic() - began))
                try_on(cluster, work, table, given.only.split(","))
            if table.late:
                print(f"not tried to the end, as the {given.seconds:.0f} s are over: {', '.join(table.late)}")
            print(
                f"\n{table.right} right, {table.wrong} wrong, {len(table.not_here)} not here, after {time.monotonic() - began:.0f} s"
            )
            return int(table.wrong > 0)
    except NotHere as reason:
        print(f"No cluster was tried: {reason}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
