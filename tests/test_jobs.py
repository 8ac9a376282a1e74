"""Jobs from the command line when something goes wrong around them: signals, pipes, disks, names."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from typer.testing import CliRunner

import scdae
import small
from scdae.cli import app
from scdae.cli.shared.common import say
from scdae.core.progress.checkpoints import InUse
from scdae.core.runtime import platforms
from scdae.files import room
from scdae.files.room import NoRoom
from scdae.files.targets import WriteError
from scdae.io.write import write_atomic
from scdae.matrices import csc_rows as scratch

SOURCE = Path(scdae.__file__).parent


@pytest.fixture
def counts(tmp_path):
    small.structured().write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


_SWALLOWED = """
import gc, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored, and nohup the next
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sent = []

def callback(phase, info):
    if {module!r} in sys.modules and not sent:
        sent.append(1)
        os.kill(os.getpid(), {number})
        for _ in range(1000):
            pass

gc.callbacks.append(callback)
from scdae.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "module"),
    [(signal.SIGINT, "jax.numpy"), (signal.SIGTERM, "anndata"), (signal.SIGXCPU, "scdae.io.write")],
)
def test_a_signal_that_is_swallowed_or_comes_during_imports_is_not_lost(counts, tmp_path, number, module):
    script = _SWALLOWED.format(module=module, number=int(number))
    words = ["impute", counts, tmp_path / "out.h5ad", "--max-epochs", 2, "-q"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert os.listdir(tmp_path) == ["in.h5ad"]


def test_output_that_is_input_is_refused_where_the_results_alone_are_written(counts, tmp_path, monkeypatch):
    (tmp_path / "link.h5ad").symlink_to(counts)
    os.link(counts, tmp_path / "hard.h5ad")
    genes = tmp_path / "genes.txt"
    genes.write_text("gene_1\n")
    for target, options in (
        (counts, ["--results-only"]),
        (tmp_path / "link.h5ad", ["--genes", genes]),
        (tmp_path / "hard.h5ad", ["--dtype", "float16"]),
    ):
        result = run("impute", counts, target, "--overwrite", *options)
        assert result.exit_code == 1 and "is INPUT, and the results are written alone" in result.stderr, result.stderr
    monkeypatch.setattr(scdae.settings, "_max_entries", 100)
    assert "is INPUT" in run("impute", counts, counts, "--overwrite").stderr
    assert ad.read_h5ad(counts).X.nnz > 0


def test_a_folder_that_is_no_store_is_not_replaced(counts, tmp_path):
    (tmp_path / "results.zarr" / "thesis").mkdir(parents=True)
    result = run("impute", counts, tmp_path / "results.zarr", "--overwrite")
    assert result.exit_code == 1 and "no zarr store, so it is not replaced" in result.stderr
    assert (tmp_path / "results.zarr" / "thesis").is_dir()


def test_room_is_looked_at_before_training(counts, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda folder: 5000)
    for words in (["impute", counts, tmp_path / "o.h5ad"], ["impute", counts, tmp_path / "o.zarr", "--results-only"]):
        result = run(*words)
        assert result.exit_code == 75 and result.stderr.startswith(f"error: {words[2]}: about"), result.stderr
        assert "5 kB are free there" in result.stderr and result.stderr.count("\n") == 1


def test_a_model_that_came_in_the_meantime_is_left(counts, tmp_path, monkeypatch):
    fitted = small.fitted(likelihood="nb")

    def fit(self, adata, **options):
        (tmp_path / "m.scdae").write_text("theirs")
        return fitted

    monkeypatch.setattr(scdae.DAE, "fit", fit)
    result = run("fit", counts, tmp_path / "m.scdae", "-q")
    assert result.exit_code == 1 and "in the meantime" in result.stderr and "pass --overwrite" in result.stderr
    assert (tmp_path / "m.scdae").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == ["in.h5ad", "m.scdae"]
    assert run("fit", counts, tmp_path / "m.scdae", "-q", "--overwrite").exit_code == 0


def test_home_is_the_home_folder_in_all_paths(counts, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    small.fitted(likelihood="nb").save(tmp_path / "m.scdae")
    (tmp_path / "genes.txt").write_text("gene_1\n")
    words = ["apply", "~/in.h5ad", "~/m.scdae", "~/out.h5ad", "--genes", "~/genes.txt", "--json", "~/r.json", "-q"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out.h5ad").exists() and (tmp_path / "r.json").exists()


def test_a_name_that_hdf5_cannot_have(counts, tmp_path):
    result = run("impute", counts, tmp_path / "o.h5ad", "--key-added", ".")
    assert result.exit_code == 1 and "--key-added ." in result.stderr and not (tmp_path / "o.h5ad").exists()


def test_a_page_that_nobody_reads_is_no_error(monkeypatch):
    def broken(text):
        raise BrokenPipeError(32, "Broken pipe")

    moved = []
    monkeypatch.setattr("typer.echo", broken)
    monkeypatch.setattr(os, "dup2", lambda *files: moved.append(files))
    say("page")
    assert moved[0][1] == 1
    os.close(moved[0][0])


def test_no_message_calls_anything_unexpected(counts, tmp_path, monkeypatch):
    for path in SOURCE.rglob("*.py"):
        assert not re.search(r"[\"']unexpected", path.read_text(encoding="utf-8")), path
    shutil.copy(counts, tmp_path / "cut.h5ad")
    os.truncate(tmp_path / "cut.h5ad", 5000)
    write_atomic(small.structured(), tmp_path / "bad.zarr")
    for path in (tmp_path / "bad.zarr").rglob("*"):
        if path.is_file() and "indptr" in str(path) and path.name not in (".zarray", ".zattrs", "zarr.json"):
            path.write_bytes(b"no")
    (tmp_path / "genes.txt").write_text("not_here\n")
    out = tmp_path / "o.h5ad"
    faults = [
        ["impute", tmp_path / "cut.h5ad", out],
        ["impute", tmp_path / "bad.zarr", out],
        ["impute", tmp_path, out],
        ["impute", counts, out, "--layer", "no"],
        ["impute", counts, out, "--mask-layer", "no"],
        ["impute", counts, out, "--batch-key", "no"],
        ["impute", counts, out, "--quantile", "2"],
        ["impute", counts, out, "--genes", tmp_path / "genes.txt"],
        ["impute", counts, out, "--genes", tmp_path / "no.txt"],
        ["apply", counts, counts, out],
        ["score", counts, tmp_path / "s.csv", "--normal", "no"],
        ["fit", counts, tmp_path / "m.scdae", "--reference", counts],
        ["evaluate", counts, "--fraction", "3"],
        ["impute", counts, tmp_path / "no" / "o.h5ad"],
    ]
    for words in faults:
        result = run(*words)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1, (words, result.stderr)
        assert result.stderr.startswith("error: ") and "unexpected" not in result.stderr, (words, result.stderr)
        assert "does not know why" not in result.stderr, (words, result.stderr)
    assert not out.exists()


def test_a_platform_that_is_not_here_is_named_with_those_that_are(counts, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(platforms.jax, "devices", fails)
    monkeypatch.setattr(platforms, "_platforms", lambda: ["cpu"])
    for words in (["info"], ["impute", counts, tmp_path / "o.h5ad"], ["apply", counts, counts, tmp_path / "o.h5ad"]):
        result = run(*words)
        assert result.exit_code == 1 and result.stderr.startswith("error: JAX_PLATFORMS='cuda': "), result.stderr
        assert "Platforms here: cpu" in result.stderr


def test_a_forked_process_is_told_to_be_spawned(monkeypatch):
    model = small.fitted(likelihood="nb")
    posterior = model.posterior(small.structured(), genes=["gene_1"], cells=[0])
    assert platforms._Started.here
    monkeypatch.setattr(platforms._Started, "in_parent", False)
    platforms._forked()
    assert platforms._Started.in_parent
    for call in (
        lambda: model.impute(small.structured()),
        lambda: scdae.pp.impute(small.structured()),
        lambda: scdae.DAE().fit(small.structured()),
        lambda: scdae.tl.evaluate(small.structured()),
        lambda: scdae.tl.noise_sweep(small.structured()),
        lambda: posterior.quantile(0.5),
    ):
        with pytest.raises(RuntimeError, match="forked.*spawn"):
            call()


def test_no_room_for_the_copy_by_rows(tmp_path, monkeypatch):
    import scipy.sparse as sp

    adata = small.structured()
    adata.X = sp.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "in.h5ad")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    job = subprocess.Popen([sys.executable, "-c", ""])
    job.wait()
    (temporary / f"scdae-{scratch.this_machine()}-{job.pid}-abc").mkdir()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(temporary))

    def full(path, size, shown):
        raise NoRoom("full")

    backed = ad.read_h5ad(tmp_path / "in.h5ad", backed="r")
    monkeypatch.setattr(scratch, "reserve", full)
    with pytest.raises(OSError, match=r"needs [\d.]+ kB in the folder for temporary files, .*tmp, where .* Set TMPDIR"):
        scratch.RowMajorCopy(backed.X)
    assert list(temporary.iterdir()) == [], "that of a dead process goes as well"
    monkeypatch.undo()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(temporary))
    copy = scratch.RowMajorCopy(backed.X)
    np.testing.assert_array_equal(copy[3:9].toarray(), adata.X[3:9].toarray())
    del copy
    assert list(temporary.iterdir()) == []
    backed.file.close()


def test_results_that_are_there_are_skipped(counts, tmp_path, monkeypatch):
    fitted = small.fitted(likelihood="nb")
    fitted.save(tmp_path / "m.scdae")
    assert run("apply", counts, tmp_path / "m.scdae", tmp_path / "o.h5ad", "-q").exit_code == 0
    monkeypatch.setattr(scdae.DAE, "fit", None)  # whoever trains or restores fails
    monkeypatch.setattr("scdae.pp.impute", None)
    (tmp_path / "s.csv").write_text("")
    for words in (
        ["apply", counts, tmp_path / "m.scdae", tmp_path / "o.h5ad"],
        ["impute", counts, tmp_path / "o.h5ad"],
        ["fit", counts, tmp_path / "m.scdae"],
        ["score", counts, tmp_path / "s.csv"],
    ):
        assert run(*words).exit_code == 1, words
        result = run(*words, "--skip-existing")
        assert result.exit_code == 0 and result.stdout == f"{words[-1]} exists: skipped\n", (words, result.output)
        assert run(*words, "--skip-existing", "-q").output == ""
        both = run(*words, "--skip-existing", "--overwrite")
        assert both.exit_code == 2 and "exclude each other" in both.output
    result = run("fit", counts, tmp_path / "m.scdae", "--skip-existing", "--json", tmp_path / "m.json")
    assert result.exit_code == 0 and '"n_obs": 150' in (tmp_path / "m.json").read_text(), result.output
    result = run("impute", counts, tmp_path / "o.h5ad", "--skip-existing", "--json", "-")
    assert result.exit_code == 0 and '"skipped": true' in result.stdout and '"skill"' in result.stdout


def test_a_result_that_came_in_the_meantime_is_skipped_too(counts, tmp_path, monkeypatch):
    def fit(self, adata, **options):
        (tmp_path / "m.scdae").write_text("theirs")
        return small.fitted(likelihood="nb")

    monkeypatch.setattr(scdae.DAE, "fit", fit)
    monkeypatch.setattr("scdae.cli._model.report_of_model", lambda source, target: {})
    result = run("fit", counts, tmp_path / "m.scdae", "--skip-existing")
    assert result.exit_code == 0 and "was made by another job in the meantime: skipped" in result.stdout, result.output
    assert (tmp_path / "m.scdae").read_text() == "theirs"


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, words in (
        ("INPUT", ["impute", "", "o.h5ad"]),
        ("INPUT", ["fit", "", "m.scdae"]),
        ("INPUT", ["apply", " ", "m.scdae", "o.h5ad"]),
        ("INPUT", ["evaluate", ""]),
        ("--checkpoint-dir", ["fit", "a.h5ad", "m.scdae", "--checkpoint-dir", ""]),
        ("JOBS", ["gather", "", "table.csv"]),
        ("JOBS", ["batch", "samples", " "]),
    ):
        result = run(*words)
        assert result.exit_code == 1 and result.stderr.startswith(f"error: {name} is empty"), result.output
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError("no"), 75),
        (OSError(28, "No space left on device"), 75),
        (OSError(116, "Stale file handle"), 75),
        (NoRoom("full"), 75),
        (InUse("another job is using this folder"), 75),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes"), 75),
        (FileNotFoundError(2, "No such file"), 1),
        (PermissionError(13, "Permission denied"), 1),
        (ValueError("no counts"), 1),
        (KeyError("odd"), 1),
    ],
)
def test_codes_say_whether_another_try_may_do(counts, tmp_path, monkeypatch, error, code):
    def fails(adata, **options):
        try:
            raise error
        except Exception as cause:
            if isinstance(error, OSError):
                raise WriteError("o.h5ad could not be written") from cause
            raise

    monkeypatch.setattr("scdae.pp.impute", fails)
    result = run("impute", counts, tmp_path / "o.h5ad")
    assert result.exit_code == code and result.stderr.count("\n") == 1, result.output
    table = (Path(__file__).parent.parent / "docs/hpc.md").read_text(encoding="utf-8")
    assert f"\n| {code} |" in table


def test_a_process_that_was_left_alone_says_so(counts, tmp_path, monkeypatch):
    import jax

    def fails(adata, **options):
        raise RuntimeError("UNKNOWN: Gloo all-reduce failed: [pair.cc:547] Connection closed by peer [127.0.0.1]:2000")

    monkeypatch.setattr("scdae.pp.impute", fails)
    result = run("impute", counts, tmp_path / "o.h5ad")
    assert result.exit_code == 1 and "does not know why" in result.stderr
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    result = run("impute", counts, tmp_path / "o.h5ad")
    assert result.exit_code == 75 and result.stderr.startswith("error: another process of this job has ended")


def test_a_slurm_job_without_a_step_is_told_to_use_srun(counts, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    monkeypatch.setattr("os._exit", lambda code: None)
    result = run("fit", counts, tmp_path / "m.scdae", "--distributed")
    assert result.exit_code == 1 and "Start it with srun" in result.stderr, result.output


def test_a_file_too_large_for_the_job_stays_on_disk(counts, monkeypatch, log):
    from scdae.cli.shared.data import open_source
    from scdae.core.runtime import memory

    assert not open_source(counts, None, None, None).large
    monkeypatch.setattr(memory, "_of_groups", lambda: [memory.Memory(10**4, 10**5, "control group job_7")])
    opened = open_source(counts, None, None, None)
    assert opened.large and "this job has 0.0 GiB of memory (control group job_7)" in log.text
    opened.adata.file.close()


def test_threads_of_a_lazy_layer_go_by_memory(monkeypatch):
    from scdae.matrices import chunk_sizes

    monkeypatch.setattr(chunk_sizes, "usable_cores", lambda: 16)
    for free, number in ((None, 16), (2**40, 16), (2**31, 3), (2**20, 1)):
        monkeypatch.setattr(chunk_sizes, "available_memory", lambda free=free: free)
        assert chunk_sizes.chunks_at_once() == number
