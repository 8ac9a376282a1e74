"""The attacks of ``benchmarks/attacks.py`` on problems whose answer is known."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not here")


@pytest.fixture
def attacks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import attacks

    yield attacks
    sys.modules.pop("attacks", None)


def linear(weight):
    return lambda x: ((x * weight).sum(axis=1), np.broadcast_to(weight, x.shape))


def linear_in_counts(attacks, weight):
    """Loss linear in the counts, with its gradient in the logs at a depth that does not change."""

    def slope(counts):
        scale = (attacks.TARGET / counts.sum(axis=1))[:, None]
        return (counts * weight).sum(axis=1), weight * (counts + 1 / scale)

    return slope


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    base = rng.poisson(1.5, (6, 30)).astype(float)
    return base, np.maximum(rng.integers(0, 6, 30), 1.0), rng.standard_normal(30)


def test_checkpoints_are_those_of_the_paper(attacks):
    assert attacks.checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_apgd_finds_the_corner_that_is_best_for_a_linear_loss(attacks):
    rng = np.random.default_rng(0)
    x, weight = np.maximum(rng.standard_normal((5, 40)), 0), rng.standard_normal(40)
    low, high = np.maximum(x - 0.3, 0), x + 0.3
    found, value = attacks.apgd(linear(weight), x, low, high, steps=20)
    best = np.where(weight > 0, high, low)
    np.testing.assert_allclose(found, best)
    np.testing.assert_allclose(value, best @ weight)


def test_apgd_halves_its_steps_down_to_a_maximum_inside(attacks):
    center = np.random.default_rng(1).uniform(-0.8, 0.8, (4, 10))
    slope = lambda x: (-((x - center) ** 2).sum(axis=1), 2 * (center - x))
    box = np.full((4, 10), -1.0), np.full((4, 10), 1.0)
    found, value = attacks.apgd(slope, np.full((4, 10), 0.9), *box, steps=200)
    assert np.abs(found - center).max() < 0.05
    np.testing.assert_allclose(value, slope(found)[0])
    wide, _ = attacks.apgd(slope, np.full((4, 10), 0.9), *box, steps=10)
    assert np.abs(wide - center).max() > 0.05  # fewer halvings do not get there


def test_apgd_averages_over_draws(attacks):
    rng, weight = np.random.default_rng(2), np.linspace(-1, 1, 20)
    one, eight = (
        lambda x, n=n: (x @ weight, weight + rng.standard_normal((n, *x.shape)).mean(axis=0)) for n in (1, 64)
    )
    box = np.full((50, 20), -1.0), np.full((50, 20), 1.0)
    gained = [attacks.apgd(slope, np.zeros((50, 20)), *box, steps=10)[1].mean() for slope in (one, eight)]
    assert gained[1] > gained[0] and gained[1] > 0.9 * np.abs(weight).sum()


@pytest.mark.parametrize("name", ["square", "noise"])
def test_random_search_stays_in_its_box(attacks, name):
    rng, weight = np.random.default_rng(0), np.random.default_rng(1).standard_normal(30)
    low, high = np.zeros((5, 30)), np.full((5, 30), 0.7)
    loss = lambda x: x @ weight
    found, value = getattr(attacks, name)(loss, low, high, rng)
    assert ((found >= low) & (found <= high)).all()
    np.testing.assert_allclose(value, loss(found))


def test_square_climbs_to_the_best_corner_and_noise_does_not(attacks):
    weight = np.random.default_rng(1).standard_normal(30)
    low, high = np.zeros((5, 30)), np.ones((5, 30))
    best = np.maximum(weight, 0).sum()
    rng = np.random.default_rng(0)
    assert (attacks.square(lambda x: x @ weight, low, high, rng, steps=1000)[1] > 0.97 * best).all()
    assert (attacks.noise(lambda x: x @ weight, low, high, rng)[1] < 0.9 * best).all()


def run(attacks, name, slope, base, number, most, **options):
    loss = lambda counts: slope(counts)[0]
    rng = np.random.default_rng(0)
    gain = attacks.by_logs(slope, number)
    if name == "greedy":
        return attacks.greedy(gain, base, number, most, **options)
    if name == "exchange":
        start, _ = attacks.random_molecules(loss, base, number, most, rng)
        return attacks.exchange(gain, base, start, number, most, **options)
    return getattr(attacks, name)(loss, base, number, most, rng, **options)


ON_COUNTS = ["greedy", "exchange", "square_counts", "random_molecules"]


@pytest.mark.parametrize("number", [1, 7, 300])
@pytest.mark.parametrize("name", ON_COUNTS)
def test_molecules_are_whole_and_within_the_budget(attacks, cells, name, number):
    base, most, weight = cells
    slope = linear_in_counts(attacks, weight)
    found, value = run(attacks, name, slope, base, number, most)
    assert (found == np.rint(found)).all() and (found >= 0).all()
    assert (found <= np.maximum(most, base)).all()
    spent = np.abs(found - base).sum(axis=1)
    assert (spent <= number).all() and (spent > 0).any()
    np.testing.assert_allclose(value, slope(found)[0])


def test_no_gene_appears_that_no_real_cell_has(attacks):
    base, most = np.array([[3.0, 0.0, 2.0]]), np.array([5.0, 0.0, 5.0])
    slope = linear_in_counts(attacks, np.array([0.0, 1.0, 0.1]))
    for name in ON_COUNTS:
        found, _ = run(attacks, name, slope, base, 4, most)
        assert found[0, 1] == 0


@pytest.mark.parametrize(("name", "options"), [("greedy", {"rounds": 4}), ("exchange", {"steps": 30})])
def test_molecules_are_spent_as_well_as_by_trying_everything(attacks, name, options):
    base, most = (
        np.array([[2.0, 0.0, 3.0, 4.0, 1e5]]),
        np.array([3.0, 2.0, 3.0, 9.0, 1e5]),
    )  # the last gene keeps the depth
    weight, number, best = np.array([0.3, 0.8, -1.0, 0.1, 0.0]), 4, -np.inf

    def slope(counts):
        scale = attacks.TARGET / counts.sum(axis=1)
        return np.log1p(counts * scale[:, None]) @ weight, np.broadcast_to(weight, counts.shape)

    for change in itertools.product(range(-4, 5), repeat=4):
        counts = base + np.array([*change, 0])
        if np.abs(change).sum() <= number and (counts >= 0).all() and (counts <= most).all():
            best = max(best, slope(counts)[0][0])
    _, value = run(attacks, name, slope, base, number, most, **options)
    assert value[0] == pytest.approx(best)


def test_exchange_and_square_never_lose_what_they_start_from(attacks, cells):
    base, most, weight = cells
    slope = linear_in_counts(attacks, weight)
    gain = attacks.by_logs(slope, 9)
    start = attacks.greedy(gain, base, 9, most, rounds=3)
    assert (attacks.exchange(gain, base, start[0], 9, most)[1] >= start[1]).all()
    rng = np.random.default_rng(0)
    found, value = attacks.square_counts(lambda x: slope(x)[0], base, 9, most, rng, steps=20, start=start)
    assert (value >= start[1]).all() and (np.abs(found - base).sum(axis=1) <= 9).all()


def test_a_larger_budget_never_buys_less(attacks, cells):
    base, most, weight = cells
    slope = linear_in_counts(attacks, weight)
    values = np.array(
        [attacks.greedy(attacks.by_logs(slope, number), base, number, most)[1] for number in (2, 8, 32, 128)]
    )
    assert (np.diff(values, axis=0) >= 0).all() and (values[-1] > values[0]).all()
