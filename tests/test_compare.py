"""The comparison with peers: its page says what was recorded, and our method and the baselines run."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "benchmarks/recorded/compare.json"


@pytest.fixture
def bench(monkeypatch):
    """The modules of the benchmark, which lie beside the package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import compare
    import render

    yield compare, render
    for name in ("compare", "compared", "render", "peers", "fidelity", "adapter"):
        sys.modules.pop(name, None)


def test_the_page_shows_what_was_recorded(bench):
    _, render = bench
    assert render.TABLE.read_text(encoding="utf-8") == render.table(json.loads(RECORD.read_text()))
    assert render.FIGURE.exists()


def test_a_run_is_scored_recorded_and_drawn(bench, monkeypatch, tmp_path, capsys):
    compare, render = bench
    adata = scdae.datasets.simulate(120, 80, seed=0)
    monkeypatch.setattr(compare, "counts_of", lambda name, shared: adata)
    monkeypatch.setattr(compare, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(render, "TABLE", tmp_path / "table.md")
    monkeypatch.setattr(render, "FIGURE", tmp_path / "figure.png")
    compare.compare(tmp_path, ["simulated"], ["low_rank", "neighbors"])
    found = json.loads((tmp_path / "record.json").read_text())["simulated"]
    assert found["cells"] == 120
    assert set(found["methods"]) == {"low_rank", "neighbors"}
    for row in found["methods"].values():
        assert -1 < row["skill"] < 1
        assert 0 < row["error"] < 5
        assert row["seconds"] > 0 and row["processor"] > 0 and row["gib"] > 0.02
        assert set(row["machine"]) == {"cpu", "cores", "gib", "system"}
    assert "SVD, rank chosen" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert "simulated" in capsys.readouterr().out


def test_score_is_that_of_the_gene_means_and_of_the_truth(bench):
    compare, _ = bench
    adata = scdae.datasets.simulate(150, 60, dispersion=0, dropout=0, batch_effect=0, seed=1)
    train, test = compare.split(adata)
    counts = train.X.toarray()
    means = scdae.metrics.gene_mean(counts)
    assert compare.score(means, train, test)["skill"] == 0
    truth = compare.score(train.layers["truth"] * compare.SHOWN, train, test)
    assert truth["error"] == 0
    assert truth["skill"] > 0.05
    assert compare.score(counts, train, test)["skill"] < truth["skill"]


def test_a_method_that_fails_is_said_and_the_others_go_on(bench, monkeypatch, tmp_path, capsys):
    compare, render = bench

    def run(method, train):
        if method == "magic":
            raise RuntimeError("no such module")
        return np.asarray(train.X.toarray()), {"seconds": 1.0, "processor": 1.0, "gib": 0.1, "versions": {"x": "1"}}

    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(compare, "counts_of", lambda name, shared: scdae.datasets.simulate(50, 30, seed=0))
    monkeypatch.setattr(compare, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(render, "TABLE", tmp_path / "table.md")
    monkeypatch.setattr(render, "FIGURE", tmp_path / "figure.png")
    compare.compare(tmp_path, ["simulated"], ["magic", "scdae"])
    assert "failed: no such module" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "record.json").read_text())["simulated"]["methods"]) == ["scdae"]


# Cell types


def test_the_page_shows_what_was_recorded_of_cell_types(bench):
    import fidelity

    _, render = bench
    record = json.loads(fidelity.RECORD.read_text())
    assert render.TYPES.read_text(encoding="utf-8") == render.types_table(record)
    for entry in record.values():
        assert {"scdae", "scdae, output='prior'", "raw counts"} <= set(entry["methods"])


class Referee:
    """In place of the one that lies beside the data: two types, two markers each."""

    @staticmethod
    def load(path, label):
        rng = np.random.default_rng(0)
        counts = rng.poisson(np.where(np.arange(40)[:, None] // 20 == np.arange(4) // 2, 3.0, 0.3))
        train, test = (sp.csr_matrix(rng.binomial(counts, share)) for share in (0.9, 0.2))
        return train, test, np.repeat(["one", "two"], 20), np.array(list("abcd"))

    @staticmethod
    def markers(train, labels):
        return {"one": [0, 1], "two": [2, 3]}

    @staticmethod
    def fidelity(values, train, test, labels):
        ratio = [
            values[labels == name][:, genes].sum() / train[labels == name][:, genes].sum()
            for name, genes in (("one", [0, 1]), ("two", [2, 3]))
        ]
        return pd.DataFrame({"type": ["one", "two"], "cells": 20, "in_ratio": ratio})

    @staticmethod
    def pooled(table):
        return {"in": 0.5, "out": 1.5}


def test_cell_types_are_scored_recorded_and_rendered(bench, monkeypatch, tmp_path, capsys):
    import fidelity

    _, render = bench
    monkeypatch.setattr(fidelity, "_referee", lambda shared: Referee)
    monkeypatch.setattr(fidelity, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(fidelity, "DATA", (("made", "kind"), ("other", "kind")))
    monkeypatch.setattr(fidelity, "GENES", {("made", "kind"): {"b": "one"}})
    monkeypatch.setattr(render, "TYPES", tmp_path / "table.md")
    monkeypatch.setattr(
        fidelity.adapter, "denoise", lambda x, genes, seed: {"": 2 * x.toarray(), "prior": 3 * x.toarray()}
    )
    fidelity.fidelity(tmp_path, ["made"], ["raw counts", "gene means", "scdae"])
    record = json.loads((tmp_path / "record.json").read_text())
    assert set(record) == {"made, kind"} and record["made, kind"]["types"] == 2
    found = record["made, kind"]["methods"]
    assert (
        found["raw counts"]["lowest"] == 1 and found["scdae"]["highest"] == 2 and found["gene means"]["highest"] < 0.8
    )
    (row,) = record["made, kind"]["markers"]
    assert row["cells"] == 20 and row["scdae"][0] == pytest.approx(2 * row["raw"][0], abs=0.01)
    text = (tmp_path / "table.md").read_text()
    assert (
        "| raw counts | 0.50 | 1.50 | 1.00 (one) | 1.00 |" in text and f"| b | one | 20 | {row['raw'][0]:.2f}," in text
    )
    assert "gene means" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="unknown method: nosuch"):
        fidelity.fidelity(tmp_path, [], ["nosuch"])


def test_a_peer_that_cannot_be_had_is_said(bench, monkeypatch, tmp_path, capsys):
    import fidelity

    def restore(*given):
        raise SystemExit("MAGIC failed")

    _, render = bench
    monkeypatch.setattr(fidelity, "_referee", lambda shared: Referee)
    monkeypatch.setattr(fidelity, "restore", restore)
    monkeypatch.setattr(fidelity, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(render, "TYPES", tmp_path / "table.md")
    fidelity.fidelity(tmp_path, ["pbmc3k"], ["MAGIC", "raw counts"])
    assert "failed: MAGIC failed" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "record.json").read_text())["pbmc3k, cell_type"]["methods"]) == ["raw counts"]
