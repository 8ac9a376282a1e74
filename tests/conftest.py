import gc
import logging
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

import fit_once

# Small data in many shapes: nearly all the time goes into compiling, so XLA spends little effort on it. Read when JAX
# starts, here and in the processes that tests start. XLA aborts on a flag that it does not know.
_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 11):
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
# Two processors to be devices: what is meant for one must not turn to the other, and what is meant for both can be
# tested.
_TWO = "--xla_force_host_platform_device_count=2"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK} {_TWO}".strip()

# Where in the source each operation stands is not written into programs: a tenth less to trace and lower.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

# Numbers of different types are not to meet by accident, here and in the processes that tests start.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"

# Nor arrays of different ranks: which axis is missing is written out.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

# Of JAX, with which the suite runs where they are set.
_SWITCHES = ("JAX_ENABLE_X64", "JAX_TRANSFER_GUARD")

_MAPPINGS = 40_000  # of memory, in a process of the tests

# What one process of the run has compiled the others need not: those of pytest-xdist, and those that tests start.
_MADE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _MADE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="scdae-compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_collection_finish(session):
    """Look for garbage less often: tracing makes many objects that stay, and each look goes through them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure(config):
    if _MADE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


def free_programs(limit=_MAPPINGS):
    """Drop compiled programs before the process has too many mappings of memory; returns whether it had `limit`.

    Each program has several for good. Linux allows 65,530 a process, and with jaxlib 0.12 the one too many ends it by a
    segmentation fault while a program is compiled or kept.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") < limit:
        return False
    import jax

    jax.clear_caches()
    gc.collect()
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures, of which some fit."""
    free_programs()
    import scdae

    fit_once.keep_steps()
    fit_once.on = "core" not in item.path.parts and item.get_closest_marker("trains") is None
    scdae.settings.kept_fits = (
        4 if fit_once.on else 0
    )  # of the package itself, which would not train a second time either
    if fit_once.on:
        fit_once.share_fits()


@pytest.fixture(autouse=True)
def switches(request):
    """JAX's switches that come from the environment, such as JAX_ENABLE_X64=1, hold for tests of what users call.

    Those of the core call functions that are only reached with the switches of the package.
    """
    of_core = "core" in request.path.parts or request.node.get_closest_marker("calls_core") is not None
    if not of_core or not any(name in os.environ for name in _SWITCHES):
        yield
        return
    import jax

    with jax.enable_x64(False), jax.transfer_guard("allow"):
        yield


@pytest.fixture
def log(caplog, monkeypatch):
    """What the package logs, each record once, whatever its verbosity and handlers are."""
    logger = logging.getLogger("scdae")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    logger.manager._clear_cache()
    yield caplog
    logger.manager._clear_cache()
