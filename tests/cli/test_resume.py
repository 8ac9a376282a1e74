"""Jobs that are killed and started again, from the command line."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

import scdae
import small
from scdae.cli import app


@pytest.mark.slow
def test_a_job_that_is_killed_again_and_again(tmp_path):
    """SIGKILL at random moments, until it ends in spite of them."""
    adata, rng = small.structured(), np.random.default_rng()
    adata.write_h5ad(tmp_path / "in.h5ad")
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}  # a kill may leave half a program there

    def start(target, *options):
        words = ["fit", tmp_path / "in.h5ad", tmp_path / target, "--max-epochs", "25", "--quiet", *options]
        with (tmp_path / "said").open("w") as said:
            return subprocess.Popen([sys.executable, "-m", "scdae", *map(str, words)], stderr=said, env=env)

    assert start("first.scdae").wait(120) == 0, (tmp_path / "said").read_text()  # compiles
    began = time.monotonic()
    whole = start("whole.scdae")
    assert whole.wait(120) == 0, (tmp_path / "said").read_text()
    seconds, kills = time.monotonic() - began, 0
    while not (tmp_path / "pieces.scdae").exists():
        job = start("pieces.scdae", "--checkpoint-dir", tmp_path / "kept", "--checkpoint-every", "1")
        try:
            code = job.wait(120 if time.monotonic() - began > 30 else rng.uniform(0.5, 1.1) * seconds)
            assert code == 0, (tmp_path / "said").read_text()
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.wait()
            kills += 1
    models = [scdae.DAE.load(tmp_path / name) for name in ("whole.scdae", "pieces.scdae")]
    assert small.bits(models[0]) == small.bits(models[1])
    assert kills > 0 or seconds > 20
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_resume_insists(tmp_path):
    small.structured().write_h5ad(tmp_path / "in.h5ad")
    files = [str(tmp_path / "in.h5ad"), str(tmp_path / "out.scdae")]
    for words, said in [
        (["--resume"], "--resume needs the folder"),
        (["--resume", "--checkpoint-dir", str(tmp_path / "no")], "no has no checkpoint"),
        (["--checkpoint-every", "3"], "Pass --checkpoint-dir DIR as well"),
    ]:
        result = CliRunner().invoke(app, ["fit", *files, *words])
        assert result.exit_code == 1 and said in result.stderr, result.stderr
    kept = ["--checkpoint-dir", str(tmp_path / "kept"), "--max-epochs", "2", "--likelihood", "nb"]
    assert CliRunner().invoke(app, ["fit", *files, *kept]).exit_code == 0
    assert CliRunner().invoke(app, ["fit", *files, *kept, "--resume", "--overwrite"]).exit_code == 0
    assert sorted(part.name for part in (tmp_path / "kept").iterdir()) == ["1", "in-use.lock"]
