"""Scripts for schedulers: an array of one task for each line of a file, and a job that gathers what these report."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

__all__ = ["Job", "grid_engine", "slurm", "submitting"]

_MIB = 2**20
_VIRTUAL = 3 * 2**29  # bytes of addresses beyond memory, which Grid Engine's h_vmem counts: 1.3 GiB were measured
_NOTICE = 60  # seconds between the word that a job will be stopped and its end


class Job(NamedTuple):
    """What the scripts are about."""

    folder: Path  # has commands.txt, and gets the scripts and logs
    n_tasks: int
    memory: int  # bytes that a task asks for
    seconds: int
    cores: int
    gather: list[str]  # command
    at_once: int | None = None
    partition: str | None = None
    account: str | None = None
    environment: str = "smp"  # of Grid Engine, for several cores on one machine


def slurm(job: Job) -> dict[str, str]:
    """Return the names and texts of the scripts for SLURM."""
    several = f"0-{job.n_tasks - 1}" + (f"%{job.at_once}" if job.at_once else "")
    array = [
        f"job-name={_name(job)}",
        f"array={several}",
        f"cpus-per-task={job.cores}",
        f"mem={_megabytes(job.memory)}M",
        f"time={_clock(job.seconds)}",
        f'output="{job.folder}/logs/%x-%A_%a.log"',
        "open-mode=append",
        "requeue",
        f"signal=B:TERM@{_NOTICE}",
    ]
    single = [f"job-name={_name(job)}-gather", "cpus-per-task=1", "mem=1000M", "time=00:15:00"]
    single += [f'output="{job.folder}/logs/%x-%j.log"', "open-mode=append"]
    common = [f"partition={job.partition}"] if job.partition else []
    common += [f"account={job.account}"] if job.account else []
    return {
        "array.slurm": _script("#SBATCH --", array + common, _task(job, "SLURM_ARRAY_TASK_ID", 1)),
        "gather.slurm": _script("#SBATCH --", single + common, _gather(job)),
    }


def grid_engine(job: Job) -> dict[str, str]:
    """Return the names and texts of the scripts for Grid Engine, whose memory is that of addresses, for each core."""
    virtual = -(-(job.memory + _VIRTUAL) // job.cores)
    array = [f"N {_name(job)}", f"t 1-{job.n_tasks}", *([f"tc {job.at_once}"] if job.at_once else [])]
    array += [f"pe {job.environment} {job.cores}"] if job.cores > 1 else []
    array += [f"l h_vmem={_megabytes(virtual)}M,h_rt={_clock(job.seconds)}", "notify", "r y"]
    single = [
        f"N {_name(job)}-gather",
        f"hold_jid {_name(job)}",
        f"l h_vmem={_megabytes(_VIRTUAL + 2**30)}M,h_rt=00:15:00",
    ]
    common = ["S /bin/bash", "cwd", "j y", f"o {job.folder}/logs"]
    common += [f"q {job.partition}"] if job.partition else []
    common += [f"P {job.account}"] if job.account else []
    return {
        "array.sge": _script("#$ -", array + common, _task(job, "SGE_TASK_ID", 0)),
        "gather.sge": _script("#$ -", single + common, _gather(job)),
    }


def submitting(job: Job, scheduler: str) -> list[str]:
    """Return what a user types to have the jobs run."""
    folder = shlex.quote(str(job.folder))
    if scheduler == "sge":
        return [f"qsub {folder}/array.sge", f"qsub {folder}/gather.sge"]
    return [
        f"job=$(sbatch --parsable {folder}/array.slurm)",
        f"sbatch --dependency=afterany:$job {folder}/gather.slurm",
    ]


def _script(start: str, directives: list[str], lines: list[str]) -> str:
    return "\n".join(["#!/bin/bash", *(f"{start}{line}" for line in directives), *lines, ""])


def _task(job: Job, variable: str, first: int) -> list[str]:
    """The scheduler's signals reach what the shell has become: `exec` has them reach scdae."""
    commands = shlex.quote(str(job.folder / "commands.txt"))
    number = f"$(({variable} + {first}))" if first else f"${{{variable}}}"
    return [
        "# One line of commands.txt a task; done ones end at once when the array is submitted again.",
        f"export OMP_NUM_THREADS={job.cores}",
        'export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-' + f'{job.folder}/compiled}}"',
        "export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0",
        f'command=$(sed -n "{number}p" {commands})',
        'if [ -z "$command" ]; then',
        f'  echo "error: there is no task ${variable}: commands.txt has {job.n_tasks} lines." >&2',
        "  exit 1",
        "fi",
        'eval "exec $command"',
    ]


def _gather(job: Job) -> list[str]:
    return [
        "# Code 0 when all are done, and 75 when some are to be submitted again; checkpoints go when nobody needs them.",
        f"{shlex.join(job.gather)} || exit $?",
        f"rm -rf {shlex.quote(str(job.folder / 'checkpoints'))}",
    ]


def _name(job: Job) -> str:
    """Of the jobs: each folder's own, for Grid Engine has one job wait for another by name."""
    return "scdae-" + re.sub(r"[^\w.-]", "_", job.folder.name)


def _megabytes(size: int) -> int:
    return -(-size // _MIB)


def _clock(seconds: int) -> str:
    hours, rest = divmod(max(int(seconds), 60), 3600)
    return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
