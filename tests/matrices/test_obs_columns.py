import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scdae.matrices.obs_columns import read_batches


def _wrap(n_obs=3, **columns):
    obs = pd.DataFrame(columns, index=[f"cell{i}" for i in range(n_obs)])
    return ad.AnnData(np.ones((n_obs, 2)), obs=obs)


@pytest.mark.parametrize(
    ("labels", "codes", "levels"),
    [
        (pd.Categorical(["b", "a", "b"], categories=["z", "b", "a"]), [0, 1, 0], ["b", "a"]),
        (pd.Categorical([20240117, 7, 7]), [1, 0, 0], ["7", "20240117"]),
        ([10, 9, 10], [1, 0, 1], ["9", "10"]),
        ([1.0, 2.5, 1.0], [0, 1, 0], ["1", "2.5"]),
        ([True, False, True], [1, 0, 1], ["False", "True"]),
        (["b", 1, "b"], [1, 0, 1], ["1", "b"]),
        (pd.to_datetime(["2024-02-01", "2024-01-17", "2024-02-01"]), [1, 0, 1], ["2024-01-17", "2024-02-01"]),
        (pd.array(["y", "x", "y"], dtype="string"), [1, 0, 1], ["x", "y"]),
    ],
)
def test_batches(labels, codes, levels):
    adata = _wrap()
    adata.obs["batch"] = labels
    kept = adata.obs["batch"].copy()
    got, names = read_batches(adata, "batch")
    assert got.dtype == np.int32
    assert got.tolist() == codes
    assert names == levels
    pd.testing.assert_series_equal(adata.obs["batch"], kept)


def test_batch_errors():
    adata = _wrap(donor=["a", None, "b"])
    with pytest.raises(ValueError, match=r"no value in 1 of 3 cells, the first being 'cell1' \(row 1\)"):
        read_batches(adata, "donor")
    with pytest.raises(ValueError, match="batch_key='lane' not found in adata.obs. Columns there: 'donor'"):
        read_batches(adata, "lane")
    with pytest.raises(TypeError, match="name of one obs column"):
        read_batches(adata, ["donor", "lane"])


def test_many_batches_are_asked_about(log):
    adata = _wrap(100, lane=np.arange(100), few=np.arange(100) // 10)
    assert len(read_batches(adata, "few")[1]) == 10 and not log.records
    assert len(read_batches(adata, "lane", "covariates")[1]) == 100
    assert "covariates='lane' has 100 levels for 100 cells" in log.text


def test_cells_without_a_batch_where_there_may_be_some():
    adata = _wrap(4, kind=pd.Categorical(["b", None, "a", "b"], categories=["z", "b", "a"]), none=[None] * 4)
    codes, levels = read_batches(adata, "kind", gaps=True)
    assert codes.tolist() == [0, -1, 1, 0] and levels == ["b", "a"]
    assert read_batches(adata, "none", gaps=True)[1] == []
