"""Names and text in files are in the form that readers outside of Python and older ones know."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from scdae.io.write import write_atomic
from scdae.parts.store import write_annotations


def _adata():
    obs = pd.DataFrame(
        {
            "text": ["a", "b", "c"],
            "type": pd.Categorical(["T", "B", "T"]),
            "string": pd.array(["a", "b", "c"], dtype="string"),
            "missing": pd.array(["a", None, "c"], dtype="string"),
        },
        index=pd.Index(["x", "y", "z"]).astype("string"),
    )
    return ad.AnnData(np.ones((3, 2), np.float32), obs=obs, uns={"table": obs[["text"]].copy()})


def _kinds(root):
    return {
        name: root[name].attrs["encoding-type"]
        for name in (
            "obs/_index", "var/_index", "obs/text", "obs/type/categories", "obs/string", "obs/missing", "uns/table/_index"
        )
    }  # fmt: skip


EXPECTED = {
    "obs/_index": "string-array",
    "var/_index": "string-array",
    "obs/text": "string-array",
    "obs/type/categories": "string-array",
    "obs/string": "nullable-string-array",
    "obs/missing": "nullable-string-array",
    "uns/table/_index": "string-array",
}


@pytest.mark.parametrize("target", ["a.h5ad", "a.zarr", "parts.zarr"])
@pytest.mark.parametrize("as_str", [False, True])
def test_text_has_a_mask_only_where_a_value_can_be_missing(tmp_path, target, as_str):
    adata = _adata()
    if as_str:  # as pandas 3 has all text
        for frame in (adata.obs, adata.uns["table"]):
            frame["text"] = pd.array(["a", "b", "c"], dtype=pd.StringDtype("python", na_value=np.nan))
        adata.obs["type"] = adata.obs["type"].cat.rename_categories(
            pd.Index(pd.array(["B", "T"], dtype=pd.StringDtype("python", na_value=np.nan)))
        )
    path = tmp_path / target
    if target == "parts.zarr":
        zarr.open_group(path, mode="w").attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_annotations(path, {"obs": adata.obs, "var": adata.var, "uns": dict(adata.uns)})
    else:
        write_atomic(adata, path)
    if target == "a.h5ad":
        with h5py.File(path) as file:
            assert _kinds(file) == EXPECTED
    else:
        found = _kinds(zarr.open_group(path, mode="r"))
        names = [name for name in EXPECTED if name.endswith("_index")]
        assert {name: found[name] for name in names} == {name: EXPECTED[name] for name in names}
    back = ad.read_h5ad(path) if target == "a.h5ad" else ad.read_zarr(path)
    assert list(back.obs_names) == ["x", "y", "z"] and list(back.obs["text"]) == ["a", "b", "c"]
    assert list(back.obs["missing"].isna()) == [False, True, False] and str(back.obs["string"].dtype) == "string"
    assert list(back.obs["type"]) == ["T", "B", "T"]
