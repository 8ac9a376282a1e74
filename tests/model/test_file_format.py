"""A model file with a field changed, cut or flipped is refused in words, and never gives other restored counts."""

import json
import re
import shutil

import numpy as np
import pytest

import scdae
import small
from scdae.model.file_format import checksum


def parts(model, path):
    model.save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(str(arrays.pop("header"))), arrays


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = small.fitted_to_covariates()
    header, arrays = parts(model, tmp_path_factory.mktemp("models") / "m.scdae")
    return header, arrays, model.impute(small.covaried())


def write(path, header, arrays):
    with path.open("wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)


def refused(path, what):
    try:
        scdae.DAE.load(path)
    except ValueError as error:
        said = str(error)
    else:
        said = f"{what} was changed, and the file loads"
    assert re.search(r"m\.scdae. is (damaged|no scdae model)", said) and "\n" not in said, said


def changed(value, rng):
    """Ways to change an array."""
    yield "type", value.astype("f2") if value.dtype.kind == "f" else value.astype("S")
    yield "cut", value[..., :-1] if value.ndim else np.stack([value, value])
    yield "axis", value[None]
    yield "nothing", value[:0] if value.ndim else value.astype("U")
    if value.dtype.kind in "fi":
        other = value.copy().reshape(-1)
        other[rng.integers(other.size)] += 1
        yield "value", other.reshape(value.shape)
        yield "negative", -1 - np.abs(value)
    if value.dtype.kind == "f":
        for odd in (np.nan, np.inf, 1e30):
            other = value.copy().reshape(-1)
            other[rng.integers(other.size)] = odd
            yield str(odd), other.reshape(value.shape)
    if value.dtype.kind in "Ub" and value.size > 1:
        other = value.copy()
        other[0] = other[1] if value.dtype.kind == "U" else not other[0]
        yield "value", other


def test_every_array_changed(saved, tmp_path):
    header, arrays, _ = saved
    rng, path = np.random.default_rng(0), tmp_path / "m.scdae"
    for name, value in arrays.items():
        for how, other in changed(value, rng):
            write(path, header, {**arrays, name: other})
            refused(path, f"{name}: {how}")


def test_every_setting_changed(saved, tmp_path):
    header, arrays, _ = saved
    path = tmp_path / "m.scdae"
    for name in header:
        for value in (None, -1, "x", 1.5, [], {}, [1, 2], float("nan"), True):
            if value == header[name] or name == "checksum" and not value:
                continue
            write(path, {**header, name: value}, arrays)
            with pytest.raises(ValueError, match=r"m\.scdae") as error:
                scdae.DAE.load(path)
            assert "\n" not in str(error.value), (name, value)
    for name in header["settings"]:
        for value in (-1, "x", 10**9, [0.1], {}):
            write(path, {**header, "settings": {**header["settings"], name: value}}, arrays)
            with pytest.raises(ValueError, match=r"m\.scdae"):
                scdae.DAE.load(path)


def test_files_without_a_sum_are_held_to_types_shapes_and_ranges(saved, tmp_path):
    """As earlier versions wrote them: what loads may differ in values that could have been, and gives finite counts."""
    header, arrays, expected = saved
    header = {name: value for name, value in header.items() if name != "checksum"}
    rng, path = np.random.default_rng(1), tmp_path / "m.scdae"
    write(path, header, arrays)
    np.testing.assert_array_equal(scdae.DAE.load(path).impute(small.covaried()), expected)
    for name, value in arrays.items():
        for how, other in changed(value, rng):
            write(path, header, {**arrays, name: other})
            if how in ("value", "negative") or (how == "1e+30" and value.dtype == np.float64):
                continue
            refused(path, f"{name}: {how}")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("gate", lambda array: array - 2, "outside of 0 to 1"),
        ("profile", lambda array: array * 2, "add up to 1"),
        ("genes", lambda array: array[::-1], "no rising places"),
        ("genes", lambda array: array + 10**6, "rising places within what there is"),
        ("cells", lambda array: array - 1000, "no rising places"),
        ("param_log_theta", lambda array: array + 200, "beyond 80"),
        ("inflated", lambda array: ~array, "does not go with"),
        ("report_gene_baseline", lambda array: array - 1e6, "below zero"),
        ("param_loading", lambda array: array.T, "is of shape"),
        ("param_hidden_bias", lambda array: array + 1e9, "beyond 1e\\+06"),
    ],
)
def test_ranges_in_words(tmp_path, name, change, words):
    header, arrays = parts(small.fitted(likelihood="zinb"), tmp_path / "m.scdae")
    header = {part: value for part, value in header.items() if part != "checksum"}
    write(tmp_path / "m.scdae", header, {**arrays, name: change(arrays[name])})
    with pytest.raises(ValueError, match=words):
        scdae.DAE.load(tmp_path / "m.scdae")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("levels", {"batch": ["batch_1", "batch_1"]}, "different names"),
        ("levels", {"batch": ["batch_1", "batch_2", "batch_3"], "donor": ["dan", "bob", "ann"]}, "of which there are"),
        ("levels", {"donor": ["dan", "bob", "ann"], "batch": ["batch_1", "batch_2"]}, "does not begin with"),
        ("scales", {"age": [40.0, 0.0]}, "above zero"),
        ("moved", True, "of which there are"),
        ("history", {"step": [1.0], "loss": [], "heldout_loglik": [1.0]}, "differ in length"),
    ],
)
def test_levels_and_lists_that_do_not_match(tmp_path, name, value, words):
    header, arrays = parts(small.fitted_to_covariates(), tmp_path / "m.scdae")
    write(tmp_path / "m.scdae", {**header, name: value, "checksum": ""}, arrays)
    with pytest.raises(ValueError, match=words):
        scdae.DAE.load(tmp_path / "m.scdae")


def test_cut_and_flipped(saved, tmp_path):
    header, arrays, expected = saved
    rng, path = np.random.default_rng(2), tmp_path / "m.scdae"
    write(path, header, arrays)
    whole, said = path.read_bytes(), []
    for place in rng.integers(0, len(whole), 15):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        for content in (bytes(damaged), whole[:place]):
            path.write_bytes(content)
            try:
                model = scdae.DAE.load(path)
            except ValueError as error:
                said.append(str(error))
            else:
                np.testing.assert_array_equal(model.impute(small.covaried()), expected)
    assert len(said) > 10 and all("m.scdae" in text and "\n" not in text for text in said)


def test_the_sum_takes_in_names_settings_and_arrays():
    arrays = {"a": np.ones(3), "b": np.zeros(3)}
    sums = {
        checksum({"x": 1}, arrays),
        checksum({"x": 2}, arrays),
        checksum({"x": 1}, {"a": arrays["b"], "b": arrays["a"]}),
        checksum({"x": 1}, {"c": arrays["a"], "b": arrays["b"]}),
        checksum({"x": 1}, {**arrays, "a": np.ones((3, 1))}),
    }
    assert len(sums) == 5
    assert checksum({"x": 1, "checksum": "old"}, arrays) in sums


def test_saving_follows_links_and_homes_and_keeps_the_mode(tmp_path, monkeypatch):
    model = small.fitted(likelihood="nb")
    monkeypatch.setenv("HOME", str(tmp_path))
    model.save("~/v1.scdae")
    (tmp_path / "v1.scdae").chmod(0o600)
    (tmp_path / "current.scdae").symlink_to("v1.scdae")
    before = (tmp_path / "v1.scdae").stat().st_ino
    model.save(tmp_path / "current.scdae")
    assert (tmp_path / "current.scdae").is_symlink() and (tmp_path / "v1.scdae").stat().st_ino != before
    assert (tmp_path / "v1.scdae").stat().st_mode & 0o777 == 0o600
    assert scdae.DAE.load("~/current.scdae").config == model.config
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        model.save(tmp_path / "folder")
    shutil.rmtree(tmp_path / "folder")
    with pytest.raises(TypeError, match="use the name of a file"):
        model.save(None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current.scdae", "v1.scdae"]
