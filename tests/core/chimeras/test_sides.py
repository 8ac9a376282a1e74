import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from scdae.core.chimeras import sides as splits
from scdae.core.chimeras.sides import evidence, fit_split, sides


def relatives(n=400, seed=0):
    """Sequences whose two sides have the same place, but for differences of relatives; three axes each."""
    rng = np.random.default_rng(seed)
    ancestor = np.repeat(rng.normal(0, 4, (n // 2, 3)), 2, axis=0)
    scale = np.array([0.1, 0.3, 0.6])
    return ancestor + scale * rng.normal(size=(n, 3)), ancestor + scale * rng.normal(size=(n, 3))


def test_sides_are_complements():
    found = sides(5)
    assert found.shape == (9, 5) and found[0].all()
    np.testing.assert_array_equal(found[1:5] + found[5:], np.ones((4, 5)))
    assert found[1].tolist() == [1, 0, 0, 0, 0]


def test_differences_of_relatives_are_learned():
    split = fit_split(*relatives(), shape=2.0)
    left = split.whiten[1]
    size = np.sqrt(np.diag(np.linalg.inv(left @ left.T)))
    assert size[0] < 0.6 * size[1] < 0.6 * size[2]


def test_the_ratio_is_that_of_student_laws():
    left, right = relatives(60)
    split = fit_split(left, right, shape=2.0)
    new_left, new_right = relatives(4, seed=1)
    found = evidence(split, new_left, new_right)

    def log_law(value, places, whiten):
        law = stats.multivariate_t(np.zeros(value.shape[1]), np.linalg.inv(whiten @ whiten.T), df=2.0)
        at_zero = law.logpdf(np.zeros(value.shape[1]))  # the constant cancels against what is usual at a breakpoint
        return np.array([logsumexp(law.logpdf(one - places)) - at_zero for one in value])

    both, first, second = split.whiten
    one = log_law(np.c_[new_left, new_right], split.places, both)
    two = log_law(new_left, split.places[:, :3], first) + log_law(new_right, split.places[:, 3:], second)
    np.testing.assert_allclose(found.ratio, two - one, rtol=1e-6)


def test_two_places_are_told_from_one():
    left, right = relatives()
    split = fit_split(left, right, shape=2.0)
    same = np.eye(len(left), dtype=bool)
    normal = evidence(split, left, right, same)
    moved = evidence(split, left, np.roll(right, 7, axis=0))
    assert np.mean(moved.ratio[:, None] > normal.ratio) > 0.97
    assert (normal.left // 2 == np.arange(len(left)) // 2).mean() > 0.9, "the relative is the nearest, not itself"
    assert (normal.left != np.arange(len(left))).all()
    assert (moved.right == np.roll(np.arange(len(left)), 7)).mean() > 0.9


def test_few_and_equal_places_do_no_harm():
    split = fit_split(np.ones((3, 4)), np.ones((3, 4)), shape=1.0)
    assert evidence(split, np.ones((2, 4)), np.ones((2, 4))).ratio == pytest.approx(np.full(2, np.log(3)))


def test_blocks_change_nothing(monkeypatch):
    left, right = relatives(50)
    whole = fit_split(left, right, shape=2.0)
    same = np.eye(50, dtype=bool)
    expected = evidence(whole, left, right, same)
    monkeypatch.setattr(splits, "_AT_ONCE", 7)
    split = fit_split(left, right, shape=2.0)
    for one, other in zip(evidence(split, left, right, same), expected, strict=True):
        np.testing.assert_allclose(one, other)
