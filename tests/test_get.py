"""Reading a run's results. The objects are laid out by hand, as `scdae.pp.impute` does."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scdae import get


@pytest.fixture
def adata():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    adata = AnnData(
        sparse.csr_matrix(values),
        obs=pd.DataFrame(index=["a", "b", "c"]),
        var=pd.DataFrame({"scdae_gain": [0.1, 0.2, 0.3, 0.4], "scdae_dropout": 0.0}, index=["g1", "g2", "g3", "g4"]),
        layers={"scdae": values + 0.5},
    )
    adata.uns["scdae"] = {"report": {"skill": 0.25, "n_genes": 4, "history": {"step": np.arange(3)}}}
    return adata


def test_imputed_is_a_named_copy(adata):
    table = get.imputed(adata)
    assert table.loc["b", "g3"] == 6.5
    assert table.shape == (3, 4)
    table.loc["b", "g3"] = -1
    assert adata.layers["scdae"][1, 2] == 6.5


def test_imputed_keeps_the_order_asked_for(adata):
    assert get.imputed(adata, genes=["g4", "g1"]).loc["a"].to_dict() == {"g4": 3.5, "g1": 0.5}
    assert list(get.imputed(adata, genes="g2").columns) == ["g2"]


def test_imputed_from_a_sparse_layer_and_a_view(adata):
    adata.layers["other"] = sparse.csr_matrix(adata.layers["scdae"])
    pd.testing.assert_frame_equal(
        get.imputed(adata[["c", "a"]], "other", ["g2"]), get.imputed(adata).loc[["c", "a"], ["g2"]]
    )


def test_report_leaves_arrays_out(adata):
    report = get.report(adata)
    assert report.to_dict() == {"skill": 0.25, "n_genes": 4}


def test_genes_has_the_columns_without_prefix(adata):
    table = get.genes(adata)
    assert list(table.columns) == ["dropout", "gain"]
    assert table.loc["g3", "gain"] == 0.3


@pytest.mark.parametrize("read", [get.imputed, get.report, get.genes])
def test_a_run_that_is_not_there(adata, read):
    with pytest.raises(KeyError, match=r"no adata\.(layers|uns|var).*Runs found: \['scdae'\]"):
        read(adata, "elsewhere")
    del adata.uns["scdae"]
    with pytest.raises(KeyError, match="impute"):
        read(adata, "elsewhere")


def test_unknown_genes_are_named(adata):
    with pytest.raises(KeyError, match=r"2 of 3 genes are not in adata\.var_names: x, y"):
        get.imputed(adata, genes=["x", "g1", "y"])


def test_a_report_shows_its_verdict_whole_and_first(adata):
    words = (
        "It helps: held-out molecules are 7.4% more likely than by the average of each gene; 992 of 13,656 genes gain."
    )
    adata.uns["scdae"]["report"] = {"verdict": words, "n_genes": 3, "skill": 0.07, "history": {"loss": np.zeros(2)}}
    report = get.report(adata)
    assert list(report.index) == ["skill", "n_genes", "verdict"] and report["verdict"] == words
    shown = repr(report).splitlines()
    assert " ".join(shown[:2]) == words and "skill" in str(report) and "..." not in str(report)
    assert "verdict" not in repr(report[["skill"]])


def test_ranked_genes_have_honest_columns_and_answer_to_the_former_names(adata):
    kinds = dict.fromkeys(("scores", "logfoldchanges", "lfc_lower", "lfc_upper", "pvals", "pvals_adj"), "f8")
    entry = {name: np.array([(0.25,), (0.5,)], dtype=[("b", kind)]) for name, kind in kinds.items()}
    adata.uns["ranked"] = entry | {"names": np.array([("g1",), ("g0",)], dtype=[("b", object)])}
    table = get.rank_genes(adata, "b", key="ranked")
    assert list(table.columns[-2:]) == ["prob_no_change", "expected_fdr"]
    with pytest.warns(FutureWarning, match="'pvals' of scdae.get.rank_genes is now 'prob_no_change'"):
        assert table["pvals"].tolist() == [0.25, 0.5]
    with pytest.warns(FutureWarning, match="no p-values"):
        assert list(table.loc[["g0"]][["scores", "pvals_adj"]]) == ["scores", "expected_fdr"]
