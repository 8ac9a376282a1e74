"""A Series or a DataFrame is taken by its names, wherever one may be given."""

import functools

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scdae
import small
from scdae.arguments.by_name import by_name, table_by_name
from scdae.arguments.selection import positions

NAMES = pd.Index(["a", "b", "c"])


@functools.cache
def model():
    return small.fit(max_epochs=2)


def shuffled(table):
    return table.sample(frac=1, random_state=1)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pd.Series([3.0, 1.0, 2.0], index=list("cab")), "f8"),
        (pd.Series([3, 1, 2, 9], index=list("cabz"), dtype="Int64"), "i8"),
        (pd.DataFrame({"depth": [3, 1, 2]}, index=pd.CategoricalIndex(list("cab"))), "i8"),
    ],
)
def test_series_by_name(values, dtype):
    found = by_name(values, NAMES, "depth")
    np.testing.assert_array_equal(found, [1, 2, 3])
    assert found.dtype == dtype


def test_gaps_and_booleans():
    gaps = by_name(pd.Series([None, 1, 2], index=list("cab"), dtype="Int64"), NAMES, "depth")
    np.testing.assert_array_equal(gaps, [1, 2, np.nan])
    flags = by_name(pd.Series([True, False, True], index=list("cab"), dtype="boolean"), NAMES, "normal")
    assert flags.dtype == bool and flags.tolist() == [False, True, True]
    array = np.arange(3)
    assert by_name(array, NAMES, "depth") is array and by_name(3.0, NAMES, "depth") == 3.0


def test_names_may_be_numbers_and_repeated_ones_are_fine_in_the_same_order():
    index = pd.Index(["0", "1", "2"])
    np.testing.assert_array_equal(by_name(pd.Series([5, 6, 7], index=[2, 0, 1]), index, "depth"), [6, 7, 5])
    twice = pd.Index(["a", "a", "b"])
    np.testing.assert_array_equal(by_name(pd.Series([1, 2, 3], index=twice), twice, "depth"), [1, 2, 3])
    with pytest.raises(ValueError, match=r"repeats 1 name\(s\), the first being 'a'.*an array in the order of adata"):
        by_name(pd.Series([1, 2, 3], index=list("aab")), NAMES, "depth")
    with pytest.raises(ValueError, match=r"adata\.obs_names repeat 1 name\(s\)"):
        by_name(pd.Series([1, 2], index=list("ba")), twice, "depth")


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match="2 of the 3 names in adata.obs_names are not in its index, the first being 'b'"
    ):
        by_name(pd.Series([1.0, 2.0, 3.0], index=list("axy")), NAMES, "depth")
    with pytest.raises(ValueError, match="3 of the 3 names .* it has names such as '0'"):
        by_name(pd.Series([1.0, 2.0, 3.0]), NAMES, "depth")
    with pytest.raises(ValueError, match="depth is a table of 2 columns"):
        by_name(pd.DataFrame({"x": [1], "y": [2]}), NAMES, "depth")


def test_tables_by_name():
    seen = pd.DataFrame([[True, False], [False, True]], index=["b", "a"], columns=["g2", "g1"])
    obs, var = pd.Index(["a", "b"]), pd.Index(["g1", "g2"])
    assert table_by_name(seen, obs, var, "mask").tolist() == [[True, False], [False, True]]
    assert table_by_name(seen.astype("boolean"), obs, var, "mask").dtype == bool
    with pytest.raises(ValueError, match="1 of the 1 names in adata.var_names are not in its columns"):
        table_by_name(seen, obs, pd.Index(["g7"]), "mask")


def test_positions_take_flags_by_name_and_refuse_nothing():
    flags = pd.Series([True, False, True], index=list("cab"))
    assert positions(NAMES, flags, "cells").tolist() == [1, 2]
    assert positions(NAMES, flags.astype("boolean").to_frame(), "cells").tolist() == [1, 2]
    assert positions(NAMES, pd.Series(["c", "a"], index=[7, 8]), "cells").tolist() == [2, 0]
    assert positions(NAMES, np.array([True, False, False], dtype=object), "cells").tolist() == [0]
    assert set(positions(NAMES, {"a", "c"}, "cells")) == {0, 2}
    for nothing in ([], np.zeros(3, bool), slice(0, 0), pd.Series([], dtype=str)):
        with pytest.raises(ValueError, match="genes: nothing is chosen, the list is empty"):
            positions(NAMES, nothing, "genes")
    with pytest.raises(ValueError, match="cells has no value in 1 of 3 places"):
        positions(NAMES, pd.array([True, None, False], dtype="boolean"), "cells")
    with pytest.raises(ValueError, match="genes: 1 of 1 names are not there, the first being 'A'. Did you mean 'a'"):
        positions(NAMES, ["A"], "genes")
    with pytest.raises(ValueError, match="cells is a table"):
        positions(NAMES, pd.DataFrame({"x": [1, 2, 3]}), "cells")


def test_depth_by_name():
    adata = small.structured()
    depth = pd.Series(np.geomspace(100, 1e5, adata.n_obs), index=adata.obs_names)
    right = model().impute(adata, output="log1p", depth=depth.to_numpy())
    np.testing.assert_array_equal(model().impute(adata, output="log1p", depth=shuffled(depth)), right)
    scdae.pp.impute(adata, model=model(), output="log1p", depth=shuffled(depth))
    np.testing.assert_array_equal(adata.layers["scdae"], right)
    np.testing.assert_allclose(adata.uns["scdae"]["depth"], depth, rtol=1e-6)
    for wrong, words in (
        (depth[:-1], "depth is taken by name, but 1 of the 150 names"),
        (depth.where(depth > 200), rf"first: nan, cell {adata.obs_names[0]!r}\)"),
        ("total_counts", "depth='total_counts': use a number of molecules"),
        (depth.astype(str) + "x", "depth holds .* values"),
    ):
        with pytest.raises(ValueError, match=words):
            model().impute(adata, output="log1p", depth=wrong)


def test_mask_by_name():
    adata = small.structured()
    seen = np.random.default_rng(0).random(adata.shape) < 0.9
    table = pd.DataFrame(seen, adata.obs_names, adata.var_names)
    mixed = shuffled(shuffled(table).T).T
    right = model().impute(adata, mask=seen)
    np.testing.assert_array_equal(model().impute(adata, mask=mixed), right)
    some = model().posterior(adata, mask=mixed, cells=[7, 3], genes=[1, 2])
    np.testing.assert_allclose(some.mean, right[[7, 3]][:, [1, 2]], rtol=1e-3)
    normal = np.arange(adata.n_obs) < 60
    for marks, mask in ((normal, seen), (shuffled(pd.Series(normal, adata.obs_names)), mixed)):
        scdae.tl.anomaly_score(adata, model(), normal=marks, mask=mask, overwrite=True)
        found = adata.obs["anomaly"].to_numpy(copy=True)
        if mask is seen:
            first = found
    np.testing.assert_array_equal(found, first)
    with pytest.raises(TypeError, match="mask is a pandas Series"):
        model().impute(adata, mask=table.iloc[:, 0])


def test_normal_by_name_and_with_gaps():
    adata = small.structured()
    ok = pd.Series(np.arange(adata.n_obs) < 60, index=adata.obs_names)
    scdae.tl.anomaly_score(adata, model(), normal=shuffled(ok))
    assert (adata.obs["anomaly_fdr"].isna() == ok).all()
    some = pd.Series(ok.index.isin(["cell_99", "cell_120"]), index=ok.index)
    one = scdae.tl.anomaly_genes(adata, model(), ["cell_99", "cell_120"], normal=ok, n=3)
    other = scdae.tl.anomaly_genes(adata, model(), shuffled(some), normal=shuffled(ok), n=3)
    pd.testing.assert_frame_equal(one, other)
    adata.obs["gaps"] = pd.array([None] * 4 + [True] * (adata.n_obs - 4), dtype="boolean")
    adata.obs["kind"] = "normal"
    adata.obs["kind"] = adata.obs["kind"].astype("category")
    for wrong, words in (
        ("gaps", r"obs\['gaps'\] has no value in 4 of 150 cells, the first being 'cell_1'.*fillna\(False\)"),
        (ok[5:], "normal is taken by name, but 5 of the 150 names"),
        ("kind", r"but 150 have other values, the first being 'cell_1' with 'normal'"),
        ("Gaps", r"normal='Gaps' not found in adata.obs.* Did you mean 'gaps'"),
        (["cell_1", "cell_2"], r"normal has shape \(2,\).*obs_names\.isin"),
    ):
        with pytest.raises(ValueError, match=words):
            scdae.tl.anomaly_score(adata, model(), normal=wrong)


def test_cells_by_name():
    adata = small.structured()
    flags = pd.Series(np.arange(adata.n_obs) == 7, index=adata.obs_names)
    one = model().posterior(adata, cells=shuffled(flags))
    assert list(one.obs_names) == [adata.obs_names[7]]
    draws = [next(scdae.tl.sample(adata, model(), cells=cells)) for cells in ([7], shuffled(flags))]
    np.testing.assert_array_equal(*draws)


def test_integer_names_of_a_table_are_those_of_an_anndata():
    table = pd.DataFrame(small.dense(small.structured()))
    adata = ad.AnnData(table.set_axis(table.index.astype(str)).set_axis(table.columns.astype(str), axis=1))
    depth = pd.Series(np.geomspace(100, 1e5, len(table)))
    fitted = small.fit(adata, max_epochs=1)
    right = fitted.impute(adata, output="log1p", depth=depth.to_numpy())
    np.testing.assert_array_equal(fitted.impute(adata, output="log1p", depth=shuffled(depth)), right)
