import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import scdae
import small
from scdae.io.read import read_any
from scdae.io.write import write_atomic
from scdae.tl._rank_genes import _ranked


@pytest.fixture(scope="module")
def ranked():
    adata = small.structured()
    scdae.tl.rank_genes(adata, "cell_type", small.fitted(likelihood="nb"))
    return adata


def test_scanpy_reads_the_result(ranked):
    table = sc.get.rank_genes_groups_df(ranked, None, key="rank_genes_scdae")
    assert set(table["group"]) == set(ranked.obs["cell_type"])
    assert len(table) == 3 * ranked.n_vars
    one = sc.get.rank_genes_groups_df(ranked, "type_2", key="rank_genes_scdae", pval_cutoff=0.05, log2fc_min=1)
    assert 0 < len(one) < ranked.n_vars and (one["scores"].diff().dropna() <= 0).all()


def test_table_has_intervals(ranked):
    table = scdae.get.rank_genes(ranked, "type_1")
    assert list(table.columns) == [
        "scores",
        "logfoldchanges",
        "lfc_lower",
        "lfc_upper",
        "prob_no_change",
        "expected_fdr",
    ]
    assert (table["lfc_lower"] <= table["logfoldchanges"]).all()
    assert (table["logfoldchanges"] <= table["lfc_upper"]).all()
    assert table["prob_no_change"].between(0, 1).all()
    everyone = scdae.get.rank_genes(ranked)
    pd.testing.assert_frame_equal(everyone.loc["type_1"], table, check_index_type=False)
    with pytest.raises(KeyError, match=r"'type_9' is not a group"):
        scdae.get.rank_genes(ranked, "type_9")
    with pytest.raises(KeyError, match=r"Call scdae\.tl\.rank_genes"):
        scdae.get.rank_genes(ranked, key="other")


def test_changes_are_near_the_truth_and_called_ones_are_true(ranked):
    truth = np.asarray(ranked.layers["truth"], float)
    share = truth / truth.sum(axis=1, keepdims=True)
    inside, false = [], []
    for group in ranked.obs["cell_type"].cat.categories:
        at = (ranked.obs["cell_type"] == group).to_numpy()
        lfc = pd.Series(np.log2(share[at].mean(axis=0) / share[~at].mean(axis=0)), ranked.var_names)
        table = scdae.get.rank_genes(ranked, group)
        lfc = lfc[table.index]
        inside.append(((lfc >= table["lfc_lower"]) & (lfc <= table["lfc_upper"])).mean())
        called = table["expected_fdr"] <= 0.05
        assert called.sum() > 5
        false.append((lfc[called].abs() < 0.2).mean())
        assert np.corrcoef(lfc, table["logfoldchanges"])[0, 1] > 0.9
    assert np.mean(inside) > 0.75 and np.mean(false) < 0.1


def test_number_of_draws_has_no_effect_and_says_so(ranked):
    adata = small.structured()
    with pytest.warns(FutureWarning, match="n_samples=100 has no effect any more"):
        scdae.tl.rank_genes(adata, "cell_type", small.fitted(likelihood="nb"), n_samples=100, seed=5)
    pd.testing.assert_frame_equal(scdae.get.rank_genes(adata), scdae.get.rank_genes(ranked))


def test_random_groups_give_nothing():
    adata = small.structured()
    adata.obs["coin"] = np.random.default_rng(0).choice(["a", "b"], adata.n_obs)
    scdae.tl.rank_genes(adata, "coin", small.fitted(likelihood="nb"), groups="a", reference="b")
    assert not (scdae.get.rank_genes(adata, "a")["expected_fdr"] <= 0.05).any()


def test_reference_group_and_choice_of_groups():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    scdae.tl.rank_genes(adata, "cell_type", model, groups=["type_1", "type_2"], reference="type_2", key_added="a")
    assert adata.uns["a"]["names"].dtype.names == ("type_1",)
    copy = scdae.tl.rank_genes(adata, "cell_type", model, groups="type_2", reference="type_1", key_added="b", copy=True)
    assert "b" not in adata.uns
    one, other = scdae.get.rank_genes(adata, "type_1", key="a"), scdae.get.rank_genes(copy, "type_2", key="b")
    other = other.loc[one.index]
    np.testing.assert_allclose(one["logfoldchanges"], -other["logfoldchanges"], atol=1e-5)


def test_cells_without_a_group_are_left_out_and_genes_without_counts_come_last():
    adata, model = small.with_gaps(), small.fitted_to_gaps()
    adata.obs.loc[adata.obs_names[:20], "cell_type"] = np.nan
    scdae.tl.rank_genes(adata, "cell_type", model)
    table = scdae.get.rank_genes(adata, "type_1")
    empty = table.loc[adata.var_names[5]]
    assert np.isnan(empty["logfoldchanges"]) and empty["prob_no_change"] == 1 and empty["scores"] == 0


def test_expected_false_discoveries_are_running_means():
    found = {name: np.zeros(3) for name in ("scores", "logfoldchanges", "lfc_lower", "lfc_upper")}
    table = _ranked(found | {"pvals": np.array([0.3, 0.0, 0.0])}, np.arange(3), pd.Index(list("abc")))
    assert dict(zip(table["names"], table["pvals_adj"].round(3), strict=True)) == {"a": 0.1, "b": 0.0, "c": 0.0}


def test_genes_that_were_not_measured_in_a_group_are_not_called(log):
    adata, model = small.structured(), small.fitted(likelihood="nb")
    kind = adata.obs["cell_type"]
    seen = np.ones(adata.shape, bool)
    seen[np.ix_(kind == "type_1", np.arange(6))] = False  # nowhere in this group
    seen[np.ix_(kind != "type_1", np.arange(6, 9))] = False  # nowhere else
    scdae.tl.rank_genes(adata, "cell_type", model, mask=seen)
    assert "(mask), are not called: 9 in 'type_1', up to that in 3 group(s) in all" in log.text
    names = adata.var_names
    for group, left_out in (("type_1", names[:9]), ("type_2", names[6:9])):
        table = scdae.get.rank_genes(adata, group)
        assert set(table.index[table["logfoldchanges"].isna()]) == set(left_out)
        gone = table.loc[left_out]
        assert gone[["lfc_lower", "lfc_upper"]].isna().all(axis=None)
        assert (gone[["prob_no_change", "expected_fdr"]] == 1).all(axis=None) and (gone["scores"] == 0).all()
        by_scanpy = sc.get.rank_genes_groups_df(adata, group, key="rank_genes_scdae", pval_cutoff=0.05)
        assert len(by_scanpy) and not set(by_scanpy["names"]) & set(left_out)
        assert (table["scores"].diff().dropna() <= 0).all()
    scdae.tl.rank_genes(adata, "cell_type", model, mask=seen, groups="type_2", reference="type_3", key_added="pair")
    assert set(scdae.get.rank_genes(adata, "type_2", key="pair")["logfoldchanges"].isna()[lambda x: x].index) == set(
        names[6:9]
    )


def test_no_gene_that_two_groups_have_in_common():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    seen = np.zeros(adata.shape, bool)
    first = (adata.obs["cell_type"] == "type_1").to_numpy()
    seen[np.ix_(first, np.arange(30))] = True
    seen[np.ix_(~first, np.arange(30, adata.n_vars))] = True
    scdae.tl.rank_genes(adata, "cell_type", model, mask=seen, groups="type_1")
    table = scdae.get.rank_genes(adata, "type_1")
    assert table["logfoldchanges"].isna().all() and (table["expected_fdr"] == 1).all()


def test_groups_that_are_numbers_and_one_of_one_cell():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    adata.obs["cluster"] = adata.obs["cell_type"].cat.codes.to_numpy() + 1
    adata.obs["half"] = adata.obs["cluster"] * 1.0
    for groupby, groups, reference in (("cluster", [1, 2], 3), ("cluster", np.int64(2), "rest"), ("half", [2.0], "1")):
        scdae.tl.rank_genes(adata, groupby, model, groups=groups, reference=reference)
        assert adata.uns["rank_genes_scdae"]["names"].dtype.names == tuple(str(int(g)) for g in np.atleast_1d(groups))
    adata.obs["one"] = ["single"] + ["many"] * (adata.n_obs - 1)
    scdae.tl.rank_genes(adata, "one", model, groups=["single", "single"])
    assert np.isfinite(scdae.get.rank_genes(adata, "single")["logfoldchanges"]).all()


def test_a_group_called_rest():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    adata.obs["kind"] = adata.obs["cell_type"].astype(str).replace("type_3", "rest")
    with pytest.raises(ValueError, match="reference='rest' means all other cells, but .* has a group of that name"):
        scdae.tl.rank_genes(adata, "kind", model)
    adata.obs["two"] = adata.obs["kind"].replace("type_2", "rest")  # the others are that group
    scdae.tl.rank_genes(adata, "two", model)
    assert adata.uns["rank_genes_scdae"]["names"].dtype.names == ("type_1",)


def test_result_is_written_to_files(ranked, tmp_path):
    for name in ("a.h5ad", "a.zarr"):
        write_atomic(ranked, tmp_path / name)
        back = read_any(tmp_path / name)
        pd.testing.assert_frame_equal(
            scdae.get.rank_genes(back, "type_1"), scdae.get.rank_genes(ranked, "type_1"), check_index_type=False
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groupby": "kind"}, "groupby='kind' not found in adata.obs"),
        ({"groupby": "one"}, "there is one group only"),
        ({"reference": "x"}, "reference='x' is not a group"),
        ({"groups": ["y"]}, "groups: 'y' is not a group"),
        ({"groups": "type-1"}, "groups: 'type-1' is not a group of .* Did you mean 'type_1'"),
        ({"groups": 3}, "groups: '3' is not a group .* Groups there: 'type_1', 'type_2', 'type_3'"),
        ({"groups": []}, r"groups=\[\] names no group"),
        ({"groups": None}, "groups: 'None' is not a group"),
        ({"groups": ["type_1"], "reference": "type_1"}, "is the reference, and cannot be compared with itself"),
        ({"reference": 7}, "reference='7' is not a group"),
        ({"groupby": "nothing"}, "has no value in any cell"),
        ({"groupby": "blank"}, "149 cells have an empty name for their group"),
        ({"groupby": ["one", "blank"]}, "pass the name of one obs column"),
        ({"refrence": "type_1"}, r"rank_genes\(\) has no argument 'refrence'. Did you mean 'reference'"),
        ({"key_added": "a/b"}, "key_added='a/b': use a name without '/'"),
        ({"delta": -1}, "delta=-1"),
        ({"level": 1}, "level=1"),
        ({"n_latent": 3}, "n_latent=... belongs to the fit"),
        ({"key_added": "simulation"}, r"adata\.uns\['simulation'\] is there already"),
    ],
)
def test_arguments_that_do_not_fit(change, words):
    adata = small.structured()
    adata.obs["one"] = "a"
    adata.obs["nothing"] = np.nan
    adata.obs["blank"] = ["x"] + [""] * (adata.n_obs - 1)
    options = {"groupby": "cell_type", "model": small.fitted(likelihood="nb")} | change
    with pytest.raises((ValueError, TypeError), match=words):
        scdae.tl.rank_genes(adata, **options)
    assert "rank_genes_scdae" not in adata.uns


def test_a_group_of_which_one_gene_takes_much_is_told_of(log):
    """As in platelets: all other fractions are lower there, which the table says of each gene without a word of why."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (60, 50)).astype(np.float32)
    counts[:20, 0] = 100
    adata = ad.AnnData(counts, obs={"kind": ["platelet"] * 20 + ["other"] * 40})
    scdae.tl.rank_genes(adata, "kind", max_epochs=2)
    median = scdae.get.rank_genes(adata, "platelet")["logfoldchanges"].median()
    assert median == pytest.approx(-1, abs=0.1)
    assert "the median gene differs by more than 0.25 (log2) in " in log.text
    assert f"'platelet' ({median:+.2f})" in log.text
    log.clear()
    scdae.tl.rank_genes(adata, "kind", max_epochs=2, delta=2.0, overwrite=True)
    assert "median gene" not in log.text
