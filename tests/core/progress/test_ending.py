"""Training that is told to stop keeps what it has, and goes on from there to the bits of a run that was not stopped."""

import signal

import pytest

import scdae
import small
from scdae.core.minibatches.devices import OneDevice
from scdae.core.progress import ending, state
from scdae.core.progress.ending import stopped_well
from scdae.core.runtime import stopping
from scdae.core.runtime.stopping import Stopped

QUICK = {"max_epochs": 7, "batch_size": 64, "n_latent": 10, "likelihood": "nb"}  # 21 steps


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch):
    monkeypatch.setattr(stopping._State, "first", None)
    monkeypatch.setattr(stopping._State, "kept", {})


def fit(**kept):
    small.keep_compiled()
    return small.bits(scdae.DAE(**QUICK).fit(small.structured(), **kept))


def test_a_last_checkpoint_and_the_bits_of_an_unbroken_run(tmp_path, monkeypatch):
    def watch(steps, **options):
        for step in steps:
            if step == 9:  # as the handler does while another step is made
                stopping._note(signal.SIGTERM, None)
            yield step

    monkeypatch.setattr("scdae.model.dae.progress", watch)
    with pytest.raises(Stopped) as stop:
        fit(checkpoint_dir=tmp_path / "kept")
    assert stop.value.code == 143
    words = stopping.stop_words(signal.SIGTERM)
    assert words.startswith("stopped by SIGTERM; the checkpoint of step 8 is kept in ") and "\n" not in words
    monkeypatch.setattr(stopping._State, "first", None)
    monkeypatch.setattr("scdae.model.dae.progress", lambda steps, **options: steps)
    assert fit(checkpoint_dir=tmp_path / "kept") == fit()


def test_where_nothing_is_kept_the_line_says_so():
    assert stopping.stop_words(signal.SIGINT) == "interrupted; nothing was kept"
    stopping.keeping("training", "the first")
    stopping.keeping("training", "the second")
    assert stopping.stop_words(signal.SIGUSR1) == "stopped by SIGUSR1; the second"


def test_a_last_checkpoint_that_cannot_be_written_is_said(tmp_path, monkeypatch, log):
    monkeypatch.setattr(state, "available_memory", lambda: 1000)

    def watch(steps, **options):
        for step in steps:
            if step == 3:
                stopping._State.first = signal.SIGTERM
            yield step

    monkeypatch.setattr("scdae.model.dae.progress", watch)
    with pytest.raises(Stopped):
        fit(checkpoint_dir=tmp_path / "kept")
    assert "a last checkpoint could not be written (it takes" in log.text
    assert stopping.stop_words(signal.SIGTERM) == "stopped by SIGTERM; nothing was kept"


def test_a_step_that_takes_too_long_is_given_up(monkeypatch):
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer")
    monkeypatch.setattr(stopping, "_LATEST", 0.05)
    former = signal.getsignal(signal.SIGALRM)

    def step():
        with stopping.deferring():
            stopping._note(signal.SIGTERM, None)
            signal.pause()

    try:
        with pytest.raises(Stopped):
            step()
        assert stopping.noted() == signal.SIGTERM
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


class Two(OneDevice):
    """A process that hears another's numbers."""

    processes = 2

    def __init__(self, *heard):
        super().__init__()
        self.heard, self.asked = list(heard), 0

    def gather(self, value):
        self.asked += 1
        return [value, (self.heard.pop(0) if self.heard else 0, 1e-9)] if value is not None else [None, None]


def run_of(step=0):
    from types import SimpleNamespace

    return SimpleNamespace(params=[], step=step)


def test_several_processes_stop_when_one_is_told_to(monkeypatch):
    monkeypatch.setattr(ending, "_SECONDS", 0.0)  # a look before every step
    devices = Two(0, 0, signal.SIGUSR1)
    done = []
    with pytest.raises(Stopped) as stop:
        done += iter_into(done, stopped_well(range(10), run_of(), None, devices))
    assert stop.value.number == signal.SIGUSR1 and done == [0, 1]
    assert devices.asked == 4  # three looks, and a last meeting


def iter_into(done, steps):
    for step in steps:
        done.append(step)
    return []


def test_they_look_about_once_a_second(monkeypatch):
    monkeypatch.setattr(ending, "_SECONDS", 100.0)
    devices = Two()
    assert list(stopped_well(range(3000), run_of(), None, devices)) == list(range(3000))
    assert 3000 / ending._MOST <= devices.asked < 3000 / ending._MOST + 10
