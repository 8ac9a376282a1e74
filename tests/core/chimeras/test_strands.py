import numpy as np
import pytest

from scdae.core.chimeras.kmers import ANCHOR, find_frame, place
from scdae.core.chimeras.letters import letters, reverse_complement, words
from scdae.core.chimeras.strands import _complements, other_strand
from small import family


def turned_by(members, at):
    mixed = [reverse_complement(one) if i in at else one for i, one in enumerate(members)]
    once = [np.unique(words(one, ANCHOR)) for one in mixed]
    return mixed, other_strand(once, ANCHOR, common=0.3, least=8)


def test_the_complement_of_a_word_is_that_of_its_letters():
    for word in ("ACG", "TTA", "GGC"):
        (number,) = words(letters(word), 3)
        (expected,) = words(reverse_complement(letters(word)), 3)
        assert _complements(3)[number] == expected


@pytest.mark.parametrize("n_turned", [0, 1, 14, 15, 16, 29, 30])
def test_the_minority_is_turned_and_of_halves_that_without_the_first(n_turned):
    members = [one for one, _ in family()]
    at = set(np.random.default_rng(n_turned).permutation(30)[:n_turned].tolist())
    _, turned = turned_by(members, at)
    minority = at if n_turned < 15 or (n_turned == 15 and 0 not in at) else set(range(30)) - at
    assert set(np.flatnonzero(turned).tolist()) == minority


def test_strangers_are_not_turned():
    rng = np.random.default_rng(0)
    members = [one for one, _ in family(20)] + [rng.integers(0, 4, 700).astype(np.int8) for _ in range(5)]
    _, turned = turned_by(members, {3, 4})
    assert np.flatnonzero(turned).tolist() == [3, 4]
    assert not other_strand([np.zeros(0, np.int64)] * 3, ANCHOR, common=0.3, least=8).any()


def test_a_frame_of_both_strands_is_that_of_one():
    members = [one for one, _ in family()]
    mixed, _ = turned_by(members, set(range(1, 30, 2)))
    plain, found = find_frame(members, 5), find_frame(mixed, 5)
    np.testing.assert_array_equal(plain.anchors, found.anchors)
    np.testing.assert_allclose(plain.edges, found.edges)
    assert [place(one, found).reversed for one in mixed] == [i % 2 == 1 for i in range(30)]
