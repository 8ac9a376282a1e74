"""The bank of inputs that broke other tools, run through this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cases
import scdae
from scdae.cli import app

pytestmark = [
    pytest.mark.trains,
    pytest.mark.filterwarnings("ignore:Variable names are not unique"),
    pytest.mark.filterwarnings("ignore:Writing zarr v2"),
]

NAMES = {"out_layer": "key_added"}  # how the API calls what the bank calls otherwise

_APPLY = """
import sys, anndata, scdae
adata = anndata.read_h5ad(sys.argv[1])
scdae.pp.impute(adata, model=scdae.DAE.load(sys.argv[2]))
adata.write_h5ad(sys.argv[3])
"""
_IMPUTE = """
import json, sys, anndata, scdae
adata = anndata.read_h5ad(sys.argv[1])
scdae.pp.impute(adata, **json.loads(sys.argv[3]))
adata.write_h5ad(sys.argv[2])
"""
_MEASURE = """
import re, sys, anndata, scdae
adata = anndata.read_h5ad(sys.argv[1])
scdae.settings.verbosity = 2
scdae.pp.impute(adata, max_epochs=1)
adata.write_h5ad(sys.argv[2])
with open("/proc/self/status") as status:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
"""


class Adapter:
    """Runs a case in each of the bank's modes."""

    def __init__(self, folder, env):
        self.folder = folder
        self.env = {**os.environ, **env}
        for name in ("JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION"):  # jobs as users start them
            self.env.pop(name, None)
        folder.mkdir()

    def modes(self):
        return {name: getattr(self, name) for name in cases.MODES}

    def once(self, adata, **call):
        result = scdae.pp.impute(adata, **{NAMES.get(k, k): v for k, v in call.items()})
        assert result is None
        return adata

    def twice(self, adata, **call):
        return self.once(adata.copy(), **call), self.once(adata.copy(), **call)

    def again(self, adata, **call):
        return self.once(adata, **call).copy(), self.once(adata, **call)

    def fit_apply(self, pair, **call):
        train, query = pair
        scdae.pp.impute(query, model=scdae.DAE().fit(train, **call))
        return query

    def save_load(self, adata, **call):
        before, after = adata.copy(), self.folder / "after.h5ad"
        adata.write_h5ad(self.folder / "in.h5ad")
        model = scdae.DAE().fit(before, **call)
        scdae.pp.impute(before, model=model)
        model.save(self.folder / "model")
        self._python("-c", _APPLY, self.folder / "in.h5ad", self.folder / "model", after)
        return before, ad.read_h5ad(after)

    def cli(self, path, **call):
        target = self.folder / "out.h5ad"
        run = CliRunner().invoke(app, ["impute", str(path), str(target), *self._options(call)])
        if run.exit_code:
            assert run.exit_code == 1
            assert run.stderr.startswith("error: ")
            assert run.stderr.count("\n") == 1
            assert not list(self.folder.iterdir())
            raise RuntimeError(run.stderr)
        return ad.read_h5ad(target)

    def cli_parallel(self, folder, **call):
        sources = sorted(Path(folder).rglob("*.h5ad"))
        there = sorted(p.relative_to(folder) for p in folder.rglob("*"))
        targets = {source: self.folder / f"{source.parent.name}.h5ad" for source in sources}
        command = [sys.executable, "-m", "scdae.cli", "impute", *self._options(call)]
        jobs = [
            subprocess.Popen([*command, source, target], cwd=folder, env=self.env, stderr=subprocess.PIPE, text=True)
            for source, target in targets.items()
        ]
        for job in jobs:
            _, said = job.communicate(timeout=300)
            assert job.returncode == 0, said
        assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == there
        return {source: ad.read_h5ad(target) for source, target in targets.items()}

    def subprocess(self, adata, **call):
        adata.write_h5ad(self.folder / "in.h5ad")
        with open(self.folder / "log.txt", "w") as log:
            self._python(
                "-c", _IMPUTE, self.folder / "in.h5ad", self.folder / "out.h5ad", json.dumps(call), out=log, err=log
            )
        return {"result": ad.read_h5ad(self.folder / "out.h5ad"), "log": (self.folder / "log.txt").read_text()}

    def _python(self, *arguments, out=None, err=None):
        subprocess.run([sys.executable, *arguments], env=self.env, stdout=out, stderr=err, check=True)

    @staticmethod
    def _options(call):
        words = []
        for name, value in call.items():
            words += [f"--{NAMES.get(name, name).replace('_', '-')}", *([] if value is True else [str(value)])]
        return words


@pytest.mark.parametrize("case", [c for c in cases.CASES if c.id != "size-wide-sparse"], ids=lambda case: case.id)
def test_case(case, tmp_path):
    result = cases.run_case(case, tmp_path, Adapter(tmp_path / "out", case.env).modes())
    if case.expect == "ok":  # the bank would also take an error for some of them
        assert not isinstance(result, Exception), result


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_size_wide_sparse(tmp_path, monkeypatch):
    """In a process of its own, which has its own peak of memory and compiles as users' do. One epoch has that peak, too."""
    monkeypatch.delenv("XLA_FLAGS")
    [case] = [c for c in cases.CASES if c.id == "size-wide-sparse"]
    adata = case.build(tmp_path)
    adata.write_h5ad(tmp_path / "in.h5ad")
    command = [sys.executable, "-c", _MEASURE, tmp_path / "in.h5ad", tmp_path / "out.h5ad"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    case.check(ad.read_h5ad(tmp_path / "out.h5ad"), adata)
    layer = 4 * adata.n_obs * adata.n_vars
    assert int(done.stdout) * 1024 < layer + 1e9
    assert done.stderr.startswith(f"scdae: the output layer of 4,000 x 25,000 float32 takes {layer / 2**20:.0f} MiB.\n")


def test_the_size_of_the_output_is_said_before_training(tmp_path, monkeypatch, log):
    def stop(*_, **__):
        raise InterruptedError

    monkeypatch.setattr("scdae.model.dae.fit_counts", stop)
    with pytest.raises(InterruptedError):
        scdae.pp.impute(cases.plain(tmp_path))
    assert [r.getMessage() for r in log.records] == [
        "scdae: the output layer of 120 x 60 float32 takes less than 1 MiB."
    ]
    assert log.records[0].levelname == "INFO"


def _fair(adata):
    """What an honest method would give on `cases.plain`: the profile of the cell type at the cell's depth."""
    x = adata.X.toarray().astype("f8")
    total = x.sum(1, keepdims=True)
    profile = pd.DataFrame(x / total).groupby(adata.obs["type"].to_numpy()).transform("mean").to_numpy()
    adata.layers["new"] = (profile * total).astype("f4")
    adata.obsm["X_new"] = profile[:, :3].astype("f4")
    return adata


def _layer(change):
    return lambda adata: adata.layers.__setitem__("new", change(adata.layers["new"].copy()).astype("f4"))


FAULTS = {
    "NaN": _layer(lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.nan, y)),
    "negative": _layer(lambda y: y - 1e-3 - y.min()),
    "all zero": _layer(np.zeros_like),
    "log scale": _layer(np.log1p),
    "per 1e4": _layer(lambda y: y / y.sum(1, keepdims=True) * 1e4),
    "genes reversed": _layer(lambda y: y[:, ::-1]),
    "cells reversed": _layer(lambda y: y[::-1]),
    "double": _layer(np.float64(3.0).__mul__),
    "X in place": lambda adata: adata.X.data.__imul__(2),
    "X cast": lambda adata: setattr(adata, "X", adata.X.astype("f8")),
    "names": lambda adata: setattr(adata, "var_names", adata.var_names[::-1]),
    "no latent space": lambda adata: adata.obsm.__delitem__("X_new"),
    "a second layer": lambda adata: adata.layers.__setitem__("scratch", adata.layers["new"]),
}


def test_the_checks_pass_a_fair_result(tmp_path):
    cases.check_scale(_fair(cases.plain(tmp_path)), cases.plain(tmp_path))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checks_catch(fault, tmp_path):
    result = _fair(cases.plain(tmp_path))
    FAULTS[fault](result)
    with pytest.raises(AssertionError):
        cases.check_scale(result, cases.plain(tmp_path))
