"""AnnData files of other versions, and such as are not whole."""

import shutil
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from anndata.io import write_elem

import scdae.io.hdf5
from scdae.inputs.counts import read_counts
from scdae.io.on_disk import join_files, open_on_disk, stored_entries
from scdae.io.read import read_any
from scdae.io.write import write_atomic

X = np.random.default_rng(0).poisson(1.0, (6, 5)).astype("f4")


def _adata():
    obs = pd.DataFrame({"donor": list("aabbcc")}, index=[f"c{i}" for i in range(6)])
    return ad.AnnData(sp.csr_matrix(X), obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(5)]))


def _old(path):
    """As AnnData before 0.7 wrote sparse matrices."""
    write_atomic(_adata(), path)
    with h5py.File(path, "r+") as file:
        shape = file["X"].attrs["shape"]
        for key in list(file["X"].attrs):
            del file["X"].attrs[key]
        file["X"].attrs["h5sparse_format"], file["X"].attrs["h5sparse_shape"] = "csr", shape
    return path


def _older(path):
    """As AnnData 0.6 wrote data frames: one record a row, categories in uns."""
    _old(path)
    with h5py.File(path, "r+") as file:
        for name in ("obs", "var", "obsm", "varm", "layers", "uns", "obsp", "varp"):
            if name in file:
                del file[name]
        for key in list(file.attrs):
            del file.attrs[key]
        obs = np.array([(f"c{i}".encode(), i // 2) for i in range(6)], dtype=[("index", "S2"), ("donor", "i1")])
        file["obs"] = obs
        file["var"] = np.array([(f"g{j}".encode(),) for j in range(5)], dtype=[("index", "S2")])
        file["uns/donor_categories"] = np.array([b"a", b"b", b"c"])
    return path


@pytest.mark.parametrize("write", [_old, _older])
def test_files_of_anndata_before_0_7(tmp_path, write):
    path = write(tmp_path / "old.h5ad")
    assert stored_entries(path) == np.count_nonzero(X)
    write_atomic(_adata(), tmp_path / "new.h5ad")
    for adata in (read_any(path), open_on_disk(path)):
        np.testing.assert_array_equal(read_counts(adata).matrix.toarray(), X)
        assert list(adata.obs["donor"]) == list("aabbcc") and list(adata.obs_names) == list(_adata().obs_names)
    joint = join_files([path, tmp_path / "new.h5ad"])
    np.testing.assert_array_equal(joint.X.compute().toarray(), np.vstack([X, X]))


@pytest.mark.parametrize("place", ["uns/note", "obsm/note", "layers/note", "obs/note", "uns/deep/er/note"])
def test_elements_that_this_anndata_does_not_know_are_left_out_and_named(tmp_path, log, place):
    adata = _adata()
    adata.uns["kept"] = {"a": 1}
    adata.layers["two"], adata.obsm["p"] = adata.X * 2, np.ones((6, 2))
    adata.raw = adata.copy()
    write_atomic(adata, tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        file[place] = np.ones((6, 5))
        file[place].attrs["encoding-type"], file[place].attrs["encoding-version"] = "tensor", "0.1.0"
        if place == "obs/note":
            file["obs"].attrs["column-order"] = np.array(["donor", "note"], dtype=object)
    back = read_any(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), X)
    assert "note" in log.text and "tensor 0.1.0" in log.text and "update anndata" in log.text
    assert back.uns["kept"] == {"a": 1} and list(back.obs["donor"]) == list("aabbcc")
    assert set(back.layers) - {None} == {"two"} and list(back.obsm) == ["p"] and back.raw.shape == (6, 5)


def test_unknown_counts_are_an_error(tmp_path):
    write_atomic(_adata(), tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        file["X"].attrs["encoding-type"] = "tensor"
    with pytest.raises(ValueError, match=r"a.h5ad cannot be read: X \(tensor 0.1.0\) is of a kind .* update anndata"):
        read_any(tmp_path / "a.h5ad")


def test_raw_is_opened_on_disk(tmp_path):
    adata = _adata()
    adata.raw = adata.copy()
    adata = adata[:, :3].copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()))
    write_atomic(adata, tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read_counts(open_on_disk(tmp_path / "a.h5ad", raw=True)).matrix.toarray(), X)
    assert join_files([tmp_path / "a.h5ad"], layer="raw").shape == (6, 5)
    write_atomic(_adata(), tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=r"b.h5ad cannot be read: it has no .raw"):
        join_files(tmp_path / "*.h5ad", layer="raw")


def test_one_of_several_files_is_named(tmp_path):
    adata = _adata()
    adata.layers["umi"] = adata.X
    write_atomic(adata, tmp_path / "a.h5ad")
    write_atomic(_adata(), tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=r"layer='umi' is not in .*b.h5ad. Layers there: none"):
        join_files(tmp_path / "*.h5ad", layer="umi")
    whole = (tmp_path / "b.h5ad").read_bytes()
    (tmp_path / "b.h5ad").write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"b.h5ad cannot be read: it is truncated or damaged"):
        join_files(tmp_path / "*.h5ad")
    empty = _adata()
    empty.X = None
    write_atomic(empty, tmp_path / "b.h5ad", overwrite=True)
    with pytest.raises(ValueError, match=r"b.h5ad has no X"):
        join_files(tmp_path / "*.h5ad")
    (tmp_path / "b.h5ad").write_text("gene,cell\n")
    with pytest.raises(ValueError, match=r"b.h5ad is a kind that cannot be read here: text"):
        join_files(tmp_path / "*.h5ad")


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        ("X", {"shape": (6, 10**9)}, "X is 6 x 1000000000, but obs and var 6 x 5"),
        ("X", {"shape": (2**62, 5)}, "but obs and var 6 x 5"),
        ("X", {"shape": (-6, 5)}, "the shape of X is"),
        ("X/indptr", lambda x: x[:-1], "X has 6 pointers, but 7 are needed"),
        ("X/indptr", lambda x: np.minimum(x, 3), "the pointers of X end at 3, but it has"),
        ("X/indptr", lambda x: np.where(np.arange(len(x)) == 3, 10**9, x), "do not rise from 0"),
        ("X/indices", lambda x: x[:-1], "values, but"),
        ("X/indices", lambda x: x + 10**6, "."),
        ("X/data", None, "X lacks data"),
        ("obs/_index", None, "obs has no names"),
        ("var/_index", lambda x: x[:-1], "X is 6 x 5, but obs and var 6 x 4"),
    ],
)
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_parts_that_do_not_fit(tmp_path, place, change, words, suffix):
    import zarr

    path = tmp_path / f"a{suffix}"
    write_atomic(_adata(), path)
    file = h5py.File(path, "r+") if suffix == ".h5ad" else zarr.open_group(path, mode="r+", use_consolidated=False)
    if isinstance(change, dict):
        file[place].attrs.update({key: list(value) for key, value in change.items()})
    else:
        if change is not None and hasattr(file[place], "keys"):  # names, as anndata 0.13 writes them
            place = f"{place}/values"
        old = file[place]
        values, attributes = None if change is None else old[:], dict(old.attrs)
        del file[place]
        if change is not None:
            options = {"data": change(values)} | ({"dtype": old.dtype} if values.dtype == object else {})
            new = (
                file.create_dataset(place, **options)
                if suffix == ".h5ad"
                else file.create_array(place, data=change(values))
            )
            new.attrs.update(attributes)
    if suffix == ".h5ad":
        file.close()
    else:
        _consolidate(path)
    for read in (read_any, open_on_disk):
        with pytest.raises(ValueError, match=words) as caught:
            read_counts(read(path))
        assert "\n" not in str(caught.value)


def _consolidate(path):
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of format 3
        zarr.consolidate_metadata(path)


def _chunks(folder):
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".json" and not p.name.startswith(".z")]


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize(("ending", "chunks"), [("zarr", (50, 20)), ("zarr", (50, 60)), ("h5ad", (50, 20))])
def test_a_lost_chunk_of_a_dense_matrix_is_an_error_and_one_of_zeros_is_not(tmp_path, ending, chunks, log):
    """zarr itself writes no chunks of nothing but zeros: those of genes without counts, and of gaps, are no fault."""
    x = np.random.default_rng(0).poisson(1.0, (200, 60)).astype("f4")
    x[:, 40:] = 0
    mask = np.ones(x.shape, bool)
    mask[:50, :20] = False
    path = tmp_path / f"a.{ending}"
    adata = ad.AnnData(x, layers={"observed": mask})
    if ending == "zarr":
        adata.write_zarr(path, chunks=chunks)
        chosen = _chunks(path / "X")[-1]  # of the last cells
    else:
        adata.write_h5ad(path)
        with h5py.File(path, "r+") as file:
            attributes = dict(file["X"].attrs)
            del file["X"]
            lacking = file.create_dataset("X", x.shape, "f4", chunks=chunks)
            lacking.attrs.update(attributes)
            lacking[:150] = x[:150]
    if ending == "zarr":
        read_any(path)
        sharded = zarr.open_array(path / "X", mode="r").shards is not None  # then the zeros are in a file with others
        assert log.text.count("are not in the store") == (chunks[1] < 60 and not sharded)
        chosen.unlink()
    with pytest.raises(ValueError, match=rf"a\.{ending}.*damaged \(\d of \d+ chunks of X are not there; one of them"):
        read_any(path)


@pytest.mark.parametrize("part", ["X/indices", "X/data", "X/indptr", "obs/_index"])
def test_a_lost_chunk_of_a_store_is_an_error(tmp_path, part):
    x = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (4000, 60)).astype("f4"))
    write_atomic(ad.AnnData(x), tmp_path / "a.zarr")
    import zarr

    store = zarr.open_group(tmp_path / "a.zarr", mode="r+", use_consolidated=False)
    part = f"{part}/values" if hasattr(store[part], "keys") else part
    old = store[part]
    values, attributes = old[:], dict(old.attrs)
    del store[part]
    new = store.create_array(part, shape=values.shape, dtype=old.dtype, chunks=(len(values) // 3,))
    new[:] = values
    new.attrs.update(attributes)
    _consolidate(tmp_path / "a.zarr")
    assert read_any(tmp_path / "a.zarr").shape == (4000, 60)
    _chunks(tmp_path / "a.zarr" / part)[1].unlink()
    for read in (read_any, open_on_disk):
        with pytest.raises(ValueError, match=r"a.zarr cannot be read: it is truncated or damaged .* are not there"):
            read(tmp_path / "a.zarr")


def test_zeros_that_were_written_down_are_no_loss(tmp_path):
    x = sp.csr_matrix((np.zeros(3, "f4"), [0, 0, 0], [0, 1, 2, 3]), shape=(3, 2))
    adata = ad.AnnData(sp.csr_matrix(np.ones((3, 2), "f4")), layers={"none": x})
    write_atomic(adata, tmp_path / "a.zarr")
    assert read_any(tmp_path / "a.zarr").layers["none"].sum() == 0


def test_compressed_by_a_plugin(tmp_path, monkeypatch):
    plugin = pytest.importorskip("hdf5plugin")
    _adata().write_h5ad(tmp_path / "z.h5ad", compression=plugin.Zstd())
    np.testing.assert_array_equal(read_any(tmp_path / "z.h5ad").X.toarray(), X)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number != 32015)
    monkeypatch.setitem(__import__("sys").modules, "hdf5plugin", None)
    with pytest.raises(ValueError, match=r"z.h5ad cannot be read: .* filter 32015 \(Zstd\).* pip install hdf5plugin"):
        read_any(tmp_path / "z.h5ad")


def test_a_part_larger_than_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scdae.io.hdf5, "_LEAST", 1000)
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_dataset("X", shape=(10**6, 10**6), chunks=(10, 10), dtype="f4")
        file["obs/_index"], file["var/_index"] = np.arange(3), np.arange(3)
    with pytest.raises(ValueError, match=r"X would take 4,000,000,000,000 bytes"):
        read_any(tmp_path / "a.h5ad")


def test_tables_of_a_spatialdata_store_are_named(tmp_path):
    import zarr

    store = tmp_path / "s.zarr"
    group = zarr.open_group(store, mode="w")
    for name in ("images", "shapes", "tables"):
        group.create_group(name)
    for name in ("one", "two"):
        write_atomic(_adata(), store / "tables" / f"{name}.zarr")
        (store / "tables" / f"{name}.zarr").rename(store / "tables" / name)
    for path in (store, store / "tables"):
        with pytest.raises(ValueError, match=r"2 table\(s\).*tables.one, .*tables.two"):
            read_any(path)
    assert read_any(store / "tables" / "one").shape == (6, 5)
    shutil.rmtree(store / "tables")
    with pytest.raises(ValueError, match="holds no AnnData"):
        read_any(store)


@pytest.mark.filterwarnings("ignore:.*[Cc]onsolidated metadata", "ignore:.*zarr v[23]")
@pytest.mark.parametrize("lost", [None, "indptr", "indices"])
def test_shards_longer_than_their_arrays_are_whole_and_a_lost_one_is_found(tmp_path, lost):
    """As annbatch writes them: zarr counts the chunks that a shard has room for, also where there is nothing."""
    path, matrix = tmp_path / "a.zarr", sp.csr_matrix(X)
    root = zarr.open_group(path, mode="w", zarr_format=3)
    write_elem(root, "/", _adata())
    for name in ("data", "indices", "indptr"):
        values = getattr(matrix, name)
        form = {"shape": values.shape, "dtype": values.dtype, "chunks": (4,), "shards": (12,)}
        root.create_array(f"X/{name}", attributes=dict(root["X"][name].attrs), overwrite=True, **form)[:] = values
    if lost is None:
        np.testing.assert_array_equal(read_counts(open_on_disk(path)).matrix.toarray(), X)
        return
    _chunks(path / "X" / lost)[0].unlink()
    with pytest.raises(ValueError, match=f"damaged .*{'pointers' if lost == 'indptr' else lost} of X"):
        open_on_disk(path)
