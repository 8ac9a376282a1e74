import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scdae.core.chimeras.kmers import find_frame, letters, place, reverse_complement, words
from small import family


@given(text=st.text("ACGTN", max_size=12), k=st.integers(1, 4))
def test_words_are_numbers_to_the_base_of_four(text, k):
    expected = []
    for i in range(len(text) - k + 1):
        part = text[i : i + k]
        expected.append(-1 if "N" in part else sum("ACGT".index(one) * 4 ** (k - 1 - j) for j, one in enumerate(part)))
    assert words(letters(text), k).tolist() == expected


def test_letters_and_the_other_strand():
    assert letters("acgtUuN-").tolist() == [0, 1, 2, 3, 3, 3, -1, -1]
    assert reverse_complement(letters("AACGN")).tolist() == [-1, *letters("CGTT").tolist()]


def test_sequences_get_the_same_coordinates_where_they_are_the_same():
    members = family()
    frame = find_frame([one for one, _ in members], 5)
    starts = [place(one, frame).places[0] - start for one, start in members]
    assert np.ptp(starts) < 1e-9, "all descend from one gene without insertions"
    assert np.all(np.diff(frame.edges) > 0) and frame.n_windows == 5
    coverage = np.array([place(one, frame).coverage(frame.edges) for one, _ in members])
    assert coverage.mean() > 0.98


def test_an_insertion_moves_nothing_behind_it():
    members = family()
    frame = find_frame([one for one, _ in members], 4)
    one = members[0][0]
    longer = np.concatenate([one[:300], np.resize([0, 1, 2, 3], 30).astype(np.int8), one[300:]])
    before, after = place(one, frame).places, place(longer, frame).places
    np.testing.assert_allclose(after[:280], before[:280])
    np.testing.assert_allclose(after[360:], before[330:])
    assert np.all(np.diff(after) >= 0)


def test_the_other_strand_is_turned_and_a_part_is_known_for_one():
    members = family()
    frame = find_frame([one for one, _ in members], 4)
    one = members[3][0]
    turned = place(reverse_complement(one), frame)
    assert turned.reversed and not place(one, frame).reversed
    np.testing.assert_array_equal(turned.letters, one)
    np.testing.assert_allclose(turned.places, place(one, frame).places)
    part = place(one[: len(one) // 2], frame).coverage(frame.edges)
    assert part[0] > 0.9 and part[3] == 0


def test_a_stray_anchor_is_not_followed():
    members = family()
    frame = find_frame([one for one, _ in members], 4)
    one = members[1][0].copy()
    plain = place(one, frame).places
    one[100:110] = one[500:510]  # what lies at 500 now lies at 100 as well
    one[500:510] = (one[500:510] + 2) % 4
    moved = place(one, frame).places
    assert np.abs(moved - plain).max() < 15


def test_without_anchors_places_are_relative():
    rng = np.random.default_rng(0)
    strangers = [rng.integers(0, 4, n).astype(np.int8) for n in (300, 400)]
    frame = find_frame(strangers, 3)
    assert len(frame.anchors) == 0
    placed = place(strangers[1], frame)
    assert placed.n_anchors == 0 and placed.places[0] == 0
    assert placed.places[-1] == pytest.approx(1) and np.allclose(placed.coverage(frame.edges), 1)


def unknown(n):
    return np.full(n, -1, np.int8)


@pytest.mark.parametrize("n", [1, 10, 60])
def test_what_lies_between_joined_reads_was_not_observed(n):
    members = family()
    frame = find_frame([one for one, _ in members], 5)
    one = members[2][0]
    joined = place(np.concatenate([one[:200], unknown(n), one[-200:]]), frame)
    plain = place(one, frame).places
    np.testing.assert_allclose(joined.places[:200], plain[:200])
    np.testing.assert_allclose(joined.places[-200:], plain[-200:])
    assert np.all(np.diff(joined.places) > 0)
    coverage = joined.coverage(frame.edges)
    assert coverage[0] > 0.95 and coverage[2] < 0.05 and coverage[4] > 0.95
    assert coverage[1] == pytest.approx(
        (200 - np.searchsorted(plain, frame.edges[1])) / np.diff(frame.edges)[0], abs=0.03
    )


def test_without_a_letter_between_them_windows_are_not_covered_either():
    members = family()
    frame = find_frame([one for one, _ in members], 5)
    one = members[2][0]
    coverage = place(np.concatenate([one[:200], one[-200:]]), frame).coverage(frame.edges)
    assert coverage[0] > 0.9 and coverage[2] < 0.3 and coverage[4] > 0.9


def test_unknown_letters_take_up_what_is_missing_and_hide_what_nobody_can_place():
    members = family()
    frame = find_frame([one for one, _ in members], 5)
    one, plain = members[2][0], place(members[2][0], frame).places
    masked = one.copy()
    masked[300:380] = -1
    np.testing.assert_allclose(place(masked, frame).places, plain)
    long = np.concatenate([one[:300], unknown(200), one[380:]])  # more of them than letters are missing
    np.testing.assert_allclose(place(long, frame).places[500:], plain[380:])
    stray = np.random.default_rng(1).integers(0, 4, 150).astype(np.int8)
    for sequence, kept in (
        (np.concatenate([one[:400], unknown(10), stray]), slice(0, 400)),
        (np.concatenate([stray, unknown(10), one[300:]]), slice(160, None)),
    ):
        placed = place(sequence, frame)
        assert (np.delete(placed.letters, np.arange(len(sequence))[kept]) == -1).all() and (
            placed.letters[kept] >= 0
        ).all()
    few = place(np.concatenate([one[:400], unknown(1), stray]), frame)
    assert (few.letters >= 0).sum() == 550, "a single unknown letter says nothing of what follows"


def test_a_short_sequence_without_anchors_is_laid_nowhere():
    members = family()
    frame = find_frame([one for one, _ in members], 4)
    rng = np.random.default_rng(2)
    for n, covered in ((250, 0), (600, 1)):
        placed = place(rng.integers(0, 4, n).astype(np.int8), frame)
        assert placed.n_anchors == 0 and np.allclose(placed.coverage(frame.edges), covered)
    assert np.allclose(place(unknown(600), frame).coverage(frame.edges), 0)
