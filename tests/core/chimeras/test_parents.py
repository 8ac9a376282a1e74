import numpy as np
import pytest

from scdae.core.chimeras.parents import find_parents


@pytest.fixture
def family():
    """Sixty rows of three hundred columns, a few in a hundred changed from a common ancestor."""
    rng = np.random.default_rng(0)
    ancestor = rng.integers(0, 4, 300)
    rows = np.tile(ancestor, (60, 1))
    changed = rng.random(rows.shape) < 0.08
    rows[changed] = (rows[changed] + rng.integers(1, 4, changed.sum())) % 4
    return rows.astype(np.int8), rng


def test_two_parents_and_the_breakpoint_are_found(family):
    rows, rng = family
    pairs, spots = rng.permutation(60).reshape(-1, 2)[:20], rng.integers(60, 240, 20)
    made = np.stack([np.r_[rows[a, :at], rows[b, at:]] for (a, b), at in zip(pairs, spots, strict=True)])
    found = find_parents(made, rows)
    assert np.array_equal(np.stack([found.left, found.right], axis=1), pairs)
    assert (found.two == 0).all() and (found.ratio > 0).all() and (found.gain == found.one).all()
    lost = np.array(
        [
            (rows[a] != rows[b])[min(at, to) : max(at, to)].sum()
            for (a, b), at, to in zip(pairs, spots, found.column, strict=True)
        ]
    )
    assert (lost == 0).all(), "between the true breakpoint and the one found the parents do not differ"


def test_it_is_what_all_pairs_tried_one_by_one_give(family):
    rows, _ = family
    some, known = rows[:5, :100], rows[20:35, :100]
    excluded = np.zeros((5, 15), bool)
    excluded[:, 3] = True
    found = find_parents(some, known, excluded)
    for i, one in enumerate(some):
        differ = np.delete(one != known, 3, axis=0)
        assert found.one[i] == differ.sum(axis=1).min()
        least = min((differ[:, :at].sum(axis=1).min() + differ[:, at:].sum(axis=1).min()) for at in range(1, 100))
        assert least <= found.two[i] <= found.one[i]
        assert 3 not in (found.left[i], found.right[i])
        side = found.column[i]
        both = (one != known[found.left[i]])[:side].sum() + (one != known[found.right[i]])[side:].sum()
        assert found.two[i] == both


def test_what_is_unknown_or_a_gap_says_nothing(family):
    rows, rng = family
    holes = rows.copy()
    holes[rng.random(rows.shape) < 0.1] = -1
    holes[rng.random(rows.shape) < 0.1] = 4
    assert (find_parents(holes, rows).one == 0).all()
    nothing = find_parents(np.full((1, 300), -1, np.int8), rows)
    assert nothing.one == 0 and nothing.ratio == 0 and np.isfinite(nothing.shorter).all()
