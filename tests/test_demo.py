"""The demonstration, small, and its arithmetic."""

import anndata
import matplotlib as mpl
import numpy as np
import pytest

from scdae import datasets, demo

mpl.use("Agg")


def with_restored(adata, restored):
    adata.layers["scdae"] = restored
    adata.uns["scdae"] = {"report": {"skill": 0.125}}
    return adata


@pytest.fixture
def adata():
    return datasets.simulate(200, 60, seed=2)


def test_compare_knows_the_truth_when_it_sees_it(adata):
    result = demo.compare(with_restored(adata, adata.layers["truth"]))
    assert result["error_restored"] == result["marker_error_restored"] == 0
    assert result["correlation_restored"] == pytest.approx(1)
    assert result["genes_closer"] == result["genes_closer_than_average"] == 60
    assert result["skill"] == 0.125
    assert result["error_raw"] > result["error_average"] > 0.05
    assert result["zeros"] == (adata.X.toarray() == 0).mean()


def test_compare_gives_no_credit_for_the_counts_themselves(adata):
    result = demo.compare(with_restored(adata, adata.X.toarray()))
    for name in ("error", "marker_error", "correlation", "marker_correlation"):
        assert result[f"{name}_restored"] == result[f"{name}_raw"]
    assert result["genes_closer"] == 0
    assert "1.0 times closer" in demo._in_words(adata, {**result, "h5ad": "a", "png": "b"})


def test_words_when_it_made_things_worse(adata):
    worse = adata.layers["truth"][:, ::-1]
    result = demo.compare(with_restored(adata, np.ascontiguousarray(worse)))
    assert "times further from the truth" in demo._in_words(adata, {**result, "h5ad": "a", "png": "b"})


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return demo.run(tmp_path_factory.mktemp("demo") / "new" / "folder", n_cells=300, n_genes=200, seed=1)


def test_run_gets_closer_to_the_truth(outcome):
    assert outcome["error_restored"] < 0.6 * outcome["error_raw"]
    assert outcome["error_restored"] < outcome["error_average"]
    assert outcome["marker_error_restored"] < outcome["marker_error_average"]
    assert outcome["marker_correlation_restored"] > outcome["marker_correlation_raw"] + 0.2
    assert outcome["skill"] > 0.02


def test_run_writes_what_it_measured(outcome):
    adata = anndata.read_h5ad(outcome["h5ad"])
    assert adata.shape == (300, 200)
    again = demo.compare(adata)
    assert {name: outcome[name] for name in again} == pytest.approx(again)


def test_run_writes_a_picture(outcome):
    import matplotlib.image

    picture = matplotlib.image.imread(outcome["png"])
    assert picture.shape[0] > 800
    assert picture.shape[1] > 1200
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 500, "more than an empty canvas"


def test_run_says_it_in_words(outcome):
    text = outcome["text"]
    assert f"{outcome['error_raw'] / outcome['error_restored']:.1f} times closer" in text
    assert f"{np.expm1(outcome['skill']):.1%} more likely" in text
    assert outcome["h5ad"] in text
    assert outcome["png"] in text


def test_run_leaves_only_its_two_files(outcome, tmp_path):
    from pathlib import Path

    assert sorted(p.name for p in Path(outcome["h5ad"]).parent.iterdir()) == ["demo.h5ad", "demo.png"]
