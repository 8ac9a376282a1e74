"""Files that are not read, many files as one, and results on their own; from Python and from the command line."""

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import scdae
import scdae.inputs.counts
import small
from scdae.cli import app
from scdae.io.on_disk import find_files, join_files, open_on_disk, stored_entries
from scdae.io.read import is_anndata
from scdae.io.write import write_atomic


@pytest.fixture
def halves(tmp_path):
    """Two files; the second lacks genes, has one of its own, and other columns of obs."""
    adata = small.structured()
    adata.layers["umi"] = adata.X
    first, second = adata[:80, :55].copy(), adata[80:, 5:].copy()
    second.obs["more"] = 1
    del first.obs["cell_type"]
    write_atomic(first, tmp_path / "one.h5ad")
    write_atomic(second, tmp_path / "two.zarr")
    return tmp_path, adata


def _run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_matrices_stay_on_disk(tmp_path, name, form):
    adata = small.structured()
    write_atomic(small.wrap(form(adata.X), layers={"umi": form(adata.X)}), tmp_path / name)
    found = open_on_disk(tmp_path / name)
    assert found.shape == adata.shape and not isinstance(found.X, (np.ndarray, sp.spmatrix))
    pd.testing.assert_frame_equal(found.obs, adata.obs)
    assert stored_entries(tmp_path / name) == (
        adata.X.nnz if form in (sp.csr_matrix, sp.csc_matrix) else adata.X.shape[0] * adata.X.shape[1]
    )
    for layer in (None, "umi"):
        counts = scdae.inputs.counts.read_counts(found, layer=layer)
        np.testing.assert_array_equal(counts.matrix.toarray(), adata.X.toarray())
    assert is_anndata(tmp_path / name) and not is_anndata(tmp_path)


def test_patterns(tmp_path):
    for name in ("b.h5ad", "a.h5ad", "[x].h5ad", "c.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_files(tmp_path / "?.h5ad")] == ["a.h5ad", "b.h5ad"]
    assert find_files(tmp_path / "[x].h5ad") == [tmp_path / "[x].h5ad"]  # that is its name
    with pytest.raises(FileNotFoundError, match="No file matches"):
        find_files(tmp_path / "*.zarr")


@pytest.mark.parametrize("layer", [None, "umi"])
def test_files_are_joined_over_all_their_genes(halves, layer):
    folder, adata = halves
    joint = join_files([folder / "one.h5ad", folder / "two.zarr"], layer=layer)
    assert isinstance(joint.X, da.Array) and joint.shape == adata.shape
    assert list(joint.var_names) == list(adata.var_names)
    expected, observed = adata.X.toarray().copy(), np.ones(adata.shape, bool)
    observed[:80, 55:], observed[80:, :5] = False, False
    np.testing.assert_array_equal(joint.X.compute().toarray(), expected * observed)
    np.testing.assert_array_equal(joint.layers["observed"].compute(), observed)
    assert list(joint.obs_names[[0, 80]]) == [f"{adata.obs_names[0]}-one", f"{adata.obs_names[80]}-two"]
    assert list(joint.obs["sample"].cat.categories) == ["one", "two"] and (joint.obs["sample"] == "one").sum() == 80
    assert "batch" in joint.obs and "more" not in joint.obs and "cell_type" not in joint.obs


def test_files_of_the_same_genes_need_no_mask(tmp_path):
    adata = small.structured()
    write_atomic(adata[:80], tmp_path / "b.h5ad")
    write_atomic(adata[80:], tmp_path / "a.h5ad")
    joint = scdae.pp.join_files(str(tmp_path / "*.h5ad"), label="run")
    assert "observed" not in joint.layers and list(joint.obs["run"].cat.categories) == ["a", "b"]
    np.testing.assert_array_equal(joint.X.compute().toarray(), np.roll(adata.X.toarray(), 70, axis=0))


def test_files_that_do_not_go_together(tmp_path):
    adata = small.structured()
    write_atomic(adata, tmp_path / "a.h5ad")
    (tmp_path / "sub").mkdir()
    write_atomic(adata, tmp_path / "sub" / "a.h5ad")
    with pytest.raises(ValueError, match="two files are called 'a'"):
        join_files([tmp_path / "a.h5ad", tmp_path / "sub" / "a.h5ad"])
    adata.var_names = "x" + adata.var_names
    write_atomic(adata, tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match="share no gene"):
        join_files(tmp_path / "*.h5ad")
    adata.var_names = ["twice"] * adata.n_vars
    write_atomic(adata, tmp_path / "b.h5ad", overwrite=True)
    with pytest.raises(ValueError, match="'b' repeats gene names"):
        join_files(tmp_path / "*.h5ad")


def test_results_on_their_own(tmp_path):
    adata = small.structured()
    model = small.fitted(likelihood="nb", max_epochs=7)
    scdae.pp.impute(adata, model=model, lazy=True, quantiles=0.9)
    adata.layers["other"] = adata.X
    part = scdae.get.results(adata, genes=adata.var_names[[7, 2]], dtype="float16")
    assert part.X is None and set(part.layers) - {None} == {"scdae", "scdae_q90"} and list(part.obsm) == ["X_scdae"]
    write_atomic(part, tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert read.layers["scdae"].dtype == np.float16 and list(read.var_names) == list(adata.var_names[[7, 2]])
    np.testing.assert_allclose(read.layers["scdae"], model.impute(adata)[:, [7, 2]], rtol=2e-3)
    with pytest.raises(KeyError, match="key_added='nobody'"):
        scdae.get.results(adata, "nobody")


def test_a_large_file_from_the_command_line(tmp_path, monkeypatch):
    """Fitted, restored and written without being held; some genes, sparse."""
    adata = small.structured()
    write_atomic(adata, tmp_path / "in.h5ad")
    genes = tmp_path / "genes.txt"
    genes.write_text("\n".join(adata.var_names[[7, 2]]) + "\n")
    monkeypatch.setattr(scdae.settings, "_max_entries", 1000)
    page = _run("fit", tmp_path / "in.h5ad", tmp_path / "m.scdae", "--max-epochs", 7, "--likelihood", "nb")
    assert "fitted a model" in page
    page = _run(
        "apply", tmp_path / "in.h5ad", tmp_path / "m.scdae", tmp_path / "out.h5ad", "--genes", genes, "--threshold", 1
    )
    assert "not in the output" in page and "150 cells x 2 genes" in page
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.X is None and sp.issparse(found.layers["scdae"]) and found.layers["scdae"].data.min() >= 1
    expected = scdae.DAE.load(tmp_path / "m.scdae").impute(adata, genes=[7, 2])
    np.testing.assert_allclose(found.layers["scdae"].toarray(), np.where(expected < 1, 0, expected), rtol=1e-3)


def test_several_files_from_the_command_line(halves):
    folder, adata = halves
    write_atomic(ad.read_zarr(folder / "two.zarr"), folder / "two.h5ad")
    page = _run(
        "impute",
        folder / "*.h5ad",
        folder / "out.zarr",
        "--max-epochs",
        7,
        "--batch-key",
        "sample",
        "--dtype",
        "float16",
    )
    assert "150 cells x 60 genes" in page
    found = open_on_disk(folder / "out.zarr")
    assert found.shape == adata.shape and found.layers["scdae"].dtype == np.float16
    assert np.isfinite(np.asarray(found.layers["scdae"])).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--genes", "genes.txt"], "'nobody'"),
        (["--dtype", "int8"], "--dtype int8"),
        (["--threshold", "-1"], "threshold=-1"),
    ],
)
def test_what_cannot_be_is_said_before_training(tmp_path, monkeypatch, options, words):
    write_atomic(small.structured(), tmp_path / "in.h5ad")
    (tmp_path / "genes.txt").write_text("gene_1\nnobody\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["impute", "in.h5ad", "out.h5ad", *options])
    assert result.exit_code == 1 and words in result.output and len(result.output.splitlines()) == 1
    assert not (tmp_path / "out.h5ad").exists()
