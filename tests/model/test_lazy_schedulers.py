"""Lazy layers on dask's schedulers: threads, processes, a cluster of two worker processes, and one that loses a worker."""

import os
import pickle
import subprocess
import sys
import time

import anndata as ad
import dask
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.io.write import write_atomic
from scdae.matrices import chunk_sizes
from scdae.matrices.sent import Sent

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2", "ignore:.*[Cc]onsolidated metadata")


@pytest.fixture(scope="module")
def model():
    return small.fitted(batch_key="batch", likelihood="nb", max_epochs=7)


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr(chunk_sizes, "CHUNK_VALUES", 20 * small.N_VARS)


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread, which are started again when they are lost."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        with distributed.Client(cluster) as client:
            yield client


def backed(tmp_path, kind):
    adata = small.structured()
    adata.X = {"csr": sp.csr_matrix, "dense": lambda x: x.toarray()}[kind](adata.X)
    adata.write_h5ad(tmp_path / f"{kind}.h5ad")
    return ad.read_h5ad(tmp_path / f"{kind}.h5ad", backed="r")


def shared_by(layer):
    return [
        part for task in dict(layer.dask).values() if isinstance(task, tuple) for part in task if isinstance(part, Sent)
    ]


def test_the_graph_holds_the_model_and_each_count_once(chunked, model):
    adata = small.structured()
    scdae.pp.impute(adata, model=model, lazy=True, quantiles=0.9)
    for name in ("scdae", "scdae_q90"):
        layer = adata.layers[name]
        assert layer.numblocks == (8, 1) and len(shared_by(layer)) == 1
        (optimized,) = dask.optimize(layer)
        model_alone, graph = len(pickle.dumps(shared_by(layer)[0])), len(pickle.dumps(dict(optimized.dask)))
        counts = adata.X.data.nbytes + adata.X.indices.nbytes
        assert graph < model_alone + 1.2 * counts + 8 * 4000, "neither is there for each chunk"
        assert graph > model_alone + counts


def test_only_the_rows_of_a_chunk_are_held_and_no_memory_of_their_own(chunked, model):
    adata = small.structured()
    adata.layers["seen"] = np.ones(adata.shape, bool)
    adata.layers["seen"][30:60, 4] = False
    scdae.pp.impute(adata, model=model, lazy=True, mask="seen", key_added="a")
    scdae.pp.impute(adata, model=model, lazy=False, mask="seen", key_added="b")
    rows = [task[-1] for key, task in dict(adata.layers["a"].dask).items() if isinstance(key, tuple)]
    base = rows[0].counts.data.base
    assert base is not None and all(part.counts.data.base is base for part in rows)
    np.testing.assert_allclose(adata.layers["a"].compute(), adata.layers["b"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_a_process_that_passes_a_layer_on_needs_neither_file_nor_jax(chunked, model, tmp_path, kind):
    adata = backed(tmp_path, kind)
    layer = model.impute(adata, lazy=True)
    (tmp_path / "layer").write_bytes(pickle.dumps(layer))
    code = f"""
import pickle, sys
layer = pickle.load(open({str(tmp_path / "layer")!r}, "rb"))
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
pickle.dumps(layer)
assert not xla_bridge.backends_are_initialized()
print(float(layer[:5].sum().compute()))
assert xla_bridge.backends_are_initialized()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(float(done.stdout), layer[:5].sum().compute(), rtol=1e-4)
    layer = model.impute(adata, lazy=True)
    adata.file.close()
    with pytest.raises(OSError, match="file that has been closed"):
        pickle.dumps(layer)


def test_threads_and_processes_give_what_one_gives(chunked, model, tmp_path):
    adata = backed(tmp_path, "csr")
    layer = model.impute(adata, lazy=True, threshold=2.0)
    expected = layer.compute(scheduler="synchronous")
    for scheduler in ("threads", "processes"):
        found = layer.compute(scheduler=scheduler, num_workers=2)
        assert sp.issparse(found) and found.format == "csr"
        np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-4)


def test_a_process_that_was_forked_after_jax_says_what_to_do(tmp_path, chunked, model):
    small.structured().write_h5ad(tmp_path / "in.h5ad")
    model.save(tmp_path / "m.scdae")
    code = f"""
import anndata, dask, scdae
adata = anndata.read_h5ad({str(tmp_path / "in.h5ad")!r})
layer = scdae.DAE.load({str(tmp_path / "m.scdae")!r}).impute(adata, lazy=True)
with dask.config.set({{"multiprocessing.context": "fork"}}):
    layer.compute(scheduler="processes", num_workers=1)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    assert "RuntimeError: This process was forked" in done.stderr and "spawn" in done.stderr, done.stderr


def test_workers_of_a_cluster_work_it_out(chunked, model, client, tmp_path):
    for adata in (backed(tmp_path, "csr"), backed(tmp_path, "dense"), small.structured()):
        for threshold in (None, 2.0):
            layer = model.impute(adata, lazy=True, threshold=threshold)
            expected = layer.compute(scheduler="synchronous")
            found = layer.compute()
            assert type(found) is type(expected)
            plain = (lambda x: x) if threshold is None else (lambda x: x.toarray())
            np.testing.assert_allclose(plain(found), plain(expected), rtol=1e-4, atol=1e-4)
    done = client.run(lambda: "jax" in sys.modules)
    assert len(done) == 2 and all(done.values()), "both took part"


@pytest.mark.parametrize("threshold", [None, 2.0])
def test_anndata_and_we_write_it_from_a_cluster(chunked, model, client, tmp_path, threshold):
    adata = backed(tmp_path, "csr")
    scdae.pp.impute(adata, model=model, lazy=True, threshold=threshold)
    expected = scdae.get.imputed(adata).to_numpy()
    part = scdae.get.results(adata)
    part.copy().write_zarr(tmp_path / "theirs.zarr")
    write_atomic(part, tmp_path / "ours.zarr")
    for name in ("theirs", "ours"):
        layer = ad.read_zarr(tmp_path / f"{name}.zarr").layers["scdae"]
        layer = layer.toarray() if sp.issparse(layer) else layer
        np.testing.assert_allclose(layer, expected, rtol=1e-4, atol=1e-4)


def kill(pid):
    os.kill(pid, 9)


def test_a_worker_that_is_lost_in_the_middle_is_made_up_for(chunked, model, client, tmp_path):
    adata = small.structured()
    layer = model.impute(adata, lazy=True)
    expected = layer.compute(scheduler="synchronous")
    pids = client.run(os.getpid)
    slow = layer.map_blocks(_slowly, dtype=layer.dtype, meta=layer._meta)
    future = client.compute(slow)
    time.sleep(1.0)
    kill(min(pids.values()))
    np.testing.assert_allclose(future.result(timeout=120), expected, rtol=1e-4, atol=1e-4)
    assert min(pids.values()) not in client.run(os.getpid).values()


def _slowly(block):
    time.sleep(0.4)
    return block


def test_a_worker_that_lacks_the_package_says_so_and_nothing_is_left(chunked, model, tmp_path):
    distributed = pytest.importorskip("distributed")
    (tmp_path / "lacking.py").write_text("import sys\nsys.modules['scdae'] = None\n")
    adata = small.structured()
    scdae.pp.impute(adata, model=model, lazy=True)
    where = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**where, preload=str(tmp_path / "lacking.py")) as cluster:
        with distributed.Client(cluster):
            with pytest.raises(ModuleNotFoundError, match="scdae"):
                write_atomic(scdae.get.results(adata), tmp_path / "out.zarr")
    assert not [name for name in os.listdir(tmp_path) if "out" in name]
