"""`scdae score`."""

import json

import anndata as ad
import pandas as pd
import pytest
from typer.testing import CliRunner

import small
from scdae.cli import app
from scdae.io.write import write_atomic


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    adata = small.structured()
    adata.obs["fine"] = adata.obs["batch"] == adata.obs["batch"].iloc[0]
    write_atomic(adata, tmp_path / "a.h5ad")
    small.fitted(likelihood="nb", max_epochs=7).save(tmp_path / "m.scdae")
    return tmp_path


def test_scores_as_a_table_and_in_obs(files):
    words = "score", files / "a.h5ad", files / "s.csv", "--model", files / "m.scdae", "--normal", "fine"
    done = run(*words, "--json", files / "s.json")
    assert done.exit_code == 0, done.stderr
    table, report = pd.read_csv(files / "s.csv", index_col="cell"), json.loads((files / "s.json").read_text())
    assert len(table) == small.N_OBS and table["anomaly_pvalue"].between(0, 1).all()
    assert f"Compared with {report['n_normal']} cells: obs['fine']" in done.stdout
    assert table["anomaly"].idxmax() in done.stdout
    assert set(report["anomalous"]) == set(table.index[table["anomaly_fdr"] < 0.05])
    again = run(
        "score", files / "a.h5ad", files / "o.h5ad", *words[3:5], "--normal", files / "a.h5ad", "--key-added", "odd"
    )
    assert again.exit_code == 0, again.stderr
    read = ad.read_h5ad(files / "o.h5ad")
    assert read.uns["odd"]["n_normal"] == small.N_OBS and "odd_fdr" in read.obs


def test_what_cannot_be(files, monkeypatch):
    import scdae

    model = "--model", files / "m.scdae"
    assert "nobody" in run("score", files / "a.h5ad", files / "s.csv", *model, "--normal", "nobody").stderr
    assert "s.txt" in run("score", files / "a.h5ad", files / "s.txt", *model).stderr
    monkeypatch.setattr(scdae.settings, "_max_entries", 100)
    assert "has to be a table" in run("score", files / "a.h5ad", files / "o.h5ad", *model).stderr
    done = run("score", files / "a.h5ad", files / "s.csv", *model)
    assert done.exit_code == 0 and "This is a ranking" in done.stdout and "as odd" in done.stdout
    assert "are anomalous" not in done.stdout + done.stderr
    assert list(pd.read_csv(files / "s.csv").columns) == [
        "cell",
        *(f"anomaly{end}" for end in ("", "_pvalue", "_rarity", "_deviance")),
    ]
    assert not (files / "o.h5ad").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda normal: setattr(normal, "X", normal.X * 0.5), "fractional value"),
        (lambda normal: normal.var_names.__class__, "cells to compare with"),
        (None, "normal.h5ad"),
    ],
)
def test_the_file_of_normal_cells_is_named_where_it_is_at_fault(files, change, words):
    normal = small.structured()[: 10 if "compare" in words else 40].copy()
    if change is None:
        (files / "normal.h5ad").write_bytes(b"no file of any kind")
    else:
        change(normal)
        write_atomic(normal, files / "normal.h5ad")
    done = run(
        "score", files / "a.h5ad", files / "s.csv", "--model", files / "m.scdae", "--normal", files / "normal.h5ad"
    )
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"{files / 'normal.h5ad'}" in done.stderr and words in done.stderr and "a.h5ad" not in done.stderr
    assert not (files / "s.csv").exists()
