"""What is said to be writable is, and what is not is named; anndata itself is asked."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scdae.files.writable import check_writable
from scdae.io.write import write_atomic


def _adata(**parts):
    obs = pd.DataFrame({"a": list("xyz")}, index=list("abc"))
    return ad.AnnData(sp.csr_matrix(np.ones((3, 2), "f4")), obs=obs, var=pd.DataFrame(index=["g", "h"]), **parts)


_UNS = {
    "object": object(),
    "none": None,
    "set": {1},
    "tuple": (1, 2),
    "function": len,
    "deep": {"x": {"y": {1, 2}}},
    "number as key": {1: 2},
    "slash": {"a/b": 1},
    "empty": {},
    "bytes": b"x",
    "date": pd.Timestamp("2020"),
    "mixed table": pd.DataFrame({"m": [1, "a"]}),
    "table": pd.DataFrame({"m": [1, 2]}),
    "mixed": np.array([1, "a", None], object),
    "text": np.array(["a", "b"]),
    "large": 10**30,
    "ragged": [[1, 2], [3]],
}
_OBS = {
    "mixed": [1, "a", None],
    "dates": pd.to_datetime(["2020"] * 3),
    "text": ["a", None, "b"],
    "mixed categories": pd.Categorical([1, "a", 2]),
    "intervals": pd.cut([1, 2, 3], 2),
    "nullable text": pd.array(["a", None, "b"], dtype="string"),
    "nullable numbers": pd.array([1, None, 2], dtype="Int64"),
}


def _agree(adata, path, name):
    try:
        write_atomic(adata, path)
        writes = True
    except Exception:  # noqa: BLE001  (whatever anndata, h5py and zarr raise)
        writes = False
    if writes:
        check_writable(adata, path)
        return
    with pytest.raises(ValueError, match="cannot be written to out") as caught:
        check_writable(adata, path)
    text = str(caught.value)
    assert name in text and "\n" not in text and len(text) < 400


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("key", _UNS)
def test_uns(tmp_path, key, suffix):
    _agree(_adata(uns={key: _UNS[key], "fine": 1}), tmp_path / f"out{suffix}", f"uns[{key!r}]")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("key", _OBS)
def test_columns(tmp_path, key, suffix):
    adata = _adata()
    adata.obs[key] = _OBS[key]
    _agree(adata, tmp_path / f"out{suffix}", f"obs[{key!r}]")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("key", [3, (1, 2)])
def test_names_of_columns_that_are_no_text(tmp_path, key, suffix):
    adata = _adata()
    adata.var[key] = [1.0, 2.0]
    with pytest.raises(ValueError, match=r"cannot be written to out"):
        check_writable(adata, f"out{suffix}")
    _agree(adata, tmp_path / f"out{suffix}", f"var[{key!r}]")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_other_places(tmp_path, suffix):
    adata = _adata()
    adata.layers["a/b"] = adata.X
    _agree(adata, tmp_path / f"out{suffix}", "layers['a/b']")
    adata = _adata()
    adata.obsm["d"] = pd.DataFrame({"m": [1, "a", 2]}, index=adata.obs_names)
    _agree(adata, tmp_path / f"out2{suffix}", "obsm['d']['m']")
    adata = _adata()
    adata.obs.index.name = 3
    _agree(adata, tmp_path / f"out3{suffix}", "obs_names")
    adata = _adata()
    adata.obs.index = pd.Index(adata.obs_names.astype("string"))  # as anndata 0.13 reads names
    adata.obs["more"] = pd.array(["a", "b", None], dtype="string")
    write_atomic(adata, tmp_path / f"out4{suffix}")
    check_writable(adata, tmp_path / f"out4{suffix}")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_empty_names(suffix):
    # anndata writes some of them, over the table or the group that they are in
    adata = _adata(uns={"k": {"": 1}, "": 2})
    adata.obs[""] = [1, 2, 3]
    adata.var.index.name = ""
    adata.layers[""] = adata.X
    adata.obsm["d"] = pd.DataFrame({"": [1, 2, 3], "m": [1, "a", 2]}, index=adata.obs_names)
    with pytest.raises(
        ValueError, match=r"obs\[''\], var.index.name, uns\['k'\]\[''\], uns\[''\], layers\[''\], \.\.\. cannot"
    ):
        check_writable(adata, f"out{suffix}")
    del adata.obs[""], adata.uns["k"], adata.uns[""], adata.layers[""]
    adata.var.index.name = None
    with pytest.raises(
        ValueError,
        match=r"obsm\['d'\]\[''\], obsm\['d'\]\['m'\] cannot .* \(its name is empty\)"
        if suffix == ".h5ad"
        else r"obsm\['d'\]\[''\] cannot",
    ):
        check_writable(adata, f"out{suffix}")
    del adata.obsm["d"]
    check_writable(adata, f"out{suffix}")


def test_the_first_five_are_named_and_results_alone_need_less():
    adata = _adata(uns={f"k{i}": {i} for i in range(9)})
    with pytest.raises(ValueError, match=r"uns\['k4'\], \.\.\. cannot be written to a.h5ad \(it is a set\)"):
        check_writable(adata, "a.h5ad")
    check_writable(adata, "a.h5ad", alone=True)


@pytest.mark.parametrize("where", ["uns", "deep", "obs", "layers"])
def test_names_that_no_folder_can_have(tmp_path, where):
    adata, name = _adata(), "n" * 256
    {"uns": adata.uns, "deep": adata.uns.setdefault("d", {}), "obs": adata.obs, "layers": adata.layers}[where][name] = (
        adata.X if where == "layers" else [1, 2, 3]
    )
    check_writable(adata, tmp_path / "out.h5ad")
    with pytest.raises(ValueError, match=r"\['n{20}\.\.\.'\] cannot be written to out\.zarr \(its name has 256 bytes"):
        check_writable(adata, tmp_path / "out.zarr")
