"""The trials of trials.py: jobs that end, are stopped, killed, requeued, or get too little memory, and what others make of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gridengine import GridEngine
from one_store import parts_of_one_store
from slurm import NotHere, free_ports, own_address, run, state

if TYPE_CHECKING:
    from trials import Trial

__all__ = ["LANES", "OVER"]

HERE = Path(__file__).resolve().parent
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
_NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": name,
            "execution_count": None,
            "metadata": {"tags": [name]},
            "outputs": [],
            "source": source,
        }
        for name, source in (
            ("parameters", 'source, target = "counts.h5ad", "restored.h5ad"'),
            (
                "restore",
                "import anndata as ad\nimport scdae\n\nadata = ad.read_h5ad(source)\n"
                "scdae.pp.impute(adata, likelihood='nb', max_epochs=2, effort='fast')\n"
                "adata.write_h5ad(target)\nprint('restored', adata.n_obs, 'cells')",
            ),
        )
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
_ENDLESS = "--likelihood nb --max-epochs 20000"  # trains until it is stopped
_LONG = f"{_ENDLESS} --verbose"
_SHORT = "--likelihood nb --max-epochs 2 --effort fast"  # the programs of the long ones


def an_array_from_scdae_batch(t: Trial) -> None:
    """Run, submitted again, with an index too many, and after one result was removed."""
    words = ["scdae", "batch", "samples", "jobs", "--cores", "2", "--", *_SHORT.split()]
    subprocess.run(words, cwd=t.folder, check=True, capture_output=True, timeout=100)
    array, gather = t.folder / "jobs/array.slurm", t.folder / "jobs/gather.slurm"

    def submitted() -> tuple[list[str], str]:
        job = t.submit(array)
        return [f"{job}_{i}" for i in range(3)], t.submit(gather, f"--dependency=afterany:{job}")

    tasks, last = submitted()
    good = t.all_completed(*tasks, last)
    rows = (t.folder / "jobs/report.csv").read_text().count(",done,") if good else 0
    kept = [path.name for path in (t.folder / "jobs").glob("checkpoints")]
    t.say("scdae batch: array of 3", "", [*tasks, last], rows == 3 and not kept, f"{rows} reports in the table")
    first, second, third = (t.folder / f"jobs/results/s{i}.h5ad" for i in range(3))
    times = [path.stat().st_mtime_ns for path in (second, third)]
    first.unlink()
    tasks, last = submitted()
    good = t.all_completed(*tasks, last) and first.exists()
    same = times == [path.stat().st_mtime_ns for path in (second, third)]
    t.say("  the same again", "one result removed", [*tasks, last], good and same, "others untouched")
    job = t.submit(array, "--array=7", f"--output={t.folder}/beyond.log")
    good = t.ended(f"{job}_7") == ("FAILED", "1:0")
    said = t.log("beyond")
    t.say("  --array=7", "index beyond", [f"{job}_7"], good and said.count("\n") == 1 and "no task 7" in said)


def stopped_while_training(t: Trial) -> None:
    """Each signal leaves a checkpoint, one line, and no file."""
    for name, words, number in (("SIGTERM", ["scancel"], 15), ("SIGUSR1", ["scancel", "--batch", "--signal=USR1"], 10)):
        shutil.rmtree(t.folder / "kept", ignore_errors=True)
        job = t.wrap(f"scdae fit samples/s0.h5ad m.scdae {_LONG} --checkpoint-dir kept --checkpoint-every 5")
        t.step(job)
        run(*words, job)
        t.ended(job)
        good = t.said(job, f"stopped by {name}; the checkpoint of step") and not (t.folder / "m.scdae").exists()
        t.say("fit with checkpoints", f"{' '.join(words)} ({number})", [job], good, "checkpoint kept")
    other = t.wrap(f"scdae fit samples/s0.h5ad n.scdae {_LONG} --checkpoint-dir kept")
    t.wait(lambda: "going on" in t.log(other) or state(other)[0] in OVER)
    job = t.wrap(f"scdae fit samples/s0.h5ad n.scdae {_LONG} --checkpoint-dir kept")
    t.say("  two with one folder", "", [job], t.ended(job) == ("FAILED", "75:0"), "75: a second try may do")
    run("scancel", other)
    t.ended(other)


def requeued(t: Trial) -> None:
    """Killed in training and started again: the bits of an unbroken run."""
    words = "scdae fit samples/s1.h5ad {} --likelihood nb --max-epochs 600 --verbose"
    whole = t.wrap(words.format("whole.scdae"))
    job = t.wrap(words.format("broken.scdae") + " --checkpoint-dir kept --checkpoint-every 20", "--requeue")
    t.step(job)
    run("scontrol", "requeue", job)

    def begun() -> bool:  # SLURM would wait for two minutes
        run("scontrol", "update", f"JobId={job}", "StartTime=now")
        return state(job)[0] not in ("PENDING", "REQUEUED", "COMPLETING", "CONFIGURING")

    t.wait(lambda: state(job)[0] == "PENDING", seconds=60)
    t.wait(begun, seconds=60)
    good = t.all_completed(whole, job) and t.said(job, "going on after step")
    same = good and (t.folder / "whole.scdae").read_bytes() == (t.folder / "broken.scdae").read_bytes()
    t.say("fit with checkpoints", "scontrol requeue", [job], same, "bytes of an unbroken run")


def several_nodes(t: Trial) -> None:
    """Two processes: done; stopped together; one of them lost."""
    _need_an_address()
    shutil.copy(t.folder / "samples/s2.h5ad", t.folder / "atlas.h5ad")
    script, options = HERE / "nodes.slurm", ["--mem=1500M", "--cpus-per-task=1"]
    kept, model = t.folder / "checkpoints/atlas", t.folder / "atlas.scdae"
    for done, number in (("scancel (15)", 15), ("kill -9 of one process", 9)):
        shutil.rmtree(kept, ignore_errors=True)
        job = t.submit(script, *options, SCDAE_OPTIONS=f"{_LONG} --checkpoint-every 25")
        t.step(job, "checkpoints/atlas")
        if number == 15:
            run("scancel", job)
            t.ended(job)
            good = t.said(job, "stopped by SIGTERM; the checkpoint of step", 2)
            t.say("nodes.slurm, srun on 2 nodes", done, [job], good, "both stop after the same step")
        else:
            ranks = _ranks(job)
            if ranks:
                os.kill(ranks[-1], signal.SIGKILL)
            good = t.ended(job)[0] in ("FAILED", "OUT_OF_MEMORY") and len(ranks) == 2 and not model.exists()
            t.say("  the same", done, [job], good)
    shutil.rmtree(kept, ignore_errors=True)
    job = t.submit(script, *options, SCDAE_OPTIONS=_SHORT)
    t.say("  the same", "", [job], t.all_completed(job) and model.exists() and not kept.exists(), "no checkpoint left")


def memory_of_a_job(t: Trial) -> None:
    """Its limit is known, and a layer that does not fit is worked out while it is written."""
    job = t.wrap("scdae info", mem="1400M")
    t.ended(job)
    limits = re.findall(r"free of ([\d.]+) GiB \(([^)]*)\)", t.log(job))
    right = bool(limits) and limits[0][0] == "1.4"
    t.say("scdae info, --mem=1400M", "", [job], right, f"by {limits[0][1] if limits else 'nothing'}")
    _wide(t.folder / "wide.h5ad")
    words = "scdae impute wide.h5ad {}.h5ad --likelihood nb --max-epochs 1 --effort fast"
    job = t.wrap(words.format("lazily"), mem="700M")
    lazily = t.ended(job)[0] == "COMPLETED" and t.said(job, "dask array")
    t.say("layer of 0.15 GiB, --mem=700M", "", [job], lazily, "lazy by itself")
    if t.cluster.confined:
        job = t.wrap(words.format("killed"), mem="260M")
        t.ended(job)
        # The file that a killed job was writing stays, hidden; here there is none yet.
        right = state(job)[0] in ("OUT_OF_MEMORY", "FAILED") and not (t.folder / "killed.h5ad").exists()
        t.say("the same, --mem=260M", "more than its memory", [job], right)


def the_scripts_that_are_here(t: Trial) -> None:
    """A shared model that an array depends on, stopped at first; an array; dask's workers and submitit's with the model."""
    checkpoints = t.folder / "checkpoints"
    job = t.submit(HERE / "shared.slurm", "--mem=1500M", SCDAE_OPTIONS=f"{_LONG} --checkpoint-every 5")
    t.step(job, "checkpoints/shared")
    run("scancel", job)
    t.ended(job)
    good = t.said(job, "stopped by SIGTERM; the checkpoint of step") and (checkpoints / "shared").exists()
    t.say("shared.slurm", "scancel (15)", [job], good, "checkpoint kept")
    shutil.rmtree(checkpoints)
    job = t.submit(HERE / "shared.slurm", "--mem=1500M", SCDAE_OPTIONS=f"{_SHORT} --batch-key sample")
    after = t.submit(HERE / "apply.slurm", "--array=0-1", "--mem=1500M", f"--dependency=afterok:{job}")
    tasks = [job, f"{after}_0", f"{after}_1"]
    good = t.all_completed(*tasks) and not (checkpoints / "shared").exists()
    t.say("shared.slurm, then apply.slurm", "afterok", tasks, good, "no checkpoint left")
    job = t.submit(HERE / "array.slurm", "--array=0-1", "--mem=1500M", SCDAE_OPTIONS="--max-epochs 2")
    tasks = [f"{job}_0", f"{job}_1"]
    good = t.all_completed(*tasks) and (t.folder / "restored/s1.h5ad").exists() and not list(checkpoints.iterdir())
    t.say("array.slurm", "", tasks, good, "no checkpoint left")
    words = [sys.executable, str(HERE / "dask_job.py"), "samples/s0.h5ad", "shared.scdae", "of_dask.zarr", "--loopback"]
    t.tool("dask_job.py, two workers by SLURM", words, ["of_dask.zarr"], needs="dask_jobqueue")
    words = [sys.executable, str(HERE / "submitit_job.py"), "shared.scdae", "samples/s0.h5ad", "samples/s1.h5ad"]
    t.tool("submitit_job.py, array of 2", words, ["by_submitit/s0.h5ad", "by_submitit/s1.h5ad"], needs="submitit")


def workflows(t: Trial) -> None:
    """Snakemake and cwltool, where they are installed."""
    shutil.copy(HERE / "Snakefile", t.folder)
    (t.folder / "samples/s2.h5ad").unlink()
    options = f"options={_SHORT}"
    words = ["snakemake", "--cores", "2", "--quiet", "all", "--config", options]
    t.tool("snakemake, h5ad", words, ["restored/s0.h5ad", "restored/s1.h5ad", "report.csv"])
    words = ["snakemake", "--cores", "2", "--quiet", "all", "--config", "format=zarr", options]
    t.tool("snakemake, zarr", [*words, "--", "restored/s0.zarr"], ["restored/s0.zarr/X"])
    words = ["cwltool", "--quiet", "--outdir", "of_cwl"]
    for name in ("PATH", "PYTHONPATH", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        words += ["--preserve-environment", name] if name in os.environ else []
    words += [str(HERE / "impute.cwl"), "--counts", "samples/s0.h5ad", "--max_epochs", "2"]
    t.tool("cwltool", words, ["of_cwl/restored.h5ad", "of_cwl/report.json"])


def grid_engine(t: Trial) -> None:
    """An array that `scdae batch` wrote; and a job that is deleted, which hears of it before."""
    with GridEngine(t.folder / "engine") as engine:
        words = ["scdae", "batch", "samples", "jobs", "--scheduler", "sge", "--cores", "2", "--", *_SHORT.split()]
        subprocess.run(words, cwd=t.folder, check=True, capture_output=True, timeout=100)
        job = engine.submit(t.folder, "jobs/array.sge")
        t.wait(lambda: engine.ended(job))
        last = engine.submit(t.folder, "jobs/gather.sge")
        t.wait(lambda: engine.ended(last))
        codes = engine.ended(job) + engine.ended(last)
        table = t.folder / "jobs/report.csv"
        rows = table.read_text().count(",done,") if table.exists() else 0
        note = f"{rows} reports in the table" if rows else _logs(t.folder / "jobs/logs")
        t.say("Grid Engine: array of 3", "", [], codes == ["0"] * 4 and rows == 3, note, _codes(codes))
        (t.folder / "samples/s1.h5ad").unlink()
        (t.folder / "samples/s2.h5ad").unlink()
        words = ["-t", "1-1", "-o", "deleted.log", "-l", "h_vmem=6G"]
        os.environ["SCDAE_OPTIONS"] = f"{_ENDLESS} --checkpoint-every 5"
        try:
            job = engine.submit(t.folder, str(HERE / "array.sge"), *words)
        finally:
            del os.environ["SCDAE_OPTIONS"]
        t.wait(lambda: any(path.name.isdigit() for path in t.folder.glob("checkpoints/s0/*")) or engine.ended(job))
        engine.say("qdel", job)
        t.wait(lambda: engine.ended(job))
        codes, log = engine.ended(job), t.folder / "deleted.log"
        said = log.read_text() if log.exists() else ""
        good = codes == ["140"] and "stopped by SIGUSR2; the checkpoint of step" in said
        note = "checkpoint kept" if good else said[-600:]
        t.say("  array.sge", "qdel, SIGUSR2 by -notify (12)", [], good, note, _codes(codes))


def a_notebook(t: Trial) -> None:
    """Run by papermill, with the parameters of a sample."""
    ran = t.folder / "ran.ipynb"
    (t.folder / "restore.ipynb").write_text(json.dumps(_NOTEBOOK))
    words = ["papermill", "restore.ipynb", "ran.ipynb", "--no-progress-bar", "-p", "source", "samples/s0.h5ad"]
    t.tool(
        "papermill",
        [*words, "-p", "target", "restored.h5ad"],
        ["restored.h5ad"],
        needs="ipykernel",
        also=lambda: "training" not in ran.read_text() and "restored 200 cells" in ran.read_text(),
        note="no bars in the notebook",
    )


def processes_of_mpi(t: Trial) -> None:
    """Two that Open MPI has started, and two of MPICH."""
    _need_an_address()
    fit = f"fit samples/s0.h5ad {{}}.scdae --distributed {_SHORT}"
    words = ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", "2", "--bind-to", "none", "scdae"]
    t.tool("Open MPI, 2 processes", [*words, *fit.format("openmpi").split()], ["openmpi.scdae"])
    meet = f"--coordinator 127.0.0.1:{free_ports(1)[0]} --num-processes $PMI_SIZE --process-id $PMI_RANK"
    first, second = t.folder / "openmpi.scdae", t.folder / "mpich.scdae"
    both = first.exists()
    t.tool(
        "MPICH, 2 processes",
        ["mpirun.mpich", "-n", "2", "sh", "-c", f"exec scdae {fit.format('mpich')} {meet}"],
        ["mpich.scdae"],
        also=lambda: not both or first.read_bytes() == second.read_bytes(),
        note="bytes of Open MPI's" if both else "",
    )


# Side by side, and in each the most telling first: where time is short, the last are not tried.
LANES: tuple[list[Callable[[Trial], None]], ...] = (
    [an_array_from_scdae_batch, stopped_while_training, requeued, workflows, processes_of_mpi, a_notebook],
    [several_nodes, memory_of_a_job, the_scripts_that_are_here, parts_of_one_store, grid_engine],
)


def _need_an_address() -> None:
    """Gloo, by which processes on CPUs speak to one another, looks for the address of the machine's name."""
    if not own_address():
        raise NotHere("this machine's name has no address, so that several processes cannot meet")


def _codes(codes: list[str]) -> str:
    return f"code {', '.join(dict.fromkeys(codes)) or 'none'}"


def _logs(folder: Path) -> str:
    return " ".join(path.read_text()[-300:] for path in folder.glob("*"))


def _ranks(job: str) -> list[int]:
    """Processes of scdae in a job, by their rank."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--distributed" in words and b"srun" not in words[0] and f"SLURM_JOB_ID={job}".encode() in environment:
            rank = next((word for word in environment if word.startswith(b"SLURM_PROCID=")), b"")
            found.append((rank, int(path.name)))
    return [number for rank, number in sorted(found) if rank]


def _wide(path: Path) -> None:
    """Few counts of many genes: a dense layer of 150 MiB."""
    import numpy as np
    import scipy.sparse as sp
    from anndata import AnnData

    columns = np.random.default_rng(0).integers(0, 8000, 5000 * 20)
    rows = np.repeat(np.arange(5000), 20)
    AnnData(sp.csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), (5000, 8000))).write_h5ad(path)
