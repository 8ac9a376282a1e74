"""Several data sets as one: nothing that is unknown becomes zero, and nothing that was there is replaced."""

import pickle

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.io.write import write_atomic


@pytest.fixture
def parts():
    adata = small.structured()
    return {"a": adata[:80, :50].copy(), "b": adata[80:, 20:][:, ::-1].copy()}


@pytest.fixture
def files(tmp_path, parts):
    def write():
        for name, adata in parts.items():
            write_atomic(adata, tmp_path / f"{name}.h5ad", overwrite=True)
        return str(tmp_path / "*.h5ad")

    return write


def test_a_layer_that_one_lacks_is_named(parts):
    parts["a"].layers["counts"] = parts["a"].X.copy()
    with pytest.raises(ValueError, match=r"layers\['counts'\] is in 'a', but not in 'b'.*layers=\['truth'\]"):
        scdae.pp.align(parts)
    joint = scdae.pp.align(parts, layers=["truth"])
    assert set(joint.layers) - {None} == {"truth", "observed"}
    np.testing.assert_array_equal(joint[:80, parts["a"].var_names].layers["truth"], parts["a"].layers["truth"])
    with pytest.raises(ValueError, match="no data set has a layer 'nothing'"):
        scdae.pp.align(parts, layers=["nothing"])
    parts["b"].layers["counts"] = parts["b"].X.copy()
    parts["b"].X = None
    with pytest.raises(ValueError, match="X is None in 'b'"):
        scdae.pp.align(parts)
    parts["a"].X = None
    joint = scdae.pp.align(parts)
    assert joint.X is None
    found = joint[80:, parts["b"].var_names].layers["counts"].toarray()
    np.testing.assert_array_equal(found, parts["b"].layers["counts"].toarray())


def test_own_columns_are_kept_and_said(parts, files, log):
    joint = scdae.pp.align(parts)
    own = np.concatenate([adata.obs["batch"] for adata in parts.values()])
    assert list(joint.obs["batch"].unique()) == ["a", "b"] and (joint.obs["batch_own"] == own).all()
    assert "obs['batch_own']" in log.text
    parts["b"].obs["sample"] = "mine"
    joint = scdae.pp.join_files(files())
    assert list(joint.obs["sample"].unique()) == ["a", "b"] and (joint.obs["sample_own"][80:] == "mine").all()
    assert joint.obs["sample_own"][:80].isna().all()


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_masks_of_the_files_are_kept(parts, files, form):
    seen = np.ones(parts["a"].shape, bool)
    seen[:, 30:] = False
    parts["a"].layers["observed"] = form(seen)
    joint, expected = scdae.pp.join_files(files()), scdae.pp.align(parts)
    assert list(joint.var_names) == list(expected.var_names) and list(joint.obs_names) == list(expected.obs_names)
    np.testing.assert_array_equal(joint.layers["observed"].compute(), expected.layers["observed"])
    np.testing.assert_array_equal(joint.X.compute().toarray(), small.dense(expected))
    assert not expected.layers["observed"][:80, 30:50].any()
    parts["b"].layers["observed"] = np.ones(parts["b"].shape)
    for join in (lambda: scdae.pp.join_files(files()), lambda: scdae.pp.align(parts)):
        with pytest.raises(ValueError, match=r"b.*layers\['observed'\] is float64.*mask_added="):
            join()


def test_the_file_at_fault_is_named(parts, files, tmp_path):
    parts["a"].layers["counts"] = parts["a"].X.copy()
    pattern = files()
    with pytest.raises(ValueError, match=r"layer='counts' is not in .*b\.h5ad\. Layers there: 'truth'"):
        scdae.pp.join_files(pattern, layer="counts")
    parts["b"].X = parts["b"].X.multiply(0.3).tocsr()
    with pytest.raises(ValueError, match=r"does not hold counts.*in the file b\.h5ad"):
        scdae.pp.impute(scdae.pp.join_files(files()), max_epochs=1)
    joint = scdae.pp.join_files(files())
    lazy = small.fitted(likelihood="nb", max_epochs=7).impute(joint, lazy=True)
    del joint
    with pytest.raises(ValueError, match=r"does not hold counts.*in the file b\.h5ad"):
        lazy[-1:].compute()
    whole = (tmp_path / "b.h5ad").read_bytes()
    for damaged in (whole[:3000], b"text", b""):
        (tmp_path / "b.h5ad").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"b\.h5ad"):
            scdae.pp.join_files(pattern)
    with pytest.raises(FileNotFoundError, match=r"c\.h5ad"):
        scdae.pp.join_files([tmp_path / "a.h5ad", tmp_path / "c.h5ad"])


def test_names_that_differ_by_case_are_said(parts, log):
    parts["b"].var_names = [name.upper() if i > 36 else name for i, name in enumerate(parts["b"].var_names)]
    scdae.pp.align(parts)
    assert "differ by nothing but case" in log.text


@pytest.mark.parametrize("kind", ["backed", "dask", "csc", "dense", "mixed"])
def test_any_container_is_joined(parts, kind, tmp_path):
    expected = scdae.pp.align(parts)
    if kind == "backed":
        for name, adata in parts.items():
            write_atomic(adata, tmp_path / f"{name}.h5ad")
            parts[name] = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
    elif kind == "dask":
        for adata in parts.values():
            adata.X = da.from_array(adata.X.toarray(), chunks=(30, 20))
    elif kind == "mixed":
        parts["a"].X = da.from_array(parts["a"].X.toarray(), chunks=(30, 20))
    else:
        for adata in parts.values():
            adata.X = adata.X.tocsc() if kind == "csc" else np.asfortranarray(adata.X.toarray()).astype(np.int64)
    joint = scdae.pp.align(parts)
    x = joint.X.compute() if hasattr(joint.X, "compute") else joint.X
    x = x.toarray() if sp.issparse(x) else x
    np.testing.assert_array_equal(x, small.dense(expected))
    np.testing.assert_array_equal(np.asarray(joint.layers["observed"]), expected.layers["observed"])
    pd.testing.assert_frame_equal(joint.obs, expected.obs)


def test_columns_of_different_kinds(parts, files, tmp_path):
    parts["a"].obs["kind"], parts["b"].obs["kind"] = pd.Categorical(["x"] * 80), pd.Categorical(["y"] * 70)
    parts["a"].obs["odd"], parts["b"].obs["odd"] = range(80), "text"
    parts["a"].obs["once"] = 1
    joint = scdae.pp.align(parts)
    assert list(joint.obs["kind"].cat.categories) == ["x", "y"] and joint.obs["odd"].map(type).eq(str).all()
    assert joint.obs["once"][80:].isna().all() and joint.obs["once"][:80].eq(1).all()
    write_atomic(joint, tmp_path / "joint.h5ad")
    assert "once" not in scdae.pp.join_files(files()).obs


def test_joined_files_go_to_other_processes(files, parts):
    joint = scdae.pp.join_files(files())
    again = pickle.loads(pickle.dumps(joint))
    np.testing.assert_array_equal(again.X.compute().toarray(), joint.X.compute().toarray())


def test_workers_of_a_cluster_read_joined_files(files, parts):
    """Also where a lazy layer reads them: a task on a worker that asked for others would wait for ever."""
    distributed = pytest.importorskip("distributed")
    joint, model = scdae.pp.join_files(files()), small.fitted(likelihood="nb", max_epochs=7)
    lazy = model.impute(joint, mask="observed", lazy=True)
    expected = lazy.compute(scheduler="synchronous")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster):
            np.testing.assert_array_equal(joint.X.compute().toarray(), small.dense(scdae.pp.align(parts)))
            np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_changed_since_is_not_read(files, parts, tmp_path):
    joint = scdae.pp.join_files(files())
    parts["a"] = parts["a"][:10].copy()
    files()
    with pytest.raises(OSError, match="moved or changed since"):
        joint.X.compute(scheduler="synchronous")


def test_what_is_no_data_set():
    adata = small.structured()
    with pytest.raises(TypeError, match="adatas is one AnnData"):
        scdae.pp.align(adata)
    with pytest.raises(TypeError, match=r"adatas\['1'\] has to be an anndata.AnnData"):
        scdae.pp.align([adata, "b.h5ad"])
    with pytest.raises(ValueError, match="paths is empty"):
        scdae.pp.join_files([])


def test_a_column_that_one_file_lacks_is_said_with_the_file(tmp_path):
    adata = scdae.datasets.simulate(n_cells=20, n_genes=10, seed=0)
    adata.obs["age"] = np.arange(20.0)
    adata[:10].write_h5ad(tmp_path / "a.h5ad")
    del adata.obs["age"]
    adata[10:].write_h5ad(tmp_path / "b.h5ad")
    joint = scdae.pp.join_files(tmp_path / "*.h5ad")
    with pytest.raises(
        ValueError, match="covariates='age' is a column of obs in some of the joined files, but not in b.h5ad"
    ):
        scdae.DAE().fit(joint, covariates="age")
