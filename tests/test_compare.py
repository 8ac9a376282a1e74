"""The comparison with peers: its page says what was recorded, and our method and the baselines run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

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
    for name in ("compare", "render", "peers"):
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
    compare.compare(tmp_path, ["simulated"], ["low_rank", "neighbours"])
    found = json.loads((tmp_path / "record.json").read_text())["simulated"]
    assert found["cells"] == 120
    assert set(found["methods"]) == {"low_rank", "neighbours"}
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
