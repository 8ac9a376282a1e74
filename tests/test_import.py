import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import scdae

SOURCE = Path(scdae.__file__).parent
_PROBE = """
import json, os, sys, random
import numpy as np
before = dict(os.environ), np.random.get_state()[1].tolist(), random.getstate()
import scdae
loaded = sorted({name.split(".")[0] for name in sys.modules})
settings = scdae.settings.verbosity
after = dict(os.environ), np.random.get_state()[1].tolist(), random.getstate()
untouched = before == after
same = lambda: {name: repr(value) for name, value in jax.config.values.items()}
import jax
fresh = same()
parts = [scdae.DAE, scdae.pp, scdae.pl, scdae.get, scdae.datasets]
scdae.DAE()
from jax._src import xla_bridge
print(json.dumps({
    "loaded": loaded,
    "untouched": untouched,
    "config": fresh == same(),
    "backends": xla_bridge.backends_are_initialized(),
    "scanpy": "scanpy" in sys.modules,
    "slow": sorted({"scipy.stats", "sklearn", "orbax", "optuna", "skbio", "pooch"} & set(sys.modules)),
}))
"""


@pytest.fixture(scope="module")
def probe():
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_import_is_light(probe):
    heavy = {"jax", "jaxlib", "flax", "optax", "anndata", "scanpy", "pandas", "scipy", "matplotlib", "h5py", "tqdm"}
    assert heavy.isdisjoint(probe["loaded"])


def test_import_touches_nothing_global(probe):
    assert probe["untouched"]


def test_no_device_is_started_and_no_setting_of_jax_changed(probe):
    assert not probe["backends"]
    assert probe["config"]
    assert not probe["scanpy"]


def test_what_is_slow_to_import_waits_until_it_is_needed(probe):
    assert probe["slow"] == []


def imported(path):
    """Top-level names of the packages that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "core").rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_array_core_knows_nothing_of_anndata(path):
    for name in imported(path):
        assert name.split(".")[0] not in {"anndata", "scanpy", "pandas", "h5py", "zarr"}
        assert not name.startswith("scdae.") or name.startswith("scdae.core.")


def test_the_core_is_where_it_is_looked_for():
    assert len(list((SOURCE / "core").rglob("*.py"))) > 40


def test_public_names():
    assert set(scdae.__all__) <= set(dir(scdae))
    for name in scdae.__all__:
        assert getattr(scdae, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'plots'.*DAE.*pp"):
        scdae.plots  # noqa: B018
    assert scdae.__version__.count(".") >= 2
