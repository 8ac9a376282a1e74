"""What the commands do with the files that they are given; the training is a stand-in where it is not what matters."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import scdae
import scdae.io.read
import small
from cases import write_10x_v3
from scdae.cli import app
from scdae.files.writable import nullable_strings
from scdae.io.write import write_atomic

X = np.random.default_rng(0).poisson(1.0, (6, 5)).astype("f4")


def _adata(**parts):
    obs = pd.DataFrame({"donor": list("aabbcc")}, index=[f"c{i}" for i in range(6)])
    return ad.AnnData(sp.csr_matrix(X), obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(5)]), **parts)


@pytest.fixture
def calls(monkeypatch):
    """Data that the training would get."""
    import scdae.pp

    seen = []

    def impute(adata, **options):
        seen.append((adata, options))
        adata.layers["scdae"] = np.ones(adata.shape, "f4")
        adata.obsm["X_scdae"] = np.ones((adata.n_obs, 3), "f4")
        for end in ("dispersion", "dropout", "gain"):
            adata.var[f"scdae_{end}"] = 0.5
        adata.obs["scdae_gain"] = 0.5
        report = {"skill": 0.1, "skill_restored": 0.2, "n_genes_helped": 4, "n_genes": 5, "zero_inflated_genes": 2}
        entry = {"output": "mean", "unit": "counts", "likelihood": "zinb", "version": "0.0", "report": report}
        adata.uns["scdae"] = entry

    monkeypatch.setattr(scdae.pp, "impute", impute)
    return seen


def _run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def _error(*arguments):
    result = _run(*arguments)
    assert result.exit_code == 1, result.output
    text = result.stderr.splitlines()[-1]
    assert text.startswith("error: ") and "unexpected" not in result.stderr and "Traceback" not in result.stderr
    return text


def _break(monkeypatch, **uns):
    """INPUT cannot hold what cannot be written, so that it is put there after the reading."""
    read = scdae.io.read.read_any

    def with_more(path, **options):
        adata = read(path, **options)
        adata.uns.update(uns)
        return adata

    monkeypatch.setattr("scdae.cli.shared.data.read_any", with_more)


@pytest.mark.parametrize("target", ["o.h5ad", "o.zarr"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_cannot_be_written_is_found_before_the_training(tmp_path, monkeypatch, calls, target, dry):
    write_atomic(_adata(), tmp_path / "a.h5ad")
    _break(monkeypatch, note={1, 2})
    assert f"uns['note'] cannot be written to {target}" in _error(
        "impute", tmp_path / "a.h5ad", tmp_path / target, *dry
    )
    assert "cannot be written" in _error("score", tmp_path / "a.h5ad", tmp_path / target) or dry
    assert not calls and not (tmp_path / target).exists()
    assert _run("impute", tmp_path / "a.h5ad", tmp_path / target, "--results-only", "-q").exit_code == 0


@pytest.mark.parametrize("options", [(), ("--results-only",)])
@pytest.mark.parametrize("target", ["o.h5ad", "o.zarr"])
def test_names_as_nullable_strings(tmp_path, calls, target, options):
    adata = _adata()
    adata.obs.index = pd.Index(adata.obs_names.astype("string"))
    adata.var.index = pd.Index(adata.var_names.astype("string"))
    with nullable_strings():
        adata.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert file["obs/_index"].attrs["encoding-type"] == "nullable-string-array"
    result = _run("impute", tmp_path / "a.h5ad", tmp_path / target, "-q", *options)
    assert result.exit_code == 0, result.output
    back = ad.read_h5ad(tmp_path / target) if target.endswith("h5ad") else ad.read_zarr(tmp_path / target)
    assert list(back.obs_names) == list(adata.obs_names) and back.layers["scdae"].shape == (6, 5)


def test_counts_in_raw(tmp_path, calls, monkeypatch):
    adata = _adata()
    adata.raw = adata.copy()
    adata = adata[:, [3, 1]].copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()))
    write_atomic(adata, tmp_path / "a.h5ad")
    for limit in (None, 3):
        if limit:
            monkeypatch.setattr(scdae.settings, "max_entries", limit)
        result = _run("impute", tmp_path / "a.h5ad", tmp_path / "o.h5ad", "--layer", "raw", "-q", "--overwrite")
        assert result.exit_code == 0, result.output
        used, options = calls[-1]
        assert options["layer"] is None and list(used.var_names) == [f"g{j}" for j in range(5)]
        assert list(used.obs["donor"]) == list("aabbcc")
        assert ad.read_h5ad(tmp_path / "o.h5ad").shape == (6, 5)
    monkeypatch.undo()
    write_atomic(_adata(), tmp_path / "b.h5ad")
    assert "has no .raw and no layer of that name" in _error(
        "impute", tmp_path / "b.h5ad", tmp_path / "p.h5ad", "--layer", "raw"
    )
    assert "pass --layer raw" in _error("impute", tmp_path / "a.h5ad", tmp_path / "p.h5ad")


def test_genes_only(tmp_path, calls):
    adata = _adata()
    adata.var_names = ["CD3E", "NKG7", "NegPrb1", "__no_feature", "CD19"]
    adata.var["feature_types"] = ["Gene Expression"] * 4 + ["Antibody Capture"]
    write_atomic(adata, tmp_path / "a.h5ad")
    write_atomic(adata, tmp_path / "b.h5ad")
    for source in ("a.h5ad", "*.h5ad"):
        result = _run("impute", tmp_path / source, tmp_path / "o.zarr", "--genes-only", "--overwrite")
        assert result.exit_code == 0, result.output
        assert list(calls[-1][0].var_names) == ["CD3E", "NKG7"]
        assert "Left out" in result.stderr


def test_a_pattern_does_not_take_in_its_own_result(tmp_path, calls):
    for name in ("a", "b"):
        write_atomic(_adata(), tmp_path / f"{name}.h5ad")
    for _ in range(2):
        result = _run("impute", tmp_path / "*.h5ad", tmp_path / "restored.h5ad", "--overwrite", "-q")
        assert result.exit_code == 0, result.output
        assert set(calls[-1][0].obs["sample"]) == {"a", "b"}
    before = (tmp_path / "b.h5ad").read_bytes()  # counts are never taken for an earlier result
    text = _error("impute", tmp_path / "[ab].h5ad", tmp_path / "b.h5ad", "--overwrite", "-q")
    assert "b.h5ad is INPUT" in text and (tmp_path / "b.h5ad").read_bytes() == before


def test_the_file_at_fault_is_named(tmp_path):
    write_atomic(small.structured(), tmp_path / "a.h5ad")
    bad = small.structured()
    bad.X = bad.X * 0.5
    write_atomic(bad, tmp_path / "n.h5ad")
    for normal, words in {
        tmp_path / "n.h5ad": "n.h5ad: X does not hold counts",
        tmp_path / "none.h5ad": "none.h5ad does not exist",
        tmp_path / "no*.h5ad": "No file matches",
    }.items():
        text = _error("score", tmp_path / "a.h5ad", tmp_path / "s.csv", "--normal", normal)
        assert f"--normal {normal}: " in text and words in text
    (tmp_path / "c.h5ad").write_bytes((tmp_path / "a.h5ad").read_bytes()[:3000])
    for command in ("impute", "evaluate", "score"):
        target = [tmp_path / ("s.csv" if command == "score" else "o.zarr")] if command != "evaluate" else []
        assert f"{tmp_path / 'c.h5ad'} cannot be read" in _error(command, tmp_path / "[ac].h5ad", *target)


def test_a_pattern_is_evaluated(tmp_path):
    adata = small.structured()
    write_atomic(adata[:80], tmp_path / "a.h5ad")
    write_atomic(adata[80:], tmp_path / "b.h5ad")
    result = _run("evaluate", tmp_path / "*.h5ad", "--max-epochs", 1, "--json", "-", "-q")
    assert result.exit_code == 0, result.output
    assert f'"n_obs": {adata.n_obs}' in result.stdout


def test_lists_of_genes(tmp_path, calls):
    write_atomic(_adata(), tmp_path / "a.h5ad")
    (tmp_path / "genes.csv").write_bytes("gene,skill\ng3,1\ng1,2\n".encode("utf-16"))
    result = _run("impute", tmp_path / "a.h5ad", tmp_path / "o.h5ad", "--genes", tmp_path / "genes.csv", "-q")
    assert result.exit_code == 0, result.output
    assert list(ad.read_h5ad(tmp_path / "o.h5ad").var_names) == ["g3", "g1"]
    (tmp_path / "genes.csv").write_text("")
    assert "genes.csv is empty" in _error(
        "impute", tmp_path / "a.h5ad", tmp_path / "p.h5ad", "--genes", tmp_path / "genes.csv"
    )


@pytest.mark.parametrize("kind", ["", "NA", "nan"])
def test_features_of_cellbender(tmp_path, calls, kind):
    ids = [f"ENSG{j:011d}" for j in range(5)]
    write_10x_v3(
        tmp_path / "cb.h5", X.astype(int), ["a", "b", "b", "c", "d"], ids, (kind,) * 5, [f"c{i}" for i in range(6)]
    )
    result = _run("impute", tmp_path / "cb.h5", tmp_path / "o.h5ad")
    assert result.exit_code == 0, result.output
    assert "Observation names" not in result.output and "Variable names" not in result.output  # anndata's own words
    assert calls[-1][0].shape == (6, 5)
