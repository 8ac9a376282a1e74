import numpy as np
import pytest

from scdae.core.chimeras.alignment import Pieces, align_parents, edits_from_the_left
from scdae.core.chimeras.parents import find_parents


def edits(one, other):
    """Levenshtein's distances of all beginnings, one cell at a time."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    table[:, 0], table[0] = np.arange(len(one) + 1), np.arange(len(other) + 1)
    for i, letter in enumerate(one, 1):
        for j, letter_there in enumerate(other, 1):
            differ = letter != letter_there and letter >= 0 and letter_there >= 0
            table[i, j] = min(table[i - 1, j - 1] + differ, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return table


def changed(one, rng, n=6):
    """Return a relative: some letters replaced, left out or added."""
    letters = list(one)
    for _ in range(n):
        at = int(rng.integers(len(letters)))
        kind = rng.integers(3)
        if kind == 0:
            letters[at] = int(rng.integers(4))
        elif kind == 1:
            letters.pop(at)
        else:
            letters.insert(at, int(rng.integers(4)))
    return np.array(letters, np.int8)


def padded(several, fill):
    rows = np.full((len(several), max(map(len, several))), fill, np.int8)
    for row, one in zip(rows, several, strict=True):
        row[: len(one)] = one
    return rows


def test_edits_of_all_beginnings_are_those_of_the_whole_table():
    rng = np.random.default_rng(0)
    ones = [rng.integers(0, 4, rng.integers(40, 70)).astype(np.int8) for _ in range(20)]
    others = [changed(one, rng) for one in ones]
    for one in ones[:5]:
        one[rng.integers(len(one))] = -1
    none = np.zeros(20, int)
    found = edits_from_the_left(padded(ones, -2), padded(others, -3), none, none)
    for row, one, other in zip(found, ones, others, strict=True):
        assert row[: len(one) + 1].tolist() == edits(one, other).min(axis=1).tolist()


def test_what_the_other_does_not_reach_costs_nothing():
    rng = np.random.default_rng(1)
    one = rng.integers(0, 4, (1, 60)).astype(np.int8)
    five, none = np.array([5]), np.array([0])
    assert (edits_from_the_left(one, one[:, 5:], five, none) == 0).all()
    assert (edits_from_the_left(one[:, 5:], one, none, five) == 0).all()
    assert edits_from_the_left(one, one[:, 5:], none, none)[0, -1] == 5


@pytest.fixture
def family():
    """Thirty genes of a family that differ in length in the middle, in columns as a frame without anchors there gives them."""
    rng = np.random.default_rng(2)
    ends = rng.integers(0, 4, (2, 100)).astype(np.int8)
    letters, places = [], []
    for _ in range(30):
        left, right = (np.where(rng.random(100) < 0.1, rng.integers(0, 4, 100), end).astype(np.int8) for end in ends)
        middle = rng.integers(0, 4, rng.integers(30, 50)).astype(np.int8)
        letters.append(np.concatenate([left, middle, right]))
        places.append(
            np.concatenate([np.arange(100), 99.5 + 40 * np.arange(len(middle)) / len(middle), np.arange(140, 240)])
        )
    return Pieces(letters, places)


def rows_of(pieces):
    rows = np.full((len(pieces.letters), 240), 4, np.int8)
    for row, one, at in zip(rows, pieces.letters, pieces.places, strict=True):
        row[np.rint(at).astype(int)[::-1]] = one[::-1]
    return rows


def test_a_chimera_within_a_stretch_of_other_length_is_explained_by_its_parents(family):
    rng = np.random.default_rng(3)
    pairs, at = rng.permutation(30).reshape(-1, 2), np.full(15, 120)
    made = []
    for left, right in pairs:  # joined in the middle of the stretch, then laid over it anew
        n, m = (len(family.letters[one]) - 200 for one in (left, right))
        middle = np.concatenate(
            [family.letters[left][100 : 100 + n // 2], family.letters[right][100 + m // 2 : 100 + m]]
        )
        made.append(np.concatenate([family.letters[left][:100], middle, family.letters[right][-100:]]))
    places = [
        np.concatenate([np.arange(100), 99.5 + 40 * np.arange(len(one) - 200) / (len(one) - 200), np.arange(140, 240)])
        for one in made
    ]
    pieces = Pieces(made, places)
    by_columns = find_parents(rows_of(pieces), rows_of(family))
    found = align_parents(by_columns, pieces, family)
    assert np.median(by_columns.two) > 5, "the columns do not tell"
    assert (
        (found.two == 0).all()
        and (found.gain == found.one).all()
        and np.median(found.ratio) > 1.5 * np.median(by_columns.ratio)
    )
    for i, one in enumerate(made):
        named = by_columns.candidates[i]
        least = min(edits(one, family.letters[k])[-1, -1] for k in named[named >= 0])
        assert found.one[i] <= least and found.one[i] > 0.8 * least
    joined = family.join(pairs, at)
    assert all(
        np.array_equal(one[:100], family.letters[left][:100])
        for one, (left, _) in zip(joined.letters, pairs, strict=True)
    )
    assert all(
        np.array_equal(one[-100:], family.letters[right][-100:])
        for one, (_, right) in zip(joined.letters, pairs, strict=True)
    )
    assert all((np.diff(one) >= 0).all() for one in joined.places)


def test_short_ones_and_those_without_candidates_keep_what_columns_say(family):
    rows = rows_of(family)
    alone = ~np.eye(30, dtype=bool)
    alone[3] = True
    found = find_parents(rows, rows, np.eye(30, dtype=bool) | ~alone | (np.arange(30) == 3)[:, None])
    assert (found.candidates[3] == -1).all() and (found.candidates[4] != 4).all()
    cut = Pieces(
        [one[:10] if i == 5 else one for i, one in enumerate(family.letters)],
        [one[:10] if i == 5 else one for i, one in enumerate(family.places)],
    )
    aligned = align_parents(found, cut, family)
    for name in ("ratio", "one", "two", "gain"):
        assert np.array_equal(getattr(aligned, name)[[3, 5]], getattr(found, name)[[3, 5]])
    assert aligned.left is found.left and (aligned.one[6:] > 0).all()
