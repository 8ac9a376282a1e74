"""Parts by processes that run side by side: one is killed, one is stopped, and both are restored again."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import scdae
import small

SCRIPT = Path(__file__).parents[2] / "cluster" / "parts.slurm"
# Chunks of few rows, so that a part has several; a part that is to be killed or stopped waits after its first.
MAIN = """
import os, sys, time
from pathlib import Path
from scdae.parts import geometry, store
geometry.CHUNK_VALUES = 16 * 60
write = store.Writer.write
def slowly(self, start, block):
    write(self, start, block)
    if os.environ.get("SCDAE_WAITS"):
        Path(os.environ["SCDAE_WAITS"]).touch()
        time.sleep(600)
store.Writer.write = slowly
from scdae.cli import main
main()
"""


@pytest.fixture
def started(tmp_path):
    """Starts a part of INPUT as a task of an array does; what still runs at the end is killed."""
    adata = small.structured()
    del adata.layers["truth"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    small.fitted(likelihood="nb", max_epochs=7).save(tmp_path / "model.scdae")
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "scdae"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/main.py "$@"\n')
    command.chmod(0o755)
    source = str(Path(scdae.__file__).parents[1])
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]),
        "SLURM_ARRAY_TASK_COUNT": "3",
        "SLURM_CPUS_PER_TASK": "1",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled")),
    }
    running = []

    def start(part, **more):
        words = ["bash", str(SCRIPT), "in.h5ad", "model.scdae", "out.zarr"]
        options = {"SLURM_ARRAY_TASK_ID": str(part), "SCDAE_OPTIONS": "--output mean,log1p", **more}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(words, cwd=tmp_path, env={**environment, **options}, **pipes)
        running.append(process)
        return process

    def collect():
        words = ["scdae", "collect", "out.zarr", "--quiet"]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)

    yield start, collect
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for(path, seconds=300):
    latest = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < latest:
        time.sleep(0.05)
    assert path.exists()


@pytest.mark.skipif(not SCRIPT.exists() or sys.platform == "win32", reason="the scripts are not here")
def test_parts_side_by_side_one_killed_and_one_stopped(started, tmp_path):
    start, collect = started
    first = start(1)
    killed = start(2, SCDAE_WAITS=str(tmp_path / "two"))
    stopped = start(3, SCDAE_WAITS=str(tmp_path / "three"))
    wait_for(tmp_path / "two")
    wait_for(tmp_path / "three")
    again = start(2)  # while it is being written
    said, _ = again.communicate()
    assert again.returncode == 75 and "another process is writing part 2" in said
    killed.kill()
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; part 3 of 3 is not there, and the same command restores it" in said
    said, _ = first.communicate()
    assert first.returncode == 0, said
    killed.communicate()
    left = collect()
    assert left.returncode == 75 and "2 of 3 parts of out.zarr are missing: 2-3" in left.stderr
    assert not (tmp_path / "out.zarr").exists()
    assert sorted(path.name for path in (tmp_path / "out.zarr.parts" / "done").iterdir()) == ["1.json"]

    both = [start(2), start(3)]
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    done = collect()
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out.zarr.parts").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = ad.read_zarr(tmp_path / "out.zarr")
    expected = small.fitted(likelihood="nb", max_epochs=7).impute(small.structured(), output=("mean", "log1p"))
    for name, values in zip(("scdae", "scdae_log1p"), expected.values(), strict=True):
        np.testing.assert_array_equal(out.layers[name], values)
    hidden = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert hidden == []
