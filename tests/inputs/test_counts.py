import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import scdae.matrices.rows
from scdae.inputs.counts import read_counts

DTYPES = ["bool", "uint8", "int8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64", ">f4", ">i2"]


def _split_entries(x):
    """CSR with unsorted rows in which each entry comes in two parts, and zeros are stored."""
    parts = []
    for row in x:
        j = np.arange(row.size)[::-1]
        half = (row[j] // 2).astype(x.dtype)
        parts.append((np.r_[j, j], np.r_[half, (row[j] - half).astype(x.dtype)]))
    ends = np.cumsum([0] + [len(j) for j, _ in parts])
    return sp.csr_matrix((np.concatenate([v for _, v in parts]), np.concatenate([j for j, _ in parts]), ends), x.shape)


CONTAINERS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr_matrix": sp.csr_matrix,
    "csc_matrix": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "dask dense": lambda x: da.from_array(x, chunks=(2, 3)),
    "dask csr_matrix": lambda x: da.from_array(x, chunks=(2, 3)).map_blocks(sp.csr_matrix),
    "dask csr_array": lambda x: da.from_array(x, chunks=(3, -1)).map_blocks(sp.csr_array),
    "dask csc_matrix": lambda x: da.from_array(x, chunks=(3, 2)).map_blocks(sp.csc_matrix),
}
SCIPY_HAS_NO = ("float16", ">f4", ">i2")


def _wrap(matrix, **parts):
    n, g = matrix.shape
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(n)])
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"gene{j}" for j in range(g)]), **parts)


def _memory(matrix):
    """Copies of all buffers, and the buffers."""
    buffers = [matrix] if isinstance(matrix, np.ndarray) else [matrix.data, matrix.indices, matrix.indptr]
    return [b.copy() for b in buffers], buffers


def _check_canonical(counts, expected):
    m = counts.matrix
    assert m.format == "csr"
    assert m.dtype == np.float32
    np.testing.assert_array_equal(m.toarray(), expected)
    rebuilt = sp.csr_matrix((m.data, m.indices, m.indptr), m.shape)
    assert rebuilt.has_canonical_format
    assert (m.data != 0).all()


small_counts = hnp.arrays(
    np.int64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7), elements=st.integers(0, 9)
).filter(lambda x: x.any())


@settings(deadline=None, max_examples=150)
@given(x=small_counts, dtype=st.sampled_from(DTYPES), container=st.sampled_from(sorted(CONTAINERS)))
def test_same_values_from_every_container_and_dtype(x, dtype, container):
    if dtype in SCIPY_HAS_NO and container not in ("dense", "fortran", "dask dense"):
        dtype = "float32"
    x = (x > 0) if dtype == "bool" else x
    matrix = CONTAINERS[container](x.astype(dtype))
    _check_canonical(read_counts(_wrap(matrix)), x)


@settings(deadline=None, max_examples=60)
@given(x=small_counts, block=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_blocks_of_any_size_give_the_same(x, block, share, seed):
    mask = np.random.default_rng(seed).random(x.shape) >= share
    if not (x * mask).any():
        return
    whole = read_counts(_wrap(x.astype("f4")), mask=mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scdae.matrices.rows, "BLOCK_VALUES", block)
        cut = read_counts(_wrap(sp.csc_matrix(x.astype("f4"))), mask=sp.csr_matrix(mask))
    np.testing.assert_array_equal(whole.matrix.toarray(), x * mask)
    np.testing.assert_array_equal(cut.matrix.toarray(), x * mask)
    for counts in (whole, cut):
        hidden = np.zeros(x.shape, bool) if counts.unobserved is None else counts.unobserved.toarray()
        np.testing.assert_array_equal(hidden, ~mask)
        assert (counts.unobserved is None) == bool(mask.all())


@settings(deadline=None, max_examples=60)
@given(x=small_counts, dtype=st.sampled_from(["uint8", "int16", "float32", "float64"]), writable=st.booleans())
def test_input_memory_is_neither_changed_nor_shared(x, dtype, writable):
    x = x.astype(dtype)
    for matrix in (x, sp.csr_matrix(x), sp.csr_array(x), sp.csc_matrix(x), _split_entries(x)):
        before, buffers = _memory(matrix)
        for b in buffers:
            b.flags.writeable = writable
        counts = read_counts(_wrap(matrix))
        _check_canonical(counts, x)
        assert all(np.array_equal(a, b) for a, b in zip(before, buffers, strict=True))
        own = [counts.matrix.data, counts.matrix.indices, counts.matrix.indptr]
        assert not any(np.shares_memory(a, b) for a in own for b in buffers)


def test_float16_sparse_values():
    half = sp.csr_matrix(np.diag([1.0, 2.0, 3.0]).astype("f4"))
    half.data = half.data.astype("f2")
    _check_canonical(read_counts(_wrap(np.ones((3, 3)), layers={"half": half}), layer="half"), np.diag([1, 2, 3]))


def test_repeated_small_integers_do_not_overflow():
    m = sp.csr_matrix(
        (np.array([200, 200, 1], "u1"), np.array([0, 0, 1], "i4"), np.array([0, 2, 3], "i4")), shape=(2, 2)
    )
    _check_canonical(read_counts(_wrap(m)), [[400, 0], [0, 1]])


def test_halves_that_add_up_to_whole_numbers_are_counts():
    m = sp.csr_matrix((np.array([0.5, 0.5, 1.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    counts = read_counts(_wrap(m))
    _check_canonical(counts, [[0, 1], [1, 0]])
    assert not counts.fractional


@pytest.mark.parametrize("fmt", ["coo", "lil", "dok", "bsr", "dia"])
def test_other_sparse_formats(fmt):
    x = np.array([[0, 3, 0], [1, 0, 0], [0, 0, 2]])
    rows = scdae.matrices.rows.open_rows(sp.csr_matrix(x).asformat(fmt), "m")
    np.testing.assert_array_equal(np.vstack([rows.read(a, b).toarray() for a, b in rows.spans()]), x)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("fmt", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_on_disk(tmp_path, fmt, suffix):
    x = np.random.default_rng(0).poisson(1.0, (40, 9)).astype("f4")
    adata, path = _wrap(fmt(x)), tmp_path / f"a.{suffix}"
    if suffix == "h5ad":
        adata.write_h5ad(path)
        backed = ad.read_h5ad(path, backed="r")
        _check_canonical(read_counts(backed), x)
        _check_canonical(read_counts(backed[3:17]), x[3:17])
        backed.file.close()
    else:
        import zarr

        adata.write_zarr(path)
        element = zarr.open(path, mode="r")["X"]
        matrix = element if fmt is np.asarray else ad.io.sparse_dataset(element)
        rows = scdae.matrices.rows.open_rows(matrix, "X")
        blocks = [scdae.matrices.rows.canonical_csr(rows.read(a, b)) for a, b in rows.spans()]
        np.testing.assert_array_equal(sp.vstack(blocks).toarray(), x)


def test_view_and_layer():
    x = np.arange(12).reshape(4, 3)
    adata = _wrap(np.ones((4, 3)), layers={"counts": sp.csr_matrix(x)})
    counts = read_counts(adata[[3, 1], [2, 0]], layer="counts")
    _check_canonical(counts, x[np.ix_([3, 1], [2, 0])])
    assert list(counts.obs_names) == ["cell3", "cell1"]
    assert list(counts.var_names) == ["gene2", "gene0"]


def test_dask_chunks_are_computed_once_each():
    calls = []

    def load(block):
        calls.append(block.shape)
        return block

    x = np.random.default_rng(0).poisson(1.0, (40, 9))
    lazy = da.from_array(x, chunks=(7, 9)).map_blocks(load, dtype=x.dtype, meta=x[:0])
    _check_canonical(read_counts(_wrap(lazy)), x)
    assert sum(n for n, _ in calls) == 40


def test_one_query_cell_without_counts_goes_through():
    counts = read_counts(_wrap(np.zeros((1, 3))), for_fit=False)
    assert counts.matrix.shape == (1, 3)
    assert counts.matrix.nnz == 0
