"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import pkgutil

import pytest

import scdae

MODULES = sorted(m.name for m in pkgutil.walk_packages(scdae.__path__, "scdae.") if not m.name.endswith("__main__"))


CORE = pytest.mark.calls_core


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=CORE if name.startswith("scdae.core") else ()) for name in MODULES]
)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(importlib.import_module(name), optionflags=flags, verbose=False)
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples in {name}; see the captured output"
