import json
import os
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
from typer.testing import CliRunner

import scdae
import small
from scdae.cli import app
from scdae.cli.pages.costs import seconds_of_training
from scdae.cli.pages.plan import plan_impute, plan_training
from scdae.cli.pages.summary import describe_plan
from scdae.core.config import Config
from scdae.io.write import write_atomic


@pytest.fixture
def adata():
    """150 cells x 60 genes, of which cell 3 and gene 5 are empty."""
    return small.with_gaps()


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_what_is_planned_is_what_a_fit_does(adata):
    plan = plan_training(adata, Config(max_epochs=7, batch_size=64))
    outcome = small.fitted_to_gaps().outcome  # of these data, with these settings
    assert plan.train["n_obs"] == len(outcome.cells) == 149
    assert plan.train["n_vars"] == len(outcome.genes) == 59
    assert plan.train["most_steps"] == 21  # 7 epochs of three minibatches
    assert plan.train["most_epochs"] == round(21 * 64 / 149, 1)
    assert 21 * 64 / 149 >= outcome.n_epochs
    assert plan.read == {
        "counts": "X",
        "n_obs": 150,
        "n_vars": 60,
        "stored_entries": int(adata.X.nnz),
        "unobserved_entries": 0,
        "held_in_memory": True,
    }


def test_blocks_are_planned_as_counts_in_memory_are(adata, monkeypatch):
    held = plan_training(adata, Config(), batch_key="batch")
    monkeypatch.setattr(scdae.settings, "_max_entries", 100)
    blocks = plan_training(adata, Config(), batch_key="batch")
    assert held.train == blocks.train and held.train["batches"] == ["batch_1", "batch_2"]
    assert blocks.read == held.read | {"held_in_memory": False}


def test_estimates_are_those_of_the_measurements():
    """Seconds of docs/performance.md: cells, stored entries, epochs, seconds."""
    table = (1000, 1.0e6, 25.6, 6.9), (4000, 3.8e6, 6.4, 7.9), (16000, 15e6, 1.6, 11.6)
    table += (64000, 61e6, 1.0, 18.1), (200000, 192e6, 1.0, 34.1)
    for n_obs, n_stored, epochs, seconds in table:
        found = seconds_of_training(round(n_obs * epochs / 64), 64, 20_000, int(n_stored))
        assert found == pytest.approx(seconds, rel=0.15)


@pytest.mark.parametrize(
    ("options", "size", "words"),
    [
        ({}, 4 * 150 * 60, "dense float32, 60 genes"),
        ({"quantiles": (0.1, 0.9)}, 3 * 4 * 150 * 60, "layers['scdae_q90']"),
        ({"genes": ["a", "b"], "dtype": "float16", "alone": True, "lazy": True}, 2 * 150 * 2, "without the data"),
        ({"threshold": 0.01}, None, "as large as there are values kept"),
    ],
)
def test_what_would_be_written(adata, options, size, words):
    plan = plan_impute(adata, **options)
    assert plan.write["bytes"] == size
    assert plan.write["cell_by_cell"] is options.get("lazy", False)
    page = describe_plan(plan, "impute", source="in.h5ad", target="out.h5ad")
    assert words in page and "nothing is trained or written" in page and page.count("(an estimate)") == 2
    assert json.loads(json.dumps(plan.to_dict())) == plan.to_dict()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": "no"}, "does not exist"),
        ({"quantiles": 2}, "between 0 and 1"),
        ({"key_added": "truth"}, "is there already"),
        ({"batch_key": "no"}, "no"),
        ({"batch_key": "batch", "transform_batch": "b9"}, "is not a batch of"),
        ({"output": "odd"}, "choose one of"),
    ],
)
def test_what_would_stop_a_run_stops_the_plan(adata, options, words):
    adata.layers["truth"] = adata.X.copy()
    with pytest.raises(ValueError, match=words):
        plan_impute(adata, **options)
    with pytest.raises(ValueError, match=words):
        scdae.pp.impute(adata, **options)
    assert "scdae" not in adata.layers


def test_dry_runs_leave_no_file(adata, tmp_path, monkeypatch):
    write_atomic(adata, tmp_path / "in.h5ad")
    monkeypatch.setattr("scdae.model.dae.fit_counts", None)  # whoever trains fails
    result = run("impute", tmp_path / "in.h5ad", tmp_path / "out.zarr", "--dry-run", "--batch-key", "batch")
    assert result.exit_code == 0, result.output
    for words in ("dry run of impute", "150 cells x 60 genes", "149 cells x 59 genes", "2 batches", "free"):
        assert words in result.stdout
    result = run("fit", tmp_path / "in.h5ad", tmp_path / "m.scdae", "--dry-run", "--json", "-", "--likelihood", "nb")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["command"] == "fit" and found["train"]["likelihood"] == "nb" and found["write"] == {}
    assert {"estimated_seconds", "estimated_peak_gib", "free_gib", "free_by"} == set(found["cost"])
    assert os.listdir(tmp_path) == ["in.h5ad"]
    adata.X = adata.X * 0.5
    write_atomic(adata, tmp_path / "in.h5ad", overwrite=True)
    result = run("impute", tmp_path / "in.h5ad", tmp_path / "out.h5ad", "--dry-run")
    assert result.exit_code == 1 and "does not hold counts" in result.stderr


def test_reports_as_json(tmp_path, monkeypatch):
    model = small.fitted()
    monkeypatch.setattr("scdae.model.dae.fit_counts", lambda *arguments, **options: model.outcome)
    monkeypatch.setattr("scdae.core.config.Config.n_latent", 10)
    model.save(tmp_path / "m.scdae")
    write_atomic(small.structured(), tmp_path / "in.h5ad")
    result = run(
        "apply", tmp_path / "in.h5ad", tmp_path / "m.scdae", tmp_path / "out.h5ad", "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 0 and "restored 150 cells" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    back = ad.read_h5ad(tmp_path / "out.h5ad")
    assert report["report"]["skill"] == pytest.approx(float(back.uns["scdae"]["report"]["skill"]))
    assert report["unit"] == back.uns["scdae"]["unit"] and report["n_obs"] == 150 and report["seconds"]
    again = run("apply", tmp_path / "in.h5ad", tmp_path / "m.scdae", tmp_path / "b.h5ad", "--json", tmp_path / "r.json")
    assert again.exit_code == 1 and "r.json exists" in again.stderr
    result = run("fit", tmp_path / "in.h5ad", tmp_path / "n.scdae", "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["n_vars"] == 60 and found["report"]["skill"] == pytest.approx(model.outcome.report.skill)
    found = json.loads(run("info", "--json", "-").stdout)
    assert found["numpy"] == np.__version__ and found["devices"]


def test_help_is_grouped_and_has_examples():
    page = run("--help").stdout
    order = [
        page.index(words) for words in ("Restore counts", "impute", "fit", "apply", "Did it help?", "evaluate", "info")
    ]
    assert order == sorted(order)
    assert "--install-completion" in page
    for command in ("impute", "fit", "apply", "evaluate", "demo", "info"):
        assert f"scdae {command} " in run(command, "--help").stdout.split("Example")[1]
    page = run("impute", "--help").stdout
    for panel in ("Counts", "Model", "Output", "Jobs", "Messages"):
        assert f" {panel} " in page


def test_the_shell_completes_commands():
    env = dict(os.environ, _SCDAE_COMPLETE="complete_bash", COMP_WORDS="scdae im", COMP_CWORD="1")
    done = subprocess.run([sys.executable, "-m", "scdae.cli"], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["impute"]
