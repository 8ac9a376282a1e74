"""Several layers of one model, by the commands."""

import json

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import small
from scdae.cli import app


@pytest.fixture
def files(tmp_path):
    adata = small.structured()
    del adata.layers["truth"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    small.fitted(likelihood="nb", max_epochs=7).save(tmp_path / "model.scdae")
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("ending", "words"), [("h5ad", ()), ("zarr", ("--threshold", "0.1")), ("zarr", ("--dtype", "float16"))], ids=str
)
def test_apply_writes_several_layers(files, words, ending):
    target = files / f"out.{ending}"
    done = run("apply", files / "in.h5ad", files / "model.scdae", target, "--output", "mean,log1p", *words)
    assert done.exit_code == 0, done.stderr
    back = getattr(ad, f"read_{ending}")(target)
    assert small.layers_of(back) == ["scdae", "scdae_log1p"]
    expected = small.fitted(likelihood="nb", max_epochs=7).impute(small.structured(), output=("mean", "log1p"))
    for layer, values in zip((back.layers["scdae"], back.layers["scdae_log1p"]), expected.values(), strict=True):
        dense = layer.toarray() if sp.issparse(layer) else layer
        values = np.where(values < 0.1, 0, values) if "--threshold" in words else values
        rtol = 1e-3 if "float16" in words else 2e-5
        np.testing.assert_allclose(dense, values, rtol=rtol, atol=1e-5)
    page = " ".join(done.stdout.split())
    assert "layers['scdae_log1p'] expected log counts" in page and "layers['scdae'] posterior mean" in page


def test_the_plan_counts_them(files):
    words = ("impute", files / "in.h5ad", files / "out.h5ad", "--dry-run", "--json", "-")
    one, two = (json.loads(run(*words, "--output", names).stdout) for names in ("mean", "mean,log1p"))
    assert two["write"]["layers"] == ["scdae", "scdae_log1p"]
    assert two["write"]["bytes"] == 2 * one["write"]["bytes"]
    assert two["cost"]["estimated_seconds"] >= one["cost"]["estimated_seconds"]
