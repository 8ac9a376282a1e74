"""`--obs`: columns of a table beside the counts, for the commands that read cells."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import scdae
import small
from cases import write_10x_v3
from scdae.cli import app
from scdae.io.read import read_any


def _counts(adata, path):
    x = adata.X.toarray() if sp.issparse(adata.X) else adata.X
    genes = list(adata.var_names)
    write_10x_v3(path, x, genes, genes, ["Gene Expression"] * len(genes), list(adata.obs_names))


@pytest.fixture
def files(tmp_path):
    """Counts of 10x, which have no columns, and a table of batches in another order as R writes it."""
    adata = small.structured()
    _counts(adata, tmp_path / "counts.h5")
    turned = adata.obs[["batch", "cell_type"]].iloc[::-1]
    lines = [f'"{cell}","{batch}","{kind}"' for cell, batch, kind in turned.itertuples()]
    (tmp_path / "cells.csv").write_text("\n".join(['"","batch","cell_type"', *lines]) + "\n")
    return tmp_path, adata


def _run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def _error(*arguments):
    result = _run(*arguments)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
    return result.stderr


def test_impute_has_the_batches_and_keeps_the_columns(files):
    folder, adata = files
    words = ("impute", folder / "counts.h5", folder / "o.h5ad", "--batch-key", "batch", "--max-epochs", 1, "-q")
    assert "--batch-key batch not found in adata.obs" in _error(*words)
    result = _run(*words, "--obs", folder / "cells.csv")
    assert result.exit_code == 0, result.output
    found = read_any(folder / "o.h5ad")
    assert list(found.obs["batch"]) == list(adata.obs["batch"])
    assert list(found.obs["cell_type"]) == list(adata.obs["cell_type"])
    known = read_any(folder / "counts.h5")
    known.obs["batch"] = adata.obs["batch"].to_numpy()
    scdae.pp.impute(known, batch_key="batch", max_epochs=1)
    np.testing.assert_allclose(found.layers["scdae"], known.layers["scdae"], rtol=1e-5)


def test_other_commands_have_them_too(files):
    folder, adata = files
    obs = ("--obs", folder / "cells.csv")
    counts, model = folder / "counts.h5", folder / "m.scdae"
    few = ("--max-epochs", 1, "--quiet")
    result = _run("fit", counts, model, *obs, "--batch-key", "batch", *few)
    assert result.exit_code == 0, result.output
    assert "batch" in _error("apply", counts, model, folder / "a.h5ad", "--quiet")
    result = _run("apply", counts, model, folder / "a.h5ad", *obs, "--quiet")
    assert result.exit_code == 0, result.output
    assert list(read_any(folder / "a.h5ad").obs["batch"]) == list(adata.obs["batch"])
    result = _run("evaluate", counts, *obs, "--groupby", "cell_type", *few, "--json", folder / "e.json")
    assert result.exit_code == 0 and "fidelity" in (folder / "e.json").read_text(), result.output
    result = _run("score", counts, folder / "s.csv", *obs, "--batch-key", "batch", *few)
    assert result.exit_code == 0 and len(pd.read_csv(folder / "s.csv")) == adata.n_obs, result.output
    normal = folder / "normal.h5"
    _counts(adata[:60], normal)
    result = _run("score", counts, folder / "n.csv", *obs, "--model", model, "--normal", normal, "--quiet")
    assert result.exit_code == 0, result.output


def test_faults_name_the_table(files):
    folder, adata = files
    words = ("impute", folder / "counts.h5", folder / "o.h5ad", "--max-epochs", 1)
    assert f"error: --obs {folder}/no.csv: it does not exist." in _error(*words, "--obs", folder / "no.csv")
    assert "is not a file" in _error(*words, "--obs", folder)
    lines = (folder / "cells.csv").read_text().splitlines()
    (folder / "some.csv").write_text("\n".join(lines[:-3]))
    text = _error(*words, "--obs", folder / "some.csv")
    assert text.startswith(f"error: --obs {folder}/some.csv: 3 of the {adata.n_obs} cells have no line in the table, ")
    assert not (folder / "o.h5ad").exists()


def test_cells_that_stay_on_disk(files, monkeypatch):
    folder, adata = files
    adata.obs = adata.obs[[]]
    adata.write_h5ad(folder / "c.h5ad")
    monkeypatch.setattr(scdae.settings, "_max_entries", 100)
    words = ("impute", folder / "c.h5ad", folder / "o.h5ad", "--obs", folder / "cells.csv", "--max-epochs", 1, "-q")
    result = _run(*words, "--batch-key", "batch")
    assert result.exit_code == 0, result.output
    found = read_any(folder / "o.h5ad")
    assert list(found.obs["batch"]) == list(small.structured().obs["batch"]) and "scdae" in found.layers
