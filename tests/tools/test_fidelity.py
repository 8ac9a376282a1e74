"""Groups of cells in an evaluation: what is written about them, whatever the labels, and in which words."""

import re
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.core.data.cells import cell_data
from scdae.tl import _evaluate
from scdae.tools.fidelity import fidelity_entry, read_judged_groups, watch_groups
from scdae.tools.fidelity_words import verdict_of_all, verdict_of_group

SETTINGS = {"max_epochs": 40, "batch_size": 64, "n_latent": 10, "likelihood": "nb"}
RARE = 14


def with_rare_type():
    """Three kinds of cells, one of them rare, with four strong markers each; cell 3 and gene 50 are empty."""
    rng = np.random.default_rng(5)
    kind = np.repeat([0, 1, 2], [180, 100, RARE])
    mean = np.exp(rng.normal(0, 0.3, (len(kind), 1))) * rng.gamma(1, 1.5, 60)
    for k in range(3):
        mean[np.ix_(kind == k, range(4 * k, 4 * k + 4))] = 15.0
        mean[np.ix_(kind != k, range(4 * k, 4 * k + 4))] = 0.8
    counts = rng.poisson(mean * rng.gamma(10, 0.1, mean.shape)).astype(np.float32)
    counts[3], counts[:, 50] = 0, 0
    adata = ad.AnnData(counts)
    adata.var_names = [f"gene_{i}" for i in range(60)]
    adata.obs["kind"] = pd.Categorical(np.array(["common", "other", "rare"])[kind])
    adata.obs["number"] = kind
    return adata


@pytest.fixture(scope="module")
def fitted():
    """The object after an evaluation, and the split that it was made with."""
    small.keep_compiled()
    adata, splits, plain = with_rare_type(), [], _evaluate.fit_split
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_evaluate, "fit_split", lambda *given: splits.append(plain(*given)) or splits[-1])
        scdae.tl.evaluate(adata, groupby="kind", **SETTINGS)
    return adata, splits[0]


@pytest.fixture
def judge(fitted, monkeypatch):
    """Evaluate without a fit: labels do not enter it, so that it is the same."""
    monkeypatch.setattr(_evaluate, "fit_split", lambda *given: fitted[1])

    def call(labels, **options):
        adata = with_rare_type()
        adata.obs["label"] = labels(adata.obs) if callable(labels) else labels
        scdae.tl.evaluate(adata, groupby="label", **{**SETTINGS, **options})
        return adata

    return call


def test_table_of_groups(fitted):
    table = scdae.get.fidelity(fitted[0])
    assert list(table.index) == ["common", "other", "rare"] and list(table["cells"]) == [179, 100, RARE]
    assert set(table.loc["rare", "markers"].split(", ")) >= {"gene_8", "gene_9", "gene_10", "gene_11"}
    for name in table.index:
        assert not {f"gene_{i}" for i in range(12)} & set(table.loc[name, "markers"].split(", ")) - {
            f"gene_{i}" for i in range(4 * list(table.index).index(name), 4 * list(table.index).index(name) + 4)
        }
    assert table["restored_in"].between(0.8, 1.2).all()
    assert (table["zeros_out_seen"] > 15).all() and (table["zeros_out_low"] < table["zeros_out"]).all()
    assert (table["zeros_out"] < table["zeros_out_high"]).all()
    assert (table["nearest_raw"] == 1).all() and (table["changed"] == 0).all()
    assert table["words"].str.startswith(tuple(f"{name}: " for name in table.index)).all()


def test_table_of_markers(fitted):
    adata, split = fitted
    table = scdae.get.fidelity(adata, markers=True)
    shown = np.zeros(adata.shape)
    shown[np.ix_(split.cells, split.genes)] = split.data.counts.toarray()
    shown = pd.DataFrame(shown, adata.obs_names, adata.var_names)
    inside = (adata.obs["kind"] == "rare") & (shown.sum(axis=1) > 0)
    outside = (adata.obs["kind"] != "rare") & (shown.sum(axis=1) > 0)
    for gene in ("gene_8", "gene_11"):
        row = table.loc[("rare", gene)]
        assert row["raw_in"] == pytest.approx(shown.loc[inside, gene].mean())
        assert row["raw_out"] == pytest.approx(shown.loc[outside, gene].mean())
        assert row["restored_in"] == pytest.approx(row["raw_in"], rel=0.2)


def test_labels_do_not_enter_the_fit(fitted):
    small.keep_compiled()
    alone = with_rare_type()
    scdae.tl.evaluate(alone, **SETTINGS)
    np.testing.assert_array_equal(alone.var["scdae_skill"], fitted[0].var["scdae_skill"])
    assert "fidelity" not in alone.uns["scdae_evaluation"]


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("end", ["h5ad", "zarr"])
def test_result_comes_back_from_files(fitted, tmp_path, end):
    path = tmp_path / f"a.{end}"
    fitted[0].write_h5ad(path) if end == "h5ad" else fitted[0].write_zarr(path)
    back = ad.read_h5ad(path) if end == "h5ad" else ad.read_zarr(path)
    for markers in (False, True):
        expected = scdae.get.fidelity(fitted[0], markers=markers)
        pd.testing.assert_frame_equal(scdae.get.fidelity(back, markers=markers), expected)


LABELS = {
    "text": lambda obs: obs["kind"].astype(str),
    "object": lambda obs: obs["kind"].astype(str).astype(object),
    "categories that no cell has": lambda obs: obs["kind"].cat.add_categories(["nobody"]),
    "nullable text": lambda obs: obs["kind"].astype(str).astype("string"),
    "whole numbers": lambda obs: obs["number"].astype(np.int64),
    "small numbers": lambda obs: obs["number"].astype(np.uint8),
    "floats": lambda obs: obs["number"].astype(np.float32),
    "nullable numbers": lambda obs: obs["number"].astype("Int64"),
    "categories of numbers": lambda obs: obs["number"].astype("category"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type(judge, fitted, kind):
    found = scdae.get.fidelity(judge(LABELS[kind]))
    expected = scdae.get.fidelity(fitted[0])
    assert [str(name) for name in found.index] in (["0", "1", "2"], list(expected.index))
    left_out = ["words"]
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True).drop(columns=left_out), expected.reset_index(drop=True).drop(columns=left_out)
    )


@pytest.mark.parametrize("dtype", [bool, "boolean"])
def test_flags_are_two_groups(judge, dtype):
    found = scdae.get.fidelity(judge(lambda obs: (obs["kind"] == "rare").astype(dtype)))
    assert list(found.index) == ["False", "True"] and list(found["cells"]) == [279, RARE]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_cells_without_a_label_are_left_out_and_said(judge, missing):
    def labels(obs):
        values = obs["kind"].astype(str).astype(object)
        values[obs["kind"] == "other"] = missing
        return values

    adata = judge(labels)
    found, entry = scdae.get.fidelity(adata), adata.uns["scdae_evaluation"]["fidelity"]
    assert list(found.index) == ["common", "rare"] and list(found["cells"]) == [179, RARE]
    assert entry["cells_without_group"] == 100
    assert "100 cells in no group are left out." in entry["verdict"]


def test_groups_of_few_cells_are_not_judged(judge, tmp_path):
    def labels(obs):
        values = obs["kind"].astype(str)
        values.iloc[:9] = "few"
        return values

    adata = judge(labels)
    row = scdae.get.fidelity(adata).loc["few"]
    assert row["cells"] == 8 and row["verdict"] == "too few cells"  # one of the nine is empty
    assert row["words"] == "few: 8 cells, too few to judge by (less than 10)."
    assert row["markers"] == "" and np.isnan(row[["zeros_in", "restored_in", "left"]].astype(float)).all()
    assert "Too few cells to judge by (less than 10): 'few'." in adata.uns["scdae_evaluation"]["fidelity"]["verdict"]
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_groups_by_lot_have_no_markers(judge, tmp_path):
    adata = judge(np.random.default_rng(1).choice(["a", "b"], 294))
    found = scdae.get.fidelity(adata)
    assert list(found["verdict"]) == ["no markers"] * 2 and (found["markers"] == "").all()
    assert "no gene marks any of them" in adata.uns["scdae_evaluation"]["fidelity"]["verdict"]
    assert len(scdae.get.fidelity(adata, markers=True)) == 0
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert len(scdae.get.fidelity(ad.read_h5ad(tmp_path / "a.h5ad"), markers=True)) == 0
    with pytest.raises(ValueError, match="no group could be judged"):
        scdae.pl.fidelity(adata, show=False)


def test_one_group_that_is_large_enough(judge):
    labels = np.array([f"only {i // 9}" for i in range(294)])
    labels[-RARE:] = "rare"
    found = scdae.get.fidelity(judge(labels))
    assert (found.drop("rare")["verdict"] == "too few cells").all()
    assert found.loc["rare", "zeros_out_seen"] > 15 and np.isnan(found.loc["rare", "changed"])


def test_genes_that_were_not_measured(fitted):
    """Measured nowhere outside, they are not markers; elsewhere, entries that were not observed do not count."""
    split, adata = fitted[1], with_rare_type()
    number = adata.obs["number"].to_numpy()[split.cells]
    hidden = np.zeros(split.data.counts.shape, bool)
    hidden[number != 2, 8] = True
    hidden[::3, 9] = True
    counts, rest = (np.where(hidden, 0, part.toarray()) for part in (split.data.counts, split.held_out))
    data = cell_data(sp.csr_matrix(counts), sp.csr_matrix(hidden), None, np.full(59, 1 / 59))
    masked = replace(split, data=data, held_out=sp.csr_matrix(rest))
    groups = read_judged_groups(adata, "kind")
    tally = watch_groups(masked, groups)
    for rows in (slice(0, 100), slice(100, 293)):
        tally.add(rows, 1.5 * counts[rows] + hidden[rows], counts[rows] + 0.5)
    adata.uns["scdae_evaluation"] = {"fidelity": fidelity_entry(tally, groups, masked, adata.var_names.to_numpy())}
    markers = scdae.get.fidelity(adata, markers=True)
    assert ("rare", "gene_8") not in markers.index
    seen = ~hidden[:, 9] & (number == 2)
    row = markers.loc[("rare", "gene_9")]
    assert row["raw_in"] == pytest.approx(counts[seen, 9].mean())
    assert row["restored_in"] == pytest.approx(counts[seen, 9].mean() + 0.5)
    assert row["decoder_in"] == pytest.approx(1.5 * counts[seen, 9].mean())


def test_with_a_model_batches_and_data_on_disk(fitted, monkeypatch, tmp_path):
    """As evaluation takes them: settings of a model, a column of batches, and an object that stays in its file."""
    jobs = []
    monkeypatch.setattr(_evaluate, "fit_split", lambda *given: jobs.append(given[0]) or fitted[1])
    whole = with_rare_type()
    whole.obs["batch"] = np.where(np.arange(294) % 2, "one", "two")
    whole.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    copy = scdae.tl.evaluate(backed, scdae.DAE(**SETTINGS), groupby="kind", batch_key="batch", copy=True, key="again")
    backed.file.close()
    pd.testing.assert_frame_equal(scdae.get.fidelity(copy, "again"), scdae.get.fidelity(fitted[0]))
    assert jobs[0].covariates.batch_levels == ["one", "two"] and jobs[0].config.n_latent == 10
    pytest.importorskip("xarray")
    lazy = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    scdae.tl.evaluate(lazy, groupby="kind", **SETTINGS)
    pd.testing.assert_frame_equal(scdae.get.fidelity(lazy), scdae.get.fidelity(fitted[0]))


@pytest.mark.parametrize(
    ("kind", "words", "groupby", "labels"),
    [
        (ValueError, r"groupby='kinds' not found in adata.obs\. Did you mean 'kind'", "kinds", None),
        (ValueError, "there is one group only, 'all'", "label", "all"),
        (ValueError, "has no value in any cell", "label", np.nan),
        (
            ValueError,
            r"none of the 33 groups of obs\['label'\] has 10 cells, the largest, '0', has 9",
            "label",
            np.arange(294) // 9,
        ),
        (ValueError, "have an empty name", "label", np.where(np.arange(294) < 99, "", "b")),
        (TypeError, "pass the name of one obs column", ["kind", "number"], None),
        (TypeError, "is a pandas Series", pd.Series(["a", "b"]), None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_errors_come_before_the_fit(monkeypatch, kind, words, groupby, labels):
    adata = with_rare_type()
    if labels is not None:
        adata.obs["label"] = labels
    monkeypatch.setattr(_evaluate, "fit_split", lambda *given: pytest.fail("it was fitted"))
    before = set(adata.uns) | set(adata.var)
    with pytest.raises(kind, match=words):
        scdae.tl.evaluate(adata, groupby=groupby)
    assert set(adata.uns) | set(adata.var) == before


def test_what_is_not_there_is_said(fitted):
    adata = with_rare_type()
    with pytest.raises(KeyError, match=r"is not there\. Call scdae\.tl\.evaluate\(adata, groupby="):
        scdae.get.fidelity(adata)
    adata.uns["scdae_evaluation"] = {"skill": 1}
    with pytest.raises(KeyError, match="says nothing of groups"):
        scdae.get.fidelity(adata)


# Words


def row(**other):
    given = {
        "group": "T cells",
        "cells": 150,
        "markers": "CD3D, IL7R",
        "restored_in": 0.96,
        "decoder_in": 0.9,
        "left": 0.0,
    }
    for side in ("in", "out"):
        given |= {f"zeros_{side}": 1.02, f"zeros_{side}_low": 0.9, f"zeros_{side}_high": 1.2}
        given |= {f"zeros_{side}_seen": 100.0, f"zeros_{side}_predicted": 102.0}
    return given | other


def zeros(side, ratio, low, high, seen):
    names = ("", "_low", "_high", "_seen", "_predicted")
    return {
        f"zeros_{side}{name}": value for name, value in zip(names, (ratio, low, high, seen, ratio * seen), strict=True)
    }


@pytest.mark.parametrize(
    ("given", "verdict", "words"),
    [
        ({}, "kept", "T cells: 150 cells, markers restored to 0.96 of raw, nothing leaks."),
        ({"cells": 9}, "too few cells", "9 cells, too few to judge by"),
        ({"markers": ""}, "no markers", "nothing marks them"),
        ({"restored_in": 0.5}, "smoothed away", "restored to 0.50 of raw"),
        ({"decoder_in": 0.1}, "hardly learned", r"\(to 0.10 without the cells' own counts of them\)"),
        (
            zeros("out", 1.6, 1.3, 2.0, 90.0),
            "leaks",
            r"leak into other cells \(1.60 times the 90 molecules set aside, 1.30 to 2.00\)",
        ),
        (zeros("out", 1.6, 0.9, 3.0, 30.0), "too few molecules", r"too few molecules in other cells \(30\)"),
        (zeros("out", 1.8, 1.01, 4.0, 5.0), "too few molecules", r"too few molecules in other cells \(5\)"),
        (zeros("out", 1.2, 1.05, 1.4, 300.0), "kept", "nothing leaks"),
        (
            {**zeros("out", np.inf, 10.0, np.inf, 0.0), "zeros_out_predicted": 30.0},
            "leaks",
            "30 molecules predicted, none seen",
        ),
        (zeros("out", 0.5, 0.4, 0.7, 90.0), "kept", "too little of them is predicted in other cells"),
        (zeros("in", 0.5, 0.4, 0.7, 90.0), "filled too little", r"zeros filled too little \(0.50 times the 90"),
        (zeros("in", 1.5, 1.2, 1.9, 90.0), "filled too much", "zeros filled too much"),
        (zeros("in", 0.2, 0.1, 5.0, 3.0), "kept", r"too few molecules \(3\) to say how well their zeros are filled"),
        (zeros("in", np.nan, 0.0, np.inf, 0.0) | {"zeros_in_predicted": 0.2}, "kept", "raw, nothing leaks"),
        ({"left": 0.2}, "cells move", "30 of the cells look most like another group"),
        ({"left": 0.2, "cells": 10}, "kept", "nothing leaks"),  # two cells
    ],
)
def test_verdict_of_a_group(given, verdict, words):
    found = verdict_of_group(row(**given))
    assert found[0] == verdict
    assert re.search(words, found[1]) and found[1].endswith(".") and ", ." not in found[1]


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["kept", "kept"], r"^All 2 groups in obs\['type'\] come back as counted"),
        (["kept", "leaks", "kept"], r"^2 of 3 groups .* come back .* Leaks into other cells: 'b'\."),
        (["leaks", "leaks"], "^None of the 2 groups in .* comes back"),
        (["kept", "too few cells"], "^The only group with markers in .* comes back .* Too few cells"),
        (["leaks", "no markers"], "^The only group with markers .* does not come back"),
        (["no markers", "too few cells"], "^Nothing can be said"),
    ],
)
def test_verdict_of_all_groups(verdicts, words):
    said = verdict_of_all("type", ["a", "b", "c"][: len(verdicts)], verdicts, {"zeros_in": 1.0, "zeros_out": np.nan}, 1)
    assert re.search(words, said), said
    assert "nan" not in said and (said.startswith("Nothing") or said.endswith("1 cell in no group is left out."))
