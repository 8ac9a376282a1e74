"""Many samples as jobs: sheets, scripts, what is asked for, and the table of reports."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from typer.testing import CliRunner

import small
from scdae.cli import app
from scdae.cli.jobs.resources import Size, ask_for, size_of
from scdae.cli.jobs.samples import read_samples
from scdae.cli.pages.costs import peak_bytes
from scdae.core.config import Config


@pytest.fixture
def samples(tmp_path):
    """A folder with three samples, of which b is the largest."""
    (tmp_path / "samples").mkdir()
    for i, name in enumerate("abc"):
        small.structured()[: 100 + (i == 1) * 50].write_h5ad(tmp_path / f"samples/{name}.h5ad")
    return tmp_path / "samples"


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def sheet(folder, *lines, name="sheet.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def test_folders_patterns_and_sheets_are_samples(samples):
    (samples / "notes.txt").write_text("")
    found = read_samples(samples)
    assert [sample.name for sample in found] == ["a", "b", "c"] and found[0].path == samples / "a.h5ad"
    assert read_samples(f"{samples}/[ab].h5ad") == found[:2]
    of_sheet = read_samples(
        sheet(samples, "sample,path,batch_key", "x,a.h5ad,batch", "", f"y,{samples}/b.h5ad,"), ["batch-key"]
    )
    assert [sample.path for sample in of_sheet] == [sample.path for sample in found[:2]]
    assert of_sheet[0].options == (("batch-key", "batch"),) and of_sheet[1].options == ()
    assert read_samples(sheet(samples, "\ufeffsample\tpath", "x\ta.h5ad", name="s.tsv"))[0].name == "x"


@pytest.mark.parametrize(
    ("name", "lines"),
    [  # write.csv, write.csv2, write.table with tabs
        ("s.csv", ['"","sample","path","batch_key"', '"1","x","a.h5ad","batch"', '"2","y","b.h5ad",NA']),
        ("s.csv", ['"";"sample";"path";"batch_key"', '"1";"x";"a.h5ad";"batch"', '"2";"y";"b.h5ad";NA']),
        ("s.tsv", ['"sample"\t"path"\t"batch_key"', '"1"\t"x"\t"a.h5ad"\t"batch"', '"2"\t"y"\t"b.h5ad"\tNA']),
        ("s.tsv", ["sample\tpath\tbatch_key", "1\tx\ta.h5ad\tbatch", "2\ty\tb.h5ad\tNA"]),
    ],
)
def test_sheets_of_r(samples, log, name, lines):
    found = read_samples(sheet(samples, *lines, name=name), ["batch-key"])
    assert [(sample.name, sample.path.name) for sample in found] == [("x", "a.h5ad"), ("y", "b.h5ad")]
    assert [sample.options for sample in found] == [(("batch-key", "batch"),), ()] and not log.text


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["sample,path", "a,a.h5ad", "b,no.h5ad"], "1 of 2 files do not exist: b ("),
        (["sample,path", "a,a.h5ad", "A,b.h5ad"], "1 names stand for more than one sample: a"),
        (["sample,path", "a,"], "line 2 (sample a): the path is empty"),
        (["sample,path", ",a.h5ad"], "1 samples have names that cannot be those of files: ''"),
        (["sample,path", "../a,a.h5ad"], "cannot be those of files: '../a'"),
        (["sample,path", "a,a.h5ad,x"], "line 2: 3 values for 2 columns"),
        (["sample,path"], "has no sample"),
        ([""], "has no column sample and no column path"),
        (["sample,file", "a,a.h5ad"], "has no column path"),
        (["sample,path,path", "a,a.h5ad,a.h5ad"], "columns that repeat: path"),
        (["sample,path,batchkey", "a,a.h5ad,x"], "Did you mean 'batch_key'?"),
        (["sample,path,max_epochs", "a,a.h5ad,many"], "sample a: scdae impute does not take this"),
        (["sample,path,genes_only", "a,a.h5ad,perhaps"], "genes_only is 'perhaps': use true or false"),
        (["sample,path", "a,cut.h5ad"], "cut.h5ad"),
        (["sample,path,layer", "a,a.h5ad,umi"], "umi"),
    ],
)
def test_sheets_that_cannot_be_run_are_one_line_before_anything_is_written(samples, lines, words):
    (samples / "cut.h5ad").write_bytes((samples / "a.h5ad").read_bytes()[:3000])
    result = run("batch", sheet(samples, *lines), samples / "jobs")
    assert result.exit_code == 1 and words in result.stderr, result.output
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    assert not (samples / "jobs").exists()


def test_other_faults_are_one_line_too(samples, tmp_path):
    (tmp_path / "empty").mkdir()
    faults = {
        ("", tmp_path / "jobs"): "SAMPLES is empty",
        (tmp_path / "empty", tmp_path / "jobs"): "has no sample",
        (samples / "a.h5ad", tmp_path / "jobs"): "is one sample",
        (samples / "no", tmp_path / "jobs"): "does not exist",
        (f"{samples}/x*.h5ad", tmp_path / "jobs"): "No file matches",
        (samples, samples): "exists. Choose another name for JOBS",
        (samples, tmp_path / "no" / "jobs"): "does not exist. Make it first",
        (samples, tmp_path / "jobs", "--model", tmp_path / "no.scdae"): "no.scdae does not exist",
        (samples, tmp_path / "jobs", "--", "--overwrite"): "--overwrite is given to each job",
        (samples, tmp_path / "jobs", "--", "--no-such"): "does not take this",
    }
    for words, said in faults.items():
        result = run("batch", *words)
        assert result.exit_code == 1 and said in result.stderr and result.stderr.count("\n") == 1, (
            words,
            result.stderr,
        )
    assert not (tmp_path / "jobs").exists()


def test_columns_that_are_no_options_are_said(samples, log):
    read_samples(sheet(samples, "sample,path,donor,sex", "x,a.h5ad,1,f"), ["batch-key"])
    assert "columns that are not options are not used: donor, sex" in log.text


def bash(script, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=60)


def test_scripts_for_slurm(samples, tmp_path):
    jobs = tmp_path / "my jobs"
    result = run(
        "batch", samples, jobs, "--at-once", 2, "--partition", "long", "--memory", 900, "--", "--max-epochs", 1
    )
    assert result.exit_code == 0, result.output
    assert (
        "3 jobs" in result.stdout and "nothing was submitted" in result.stdout and "sbatch --parsable" in result.stdout
    )
    text = (jobs / "array.slurm").read_text()
    for line in (
        "--array=0-2%2",
        "--mem=900M",
        "--cpus-per-task=1",
        "--requeue",
        "--open-mode=append",
        "--partition=long",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "#SBATCH --signal=B:TERM@60\n" in text and "OMP_NUM_THREADS=1" in text
    commands = (jobs / "commands.txt").read_text().splitlines()
    assert len(commands) == 3 and "--max-epochs 1 --json" in commands[1] and "--skip-existing" in commands[1]
    (jobs / "commands.txt").write_text("\n".join(f"echo of {name}" for name in "abc") + "\n")
    assert bash(jobs / "array.slurm", SLURM_ARRAY_TASK_ID="2").stdout == "of c\n"
    beyond = bash(jobs / "array.slurm", SLURM_ARRAY_TASK_ID="3")
    assert beyond.returncode == 1 and beyond.stderr == "error: there is no task 3: commands.txt has 3 lines.\n"
    again = run("batch", samples, jobs)
    assert again.exit_code == 1 and "pass --overwrite to write its scripts anew" in again.stderr
    (jobs / "results/a.h5ad").write_text("done")
    assert run("batch", samples, jobs, "--overwrite").exit_code == 0
    assert (jobs / "results/a.h5ad").read_text() == "done"


def test_scripts_for_grid_engine(samples, tmp_path):
    small.fitted(likelihood="nb").save(tmp_path / "m.scdae")
    words = ["--scheduler", "sge", "--model", tmp_path / "m.scdae", "--cores", 2, "--format", "zarr"]
    result = run("batch", samples, tmp_path / "jobs", *words)
    assert result.exit_code == 0 and "qsub" in result.stdout, result.output
    text = (tmp_path / "jobs/array.sge").read_text()
    for line in ("-t 1-3", "-pe smp 2", "-notify", "-r y"):
        assert f"#$ {line}\n" in text
    assert "h_vmem=" in text and "hold_jid scdae-jobs\n" in (tmp_path / "jobs/gather.sge").read_text()
    command = (tmp_path / "jobs/commands.txt").read_text().splitlines()[0]
    assert f" apply {samples}/a.h5ad {tmp_path}/m.scdae {tmp_path}/jobs/results/a.zarr" in command
    (tmp_path / "jobs/commands.txt").write_text("echo first\necho second\n")
    assert bash(tmp_path / "jobs/array.sge", SGE_TASK_ID="1").stdout == "first\n"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses as Linux counts them")
def test_a_job_has_room_within_what_grid_engine_counts(samples, tmp_path):
    """h_vmem becomes `ulimit -v`, which counts addresses that were never touched."""
    assert run("batch", samples, tmp_path / "jobs", "--scheduler", "sge", "--", "--max-epochs", 1).exit_code == 0
    text = (tmp_path / "jobs/array.sge").read_text()
    megabytes = int(text.partition("h_vmem=")[2].partition("M,")[0])
    command = (tmp_path / "jobs/commands.txt").read_text().splitlines()[0]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    words = ["bash", "-c", f"ulimit -v {megabytes * 1024}; {command}"]
    done = subprocess.run(
        words, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and (tmp_path / "jobs/results/a.h5ad").exists(), done.stderr


def test_a_job_runs_is_skipped_and_gathered(samples, tmp_path):
    small.fitted(likelihood="nb").save(tmp_path / "m.scdae")
    jobs = tmp_path / "jobs"
    assert run("batch", samples, jobs, "--model", tmp_path / "m.scdae").exit_code == 0
    commands = (jobs / "commands.txt").read_text().splitlines()
    words = [line.split()[3:] for line in commands]  # python -m scdae
    assert run(*words[0]).exit_code == 0
    partly = run("gather", jobs, tmp_path / "t.csv")
    assert partly.exit_code == 75 and partly.stderr == "2 of 3 jobs are not done: b, c\n"
    before = (jobs / "results/a.h5ad").stat().st_mtime_ns
    (jobs / "reports/a.json").unlink()  # it was killed before this was written
    for line in words:
        assert run(*line).exit_code == 0
    assert (jobs / "results/a.h5ad").stat().st_mtime_ns == before
    assert json.loads((jobs / "reports/a.json").read_text())["skipped"] is True
    result = run("gather", jobs, tmp_path / "t.csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["sample"] for row in rows] == ["a", "b", "c"] and {row["state"] for row in rows} == {"done"}
    assert (
        rows[0]["n_obs"] == "100"
        and rows[1]["n_obs"] == "150"
        and float(rows[0]["skill"]) == pytest.approx(float(rows[2]["skill"]))
    )
    assert "a,done" in run("gather", jobs / "reports", "-").stdout
    (jobs / "reports/b.json").write_text("no")
    assert run("gather", jobs, "-").exit_code == 75
    for words, said in (
        ([tmp_path / "no", "-"], "is no folder"),
        ([samples, "-"], "neither tasks.csv nor a report"),
        ([jobs, "t.txt"], ".csv"),
    ):
        result = run("gather", *words)
        assert result.exit_code == 1 and said in result.stderr and result.stderr.count("\n") == 1


def test_what_is_asked_for_grows_with_the_sample(tmp_path):
    adata = AnnData(sp.random(500, 200, 0.1, "csr", dtype=np.float32, rng=np.random.default_rng(0)))
    adata.layers["umi"] = adata.X[:, :].toarray()
    adata.write_h5ad(tmp_path / "a.h5ad")
    size = size_of(tmp_path / "a.h5ad")
    assert size[:3] == (500, 200, adata.X.nnz) and size_of(tmp_path / "a.h5ad", "umi").n_stored == 100_000
    asks = [ask_for(Size(n, 20_000, n * 100, n * 1200), Config()) for n in (200, 20_000, 2_000_000)]
    assert [ask.cores for ask in asks] == [1, 2, 4]
    for name in ("memory", "peak", "seconds"):
        values = [getattr(ask, name) for ask in asks]
        assert values == sorted(values) and values[0] < values[2]
    assert all(1.1 < ask.memory / ask.peak < 2 for ask in asks)
    held = peak_bytes(10**6, 10**7, held=10**9)
    assert held - peak_bytes(10**6, 10**7) > 0.7 * 10**9


def test_what_is_asked_for_is_what_a_job_took():
    """MiB of the peak of `scdae impute` (data, layer and all): cells, genes, stored entries, peak, threshold."""
    measured = [
        (200, 400, 28_374, 524, None),
        (500, 1000, 142_944, 563, None),
        (1000, 20_000, 2_112_687, 842, None),
        (2000, 2000, 936_008, 634, None),
        (20_000, 2000, 5_987_070, 1_176, None),
        (20_000, 20_000, 36_900_399, 4_060, None),
        (60_000, 2000, 12_793_515, 1_754, None),
        (200_000, 1000, 20_670_919, 2_557, 0.01),
    ]
    for n_obs, n_vars, n_stored, peak, threshold in measured:
        size = Size(n_obs, n_vars, n_stored, 8 * n_stored + 12 * n_obs)
        ask = ask_for(size, Config(), threshold=threshold)
        assert 1.1 < ask.memory / 2**20 / peak < 2, (n_obs, n_vars, ask.memory / 2**20 / peak)


def test_what_stays_on_disk_takes_no_memory():
    some, more = (ask_for(Size(n, 2000, 200 * n, 1600 * n), Config()) for n in (500_000, 5_000_000))
    assert some.memory == more.memory < 4 * 2**30


def test_the_command_of_a_job_names_this_python(samples, tmp_path):
    assert run("batch", samples, tmp_path / "jobs").exit_code == 0
    first = (tmp_path / "jobs/commands.txt").read_text().split()
    assert first[:3] == [sys.executable, "-m", "scdae"] and Path(first[4]).is_absolute()


CLUSTER = Path(__file__).parent.parent / "cluster"


@pytest.mark.skipif(not CLUSTER.is_dir(), reason="the scripts are not here")
@pytest.mark.parametrize(
    ("script", "environment", "words"),
    [
        ("array.slurm", {"SLURM_ARRAY_TASK_ID": "1"}, "impute samples/b.h5ad restored/b.h5ad --skip-existing"),
        ("array.sge", {"SGE_TASK_ID": "2", "NSLOTS": "3"}, "impute samples/b.h5ad restored/b.h5ad --skip-existing"),
        ("apply.slurm", {"SLURM_ARRAY_TASK_ID": "0"}, "apply samples/a.h5ad shared.scdae applied/a.h5ad"),
        ("shared.slurm", {}, "fit samples/*.h5ad shared.scdae --skip-existing"),
        ("nodes.slurm", {}, "fit atlas.h5ad atlas.scdae --distributed --skip-existing"),
        ("array.slurm", {"SLURM_ARRAY_TASK_ID": "7"}, "impute "),
    ],
)
def test_the_scripts_of_the_repository_call_what_there_is(samples, tmp_path, script, environment, words):
    """With commands that say what they were called with; options are those that there are, and no checkpoint stays."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("scdae", 'printf "%s\\n" "$@"; exit ${CODE:-0}'),
        ("srun", 'while [[ $1 == -* ]]; do shift; done; exec "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    environment = os.environ | environment | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", CLUSTER / script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    said = done.stdout.splitlines()
    assert " ".join(said).startswith(words), done
    if environment.get("SLURM_ARRAY_TASK_ID") == "7":
        assert run(*said).exit_code == 1  # INPUT is empty
        return
    import typer

    command = typer.main.get_command(app).commands[said[0]]
    values = command.make_context("scdae", [word for word in said[1:] if word]).params
    assert done.returncode == 0
    kept = values["checkpoint_dir"] if "checkpoint_dir" in values else None
    if kept is None:
        return
    for code, there in (("143", True), ("0", False)):  # they are for a job that is to be started again
        (tmp_path / kept / "300").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["bash", CLUSTER / script], cwd=tmp_path, env=environment | {"CODE": code}, timeout=60)
        assert done.returncode == int(code) and (tmp_path / kept).exists() == there


@pytest.mark.skipif(not CLUSTER.is_dir(), reason="the scripts are not here")
@pytest.mark.parametrize(("script", "number", "code"), [("array.sge", 12, 140), ("array.slurm", 15, 143)])
def test_the_shell_waits_for_a_command_that_is_stopped(samples, tmp_path, script, number, code):
    """Signals reach all processes of a job at once; one that takes a moment to keep a checkpoint must not lose it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        (
            "scdae",
            f"trap 'sleep 0.5; touch stopped; exit {code}' USR2 TERM\ntouch started\nwhile :; do sleep 0.1; done",
        ),
        ("srun", 'while [[ $1 == -* ]]; do shift; done; exec "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "checkpoints/a/300").mkdir(parents=True)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"SGE_TASK_ID": "1", "SLURM_ARRAY_TASK_ID": "0"}
    job = subprocess.Popen(["bash", CLUSTER / script], cwd=tmp_path, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(job.pid, number)
        assert job.wait(60) == code and (tmp_path / "stopped").exists() and (tmp_path / "checkpoints/a/300").exists()
    finally:
        if job.poll() is None:
            os.killpg(job.pid, 9)
            job.wait()
