"""What the shield's benchmark attacks: gradients are exact where nothing is drawn, and the gradient's attack takes the best of all."""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import small
from scdae.core.guard.purification import Purification

FOLDER = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not here")
OURS = ("attacks", "shield_attacks", "shield_cells", "shield_known", "shield_targets")


@pytest.fixture
def known(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        import shield_known

        yield shield_known
    for name in OURS:
        sys.modules.pop(name, None)


@pytest.fixture
def setting(known):
    """Cells, their most counts, and a classifier that knows them."""
    adata = small.structured()
    labels = adata.obs["cell_type"].astype("category").cat.codes.to_numpy().astype(int)
    cells = sys.modules["shield_cells"].of_counts(small.dense(adata).astype(np.float32), labels)
    weights = sys.modules["shield_targets"].trained(cells, "LR", 0)
    return cells.take(slice(20)), cells.counts.round().max(axis=0), weights


def behind(known, weights, **how):
    return known.Target(weights, small.fitted(likelihood="nb").outcome.fitted, Purification(**how))


def test_the_gradient_through_the_purifier_is_exact(known, setting):
    cells, _, weights = setting
    assert known.gradient_error(behind(known, weights), cells) < 0.05
    assert known.gradient_error(known.Target(weights), cells) < 0.01


def test_what_a_molecule_is_worth_through_thinning_has_the_sign_of_what_it_does(known, setting):
    cells, _, weights = setting
    target, counts = behind(known, weights, keep=0.5, fractions="round"), np.rint(cells.counts)
    margin = sys.modules["shield_targets"].margin
    more = np.mean([target.gain_counts(cells.labels, 5, margin, seed=seed)(counts)[1] for seed in range(5)], axis=0)
    best, row = more.argmax(axis=1), np.arange(len(counts))
    added = counts.copy()
    added[row, best] += 5
    value = target.loss_counts(cells.labels, draws=64)
    assert (value(added) > value(counts)).mean() > 0.9


def test_the_attack_that_knows_is_no_weaker_than_those_that_do_not(known, setting):
    cells, most, weights = setting
    on_logs, on_counts = (getattr(sys.modules["shield_attacks"], name) for name in ("on_logs", "on_counts"))
    target = behind(known, weights, fractions="round")
    for attacked in (
        on_logs(target, cells, 0.5, [cells.logs]),
        on_counts(target, cells, 30, most, [np.rint(cells.counts)]),
    ):
        right = {name: target.right(some).mean() for name, some in attacked.items()}
        assert right["gradient"] <= min(right["unaware"], right["transfer"])
    counts = attacked["gradient"].counts
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-2)
    assert (np.abs(np.rint(counts) - np.rint(cells.counts)).sum(axis=1) <= 30).all()


def test_without_a_bound_every_cell_falls(known, setting):
    cells, most, weights = setting
    attacks, target = sys.modules["shield_attacks"], behind(known, weights, fractions="round")
    changed = attacks.through_logs(target, cells, 8.0, [])
    assert not target.right(replace(cells, logs=changed)).any()
    counts = attacks.through_counts(target, cells, int(2 * cells.depth.max()), most, [])
    assert not target.right(sys.modules["shield_cells"].of_counts(counts, cells.labels)).any()


def test_training_against_attacks_withstands_more_of_them(known, setting):
    _, _, weights = setting
    adata = small.structured()
    labels = adata.obs["cell_type"].astype("category").cat.codes.to_numpy().astype(int)
    targets, attacks = sys.modules["shield_targets"], sys.modules["shield_attacks"]
    cells = sys.modules["shield_cells"].of_counts(small.dense(adata).astype(np.float32), labels)
    hard = targets.trained(cells, "LR", 0, targets.changed_logs(0.3))
    left = []
    for trained in (weights, hard):
        target = known.Target(trained)
        left.append(target.right(replace(cells, logs=attacks.through_logs(target, cells, 0.3, []))).mean())
    assert left[1] > left[0]


def test_interval_is_that_of_wilson(known):
    low, high = known.interval(np.arange(10) < 5)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)
