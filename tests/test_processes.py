"""Several devices, and several processes, train the network that one trains."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

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
    model = scdae.DAE(max_epochs=40, **settings).fit(adata, devices=devices, **data)
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
        with pytest.raises(ValueError, match=f"devices={devices!r}: use a (number of devices|whole number)"):
            scdae.DAE().fit(small.structured(), devices=devices)
        with pytest.raises(ValueError, match=f"devices={devices!r}: use a (number of devices|whole number)"):
            scdae.pp.impute(small.structured(), devices=devices)
    with pytest.raises(ValueError, match="devices=100: JAX has .* here.*Use at most these"):
        scdae.DAE().fit(small.structured(), devices=100)


@pytest.fixture
def start(tmp_path):
    """Starts the processes of a job; those that are left are killed in the end."""
    small.structured().write_h5ad(tmp_path / "in.h5ad")
    jobs = []

    def start_all(*options, number=2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = f"127.0.0.1:{free.getsockname()[1]}"
        for i in range(number):
            where = ["--distributed", "--coordinator", meeting, "--num-processes", number, "--process-id", i]
            words = ["fit", tmp_path / "in.h5ad", tmp_path / "out.scdae", *options, *where]
            with (tmp_path / f"said{i}").open("w") as said:
                command = [sys.executable, "-m", "scdae", *map(str, words)]
                jobs.append(subprocess.Popen(command, stdout=said, stderr=said))
        return jobs

    yield start_all
    for job in jobs:
        job.kill()
        job.wait()


def test_two_processes_train_the_same_network_and_one_writes_it(start, tmp_path):
    options = ["--max-epochs", "40", "--batch-key", "batch"]
    codes = [job.wait(300) for job in start(*options)]
    said = [(tmp_path / f"said{i}").read_text() for i in range(2)]
    assert codes == [0, 0], said
    assert "fitted a model" in said[0] and "fitted a model" not in said[1]
    adata = small.structured()
    one, two = scdae.DAE(max_epochs=40).fit(adata, batch_key="batch"), scdae.DAE.load(tmp_path / "out.scdae")
    values = [nnx.to_pure_dict(model.outcome.fitted.params) for model in (one, two)]
    np.testing.assert_array_equal(one.outcome.fitted.inflated, two.outcome.fitted.inflated)
    used = set(values[0]) - {"logit_pi", "log_theta_zi", "log_theta"}
    assert np.abs(values[0]["loading"]).max() > 0
    for name in used:
        np.testing.assert_allclose(values[0][name], values[1][name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(values[0]["log_theta"], values[1]["log_theta"], atol=1e-3)
    np.testing.assert_allclose(np.log1p(one.impute(adata)), np.log1p(two.impute(adata)), atol=1e-4)


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


_STREAM = """
import json, sys
import jax
import scdae
from scdae.matrices import rows as containers
from scdae.core.minibatches import loader as source
from scdae.core.data.survey import Survey

where, number, this = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if number > 1:
    jax.distributed.initialize(where, number, this)
source._CELLS, scdae.settings._max_entries = (64, 64), 2000
plain, read = source.Stream._read, []

def of_step(self, steps):
    read.extend(steps.ravel().tolist())
    return plain(self, steps)

source.Stream._read = of_step
containers.BLOCK_VALUES, looked, add = 1500, [], Survey.add

def of_pass(self, block, unobserved, first):
    looked.extend(range(first, first + block.shape[0]))
    return add(self, block, unobserved, first)

Survey.add = of_pass
adata = scdae.datasets.simulate(n_cells=300, n_genes=60, seed=0)
outcome = scdae.DAE(max_epochs=4, batch_size=50, likelihood="nb").fit(adata, devices="all").outcome
print(json.dumps({"read": read, "looked": looked, "loglik": outcome.history["heldout_loglik"], "skill": outcome.report.skill}))
if number > 1:
    jax.distributed.shutdown()
"""


def test_each_process_reads_its_share_of_a_file():
    def train(number):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{free.getsockname()[1]}"
        words = [[sys.executable, "-c", _STREAM, where, str(number), str(i)] for i in range(number)]
        env = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        jobs = [subprocess.Popen(word, env=env, **pipes) for word in words]
        try:
            said = [job.communicate(timeout=200) for job in jobs]
        finally:
            for job in jobs:
                job.kill()
        assert [job.returncode for job in jobs] == [0] * number, said
        return [json.loads(out.splitlines()[-1]) for out, _ in said]

    (alone,), (first, second) = train(1), train(2)
    assert len(first["read"]) == len(second["read"]) == len(alone["read"]) / 2
    assert sorted(first["read"] + second["read"]) == sorted(alone["read"])
    assert sorted(first["looked"] + second["looked"]) == alone["looked"] == list(range(300))
    assert min(len(first["looked"]), len(second["looked"])) > 100
    assert first["loglik"] == second["loglik"]
    np.testing.assert_allclose(first["loglik"], alone["loglik"], atol=0.02)


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
