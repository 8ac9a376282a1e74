"""The table of ``benchmarks/run.py numeric``, with fewer values: ours in float32 against SciPy in float64."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from scdae.core.distributions.components import Components
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.distributions.mixtures import given_counts
from scdae.core.prediction.law_readout import Block, mean_of, sd_of

ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.calls_core


@pytest.fixture
def numeric(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import numeric

    yield numeric
    sys.modules.pop("numeric", None)


def test_every_quantity_is_within_its_goal(numeric):
    lines = list(numeric.lines(numeric.SMALL, draws=20_000))
    assert len(lines) > 20 and all(line.number > 0 for line in lines)
    missed = [f"{line.name}: {line.error:.2g} at {line.where}" for line in lines if not line.error <= line.goal]
    assert not missed, missed


def test_the_table_sees_an_error(numeric):
    at = {"x": np.array([1.0, 2.0, 3.0], np.float32)}
    line = numeric.compare("some", [1.0, 2.002, 3.0], np.array([1.0, 2.0, 3.0]), at)
    assert line.error == pytest.approx(1e-3) and "x=2:" in line.where
    assert numeric.compare("some", [1.0, np.nan, 3.0], np.array([1.0, 2.0, 3.0]), at).error == np.inf


def test_a_zero_where_thousands_were_expected_has_a_posterior():
    n = len(GRID)
    ones = np.ones(n, np.float32)
    laws = Laws(Part(np.eye(n, dtype=np.float32)[None], ones, 0 * ones), None, ones, 0 * ones)
    same = Components(np.broadcast_to(np.array(GRID)[:, None], (n, n)), np.eye(n), np.ones((n, n)), np.zeros((n, n)))
    for mean in (500.0, 3e3, 1e5, 1e7):
        nothing = jnp.zeros(1, jnp.int32)
        block = Block(laws, jnp.full((1, n), mean, jnp.float32), jnp.zeros(1), nothing, nothing)
        expected = given_counts(same, np.zeros(n), np.full(n, mean))
        np.testing.assert_allclose(mean_of(block)[0], expected.expected(), rtol=1e-4)
        np.testing.assert_allclose(sd_of(block)[0], expected.sd(), rtol=1e-4)
