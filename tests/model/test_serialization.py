import json
import os
from pathlib import Path

import numpy as np
import pytest

import scdae
import small
from scdae.model import serialization as storage


@pytest.fixture(scope="module", params=["nb", "zinb", "batches", "covariates"])
def model(request):
    if request.param == "covariates":
        return small.fitted_to_covariates()
    if request.param == "batches":
        return small.fitted(batch_key="batch", likelihood="nb")
    return small.fitted(likelihood=request.param)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.npz"
    small.fitted(likelihood="nb").save(path)
    return path


def edit(path, change):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays["header"]))
    change(header, arrays)
    arrays["header"] = np.array(json.dumps(header))
    np.savez(path, **arrays)


def test_round_trip(model, tmp_path):
    adata, path = small.covaried(), tmp_path / "any name"
    model.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["any name"]
    loaded = scdae.DAE.load(str(path))
    assert loaded.config == model.config
    assert (loaded.batch_key, loaded.batch_levels) == (model.batch_key, model.batch_levels)
    assert loaded.covariates == model.covariates
    for output in ("mean", "prior", "rate", "sd"):
        np.testing.assert_array_equal(loaded.impute(adata, output=output), model.impute(adata, output=output))
    np.testing.assert_array_equal(loaded.latent(adata), model.latent(adata))
    if model.batch_key is not None:
        for batch in ("average", *model.batch_levels):
            there = model.impute(adata, transform_batch=batch)
            np.testing.assert_array_equal(loaded.impute(adata, transform_batch=batch), there)
    for name in ("gate", "genes", "cells", "history", "n_epochs", "stopped_early", "held_out"):
        np.testing.assert_array_equal(getattr(loaded.outcome, name), getattr(model.outcome, name))
    np.testing.assert_array_equal(loaded.outcome.report.gene_gain, model.outcome.report.gene_gain)
    assert loaded.outcome.report.skill == model.outcome.report.skill


def test_settings_given_as_numpy_numbers_are_saved(tmp_path):
    model = small.fit(likelihood="nb", max_epochs=np.int64(7), seed=np.int32(0), noise=[np.float32(0.1), 0.8])
    model.save(tmp_path / "m.npz")
    assert scdae.DAE.load(tmp_path / "m.npz").config == model.config


def test_nothing_is_pickled(path):
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            assert file[name].dtype != object
        header = json.loads(str(file["header"]))
    assert header["format"] == 3 and header["version"] == scdae.__version__


def test_saving_replaces_and_a_failure_leaves_what_was_there(path, monkeypatch):
    before = path.read_bytes()

    def fails(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as context:
        context.setattr(storage.np, "savez", fails)
        with pytest.raises(OSError, match="disk full"):
            small.fitted(likelihood="nb").save(path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    small.fitted(likelihood="nb").save(path)
    assert len(list(path.parent.iterdir())) == 1


def test_a_file_that_is_no_model_is_not_replaced(tmp_path, monkeypatch):
    counts = tmp_path / "counts.h5ad"
    small.structured().write_h5ad(counts)
    before = counts.read_bytes()
    with pytest.raises(FileExistsError, match=r"counts\.h5ad.*no model, so it is not replaced"):
        small.fitted(likelihood="nb").save(counts)
    assert counts.read_bytes() == before
    for name in ("half.scdae", "empty"):  # a damaged model, and what mktemp makes
        (tmp_path / name).write_bytes(b"half" * (name == "half.scdae"))
        small.fitted(likelihood="nb").save(tmp_path / name)
        scdae.DAE.load(tmp_path / name)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder.*does not exist"):
        small.fitted(likelihood="nb").save(tmp_path / "no" / "model.npz")


def test_no_such_file(tmp_path):
    for path in (tmp_path / "no.npz", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            scdae.DAE.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_is_told_from_nothing(tmp_path):
    os.mkfifo(tmp_path / "m.scdae")
    with pytest.raises(ValueError, match=r"m\.scdae' is a pipe or a device; a model is read from a file"):
        scdae.DAE.load(tmp_path / "m.scdae")


def test_truncated_anywhere(path):
    whole = path.read_bytes()
    for length in (0, 1, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.npz.*(no scdae model|damaged)"):
            scdae.DAE.load(path)


def test_flipped_bits_are_noticed_or_harmless(path):
    whole, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    expected = scdae.DAE.load(path).impute(small.structured())
    noticed = 0
    for place in rng.integers(0, len(whole), 40):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            model = scdae.DAE.load(path)
        except ValueError as error:
            noticed += "damaged" in str(error)
        else:
            np.testing.assert_array_equal(model.impute(small.structured()), expected)
    assert noticed > 30


def test_other_files(tmp_path):
    path = tmp_path / "other"

    def write_with(save, *args, **arrays):
        with path.open("wb") as file:  # np.save adds a suffix to names
            save(file, *args, **arrays)

    for write in (
        lambda: path.write_text("gene,count\n"),
        lambda: write_with(np.save, np.ones(3)),
        lambda: write_with(np.savez, counts=np.ones(3)),
        lambda: write_with(np.savez_compressed, header=np.array("[1, 2]")),
        lambda: write_with(np.savez, header=np.array('{"kind": "recipe"}')),
        lambda: write_with(np.savez, header=np.array("{")),
        lambda: write_with(np.savez, header=np.array([{}], object)),
        lambda: small.structured().write_h5ad(path),
    ):
        write()
        with pytest.raises(ValueError, match="other.*no scdae model"):
            scdae.DAE.load(path)


def test_future_format(path):
    edit(path, lambda header, arrays: header.update(format=4, version="9.0.0"))
    with pytest.raises(ValueError, match=r"written by scdae 9\.0\.0 in format 4.*Update scdae"):
        scdae.DAE.load(path)


@pytest.mark.parametrize("part", ["gate", "axes_weight", "param_loading", "report_cell_deviance"])
def test_missing_part(path, part):
    edit(path, lambda header, arrays: arrays.pop(part))
    with pytest.raises(ValueError, match=r"model\.npz.*damaged"):
        scdae.DAE.load(path)


@pytest.mark.parametrize(
    "part",
    [
        "param_batch_start",
        "param_batch_effect",
        "param_batch_turn",
        "param_turn_kernel",
        "param_centroids",
        "param_batch_centroids",
        "param_centroid_scale",
        "axes_effects",
    ],
)
def test_missing_part_of_the_batches(tmp_path, part):
    path = tmp_path / "model.npz"
    small.fitted(batch_key="batch", likelihood="nb").save(path)
    edit(path, lambda header, arrays: arrays.pop(part))
    with pytest.raises(ValueError, match=r"model\.npz.*damaged"):
        scdae.DAE.load(path)


def test_files_of_version_0_1_stay_loadable():
    folder = Path(__file__).parent.parent / "data"
    model = scdae.DAE.load(folder / "model_0.1.scdae")
    expected = np.load(folder / "model_0.1_restored.npz")
    adata = scdae.datasets.simulate(120, 40, n_types=2, trajectory=False, seed=5, depth=600)[:10].copy()
    np.testing.assert_allclose(model.impute(adata), expected["restored"], rtol=1e-3)
    np.testing.assert_allclose(model.latent(adata), expected["latent"], rtol=1e-3, atol=1e-4)
    assert model.batch_key == "batch" and model.outcome.fitted.gaps.max_iter == 50  # a setting that it did not have
    assert model.covariates.others == [] and model.covariates.levels == {"batch": model.batch_levels}


def test_files_of_version_0_1_are_corrected_for_batches_and_saved_in_the_new_format(tmp_path):
    model = scdae.DAE.load(Path(__file__).parent.parent / "data" / "model_0.1.scdae")
    adata = scdae.datasets.simulate(120, 40, n_types=2, trajectory=False, seed=5, depth=600)[:10].copy()
    for batch in model.batch_levels:
        there = model.impute(adata, output="prior", transform_batch=batch)
        swapped = adata.copy()
        swapped.obs["batch"] = batch
        np.testing.assert_allclose(there, model.impute(swapped, output="prior"), rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "new.scdae")
    again = scdae.DAE.load(tmp_path / "new.scdae")
    np.testing.assert_array_equal(again.impute(adata), model.impute(adata))
    np.testing.assert_array_equal(again.latent(adata), model.latent(adata))


def test_no_name_and_a_folder_to_read_from_are_said(tmp_path):
    with pytest.raises(ValueError, match="path='': use the name of a file"):
        scdae.DAE.load("")
    with pytest.raises(FileNotFoundError, match="no such file, but a folder"):
        scdae.DAE.load(tmp_path)
