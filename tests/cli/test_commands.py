import json
import os
import signal
import subprocess
import sys
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from scdae.cli import app
from scdae.cli.shared.common import as_options
from scdae.io.write import write_atomic
from scdae.outputs.group_tables import GROUP_COLUMNS, MARKER_COLUMNS

X = np.random.default_rng(0).poisson(1.0, (6, 5)).astype("f4")


@pytest.fixture
def counts(tmp_path):
    obs = pd.DataFrame({"donor": list("aabbcc")}, index=[f"c{i}" for i in range(6)])
    adata = ad.AnnData(sp.csr_matrix(X), obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(5)]))
    write_atomic(adata, tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


@pytest.fixture
def calls(monkeypatch):
    """Puts a stand-in for the training in its place, and keeps what it was called with."""
    import scdae.pp

    seen = []

    def impute(adata, **options):
        seen.append(options)
        key = options["key_added"]
        adata.layers[key] = np.ones(adata.shape, "f4")
        adata.obsm[f"X_{key}"] = np.ones((adata.n_obs, 3), "f4")
        for end in ("dispersion", "dropout", "gain"):
            adata.var[f"{key}_{end}"] = 0.5
        adata.obs[f"{key}_gain"] = 0.5
        adata.uns[key] = {
            "output": options["output"] if isinstance(options["output"], str) else options["output"][0],
            "unit": "counts",
            "likelihood": options["likelihood"],
            "version": "0.0",
            "report": {
                "skill": 0.105,
                "skill_restored": 0.2,
                "n_genes_helped": 4,
                "n_genes": 5,
                "zero_inflated_genes": 2,
            },
        }

    monkeypatch.setattr(scdae.pp, "impute", impute)
    return seen


def _run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_impute_writes_the_result_and_one_page(counts, tmp_path, calls):
    result = _run("impute", counts, tmp_path / "out.h5ad")
    assert result.exit_code == 0, result.stderr
    assert calls == [
        {
            "layer": None,
            "mask": None,
            "batch_key": None,
            "covariates": None,
            "transform_batch": None,
            "key_added": "scdae",
            "likelihood": "zinb",
            "output": "mean",
            "depth": None,
            "quantiles": (),
            "lazy": None,
            "threshold": None,
            "max_epochs": None,
            "effort": "default",
            "seed": 0,
            "allow_fractional": False,
            "allow_nan": False,
            "overwrite": False,
        }
    ]
    back = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), X)
    assert (back.layers["scdae"] == 1).all()
    assert sorted(os.listdir(tmp_path)) == ["in.h5ad", "out.h5ad"]
    page = result.stdout
    for words in (
        "6 cells x 5 genes",
        f"read     {counts}, X",
        f"wrote    {tmp_path / 'out.h5ad'}",
        "layers['scdae']",
        "posterior mean",
        "11.1% more likely",
        "22.1% with the entry's own count",
        "4 of 5 genes",
        "2 of 5 genes have more zeros",
        "restoring",
        "differential expression",
    ):
        assert words in page
    assert len(page.splitlines()) < 40
    assert "\r" not in result.output
    assert "\x1b" not in result.output


def test_every_option_reaches_the_call(counts, tmp_path, calls):
    words = (
        "--layer umi --batch-key donor --covariate sex --covariate age --transform-batch average "
        "--mask-layer seen --likelihood nb --seed 7 --max-epochs 3 --effort best --output-scale log1p "
        "--depth 2000 --quantile 0.05 --quantile 0.95 --threshold 0.5 --allow-fractional --allow-nan --key-added dae --overwrite --quiet"
    )
    result = _run("impute", counts, tmp_path / "out.zarr", *words.split())
    assert result.exit_code == 0, result.stderr
    assert result.output == ""
    assert calls == [
        {
            "layer": "umi",
            "mask": "seen",
            "batch_key": "donor",
            "covariates": ["sex", "age"],
            "transform_batch": "average",
            "key_added": "dae",
            "likelihood": "nb",
            "output": "log1p",
            "depth": 2000.0,
            "quantiles": (0.05, 0.95),
            "lazy": None,
            "threshold": 0.5,
            "max_epochs": 3,
            "effort": "best",
            "seed": 7,
            "allow_fractional": True,
            "allow_nan": True,
            "overwrite": True,
        }
    ]
    assert "dae" in ad.read_zarr(tmp_path / "out.zarr").layers


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("--output log1p", "log1p"),
        ("--output mean,log1p", ("mean", "log1p")),
        ("--output sd --output mean,log1p", ("sd", "mean", "log1p")),
        ("--output-scale mean --output-scale sd", ("mean", "sd")),
    ],
)
def test_several_outputs(counts, tmp_path, calls, words, output):
    result = _run("impute", counts, tmp_path / "out.zarr", *words.split(), "--quiet")
    assert result.exit_code == 0, result.stderr
    assert [call["output"] for call in calls] == [output]


@pytest.mark.parametrize("words", ["--output mean,log2p", "--output mean --output mean", "--output ,"])
def test_outputs_that_cannot_be(counts, tmp_path, calls, words):
    result = _run("impute", counts, tmp_path / "out.zarr", *words.split())
    assert result.exit_code == 2 and ("is not one of" in result.stderr or "is named twice" in result.stderr)
    assert calls == [] and not (tmp_path / "out.zarr").exists()


def test_the_page_says_when_nothing_was_learned(counts, tmp_path, calls):
    import scdae.pp

    plain = scdae.pp.impute

    def useless(adata, **options):
        plain(adata, **options)
        adata.uns["scdae"]["report"].update(skill=0.0, n_genes_helped=0, zero_inflated_genes=0)

    scdae.pp.impute = useless
    page = _run("impute", counts, tmp_path / "out.h5ad").stdout
    assert "no better than the average" in page
    assert "switched off for all" in page


@pytest.mark.parametrize("overwrite", [False, True])
def test_existing_output(counts, tmp_path, calls, overwrite):
    (tmp_path / "out.h5ad").write_text("mine")
    result = _run("impute", counts, tmp_path / "out.h5ad", *(["--overwrite"] if overwrite else []))
    assert result.exit_code == (0 if overwrite else 1)
    assert len(calls) == int(overwrite)
    if not overwrite:
        assert result.stderr.count("\n") == 1
        assert "pass --overwrite" in result.stderr
        assert (tmp_path / "out.h5ad").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            ValueError("X does not hold counts.\nPass layer='umi' or allow_nan=True."),
            1,
            "Pass --layer umi or --allow-nan.",
        ),
        (KeyError("odd"), 1, "(KeyError: 'odd'). --debug shows where"),
        (MemoryError(), 75, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_are_one_line_and_leave_no_file(counts, tmp_path, monkeypatch, calls, error, code, words):
    import scdae.pp

    def fails(adata, **options):
        raise error

    monkeypatch.setattr(scdae.pp, "impute", fails)
    result = _run("impute", counts, tmp_path / "out.h5ad")
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert os.listdir(tmp_path) == ["in.h5ad"]
    if isinstance(error, ValueError):
        assert result.stderr.startswith(f"error: {counts}: X does")
        assert _run("impute", counts, tmp_path / "out.h5ad", "--debug").exception is error


@pytest.mark.parametrize(
    "arguments",
    [
        ["impute"],
        ["impute", "in.h5ad"],
        ["impute", "a", "b.h5ad", "--likelihood", "gauss"],
        ["impute", "a", "b.h5ad", "--max-epochs", "0"],
        ["impute", "a", "b.h5ad", "--nonsense"],
        ["impute", "a", "b.h5ad", "-q", "-v"],
        ["nothing"],
    ],
)
def test_usage_errors(arguments):
    assert _run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("no.h5ad", "out.h5ad", "no.h5ad does not exist"),
        ("in.h5ad", "out.csv", "end in .h5ad or .zarr"),
        ("in.h5ad", "no/out.h5ad", "does not exist. Make it first"),
    ],
)
def test_paths_that_cannot_be(counts, tmp_path, calls, source, target, words):
    result = _run("impute", tmp_path / source, tmp_path / target)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert not calls


def test_messages_of_the_package_in_words_of_the_command():
    text = "pass layer='a b', mask='m', batch_key='x', allow_fractional=True, or another key_added=... ; genome='hg19'"
    assert as_options(text) == (
        "pass --layer a b, --mask-layer m, --batch-key x, --allow-fractional, or another --key-added NAME ; --genome hg19"
    )
    assert as_options("the player='x' stays") == "the player='x' stays"
    assert as_options("transform_batch='b 2' needs batch_key=...") == "--transform-batch b 2 needs --batch-key NAME"


def test_demo_passes_its_options(tmp_path, monkeypatch):
    import scdae.demo

    seen = {}

    def run(folder, **options):
        seen.update(options, folder=folder)
        return {"text": "closer"}

    monkeypatch.setattr(scdae.demo, "run", run)
    result = _run("demo", tmp_path, "--cells", 200, "--genes", 100, "--seed", 3, "--max-epochs", 2)
    assert result.stdout == "closer\n"
    assert seen == {"folder": tmp_path, "n_cells": 200, "n_genes": 100, "seed": 3, "max_epochs": 2}


def test_info_and_version():
    lines = dict(line.split(None, 1) for line in _run("info").stdout.splitlines())
    assert {"python", "scdae", "jax", "jaxlib", "flax", "optax", "anndata", "scanpy", "numpy", "scipy"} <= set(lines)
    assert lines["numpy"] == np.__version__
    assert {"device", "cores", "memory"} <= set(lines)
    from importlib.metadata import version

    assert _run("--version").stdout == f"scdae {version('scdae')}\n"


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from scdae.cli import main; sys.argv = ['scdae', 'impute', '--help']\n"
        "try: main()\n"
        "finally: print('heavy:', sorted({'jax', 'flax', 'scanpy', 'anndata', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--batch-key" in done.stdout
    assert "heavy: []" in done.stdout


_STOPPED = """
import os, signal, sys, time, anndata
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored, and nohup the next
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from pathlib import Path
import scdae.pp, scdae.cli, scdae.io.write
scdae.pp.impute = lambda adata, **options: None
def slow(adata, path, shown):
    Path(path).write_text("half")
    print(os.getpid(), flush=True)
    time.sleep(60)
scdae.io.write._write_h5ad = slow
for target in sys.argv[2:]:  # what was imported serves all of them
    job = os.fork()
    if job == 0:
        sys.argv = ["scdae", "impute", sys.argv[1], target]
        scdae.cli.main()
    code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    print(code, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_stopped_job_leaves_nothing_behind(counts, tmp_path):
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    words = [sys.executable, "-c", _STOPPED, counts, *(tmp_path / f"{number.name}.h5ad" for number in numbers)]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as jobs:
        for number in numbers:
            job = int(jobs.stdout.readline())
            time.sleep(0.2)
            os.kill(job, number)
            assert int(jobs.stdout.readline()) == 128 + number
            assert os.listdir(tmp_path) == ["in.h5ad"]
        jobs.wait(30)
        assert "Traceback" not in jobs.stderr.read()
    assert jobs.returncode == 0


@pytest.fixture
def evaluations(monkeypatch):
    """Puts a stand-in for the evaluation in its place, and keeps what it was called with."""
    import scdae.tl

    seen = []

    def evaluate(adata, **options):
        seen.append(options)
        key = options["key"]
        adata.var[f"{key}_skill"], adata.var[f"{key}_skill_se"] = 0.5, np.nan
        adata.var[f"{key}_verdict"] = pd.Categorical(["helped"] * adata.n_vars)
        adata.uns[f"{key}_evaluation"] = {
            "written_by": "scdae.tl.evaluate",
            "version": "0.0",
            "methods": np.array(["scdae", "gene mean"], dtype=object),
            "skill": np.array([0.1, 0.0]),
            "log_likelihood": np.array([-2.0, np.nan]),
            "molecules": 100.0,
            "fraction": options["fraction"],
            "rank": 3,
            "coverage": 0.9,
            "calibration_entries": 50,
            "pit": np.full(4, 0.25),
            "n_genes": {"helped": 5},
            "settings": {"noise": np.array([0.1, 0.8])},
            "verdict": "Explains 10.0% of it.",
        }

    monkeypatch.setattr(scdae.tl, "evaluate", evaluate)
    return seen


def test_evaluate_prints_a_page_and_writes_json_and_a_table(counts, tmp_path, evaluations):
    report, table = tmp_path / "r.json", tmp_path / "g.csv"
    result = _run("evaluate", counts, "--json", report, "--genes", table, "--likelihood", "nb", "--fraction", 0.8)
    assert result.exit_code == 0, result.stderr
    (options,) = evaluations
    assert options["likelihood"] == "nb" and options["fraction"] == 0.8 and "max_epochs" not in options
    found = json.loads(report.read_text())
    assert found["methods"] == {
        "scdae": {"skill": 0.1, "log_likelihood": -2.0},
        "gene mean": {"skill": 0.0, "log_likelihood": None},
    }
    assert (
        found["settings"] == {"noise": [0.1, 0.8]}
        and found["n_obs"] == 6
        and set(found["seconds"])
        == {
            "reading",
            "evaluating",
        }
    )
    assert list(pd.read_csv(table).columns) == ["gene", "scdae_skill", "scdae_skill_se", "scdae_verdict"]
    for words in ("Explains 10.0% of it.", "gene mean", "90.0%", "20% of the molecules"):
        assert words in result.stdout
    assert _run("evaluate", counts, "--json", report).exit_code == 1
    assert _run("evaluate", counts, "--json", report, "--overwrite", "--quiet").output == ""
    assert _run("evaluate", counts, "--genes", tmp_path / "g.txt").exit_code == 1


def test_evaluate_says_what_became_of_groups(counts, tmp_path, evaluations, monkeypatch):
    import scdae.tl

    plain = scdae.tl.evaluate

    def evaluate(adata, **options):
        plain(adata, **options)
        numbers = {name: np.array([1.25, np.nan]) for name in GROUP_COLUMNS}
        text = {
            "group": ["T cells", "few"],
            "markers": ["g1, g3", ""],
            "verdict": ["leaks", "too few cells"],
            "words": ["T cells leak.", "few: 3 cells."],
        }
        numbers |= {name: np.array(values, dtype=object) for name, values in text.items()}
        numbers |= {"cells": np.array([150, 3]), "zeros_out_high": np.array([np.inf, np.nan])}
        markers = {name: np.array([0.5, 1.5]) for name in MARKER_COLUMNS}
        markers |= {"group": np.array(["T cells"] * 2, dtype=object), "gene": np.array(["g1", "g3"], dtype=object)}
        adata.uns["scdae_evaluation"]["fidelity"] = {
            "groupby": options["groupby"],
            "groups": numbers,
            "markers": markers,
            "pooled": {"zeros_in": 0.9, "zeros_out": np.nan},
            "cells_without_group": 2,
            "verdict": "None of the groups.",
        }

    monkeypatch.setattr(scdae.tl, "evaluate", evaluate)
    report = tmp_path / "r.json"
    result = _run("evaluate", counts, "--groupby", "donor", "--json", report)
    assert result.exit_code == 0, result.stderr
    assert evaluations[0]["groupby"] == "donor"
    for words in ("obs['donor']", "1.25 (1.25 to inf)", "None of the groups.", "  T cells leak."):
        assert words in result.stdout
    page = result.stdout.partition("Groups of obs")[2]
    assert "few: 3 cells." not in page and " nan" not in page
    found = json.loads(report.read_text())["fidelity"]
    assert found["groupby"] == "donor" and found["cells_without_group"] == 2
    assert found["pooled"] == {"zeros_in": 0.9, "zeros_out": None} and set(found["groups"]) == {"T cells", "few"}
    assert found["groups"]["T cells"]["verdict"] == "leaks" and found["groups"]["T cells"]["zeros_out_high"] is None
    assert found["groups"]["T cells"]["markers"]["g3"]["raw_in"] == 1.5 and found["groups"]["few"]["markers"] == {}


def test_of_many_groups_the_page_shows_those_that_are_not_kept(counts):
    from scdae.cli.pages.summary import describe_evaluation

    adata, n = ad.read_h5ad(counts), 300
    table = {name: np.ones(n) for name in GROUP_COLUMNS}
    table |= {
        name: np.array([f"{name} {i};" for i in range(n)], dtype=object) for name in ("group", "markers", "words")
    }
    table["verdict"] = np.array(["kept", "leaks", "no markers"] * 100, dtype=object)
    adata.uns["scdae_evaluation"] = {
        **{name: np.array([], dtype=object) for name in ("methods", "skill", "log_likelihood")},
        **{"version": "0", "fraction": 0.9, "calibration_entries": 0, "verdict": "."},
        "fidelity": {"groupby": "donor", "groups": table, "verdict": "Some leak."},
    }
    page = describe_evaluation(adata, "scdae", source="in", seconds={})
    assert "group 1;" in page and "group 0;" not in page and "words 118;" in page and "words 2;" not in page
    assert "... 40 of 300 groups; --json FILE has all." in page and len(page.splitlines()) < 110


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("donors", r"--groupby donors not found in adata.obs. Did you mean 'donor'"),
        ("donor", "--groupby donor: none of the 3 groups of obs['donor'] has 10 cells"),
    ],
)
def test_groups_that_cannot_be_judged_are_an_error_before_the_fit(counts, tmp_path, column, words):
    result = _run("evaluate", counts, "--groupby", column, "--json", tmp_path / "r.json")
    assert result.exit_code == 1 and words in result.stderr and result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["in.h5ad"]


def test_fit_and_apply(tmp_path):
    import scdae
    import small

    adata = small.structured()
    write_atomic(adata[:100], tmp_path / "a.h5ad")
    write_atomic(adata[100:, ::-1], tmp_path / "b.h5ad")
    model = tmp_path / "m.scdae"
    words = f"--likelihood nb --max-epochs 3 --seed 4 {tmp_path / 'a.h5ad'} {model}"
    result = _run("fit", *words.split())
    assert result.exit_code == 0, result.stderr
    assert "100 cells x 60 genes" in result.stdout and f"scdae apply COUNTS {model}" in result.stdout
    result = _run("apply", tmp_path / "b.h5ad", model, tmp_path / "out.h5ad", "--quantile", "0.9")
    assert result.exit_code == 0, result.stderr
    assert f"with {model}" in result.stdout
    back, query = ad.read_h5ad(tmp_path / "out.h5ad"), adata[100:, ::-1].copy()
    np.testing.assert_allclose(back.layers["scdae"], scdae.DAE.load(model).impute(query), rtol=1e-6)
    assert "scdae_q90" in back.layers and list(back.var_names) == list(query.var_names)
    assert _run("fit", *words.split()).exit_code == 1  # it exists
    assert _run("apply", tmp_path / "b.h5ad", tmp_path / "a.h5ad", tmp_path / "o.h5ad").exit_code == 1
    assert _run("fit", tmp_path / "a.h5ad", tmp_path / "m.txt").exit_code == 1


def test_batches_and_covariates_from_the_command_line(tmp_path):
    """A fit and a run in one, and the same with the model kept: corrected for batches, and named so."""
    import scdae
    import small

    adata = small.covaried()
    write_atomic(adata, tmp_path / "a.h5ad")
    columns = "--batch-key batch --covariate donor --covariate age --likelihood nb --max-epochs 2"
    corrected = "--transform-batch average --quantile 0.9"
    result = _run("impute", tmp_path / "a.h5ad", tmp_path / "b.h5ad", *columns.split(), *corrected.split())
    assert result.exit_code == 0, result.stderr
    assert "layers['scdae_as_average']" in result.stdout and "as if measured in batch 'average'" in result.stdout
    result = _run("fit", tmp_path / "a.h5ad", tmp_path / "m.scdae", *columns.split())
    assert result.exit_code == 0, result.stderr
    result = _run("apply", tmp_path / "a.h5ad", tmp_path / "m.scdae", tmp_path / "c.h5ad", *corrected.split())
    assert result.exit_code == 0, result.stderr
    assert "layers['scdae_as_average']" in result.stdout
    model = scdae.DAE.load(tmp_path / "m.scdae")
    assert (model.batch_key, model.covariates.others) == ("batch", ["donor", "age"])
    expected = model.impute(adata, transform_batch="average")
    for name in ("b.h5ad", "c.h5ad"):
        back = ad.read_h5ad(tmp_path / name)
        np.testing.assert_allclose(back.layers["scdae_as_average"], expected, rtol=1e-5)
        assert "scdae_as_average_q90" in back.layers and "scdae" not in back.layers
        assert list(back.uns["scdae_as_average"]["covariates"]) == ["donor", "age"]
    result = _run("apply", tmp_path / "a.h5ad", tmp_path / "m.scdae", tmp_path / "d.h5ad", "--transform-batch", "x")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "--transform-batch x is not a batch of obs['batch']" in result.stderr
    result = _run("impute", tmp_path / "a.h5ad", tmp_path / "d.h5ad", "--transform-batch", "average")
    assert result.exit_code == 1 and "--transform-batch average needs --batch-key NAME" in result.stderr
    assert not (tmp_path / "d.h5ad").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--devices", "many"], "--devices many: use a number of devices"),
        (["--devices", "99"], "devices=99: JAX has"),
        (["--process-id", "1"], "belong to --distributed"),
        (["--distributed", "--process-id", "1"], "together, or none of them"),
    ],
)
def test_devices_that_are_not_there(counts, tmp_path, options, said, monkeypatch):
    def ended(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", ended)
    result = _run("fit", counts, tmp_path / "out.scdae", *options)
    assert result.exit_code != 0 and said in " ".join(result.stderr.split()).replace(" │", "").replace("│ ", "")
    assert not (tmp_path / "out.scdae").exists()
