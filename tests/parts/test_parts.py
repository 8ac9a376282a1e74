"""Parts of one store, restored by themselves and collected."""

import fcntl
import json
import os
import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from typer.testing import CliRunner

import scdae
import small
from scdae.cli import app
from scdae.parts import collecting, geometry, restoring, store
from scdae.parts.folder import Folder
from scdae.parts.geometry import Geometry
from scdae.parts.plan import numbered
from scdae.parts.store import check_whole

MODEL = {"likelihood": "nb", "max_epochs": 7}
N_PARTS = 3


@pytest.fixture
def files(tmp_path, monkeypatch):
    """INPUT, MODEL, and chunks so small that a part has several."""
    monkeypatch.setattr(geometry, "CHUNK_VALUES", 16 * small.N_VARS)
    adata = small.structured()
    del adata.layers["truth"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    small.fitted(batch_key="batch", **MODEL).save(tmp_path / "model.scdae")
    (tmp_path / "genes.txt").write_text("\n".join(adata.var_names[[7, 2, 31]]))
    return tmp_path


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def apply(files, target="out.zarr", *words, source="in.h5ad", model="model.scdae", code=0):
    done = run("apply", files / source, files / model, files / target, *words)
    assert done.exit_code == code, done.output
    return done


def part(files, number, *words, n=N_PARTS, **options):
    return apply(files, "out.zarr", "--shard", f"{number}/{n}", *words, **options)


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ad.read_zarr(path)


def dense(layer):
    return layer.toarray() if sp.issparse(layer) else np.asarray(layer)


FORMS = [
    (False, ("--output", "mean,log1p", "--quantile", "0.05")),
    (True, ("--threshold", "0.05", "--output", "mean,sd")),
    (True, ("--genes", "genes.txt", "--dtype", "float16", "--key-added", "other", "--transform-batch", "average")),
]


@pytest.mark.parametrize(("large", "words"), FORMS, ids=["several", "sparse, on disk", "some genes, on disk"])
def test_parts_are_what_one_job_writes(files, monkeypatch, words, large):
    # All genes: bit for bit. Of three genes a cell's values lie elsewhere in the vector registers than those of the same cell in another
    # part, where the compiler may round otherwise: a step or two of float32, which is one of float16 where a boundary lies between.
    steps = 1 if "--genes" in words else 0
    if large:
        monkeypatch.setattr(scdae.settings, "max_entries", 3000)
    words = [files / word if word == "genes.txt" else word for word in words]
    apply(files, "one.zarr", "--results-only", *words)
    for number in (3, 1, 2):
        assert not (files / "out.zarr").exists()
        part(files, number, *words)
    done = run("collect", files / "out.zarr")
    assert done.exit_code == 0, done.output
    assert not (files / "out.zarr.parts").exists()
    one, out = read(files / "one.zarr"), read(files / "out.zarr")
    assert small.layers_of(out) == small.layers_of(one) and out.shape == one.shape
    for name in small.layers_of(one):
        layer = one.layers[name]
        assert type(out.layers[name]) is type(layer) and out.layers[name].dtype == layer.dtype
        np.testing.assert_array_max_ulp(dense(out.layers[name]), dense(layer), maxulp=steps)
        assert np.count_nonzero(dense(layer)) > 0
    (key,) = one.obsm
    np.testing.assert_allclose(out.obsm[key], one.obsm[key], rtol=1e-5, atol=1e-5)
    assert out.obs.equals(one.obs) and out.var.equals(one.var)
    (name,) = one.uns
    assert out.uns[name].keys() == one.uns[name].keys()
    assert out.uns[name]["report"]["skill"] == one.uns[name]["report"]["skill"]
    assert dict(out.uns[name]["units"]) == dict(one.uns[name]["units"])


def test_what_was_not_observed_is_reported_as_by_one_job(files, monkeypatch):
    adata = small.structured()
    del adata.layers["truth"]
    observed = np.random.default_rng(0).random(adata.shape) < 0.9
    observed[:, 4], observed[20] = False, False
    adata.layers["seen"] = observed
    adata.write_h5ad(files / "gaps.h5ad")
    words = ("--mask-layer", "seen", "--output", "mean,sd")
    apply(files, "one.zarr", "--results-only", *words, source="gaps.h5ad")
    for number in (1, 2, 3):
        part(files, number, *words, source="gaps.h5ad")
    done = run("collect", files / "out.zarr")
    assert done.exit_code == 0 and "no gene of the model was observed" in done.stderr
    one, out = read(files / "one.zarr"), read(files / "out.zarr")
    for name in small.layers_of(one):
        layer = one.layers[name]
        np.testing.assert_allclose(out.layers[name], layer, rtol=1e-4, atol=1e-5)
    there, here = one.uns["scdae"]["missing"], out.uns["scdae"]["missing"]
    for name in ("n_unobserved", "n_genes_never_observed", "n_cells_never_observed"):
        assert here[name] == there[name] and here[name] > 0


def test_genes_that_the_fit_did_not_count_are_named(files):
    small.fitted_to_gaps().save(files / "gaps.scdae")
    for number in (1, 2, 3):
        part(files, number, model="gaps.scdae")
    done = run("collect", files / "out.zarr")
    assert done.exit_code == 0 and "1 gene(s) have counts here and had none where the model was fitted" in done.stderr
    out = read(files / "out.zarr")
    assert list(out.uns["scdae"]["genes_as_counted"]) == [out.var_names[5]]
    np.testing.assert_array_equal(out.layers["scdae"][:, 5], small.dense(small.structured())[:, 5])


def test_missing_parts_are_named_with_the_command_for_each(files):
    nothing = run("collect", files / "out.zarr")
    assert nothing.exit_code == 1 and "no part of" in nothing.stderr
    part(files, 4, "--threshold", "0.05", "--output", "mean,sd", n=6)
    done = run("collect", files / "out.zarr", "--json", files / "left.json")
    assert done.exit_code == 75
    assert "5 of 6 parts" in done.stderr and "1-3,5-6" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    left = json.loads((files / "left.json").read_text())
    assert left["missing"] == [1, 2, 3, 5, 6]
    assert not (files / "out.zarr").exists()
    words = left["command"].split()
    assert words[0] == "scdae" and words[-2:] == ["--shard", "1/6"]
    again = run(*words[1:])
    assert again.exit_code == 0, again.output
    assert Folder(files / "out.zarr").missing(6) == [2, 3, 5, 6]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "1/151"])
def test_parts_that_there_are_not(files, shard):
    done = apply(files, "out.zarr", "--shard", shard, code=1)
    assert (
        f"--shard {shard}: parts are numbered from 1" in done.stderr
        or "150 cells, which cannot be 151 parts" in done.stderr
    )
    assert sorted(os.listdir(files)) == ["genes.txt", "in.h5ad", "model.scdae"]


@pytest.mark.parametrize("shard", ["/3", "3", "a/3", "-1/3", ""])
def test_words_that_are_no_part(files, shard):
    done = apply(files, "out.zarr", "--shard", shard, code=2)
    assert "is not I/N" in done.stderr


def test_parts_are_of_a_zarr_store(files):
    done = apply(files, "out.h5ad", "--shard", "1/3", code=1)
    assert "has to end in .zarr" in done.stderr


def test_a_part_of_something_else_is_refused(files):
    part(files, 1)
    before = sorted(str(path) for path in (files / "out.zarr.parts").rglob("*"))
    adata = small.structured()
    del adata.layers["truth"]
    adata[:100].copy().write_h5ad(files / "fewer.h5ad")
    adata[::-1].copy().write_h5ad(files / "turned.h5ad")
    adata[:, ::-1].copy().write_h5ad(files / "genes.h5ad")
    adata.obs["batch"] = adata.obs["batch"].to_numpy()[::-1]
    adata.write_h5ad(files / "batches.h5ad")
    small.fitted(likelihood="nb", max_epochs=8, batch_key="batch").save(files / "other.scdae")
    for words, options, message in (
        ((), {"n": 4}, "was begun with 3 parts, and this is one of 4. Pass --shard I/3"),
        ((), {"source": "fewer.h5ad"}, "has parts of 150 cells x 60 genes"),
        ((), {"source": "turned.h5ad"}, "INPUT has other cells"),
        ((), {"source": "genes.h5ad"}, "INPUT has other genes"),
        ((), {"source": "batches.h5ad"}, "INPUT has other batches"),
        ((), {"model": "other.scdae"}, "was begun with another model"),
        (("--threshold", "0.5"), {}, "begun with no --threshold, and this part has --threshold 0.5"),
        (("--output", "sd,mean"), {}, "begun with no --output, and this part has --output sd --output mean"),
        (("--genes", files / "genes.txt"), {}, "begun with no --genes"),
    ):
        done = part(files, 2, *words, code=1, **options)
        assert message in " ".join(done.stderr.split()), done.stderr
    assert sorted(str(path) for path in (files / "out.zarr.parts").rglob("*")) == before


def test_a_part_that_is_there_is_left_or_restored_again(files):
    part(files, 2)
    mark = files / "out.zarr.parts" / "done" / "2.json"
    before = mark.stat().st_mtime_ns
    assert "Part 2/3 of" in part(files, 2, code=1).stderr
    assert "is there: skipped" in part(files, 2, "--skip-existing").stdout
    assert mark.stat().st_mtime_ns == before
    part(files, 2, "--overwrite", "--json", files / "part.json")
    assert mark.stat().st_mtime_ns > before
    report = json.loads((files / "part.json").read_text())
    assert report["part"] == 2 and report["missing"] == [1, 3] and report["rows"] == [52, 104]


def test_a_part_that_another_process_writes(files):
    part(files, 1)
    folder = Folder(files / "out.zarr")
    with folder.writing(2):  # another open file is another owner, also within a process
        done = part(files, 2, code=75)
        assert "another process is writing part 2" in done.stderr
        part(files, 3)
        folder.mark(2, {})
        done = run("collect", files / "out.zarr")
        assert done.exit_code == 75 and "a part is being written" in done.stderr
        folder.unmark(2)
    with (files / "out.zarr.parts" / "locks" / "all").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is being collected" in part(files, 2, code=75).stderr
    part(files, 2)


def test_a_part_that_failed_is_not_there_and_is_restored_again(files, monkeypatch):
    adata = small.structured()
    del adata.layers["truth"]
    part(files, 1)
    part(files, 3)
    plain, written = store.Writer.write, []

    def failing(self, start, block):
        if written:
            raise OSError(28, "No space left on device")
        written.append(start)
        plain(self, start, block)

    monkeypatch.setattr(store.Writer, "write", failing)
    done = part(files, 2, code=75)
    assert written == [52] and "No space left" in done.stderr
    assert Folder(files / "out.zarr").missing(3) == [2]
    assert run("collect", files / "out.zarr").exit_code == 75
    monkeypatch.setattr(store.Writer, "write", plain)
    part(files, 2)
    assert run("collect", files / "out.zarr").exit_code == 0
    expected = small.fitted(batch_key="batch", **MODEL).impute(adata)
    np.testing.assert_allclose(read(files / "out.zarr").layers["scdae"], expected, rtol=1e-5, atol=1e-6)


def test_counts_of_a_part_are_checked(files):
    adata = small.structured()
    del adata.layers["truth"]
    adata.X = adata.X.copy()
    adata.X[70, 3] = 0.5
    adata.write_h5ad(files / "in.h5ad")
    part(files, 1)
    assert "fractional" in part(files, 2, code=1).stderr
    part(files, 3)
    assert Folder(files / "out.zarr").missing(3) == [2]


@pytest.mark.parametrize("words", [(), ("--threshold", "0.05")], ids=["dense", "sparse"])
def test_collecting_that_was_stopped_is_done_again(files, monkeypatch, words):
    apply(files, "one.zarr", "--results-only", *words)
    for number in (1, 2, 3):
        part(files, number, *words)
    plain = collecting.write_annotations

    def failing(path, elements):
        plain(path, {"obs": elements["obs"]})
        raise KeyboardInterrupt

    monkeypatch.setattr(collecting, "write_annotations", failing)
    assert run("collect", files / "out.zarr").exit_code == 130
    assert not (files / "out.zarr").exists()
    monkeypatch.setattr(collecting, "write_annotations", plain)
    done = run("collect", files / "out.zarr")
    assert done.exit_code == 0, done.stderr
    one, out = read(files / "one.zarr"), read(files / "out.zarr")
    np.testing.assert_array_equal(dense(out.layers["scdae"]), dense(one.layers["scdae"]))
    assert out.obs.equals(one.obs)


def test_a_result_that_is_there_is_not_replaced_unless_told(files):
    for number in (1, 2, 3):
        part(files, number)
    (files / "out.zarr").mkdir()
    assert run("collect", files / "out.zarr").exit_code == 1
    assert run("collect", files / "out.zarr", "--skip-existing").exit_code == 0
    assert part(files, 1, code=1).stderr.count("exists") == 1
    assert "no zarr store" in run("collect", files / "out.zarr", "--overwrite").stderr
    zarr.open_group(files / "out.zarr", mode="w")
    assert run("collect", files / "out.zarr", "--overwrite").exit_code == 0
    assert read(files / "out.zarr").shape == (150, 60)
    assert sorted(os.listdir(files)) == ["genes.txt", "in.h5ad", "model.scdae", "out.zarr"]


def test_an_input_that_has_changed_since(files):
    for number in (1, 2, 3):
        part(files, number)
    adata = small.structured()
    del adata.layers["truth"]
    adata[:140].copy().write_h5ad(files / "in.h5ad")
    done = run("collect", files / "out.zarr")
    assert done.exit_code == 1 and "has parts of 150 cells x 60 genes" in " ".join(done.stderr.split())
    assert not (files / "out.zarr").exists()


def test_a_plan_that_is_damaged(files):
    part(files, 1)
    (files / "out.zarr.parts" / "plan.json").write_text("{")
    assert "plan.json is damaged" in part(files, 2, code=1).stderr
    assert "plan.json is damaged" in run("collect", files / "out.zarr").stderr


def test_rows_that_are_not_whole_shards_are_refused(files, monkeypatch):
    """Two processes that write different chunks of one shard lose some without a word."""
    monkeypatch.setattr(store, "zarr_version", lambda: 3)  # the format that has shards
    part(files, 1)
    path = files / "out.zarr.parts" / "store.zarr" / "layers" / "scdae"
    height = zarr.open_array(path).chunks[0]
    zarr.create_array(
        path,
        shape=(150, 60),
        chunks=(height, 60),
        shards=(3 * height, 60),
        dtype="float32",
        overwrite=True,
        zarr_format=3,
    )
    with pytest.raises(ValueError, match="are not whole shards"):
        check_whole(zarr.open_array(path), *Geometry(150, height, 3).rows(2))
    before = zarr.open_array(path)[:]
    done = part(files, 2, code=1)
    assert "are not whole" in done.stderr
    np.testing.assert_array_equal(zarr.open_array(path)[:], before)
    assert Folder(files / "out.zarr").missing(3) == [2, 3]


def test_each_block_is_whole_chunks_and_read_once(files, monkeypatch):
    spans, reads = [], []
    plain, seen = restoring.Writer.write, restoring._Seen.read

    def write(self, start, block):
        spans.append((start, start + len(block.latent)))
        plain(self, start, block)

    monkeypatch.setattr(restoring.Writer, "write", write)
    monkeypatch.setattr(restoring._Seen, "read", lambda self, *span: reads.append(span) or seen(self, *span))
    part(files, 2, "--output", "mean,log1p")
    array = zarr.open_array(files / "out.zarr.parts" / "store.zarr" / "layers" / "scdae")
    assert len(spans) > 1 and all(start % array.chunks[0] == 0 for start, _ in spans)
    assert reads == spans


def test_runs_of_numbers():
    assert numbered([]) == "" and numbered([5]) == "5" and numbered([1, 2, 4, 6, 7, 8]) == "1-2,4,6-8"
