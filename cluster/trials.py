"""Jobs on a cluster of this machine: what was started, what was done to it, its state and exit code, and what it left.

python cluster/trials.py [--only WORD] [--seconds N]. It ends with 1 where something is not right, and with 0, and a sentence, where
SLURM cannot run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from slurm import Cluster, NotHere, install, run, state

HERE = Path(__file__).resolve().parent
_OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
_LONG = "--likelihood nb --max-epochs 20000 --verbose"  # trains until it is stopped


class Trials:
    """The folder that jobs work in, and the table."""

    def __init__(self, folder: Path, cluster: Cluster, seconds: float):
        self.folder, self.cluster = folder, cluster
        self.until = time.monotonic() + seconds
        self.wrong = 0

    def say(self, started: str, done: str, jobs: list[str], right: bool, note: str = "") -> None:
        """A line of the table."""
        states = ", ".join(dict.fromkeys(" ".join(state(job)) for job in jobs)) if jobs else ""
        hidden = sum(path.name.startswith(".") for path in self.folder.rglob(".*.tmp"))
        right = right and not hidden
        self.wrong += not right
        print(f"{started:34s}{done:34s}{states:24s}{hidden:5d}  {'right' if right else 'WRONG'}  {note}", flush=True)
        for job in jobs if not right else ():
            print(f"    job {job}: {self.log(job)[-600:]}")

    def submit(self, script: str | Path, *options: str, **environment: str) -> str:
        """A job's number; its log is JOB.log."""
        words = [
            "sbatch",
            "--parsable",
            f"--output={self.folder}/%A_%a.log" if "--array" in " ".join(options) else f"--output={self.folder}/%j.log",
        ]
        done = subprocess.run(
            [*words, *options, str(script)],
            cwd=self.folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
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
        self.wait(lambda: state(job)[0] in _OVER)
        return state(job)

    def wait(self, there: Callable[[], object]) -> None:
        """Until something is so."""
        while not there():
            if time.monotonic() > self.until:
                raise TimeoutError("the time of all trials is over")
            time.sleep(0.3)

    def log(self, job: str) -> str:
        """What a job has said."""
        path = self.folder / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def step(self, job: str) -> int:
        """Wait until a job has a checkpoint of its training."""
        kept = self.folder / "kept"
        self.wait(lambda: any(path.name.isdigit() for path in kept.glob("*")) or state(job)[0] in _OVER)
        return max((int(path.name) for path in kept.glob("*") if path.name.isdigit()), default=0)


def memory_of_a_job(t: Trials) -> None:
    """Its limit is known, and a layer that does not fit is worked out while it is written."""
    job = t.wrap("scdae info", mem="1400M")
    t.ended(job)
    limits = re.findall(r"free of ([\d.]+) GiB \(([^)]*)\)", t.log(job))
    t.say(
        "scdae info, --mem=1400M",
        "",
        [job],
        bool(limits) and limits[0][0] == "1.4",
        f"by {limits[0][1] if limits else 'nothing'}",
    )
    job = t.wrap("scdae impute wide.h5ad lazily.h5ad --max-epochs 1", mem="700M")
    lazily = t.ended(job)[0] == "COMPLETED" and "dask array" in t.log(job)
    t.say("layer of 0.15 GiB, --mem=700M", "", [job], lazily, "lazy by itself")
    if t.cluster.confined:
        job = t.wrap("scdae impute wide.h5ad killed.h5ad --max-epochs 1", mem="260M")
        t.say("the same, --mem=260M", "more than its memory", [job], t.ended(job)[0] in ("OUT_OF_MEMORY", "FAILED"))
        (t.folder / "killed.h5ad").unlink(missing_ok=True)


def an_array_from_scdae_batch(t: Trials) -> None:
    """Run, submitted again, with an index too many, and after one result was removed."""
    words = ["scdae", "batch", "samples", "jobs", "--cores", "2", "--", "--max-epochs", "3"]
    subprocess.run(words, cwd=t.folder, check=True, capture_output=True, timeout=120)
    array, gather = t.folder / "jobs/array.slurm", t.folder / "jobs/gather.slurm"

    def submitted() -> tuple[list[str], str]:
        job = t.submit(array)
        return [f"{job}_{i}" for i in range(3)], t.submit(gather, f"--dependency=afterany:{job}")

    tasks, last = submitted()
    states = [t.ended(task) for task in tasks]
    good = states == [("COMPLETED", "0:0")] * 3 and t.ended(last) == ("COMPLETED", "0:0")
    rows = (t.folder / "jobs/report.csv").read_text().count(",done,") if good else 0
    t.say("scdae batch: array of 3", "", [*tasks, last], rows == 3, f"{rows} reports in the table")
    first = t.folder / "jobs/results/s0.h5ad"
    second, third = (t.folder / f"jobs/results/s{i}.h5ad" for i in (1, 2))
    times = [path.stat().st_mtime_ns for path in (second, third)]
    first.unlink()
    tasks, last = submitted()
    good = all(t.ended(task) == ("COMPLETED", "0:0") for task in [*tasks, last])
    same = times == [path.stat().st_mtime_ns for path in (second, third)]
    t.say(
        "  the same again", "one result removed", [*tasks, last], good and same and first.exists(), "others untouched"
    )
    job = t.submit(array, "--array=7", f"--output={t.folder}/beyond.log")
    good = t.ended(f"{job}_7") == ("FAILED", "1:0")
    said = (t.folder / "beyond.log").read_text()
    t.say("  --array=7", "index beyond", [f"{job}_7"], good and said.count("\n") == 1 and "no task 7" in said)


def the_scripts_that_are_here(t: Trials) -> None:
    """Array, and a shared model that another array depends on."""
    job = t.submit(HERE / "shared.slurm", "--mem=1500M", SCDAE_OPTIONS="--max-epochs 2 --batch-key sample")
    after = t.submit(HERE / "apply.slurm", "--array=0-2", "--mem=1500M", f"--dependency=afterok:{job}")
    fit = t.ended(job)
    tasks = [f"{after}_{i}" for i in range(3)]
    good = fit == ("COMPLETED", "0:0") and all(t.ended(task) == ("COMPLETED", "0:0") for task in tasks)
    t.say("shared.slurm, then apply.slurm", "afterok", [job, *tasks], good)
    job = t.submit(HERE / "array.slurm", "--array=0-1", "--mem=1500M")
    tasks = [f"{job}_{i}" for i in range(2)]
    t.say("array.slurm", "", tasks, all(t.ended(task) == ("COMPLETED", "0:0") for task in tasks))


def stopped_while_training(t: Trials) -> None:
    """Each signal leaves a checkpoint, one line, and no file."""
    for name, words, number in (("SIGTERM", ["scancel"], 15), ("SIGUSR1", ["scancel", "--batch", "--signal=USR1"], 10)):
        shutil.rmtree(t.folder / "kept", ignore_errors=True)
        job = t.wrap(f"scdae fit samples/s0.h5ad m.scdae {_LONG} --checkpoint-dir kept --checkpoint-every 5")
        t.step(job)
        run(*words, job)
        t.ended(job)
        _said(t, job, "stopped by")
        said = t.log(job)
        good = f"stopped by {name}; the checkpoint of step" in said and not (t.folder / "m.scdae").exists()
        t.say("fit with checkpoints", f"{' '.join(words)} ({number})", [job], good, "checkpoint kept")
    other = t.wrap(f"scdae fit samples/s0.h5ad n.scdae {_LONG} --checkpoint-dir kept")
    t.wait(lambda: "going on" in t.log(other) or state(other)[0] in _OVER)
    job = t.wrap("scdae fit samples/s0.h5ad n.scdae --likelihood nb --max-epochs 20000 --checkpoint-dir kept")
    t.say("  two with one folder", "", [job], t.ended(job) == ("FAILED", "75:0"), "75: a second try may do")
    run("scancel", other)
    t.ended(other)


def requeued(t: Trials) -> None:
    """Killed in training and started again: the bits of an unbroken run."""
    shutil.rmtree(t.folder / "kept", ignore_errors=True)
    words = "scdae fit samples/s1.h5ad {} --likelihood nb --max-epochs 150 --verbose"
    whole = t.wrap(words.format("whole.scdae"))
    t.ended(whole)
    job = t.wrap(words.format("broken.scdae") + " --checkpoint-dir kept --checkpoint-every 20", "--requeue")
    t.step(job)
    run("scontrol", "requeue", job)
    t.wait(lambda: state(job)[0] == "PENDING")
    for _ in range(20):  # SLURM would wait for two minutes
        run("scontrol", "update", f"JobId={job}", "StartTime=now")
        time.sleep(0.5)
    good = t.ended(job) == ("COMPLETED", "0:0") and "going on after step" in t.log(job)
    same = good and (t.folder / "whole.scdae").read_bytes() == (t.folder / "broken.scdae").read_bytes()
    t.say("fit with checkpoints", "scontrol requeue", [job], same, "bytes of an unbroken run")


def several_nodes(t: Trials) -> None:
    """Two processes: done; stopped together; one of them lost."""
    shutil.copy(t.folder / "samples/s2.h5ad", t.folder / "atlas.h5ad")
    script, options = HERE / "nodes.slurm", ["--mem=1500M", "--cpus-per-task=1"]
    kept = t.folder / "checkpoints/atlas"

    def training(job: str) -> bool:
        return any(path.name.isdigit() for path in kept.glob("*")) or state(job)[0] in _OVER

    for done, number in (("scancel (15)", 15), ("kill -9 of one process", 9)):
        shutil.rmtree(kept, ignore_errors=True)
        job = t.submit(script, *options, SCDAE_OPTIONS=f"{_LONG} --checkpoint-every 25")
        t.wait(partial(training, job))
        if number == 15:
            run("scancel", job)
            t.ended(job)
            _said(t, job, "stopped by SIGTERM", 2)
            good = t.log(job).count("stopped by SIGTERM; the checkpoint of step") == 2
            t.say("nodes.slurm, srun on 2 nodes", done, [job], good, "both stop after the same step")
        else:
            os.kill(_ranks(job)[-1], signal.SIGKILL)
            t.say(
                "  the same",
                done,
                [job],
                t.ended(job)[0] in ("FAILED", "OUT_OF_MEMORY") and not (t.folder / "atlas.scdae").exists(),
            )
    shutil.rmtree(kept, ignore_errors=True)
    job = t.submit(script, *options, SCDAE_OPTIONS="--likelihood nb --max-epochs 2")
    t.say("  the same", "", [job], t.ended(job) == ("COMPLETED", "0:0") and (t.folder / "atlas.scdae").exists())


def workflows(t: Trials) -> None:
    """Snakemake, cwltool and dask, where they are installed."""
    shutil.copy(HERE / "Snakefile", t.folder)
    for name in ("restored", "reports", "checkpoints"):  # of the scripts before
        shutil.rmtree(t.folder / name, ignore_errors=True)
    for form in ("h5ad", "zarr"):
        words = ["snakemake", "--cores", "2", "--config", f"format={form}", "options=--max-epochs 2", "--quiet", "all"]
        words += ["--forceall"]
        _tool(t, f"snakemake, {form}", words, [f"restored/s0.{form}", "restored/s2." + form, "report.csv"])
    words = [
        "cwltool",
        "--quiet",
        "--preserve-environment",
        "PATH",
        "--preserve-environment",
        "PYTHONPATH",
        "--outdir",
        "of_cwl",
    ]
    words += [str(HERE / "impute.cwl"), "--counts", "samples/s0.h5ad", "--max_epochs", "2"]
    _tool(t, "cwltool", words, ["of_cwl/restored.h5ad", "of_cwl/report.json"])
    if (t.folder / "shared.scdae").exists():
        words = [
            sys.executable,
            str(HERE / "dask_job.py"),
            "samples/s0.h5ad",
            "shared.scdae",
            "of_dask.zarr",
            "--loopback",
        ]
        _tool(t, "dask_job.py, two workers by SLURM", words, ["of_dask.zarr"], needs="dask_jobqueue")


# The most telling first: where time is short, the last are not tried.
TRIALS = (
    an_array_from_scdae_batch,
    stopped_while_training,
    several_nodes,
    memory_of_a_job,
    requeued,
    the_scripts_that_are_here,
    workflows,
)


def _tool(trials: Trials, name: str, words: list[str], files: list[str], needs: str | None = None) -> None:
    from importlib.util import find_spec

    if shutil.which(words[0]) is None or (needs is not None and find_spec(needs) is None):
        print(f"{name:34s}not installed in this environment, so it was not tried", flush=True)
        return
    log = trials.folder / "tool.log"
    with log.open("wb") as said:  # no pipe: whoever is left of a tool would keep it open
        tool = subprocess.Popen(
            words, cwd=trials.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        code = tool.wait(max(trials.until - time.monotonic(), 1))
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(tool.pid, signal.SIGKILL)
        tool.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimeoutError(f"{name}: the time of all trials is over") from error
        raise
    right = code == 0 and all((trials.folder / file).exists() for file in files)
    trials.say(name, "", [], right, f"code {code}" if right else f"code {code}: {log.read_text()[-1500:]}")


def _said(trials: Trials, job: str, words: str, times: int = 1) -> None:
    """Wait for words in a log, which a file system may show a little later than the state."""
    deadline = time.monotonic() + 10
    while trials.log(job).count(words) < times and time.monotonic() < deadline:
        time.sleep(0.3)


def _ranks(job: str) -> list[int]:
    """Processes of scdae in a job."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--distributed" in words and b"srun" not in words[0] and f"SLURM_JOB_ID={job}".encode() in environment:
            found.append(
                (next((word for word in environment if word.startswith(b"SLURM_PROCID=")), b""), int(path.name))
            )
    return [number for rank, number in sorted(found) if rank]


def _prepare(folder: Path) -> None:
    """Samples, and the command as it is called on a cluster."""
    import numpy as np
    import scipy.sparse as sp
    from anndata import AnnData

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
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 8000, 5000 * 20)
    counts = sp.csr_matrix((np.ones(len(columns), np.float32), (np.repeat(np.arange(5000), 20), columns)), (5000, 8000))
    AnnData(counts).write_h5ad(folder / "wide.h5ad")
    os.environ["PATH"] = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


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
        install()
        with tempfile.TemporaryDirectory(prefix="scdae-cluster-", ignore_cleanup_errors=True) as place:
            os.chmod(place, 0o755)
            with Cluster(Path(place)) as cluster:
                work = Path(place) / "work"
                work.mkdir()
                _prepare(work)
                how = "control groups" if cluster.confined else "no control groups: they are not to be had here"
                print(f"SLURM is up after {time.monotonic() - began:.0f} s, with {how}\n")
                print(f"{'started':34s}{'done to it':34s}{'state, exit code':24s}{'.tmp':>5s}")
                trials = Trials(work, cluster, given.seconds)
                for one in TRIALS:
                    if any(word in one.__name__ for word in given.only.split(",")):
                        try:
                            one(trials)
                        except TimeoutError as error:
                            left = [other.__name__ for other in TRIALS[TRIALS.index(one) :]]
                            print(f"not tried to the end, for {error}: {', '.join(left)}", flush=True)
                            break
                        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                            trials.wrong += 1
                            print(f"{one.__name__}: WRONG: {error}", flush=True)
                print(f"\n{trials.wrong} wrong, after {time.monotonic() - began:.0f} s")
                return int(trials.wrong > 0)
    except NotHere as reason:
        print(f"No cluster was tried: {reason}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
