"""Layers that are worked out when they are looked at."""

import copy
import pickle
import warnings

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.inputs.counts import counts_to_apply
from scdae.io.write import write_atomic
from scdae.matrices import chunk_sizes
from scdae.model import lazy

MODEL = {"likelihood": "nb", "max_epochs": 7}


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr(chunk_sizes, "CHUNK_VALUES", 40 * small.N_VARS)


@pytest.fixture
def model():
    return small.fitted(batch_key="batch", **MODEL)


@pytest.mark.parametrize(
    "options", [{}, {"output": "sd"}, {"output": "log1p", "depth": 5000.0}, {"transform_batch": "average"}]
)
def test_a_lazy_layer_holds_what_the_other_holds(chunked, model, options):
    adata = small.structured()
    layer, expected = model.impute(adata, lazy=True, **options), model.impute(adata, **options)
    assert isinstance(layer, da.Array) and layer.chunks == ((40, 40, 40, 30), (small.N_VARS,))
    assert layer.dtype == np.float32 and layer.shape == adata.shape
    np.testing.assert_allclose(layer.compute(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer[55:60, [3, 1]].compute(), expected[55:60][:, [3, 1]], rtol=1e-4, atol=1e-5)


def test_only_the_chunks_that_are_looked_at_are_read(chunked, model):
    adata = small.structured()
    adata.X = adata.X.copy()
    adata.X[140, 3] = 0.5
    layer = model.impute(adata, lazy=True)
    assert np.isfinite(layer[:40].compute()).all()
    with pytest.raises(ValueError, match="fractional"):
        layer[130:].compute()


@pytest.mark.parametrize("dense", [False, True])
def test_a_file_that_was_closed_is_said_to_be(chunked, model, tmp_path, dense):
    adata = small.structured()
    adata.X = adata.X.toarray() if dense else adata.X
    adata.write_h5ad(tmp_path / "in.h5ad")
    backed = ad.read_h5ad(tmp_path / "in.h5ad", backed="r")
    layer = model.impute(backed, lazy=True)
    assert np.isfinite(layer[:3].compute()).all()
    backed.file.close()
    with pytest.raises(OSError, match="X lies in a file that has been closed since"):
        layer[:3].compute()


@pytest.mark.parametrize("is_lazy", [False, True])
def test_what_is_next_to_nothing_is_left_out(chunked, model, is_lazy):
    adata = small.structured()
    expected = model.impute(adata)
    found = model.impute(adata, threshold=2.0, lazy=is_lazy)
    if is_lazy:
        assert sp.issparse(found._meta)
        found = found.compute()
    assert sp.issparse(found) and found.format == "csr" and found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), np.where(expected < 2, 0, expected), rtol=1e-4)
    assert found.data.min() >= 2 and found.nnz < expected.size


def test_some_genes_in_half_precision(chunked, model):
    adata = small.structured()
    expected = model.impute(adata)
    genes = list(adata.var_names[[7, 2]])
    found = model.impute(adata, genes=genes, dtype="float16")
    assert found.dtype == np.float16 and found.shape == (small.N_OBS, 2)
    np.testing.assert_allclose(found, expected[:, [7, 2]], rtol=2e-3)


def test_some_genes_of_a_query_in_another_order_with_strangers_and_without_some(chunked, model):
    adata = small.structured()[:, ::-1].copy()[:, 20:]
    adata.var_names = ["stranger", *adata.var_names[1:]]
    expected = model.impute(adata)
    genes = [3, 0, 17, 3]
    found = model.impute(adata, genes=genes, lazy=True)
    np.testing.assert_allclose(found.compute(), expected[:, genes], rtol=1e-4)
    assert np.isnan(found[:, 1].compute()).all() and np.isfinite(found[:, 2].compute()).all()
    counts, conditions = counts_to_apply(adata), model.covariates.conditions(adata)
    whole = lazy.lazy_layer(model.fitted_model(), counts, conditions, 0.9).compute()
    quantile = lazy.lazy_layer(model.fitted_model(), counts, conditions, 0.9, genes=np.array(genes))
    np.testing.assert_allclose(quantile.compute(), whole[:, genes], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1}, "threshold=-1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"dtype": "float16", "threshold": 0.1}, "exclude each other"),
        ({"genes": ["nobody"]}, "nobody"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(model, options, message):
    with pytest.raises(ValueError, match=message):
        model.impute(small.structured(), lazy=True, **options)


def test_impute_writes_lazy_layers(chunked, model, tmp_path):
    adata, other = small.structured(), small.structured()
    for one, is_lazy in ((adata, True), (other, False)):
        scdae.pp.impute(one, model=model, lazy=is_lazy, quantiles=(0.05, 0.95))
    for name in ("scdae", "scdae_q05", "scdae_q95"):
        assert isinstance(adata.layers[name], da.Array)
        np.testing.assert_allclose(adata.layers[name].compute(), other.layers[name], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(adata.obsm["X_scdae"], other.obsm["X_scdae"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(adata[:9].to_memory().layers["scdae"], other.layers["scdae"][:9], rtol=1e-4)
    write_atomic(adata, tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_allclose(read.layers["scdae"], other.layers["scdae"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_sparse_layers_are_written_chunk_by_chunk_with_wide_pointers(chunked, model, tmp_path, ending):
    """Pointers of 64 bits, so that more than 2**31 entries fit."""
    adata = small.structured()
    scdae.pp.impute(adata, model=model, lazy=True, threshold=2.0)
    path = tmp_path / f"a.{ending}"
    write_atomic(adata, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = ad.read_h5ad(path) if ending == "h5ad" else ad.read_zarr(path)
    layer = model.impute(adata, threshold=2.0)
    np.testing.assert_allclose(read.layers["scdae"].toarray(), layer.toarray(), rtol=1e-4, atol=1e-4)
    if ending == "h5ad":
        import h5py

        with h5py.File(path) as file:
            assert file["layers/scdae/indptr"].dtype == np.int64
    else:
        import zarr

        assert zarr.open_group(path, mode="r")["layers/scdae/indptr"].dtype == np.int64


def test_gaps_are_reported(chunked, model):
    adata = small.structured()
    observed = np.ones(adata.shape, bool)
    observed[20:90, 7:20] = False
    for is_lazy in (True, False):
        scdae.pp.impute(adata, model=model, lazy=is_lazy, mask=observed, key_added=str(is_lazy))
    assert adata.uns["True"]["missing"] == adata.uns["False"]["missing"]
    np.testing.assert_allclose(adata.layers["True"].compute(), adata.layers["False"], rtol=1e-3, atol=1e-4)


def test_layers_larger_than_the_free_memory_are_lazy(chunked, model, monkeypatch, log):
    monkeypatch.setattr(chunk_sizes, "available_memory", lambda: 2 * 4 * small.N_OBS * small.N_VARS - 1)
    adata = small.structured()
    scdae.pp.impute(adata, model=model)
    assert isinstance(adata.layers["scdae"], da.Array)
    assert "would take" in log.text and "lazy=False" in log.text
    scdae.pp.impute(adata, model=model, lazy=False)
    assert isinstance(adata.layers["scdae"], np.ndarray)
    scdae.pp.impute(adata, model=model, threshold=1.0)
    assert sp.issparse(adata.layers["scdae"])


def test_free_memory_is_known_here():
    free = lazy.available_memory()
    assert free is None or 2**20 < free < 2**50


@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize(
    "held", [lambda x: x, lambda x: da.from_array(x.toarray(), chunks=(40, 30))], ids=["memory", "dask"]
)
def test_lazy_layers_are_pickled_and_copied(chunked, model, held, threshold):
    adata = small.structured()
    adata.X = held(adata.X)
    scdae.pp.impute(adata, model=model, lazy=True, threshold=threshold)
    expected = scdae.get.imputed(adata)
    for again in (pickle.loads(pickle.dumps(adata)), copy.deepcopy(adata), adata.copy(), adata[:]):
        np.testing.assert_allclose(scdae.get.imputed(again), expected, rtol=1e-5)
    layer = pickle.loads(pickle.dumps(adata.layers["scdae"]))  # without the data around it
    assert layer.shape == expected.shape and layer.dtype == np.float32


def test_shards_of_lazy_layers_lie_within_their_chunks(chunked, model, tmp_path):
    import zarr

    adata = small.structured()
    scdae.pp.impute(adata, model=model, lazy=True)
    write_atomic(adata, tmp_path / "a.zarr")
    found = zarr.open_group(tmp_path / "a.zarr", mode="r")["layers/scdae"]
    assert 40 % (getattr(found, "shards", None) or found.chunks)[0] == 0


@pytest.mark.parametrize("threshold", [None, 2.0])
def test_genes_that_are_asked_for_are_restored_alone(chunked, model, monkeypatch, threshold, log):
    adata = small.structured()
    scdae.pp.impute(adata, model=model, lazy=True, threshold=threshold)
    assert "scdae.get.imputed(adata, genes=[...], key='scdae')" in log.text and "persist()" in log.text
    read, whole = [], lazy.InPlace

    def counted(n_obs, columns, known):
        read.append((n_obs, len(known)))
        return whole(n_obs, columns, known)

    expected = scdae.get.imputed(adata)
    monkeypatch.setattr(lazy, "InPlace", counted)
    found = scdae.get.imputed(adata, genes=["gene_7", "gene_2"])
    assert sum(n_obs for n_obs, _ in read) == small.N_OBS, "each cell once"
    assert {n_genes for _, n_genes in read} == {2}, "two genes of it"
    np.testing.assert_allclose(found, expected[["gene_7", "gene_2"]], rtol=1e-4, atol=1e-4)
    part = adata[5:45]
    np.testing.assert_allclose(
        scdae.get.imputed(part, genes="gene_7"), expected[["gene_7"]][5:45], rtol=1e-4, atol=1e-4
    )
    adata.layers["scdae"] = adata.layers["scdae"].persist()
    read.clear()
    for _ in range(3):
        np.testing.assert_allclose(scdae.get.imputed(adata, genes="gene_7"), expected[["gene_7"]], rtol=1e-4, atol=1e-4)
    assert read == [], "what is held is not restored anew"
