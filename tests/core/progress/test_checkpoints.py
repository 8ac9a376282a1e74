import functools
import json
import os
import shutil

import numpy as np
import pytest

import scdae
import small
from scdae.core.evaluation.zero_inflation import candidates
from scdae.core.minibatches import loader as source
from scdae.core.progress import checkpoints as module
from scdae.core.progress.checkpoints import open_checkpoints
from scdae.core.training import loop as training

QUICK = {"max_epochs": 7, "batch_size": 64, "n_latent": 10}  # 21 steps, genes are screened after 11
STEPS = 21


class Killed(Exception):
    pass


@pytest.fixture
def kill_after(monkeypatch):
    """Makes a training end, without any notice, when it is about to make the step after the given one."""

    def set_step(last):
        monkeypatch.setattr("scdae.model.dae.progress", functools.partial(killed_after, last=last))

    return set_step


def killed_after(steps, last, **options):
    for step in steps:
        if last is not None and step > last:
            raise Killed
        yield step


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Gives a copy of the folder of a run that was killed after a step; each run is made once."""

    @functools.cache
    def original(step):
        folder = tmp_path_factory.mktemp("killed")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scdae.model.dae.progress", functools.partial(killed_after, last=step))
            with pytest.raises(Killed):
                fit(folder)
        return folder

    return lambda step, folder: shutil.copytree(original(step), folder, dirs_exist_ok=True)


@pytest.fixture
def screened(monkeypatch):
    """Dropout is found in some genes, whatever the data say, and the last network is the best."""

    found = []

    def find(graph, params, held_out, seed):
        genes = np.arange(held_out.data.n_vars)
        found.append((candidates(held_out.data.counts) > 0) & (genes % 3 == 0))
        return params, found[-1]

    monkeypatch.setattr(training, "find_dropout", find)
    monkeypatch.setattr(training.HeldOut, "log_likelihood", lambda self, graph, params, *args: size_of(params))
    return found


def size_of(params):
    """Grows while a network is trained."""
    return float(np.abs(np.asarray(params["loading"][...])).sum())


def fit(folder=None, every=3, adata=None, fit=None, **options):
    names = ("batch_key", "covariates", "mask")
    data = {name: options.pop(name) for name in names if name in options}
    kept = {} if folder is None else {"checkpoint_dir": folder, "checkpoint_every": every}
    return scdae.DAE(**{**QUICK, **options}).fit(small.structured() if adata is None else adata, **data, **kept)


@functools.cache
def whole_fit(**options):
    """The model of a run that nothing interrupts, as bytes."""
    return small.bits(fit(**options))


@functools.cache
def whole_screened_fit():
    """The same where dropout is found; for tests with the fixture `screened`."""
    return small.bits(fit())


def interrupted(kill_after, stops, folder, run=fit, **options):
    """The model of a run that is killed after each of these steps."""
    for step in stops:
        kill_after(step)
        with pytest.raises(Killed):
            run(folder, **options)
    kill_after(None)
    return run(folder, **options)


@pytest.mark.parametrize("stops", [[0], [2, 10], [11], [12, 12, 20]], ids=str)
def test_a_run_that_was_killed_ends_with_the_same_bits(kill_after, tmp_path, stops, screened):
    found = small.bits(interrupted(kill_after, stops, tmp_path / "kept", every=3 if stops != [11] else 1))
    assert screened[0].any()
    assert found == whole_screened_fit()


@pytest.mark.parametrize(
    "options",
    [
        {"likelihood": "poisson", "corruption": "gaussian"},
        {"batch_key": "batch", "likelihood": "nb"},
        {
            "mask": np.random.default_rng(0).random((small.N_OBS, small.N_VARS)) < 0.9,
            "corruption": "masking",
            "likelihood": "nb",
        },
    ],
    ids=["poisson", "batches", "mask"],
)
def test_whatever_the_model_is(kill_after, tmp_path, options):
    assert small.bits(interrupted(kill_after, [12], tmp_path, **options)) == small.bits(fit(**options))


@pytest.mark.usefixtures("screened")
@pytest.mark.parametrize("cells", [(1, 100), (1024, 2**16)], ids=["windows", "one window"])
def test_counts_that_are_read_by_blocks(kill_after, tmp_path, monkeypatch, cells):
    monkeypatch.setattr(source, "_CELLS", cells)
    monkeypatch.setattr(source, "_ENTRIES", 100)
    monkeypatch.setattr(scdae.settings, "_max_entries", 2000)
    whole = small.bits(fit())
    assert small.bits(interrupted(kill_after, [7, 14], tmp_path, every=1)) == whole


def test_a_model_that_goes_on_to_other_data(kill_after, tmp_path):
    reference, adata = small.fitted(likelihood="nb"), small.structured()[:100].copy()

    def adapt(folder=None, every=None):
        return reference.adapt(adata, max_epochs=9, checkpoint_dir=folder, checkpoint_every=every)

    assert small.bits(interrupted(kill_after, [5], tmp_path, adapt, every=2)) == small.bits(adapt())


def test_a_run_that_stops_early_stops_at_the_same_step(kill_after, tmp_path, monkeypatch):
    monkeypatch.setattr(training.HeldOut, "log_likelihood", lambda self, graph, params, *args: -size_of(params))
    whole = fit(likelihood="nb")
    assert whole.outcome.stopped_early
    found = interrupted(kill_after, [8, 11], tmp_path, every=1, likelihood="nb")
    assert small.bits(found) == small.bits(whole)
    assert small.bits(fit(tmp_path, every=1, likelihood="nb")) == small.bits(whole)


def test_a_run_that_is_finished_is_not_trained_again(kill_after, tmp_path, log):
    whole = fit(tmp_path)
    kill_after(0)
    assert small.bits(fit(tmp_path)) == small.bits(whole)
    assert f"going on after step {STEPS}, from the checkpoint in {tmp_path}" in log.text


def test_without_steps_a_checkpoint_is_due_after_a_minute(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with open_checkpoints(tmp_path) as checkpoints:
        assert not checkpoints.due(10)
        now[0] = 61.0
        assert checkpoints.due(11)
        assert checkpoints.every is None


def test_nothing_is_kept_unless_asked_for(monkeypatch):
    monkeypatch.setattr(module.Checkpoints, "save", None)
    with open_checkpoints(None) as checkpoints:
        assert checkpoints is None
    fit(likelihood="nb")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, r"seed \(0 there, 1 here\)"),
        ({"max_epochs": 8}, r"max_epochs \(7 there, 8 here\)"),
        ({"batch_key": "batch"}, "batches and covariates"),
        ({"mask": np.arange(small.N_OBS * small.N_VARS).reshape(small.N_OBS, -1) % 99 > 0}, "mask"),
    ],
    ids=["seed", "epochs", "batches", "mask"],
)
def test_the_checkpoint_of_another_run_is_no_start(killed, tmp_path, change, named):
    killed(6, tmp_path)
    with pytest.raises(ValueError, match=f"is of another run: .*{named}.*Choose another folder"):
        fit(tmp_path, **change)


def test_other_counts_are_another_run(killed, tmp_path):
    killed(6, tmp_path)
    adata = small.structured()
    adata.X[0, 0] += 1
    with pytest.raises(ValueError, match="another run: counts differ"):
        fit(tmp_path, adata=adata)


def checkpoints_in(folder):
    return sorted((part for part in folder.iterdir() if part.name.isdigit()), key=lambda part: int(part.name))


def spoil(folder, how):
    """Damage a checkpoint."""
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if how == "cut":
        os.truncate(largest, largest.stat().st_size // 2)
    elif how == "flipped":
        data = bytearray(largest.read_bytes())
        data[len(data) // 2] ^= 16
        largest.write_bytes(data)
    elif how == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif how == "no record":
        shutil.rmtree(folder / "record")


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "no record"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(killed, tmp_path, log, how):
    whole = whole_fit()
    killed(13, tmp_path)
    spoil(checkpoints_in(tmp_path)[-1], how)
    assert small.bits(fit(tmp_path)) == whole
    assert how == "empty" or "is damaged" in log.text
    assert "going on after step 9" in log.text


def test_a_folder_in_which_all_are_damaged_is_an_error(killed, tmp_path):
    killed(13, tmp_path)
    for part in checkpoints_in(tmp_path):
        spoil(part, "cut")
    with pytest.raises(ValueError, match="no checkpoint in this folder can be read.*Choose another folder"):
        fit(tmp_path)


def test_what_else_is_in_the_folder_stays(kill_after, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()  # what a killed job was writing
    assert small.bits(interrupted(kill_after, [7], tmp_path)) == whole_fit()
    assert (tmp_path / "mine" / "notes.txt").read_text() == "x"
    assert not (tmp_path / "7.orbax-checkpoint-tmp").exists()
    assert len(checkpoints_in(tmp_path)) == 2


def test_two_jobs_do_not_share_a_folder(tmp_path):
    with open_checkpoints(tmp_path / "new" / "folder"):
        with pytest.raises(ValueError, match="another job is using this folder"):
            fit(tmp_path / "new" / "folder")
    fit(tmp_path / "new" / "folder", likelihood="nb")


def test_arguments_that_do_not_fit(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="checkpoint_dir='.*file': this folder cannot be made or written to"):
        fit(tmp_path / "file")
    (tmp_path / "data.zarr").mkdir()
    (tmp_path / "data.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(ValueError, match=r"checkpoint_dir='.*data\.zarr': this is a zarr store"):
        fit(tmp_path / "data.zarr")
    assert [path.name for path in (tmp_path / "data.zarr").iterdir()] == ["zarr.json"]
    for every in (0, -1, 2.5, True, "often"):
        with pytest.raises(ValueError, match=f"checkpoint_every={every!r}: use a whole number"):
            fit(tmp_path, every=every)
    with pytest.raises(ValueError, match="checkpoint_every=5 says how often, but not where"):
        scdae.DAE().fit(small.structured(), checkpoint_every=5)
    with pytest.raises(ValueError, match="checkpoint_dir=... belongs to the fit"):
        scdae.pp.impute(small.structured(), model=small.fitted(likelihood="nb"), checkpoint_dir=tmp_path)


def test_impute_goes_on(kill_after, tmp_path):
    def impute(folder=None, every=None):
        adata = small.structured()
        scdae.pp.impute(adata, likelihood="nb", checkpoint_dir=folder, checkpoint_every=every, **QUICK)
        return adata.layers["scdae"]

    np.testing.assert_array_equal(interrupted(kill_after, [4], tmp_path, impute, every=2), impute())


def test_a_checkpoint_that_cannot_be_written_is_one_warning_and_tried_again(tmp_path, log, monkeypatch):
    whole, save, calls = whole_fit(likelihood="nb"), module.Checkpoints.save, []

    def full(self, progress):
        calls.append(progress.step)
        if len(calls) < 4:
            raise OSError(28, "No space left on device")
        save(self, progress)

    monkeypatch.setattr(module.Checkpoints, "save", full)
    assert small.bits(fit(tmp_path / "kept", likelihood="nb")) == whole
    assert log.text.count("a checkpoint could not be written") == 1
    assert "kept': a checkpoint could not be written (No space left on device). Training goes on" in log.text
    assert len(calls) > 4 and module.has_checkpoint(tmp_path / "kept")


def test_a_folder_that_goes_away_in_the_midst(tmp_path, log, monkeypatch, capfd):
    save, folder = module.Checkpoints.save, tmp_path / "kept"

    def purged(self, progress):
        save(self, progress)
        shutil.rmtree(folder)
        folder.touch()

    monkeypatch.setattr(module.Checkpoints, "save", purged)
    assert small.bits(fit(folder, likelihood="nb")) == whole_fit(likelihood="nb")
    assert log.text.count("could not be written") == 1
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["step", "n_worse", "best_score", "rng", "history"])
def test_a_record_with_one_value_changed_is_refused(killed, tmp_path, name):
    killed(13, tmp_path)
    found = list(tmp_path.glob("*/record/metadata"))
    assert found
    for path in found:
        record = json.loads(path.read_text())
        value = record["progress"][name]
        if name == "rng":
            value["state"]["inc"] += 2
        elif name == "history":
            value["loss"][0] += 1
        else:
            record["progress"][name] = value + 1
        path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="no checkpoint in this folder can be read"):
        fit(tmp_path)
