"""Several devices, and several processes, train the network that one trains."""

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest
from flax import nnx

import scdae
import small
from scdae.core.minibatches import microbatches
from scdae.core.minibatches.devices import OneDevice, devices_for

SIMULATED = {"n_types": 3, "trajectory": False, "depth": 800, "dropout": 0.2, "batch_effect": 0.4, "dispersion": 0.1}


def outcome_on(devices, adata, settings, data):
    """All that a fit on these devices is, by name, and what it restores."""
    model = scdae.DAE(max_epochs=14, **settings).fit(adata, devices=devices, **data)
    fitted, history = model.outcome.fitted, model.outcome.history
    values = {name: np.asarray(value) for name, value in nnx.to_pure_dict(fitted.params).items()}
    for name in ("logit_pi", "log_theta_zi"):  # those of other genes are not used
        values[name] = values[name][fitted.inflated]
    for name in ("logit_pi", "log_theta_zi", "log_theta"):  # logarithms of what hardly matters where it is large
        values[name] = values[name] / 10
    values["looks"] = np.array(history["loss"] + history["heldout_loglik"])
    return fitted.inflated, values | {"restored": np.log1p(model.impute(adata, mask=data.get("mask")))}


@pytest.mark.trains
@pytest.mark.parametrize("gaps", [False, True], ids=["batches", "gaps"])
def test_two_devices_train_the_same_network(gaps, monkeypatch):
    """Each takes its cells in parts; minibatches of 51 cells they cannot share evenly."""
    adata = scdae.datasets.simulate(150, 60, seed=1, **SIMULATED)
    monkeypatch.setattr(microbatches, "_VALUES", 9 * adata.n_vars)
    settings, data = {"batch_size": 51}, {"batch_key": "batch"}
    if gaps:
        settings = {"batch_size": 50, "likelihood": "nb", "corruption": "masking"}
        data = {"mask": np.random.default_rng(0).random(adata.shape) < 0.9}
    (inflated, one), (_, two) = (outcome_on(devices, adata, settings, data) for devices in (None, "all"))
    assert len(jax.devices()) == 2 and inflated.any() == (not gaps)
    assert np.abs(one["loading"]).max() > 0
    apart = 1e-4 if gaps else 1e-3
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=0, atol=apart, err_msg=name)


def test_numbers_of_devices():
    assert isinstance(devices_for(None), OneDevice) and isinstance(devices_for(1), OneDevice)
    for devices in (0, -1, True, 1.5, "many"):
        with pytest.raises(ValueError, match=f"devices={devices!r}: use a number of devices"):
            scdae.DAE().fit(small.structured(), devices=devices)
        with pytest.raises(ValueError, match=f"devices={devices!r}: use a number of devices"):
            scdae.pp.impute(small.structured(), devices=devices)
    with pytest.raises(ValueError, match="devices=100: JAX has .* here.*Use at most these"):
        scdae.DAE().fit(small.structured(), devices=100)


@contextmanager
def jobs_in(folder):
    """Starts the processes of a job; those that are left are killed in the end."""
    small.structured().write_h5ad(folder / "in.h5ad")
    jobs = []

    def start_all(*options, number=2, program=("-m", "scdae")):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = f"127.0.0.1:{free.getsockname()[1]}"
        for i in range(number):
            where = ["--distributed", "--coordinator", meeting, "--num-processes", number, "--process-id", i]
            words = ["fit", folder / "in.h5ad", folder / "out.scdae", *options, *where]
            with (folder / f"said{i}").open("w") as said:
                command = [sys.executable, *program, *map(str, words)]
                jobs.append(subprocess.Popen(command, stdout=said, stderr=said))
        return jobs

    try:
        yield start_all
    finally:
        for job in jobs:
            job.kill()
            job.wait()


@pytest.fixture
def start(tmp_path):
    with jobs_in(tmp_path) as start_all:
        yield start_all


_STREAM = """
import scdae
from scdae.matrices import rows as containers
from scdae.core.minibatches import loader as source
from scdae.core.data.survey import Survey

def read_by_blocks(patch, devices):
    plain, add, read, looked = source.Stream._read, Survey.add, [], []

    def of_step(self, steps):
        read.extend(steps.ravel().tolist())
        return plain(self, steps)

    def of_pass(self, block, unobserved, first):
        looked.extend(range(first, first + block.shape[0]))
        return add(self, block, unobserved, first)

    patch(source, "_CELLS", (64, 64))
    patch(scdae.settings, "_max_entries", 2000)
    patch(containers, "BLOCK_VALUES", 1500)
    patch(source.Stream, "_read", of_step)
    patch(Survey, "add", of_pass)
    adata = scdae.datasets.simulate(n_cells=300, n_genes=60, seed=0)
    outcome = scdae.DAE(max_epochs=4, batch_size=52, likelihood="nb").fit(adata, devices=devices).outcome
    return {"read": read, "looked": looked, "loglik": outcome.history["heldout_loglik"]}
"""
_JOB = f"""{_STREAM}
import json, sys
import jax
from scdae.cli import app
app(sys.argv[1:], standalone_mode=False)
print(json.dumps(read_by_blocks(setattr, "all")))
jax.distributed.shutdown()
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folder of a job of two processes: a network trained by the command line, and then one on counts read by blocks."""
    folder = tmp_path_factory.mktemp("both")
    with jobs_in(folder) as start:
        jobs = start("--max-epochs", "10", "--batch-key", "batch", program=("-c", _JOB))
        codes = [job.wait(300) for job in jobs]
    assert codes == [0, 0], [(folder / f"said{i}").read_text() for i in range(2)]
    return folder


def test_two_processes_train_the_same_network_and_one_writes_it(both):
    said = [(both / f"said{i}").read_text() for i in range(2)]
    assert "fitted a model" in said[0] and "fitted a model" not in said[1]
    adata = small.structured()
    one, two = scdae.DAE(max_epochs=10).fit(adata, batch_key="batch"), scdae.DAE.load(both / "out.scdae")
    values = [nnx.to_pure_dict(model.outcome.fitted.params) for model in (one, two)]
    np.testing.assert_array_equal(one.outcome.fitted.inflated, two.outcome.fitted.inflated)
    used = set(values[0]) - {"logit_pi", "log_theta_zi", "log_theta"}
    assert np.abs(values[0]["loading"]).max() > 0
    for name in used:
        np.testing.assert_allclose(values[0][name], values[1][name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(values[0]["log_theta"], values[1]["log_theta"], atol=1e-3)
    np.testing.assert_allclose(np.log1p(one.impute(adata)), np.log1p(two.impute(adata)), atol=1e-4)


def test_each_process_reads_its_share_of_a_file(both, monkeypatch):
    names = {}
    exec(_STREAM, names)
    alone = names["read_by_blocks"](monkeypatch.setattr, None)
    first, second = (json.loads((both / f"said{i}").read_text().splitlines()[-1]) for i in range(2))
    assert len(first["read"]) == len(second["read"]) == len(alone["read"]) / 2
    assert sorted(first["read"] + second["read"]) == sorted(alone["read"])
    assert sorted(first["looked"] + second["looked"]) == alone["looked"] == list(range(300))
    assert min(len(first["looked"]), len(second["looked"])) > 100
    assert first["loglik"] == second["loglik"]
    np.testing.assert_allclose(first["loglik"], alone["loglik"], atol=0.02)


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on(start, tmp_path):
    """The second knows nothing of the folder, and hears from the first where they were."""
    options = [
        "--max-epochs",
        "10",
        "--likelihood",
        "nb",
        "--checkpoint-dir",
        tmp_path / "kept",
        "--checkpoint-every",
        "1",
    ]
    jobs, deadline = start(*options), time.monotonic() + 120
    while not (tmp_path / "kept" / "3").exists():
        assert time.monotonic() < deadline and jobs[0].poll() is None
        time.sleep(0.02)
    for job in jobs:
        job.send_signal(signal.SIGKILL)
        job.wait()
    assert not (tmp_path / "out.scdae").exists()
    again = start(*options, "--resume", "--verbose")[-2:]
    assert [job.wait(200) for job in again] == [0, 0], (tmp_path / "said0").read_text()
    assert "going on after step" in (tmp_path / "said0").read_text()
    one, two = scdae.DAE(max_epochs=10, likelihood="nb").fit(small.structured()), scdae.DAE.load(tmp_path / "out.scdae")
    values = [nnx.to_pure_dict(model.outcome.fitted.params) for model in (one, two)]
    for name in values[0]:
        apart = 1e-3 if name == "log_theta" else 1e-4  # as in the test of two processes
        np.testing.assert_allclose(values[0][name], values[1][name], atol=apart, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_dies_the_other_ends_and_nothing_is_written(start, tmp_path, victim):
    jobs = start("--max-epochs", "20000", "--likelihood", "nb")
    deadline = time.monotonic() + 120
    while "Gloo" not in (tmp_path / f"said{victim}").read_text():  # they have met
        assert time.monotonic() < deadline and jobs[victim].poll() is None
        time.sleep(0.2)
    time.sleep(np.random.default_rng().uniform(0, 3))
    jobs[victim].send_signal(signal.SIGKILL)
    assert jobs[1 - victim].wait(100) != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5ad", "said0", "said1"]
