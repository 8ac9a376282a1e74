"""Jobs that are told to stop, or killed, in every phase: exit code, what lies in the folder, and how long it took."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGKILL")
PHASES = ("import", "training", "h5ad", "replacing h5ad", "zarr", "lazy zarr", "replacing zarr", "end")


def kills(rounds: int = 1, *, seed: int = 0, names: tuple[str, ...] = SIGNALS, phases: tuple[str, ...] = PHASES) -> int:
    """Print a table of signals and phases, and return how many of the kills left something that is not right."""
    print("\nJobs that are told to stop: exit codes, what was left beside the target, seconds until it ended")
    print(
        f"{'phase':16s}{'signal':9s}{'exit codes':>22s}{'old':>5s}{'new':>5s}{'none':>6s}{'left':>6s}{'wrong':>7s}{'s':>7s}"
    )
    total = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        place = Path(folder)
        _data(place)
        rng = random.Random(seed)
        for phase in phases:
            for name in names:
                found = [kill(place, phase, name, rng) for _ in range(rounds)]
                codes = ", ".join(
                    f"{code}" if n == 1 else f"{code} ({n})" for code, n in Counter(f[0] for f in found).items()
                )
                states = Counter(f[1] for f in found)
                wrong = sum(not f[3] for f in found)
                total += wrong
                print(
                    f"{phase:16s}{name:9s}{codes:>22s}{states['old']:5d}{states['new']:5d}{states['none']:6d}"
                    f"{sum(f[2] for f in found):6d}{wrong:7d}{max(f[4] for f in found):7.2f}",
                    flush=True,
                )
    print(f"{total} wrong of {rounds * len(phases) * len(names)}")
    return total


def kill(place: Path, phase: str, name: str, rng: random.Random) -> tuple[int, str, int, bool, float]:
    """One job and one signal: exit code, what is under the target's name, files left, whether that is right, seconds."""
    import anndata

    out = Path(tempfile.mkdtemp(dir=place))
    target = out / ("o.zarr" if "zarr" in phase else "o.h5ad")
    options = ["--max-epochs", "400" if phase == "training" else "1", "-q"]
    if "lazy" in phase:
        options += ["--results-only"]
    if phase.startswith("replacing"):
        old = anndata.AnnData(shape=(3, 2))
        with warnings.catch_warnings():  # anndata 0.12 has one about the format
            warnings.simplefilter("ignore")
            old.write_zarr(target) if target.suffix == ".zarr" else old.write_h5ad(target)
        options += ["--overwrite"]
    before = set(os.listdir(out))
    source = place / ("small.h5ad" if phase in ("import", "training") else "in.h5ad")
    job = subprocess.Popen(
        [sys.executable, "-m", "scdae", "impute", str(source), str(target), *options],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_default,  # a job in the background has SIGINT ignored
    )
    number = getattr(signal, name)
    with _watched(target) as missed:
        _wait(job, phase, out, before, rng)
        began = time.monotonic()
        job.send_signal(number)
        said = job.communicate(timeout=120)[1]
        spent = time.monotonic() - began
    state, left = _state(target), len(set(os.listdir(out)) - {target.name})
    if name == "SIGKILL":
        right = job.returncode in (-9, 0)
    elif job.returncode == 0:  # it had ended before
        right = state == "new" and left == 0
    else:
        early = phase == "import" and job.returncode == -number  # before Python had begun with it
        right = (job.returncode == 128 + number or early) and left == 0 and "Traceback" not in said
    right = right and state != "broken" and (state != "none" or not phase.startswith("replacing")) and not missed
    if not right:
        missing = f", {len(missed)} looks found nothing under its name" if missed else ""
        print(f"  {phase}, {name}: exit code {job.returncode}, {state}, {os.listdir(out)}{missing}, {said[-300:]!r}")
    shutil.rmtree(out, ignore_errors=True)
    return job.returncode, state, left, right, spent


def _default() -> None:
    for name in SIGNALS[:-1]:
        signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def _wait(job: subprocess.Popen, phase: str, out: Path, before: set[str], rng: random.Random) -> None:
    """Until the phase has begun, and a random part of it."""
    if phase == "import":
        time.sleep(rng.uniform(0.15, 2.0))
    elif phase == "training":
        time.sleep(rng.uniform(3.0, 7.0))
    else:
        for _ in _until(lambda: job.poll() is not None or set(os.listdir(out)) != before):
            pass
        if phase == "end":
            for _ in _until(lambda: job.poll() is not None or (out / "o.h5ad").exists()):
                pass
        time.sleep(rng.uniform(0, 0.15 if "h5ad" in phase or phase == "end" else 0.5))


@contextmanager
def _watched(target: Path) -> Iterator[list[float]]:
    """Times at which nothing was under the target's name, although there had been something."""
    missed: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        seen = False
        while not ended.is_set():
            there = os.path.lexists(target)
            if seen and not there:
                missed.append(time.monotonic())
            seen = seen or there
            time.sleep(0.0005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield missed
    finally:
        ended.set()
        thread.join()


def _until(done) -> Iterator[None]:
    deadline = time.monotonic() + 120
    while not done() and time.monotonic() < deadline:
        yield
        time.sleep(0.002)


def _state(target: Path) -> str:
    """What lies there: the old one, the new one, none, or what cannot be read."""
    import anndata

    if not target.exists():
        return "none"
    try:
        found = anndata.read_zarr(target) if target.suffix == ".zarr" else anndata.read_h5ad(target)
        return "old" if found.n_obs == 3 else "new" if "scdae" in found.layers else "broken"
    except Exception:  # noqa: BLE001 (whatever it is)
        return "broken"


def _data(place: Path) -> None:
    import anndata
    import numpy as np
    import scipy.sparse as sp

    import scdae

    scdae.datasets.simulate(300, 200, seed=0).write_h5ad(place / "small.h5ad")
    counts = np.random.default_rng(0).poisson(0.5, (3000, 1500)).astype(np.float32)
    anndata.AnnData(sp.csr_matrix(counts)).write_h5ad(place / "in.h5ad")


if __name__ == "__main__":
    raise SystemExit(min(kills(int(sys.argv[1]) if len(sys.argv) > 1 else 1), 1))
