"""Alignment of sequences by anchors: a coordinate frame common to all sequences of one gene family.

Sequences of a gene start and end at different positions and differ by insertions. Anchors are words of ten letters that
occur once in most of them. They give all sequences the coordinates of one of these, so that windows are homologous.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from scdae.core.chimeras.letters import letters, reverse_complement, words
from scdae.core.chimeras.strands import other_strand

__all__ = ["ANCHOR", "Frame", "Placed", "find_frame", "letters", "place", "reverse_complement", "words"]

ANCHOR = 10  # letters of an anchor
_COMMON = 0.3  # fraction of the sequences that have an anchor, at least
_LEAST = 8  # anchors that are needed to place a sequence
_STRAY = 15  # letters by which an anchor may deviate from its neighbors, and number of these that are compared
_JOINT = 5  # unknown letters in a row after which any number of letters may be missing
_STRETCH = 2.0  # coordinates per letter, at most: between two anchors letters may be missing
_GAP = 4  # in place of the number of a letter
_WHOLE = 0.7  # length of a sequence, as a fraction of the windows, from which on it is placed without anchors


@dataclass(frozen=True)
class Frame:
    """Common coordinates of the sequences of a family.

    Parameters
    ----------
    anchors
        int64 (n_anchors,): their words, as encoded by :func:`words`, ascending. If empty, coordinates are relative.
    places
        float64 (n_anchors,): coordinate of each anchor.
    edges
        float64 (n_windows + 1,): bounds of the windows.
    """

    anchors: np.ndarray
    places: np.ndarray
    edges: np.ndarray

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return len(self.edges) - 1

    @property
    def columns(self) -> np.ndarray:
        """Coordinates within the windows, one apart: float64 (n_columns,); none where places are relative."""
        if not len(self.anchors):
            return np.zeros(0)
        return np.arange(np.ceil(self.edges[0]), np.floor(self.edges[-1]) + 1)


@dataclass(frozen=True)
class Placed:
    """A sequence in the coordinates of a frame.

    Parameters
    ----------
    letters
        int8 (length,): encoded letters, of the reverse complement if `reversed`.
    places
        float64 (length,): coordinate of each letter, not decreasing.
    n_anchors
        Number of anchors found.
    reversed
        Whether the reverse complement was taken.
    """

    letters: np.ndarray
    places: np.ndarray
    n_anchors: int
    reversed: bool

    def coverage(self, edges: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        """Compute the fraction of each window that the sequence covers with known letters: float64 (n_windows,).

        Parameters
        ----------
        edges
            float64 (n_windows + 1,): bounds of the windows.
        known
            Boolean, for the first letters: whether they are known. None: A, C, G and T are.
        """
        if not len(self.places):
            return np.zeros(len(edges) - 1)
        known = self.letters >= 0 if known is None else known
        step = np.diff(self.places)
        longest = _STRETCH if self.n_anchors else np.inf
        if known.all() and not (step > longest).any():
            first, last = self.places[0], self.places[-1]
            reached = np.minimum(last, edges[1:]) - np.maximum(first, edges[:-1])
            return np.clip(reached / np.diff(edges), 0, 1)
        step[: len(known)][~known[: len(step)]] = 0
        covered = np.concatenate([[0], np.cumsum(np.minimum(step, longest))])
        share: np.ndarray = np.diff(np.interp(edges, self.places, covered)) / np.diff(edges)
        return np.clip(share, 0, 1)

    def row(self, columns: np.ndarray) -> np.ndarray:
        """Letters in the columns of a frame: int8 (n_columns,), 4 for a gap, and -1 where nothing is known.

        Parameters
        ----------
        columns
            float64 (n_columns,): coordinates one apart, as :attr:`Frame.columns`. Of several letters in one column the
            first is taken.
        """
        row = np.full(len(columns), -1, np.int8)
        if not len(self.places) or not len(columns):
            return row
        whole = _shifted(self.places)
        beyond = (columns < self.places[0] - 0.5) | (columns > self.places[-1] + 0.5)
        row[~beyond] = _GAP
        at = np.rint(whole - columns[0])
        inside = (at >= 0) & (at < len(columns))  # not NaN
        row[at[inside].astype(np.int64)[::-1]] = self.letters[inside][::-1]
        return row


def find_frame(sequences: Sequence[np.ndarray], n_windows: int, region: Sequence[np.ndarray] | None = None) -> Frame:
    """Find anchors, and divide the region that most sequences cover into windows of equal width.

    Parameters
    ----------
    sequences
        Encoded letters of each, on either strand.
    n_windows
        Number of windows.
    region
        Sequences to whose region the windows are cut, such as amplicons. None: that of `sequences`. Those with too few
        anchors are ignored.

    Notes
    -----
    Coordinates are those of the sequence with the most anchors, on the strand of most sequences. Anchors that it lacks
    get the median of their coordinates in the others. The windows extend from the ninetieth percentile of the starts of
    the sequences to the tenth percentile of their ends.
    """
    once = [_once(words(sequence, ANCHOR)) for sequence in sequences]
    turned = other_strand([found[0] for found in once], ANCHOR, common=_COMMON, least=_LEAST)
    if turned.any():
        sequences = [reverse_complement(one) if t else one for one, t in zip(sequences, turned, strict=True)]
        for i in np.flatnonzero(turned):
            once[i] = _once(words(sequences[i], ANCHOR))
    number, counted = np.unique(np.concatenate([found[0] for found in once]), return_counts=True)
    anchors = number[counted >= max(_COMMON * len(sequences), 2)]
    hits = [_known(found, anchors) for found in once]
    if max(len(index) for index, _ in hits) < _LEAST:
        return Frame(np.zeros(0, np.int64), np.zeros(0), np.linspace(0, 1, n_windows + 1))
    central = int(np.argmax([len(index) for index, _ in hits]))
    coordinate = np.full(len(anchors), np.nan)
    coordinate[hits[central][0]] = hits[central][1]
    for _ in range(2):
        index, value = [], []
        for found, at in hits:
            known = ~np.isnan(coordinate[found])
            line = _line(at[known], coordinate[found[known]])
            if line is not None:
                index.append(found)
                value.append(_on_line(at, *line))
        coordinate = _medians(np.concatenate(index), np.concatenate(value), len(anchors))
    has = ~np.isnan(coordinate)
    frame = Frame(anchors[has], coordinate[has], np.zeros(2))
    within = [place(one, frame, turn=region is not None) for one in (sequences if region is None else region)]
    ends = np.array([one.places[[0, -1]] for one in within if len(one.places) and (region is None or one.n_anchors)])
    if not len(ends):
        raise ValueError(
            f"region: none of its {len(within):,} sequences has enough anchors of the others to be placed. Are they of one gene?"
        )
    low, high = np.quantile(ends[:, 0], 0.9), np.quantile(ends[:, 1], 0.1)
    if not low < high:
        low, high = np.median(ends, axis=0)
    return Frame(frame.anchors, frame.places, np.linspace(low, high, n_windows + 1))


def place(sequence: np.ndarray, frame: Frame, *, turn: bool = True) -> Placed:
    """Give a sequence the coordinates of a frame.

    Parameters
    ----------
    sequence
        int8 (length,): encoded letters.
    frame
        The frame.
    turn
        Whether to try both strands, and take the one with more anchors.

    Notes
    -----
    Coordinates between two anchors are interpolated, and beyond the last anchor they increase by one per letter.
    Missing letters are assigned to a run of unknown letters if there is one between two anchors. Letters after such a
    run without an anchor are left out, since their position is unknown. A sequence with too few anchors is stretched
    over all windows if it is about as long as they are; otherwise it is placed behind them.
    """
    strands = [sequence, reverse_complement(sequence)] if turn else [sequence]
    hits = [_known(_once(words(strand, ANCHOR)), frame.anchors) for strand in strands]
    best = int(np.argmax([len(index) for index, _ in hits]))
    index, at = hits[best]
    line = _line(at, frame.places[index])
    spots = np.arange(len(sequence), dtype=np.float64)
    if line is None:
        low, high = frame.edges[0], frame.edges[-1]
        share = len(sequence) / max(high - low, 1e-9)
        if len(frame.anchors) and low < high and not _WHOLE <= share <= 1 / _WHOLE:
            return Placed(sequence, high + spots, 0, False)
        return Placed(sequence, low + (high - low) * spots / max(len(sequence) - 1, 1), 0, False)
    taken, (at, places) = strands[best], line
    n_anchors = len(at)
    unknown = taken < 0
    if unknown.any():
        taken, at, places = _around_gaps(taken, unknown, at, places)
    return Placed(taken, _on_line(spots, at, places), n_anchors, best == 1)


def _around_gaps(
    sequence: np.ndarray, unknown: np.ndarray, at: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add points to the interpolation: letters on either side of unknown ones follow the anchors on that side."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], unknown, [False]]).astype(np.int8)))
    first, stop = edge[::2], edge[1::2]
    after = np.searchsorted(at, first)  # anchors have no unknown letters, so each lies before or after a run
    joint = stop - first >= _JOINT
    before_all, behind_all = stop[joint & (after == 0)], first[joint & (after == len(at))]
    if len(before_all) or len(behind_all):
        sequence = sequence.copy()
        sequence[: before_all.max(initial=0)] = -1
        sequence[behind_all.min(initial=len(sequence)) :] = -1
    new_at, new_places = [at.astype(np.float64)], [places]
    for gap in np.unique(after[(after > 0) & (after < len(at))]):
        these = np.flatnonzero(after == gap)
        one = these[np.argmax((stop - first)[these])]
        left, right = places[gap - 1] + first[one] - at[gap - 1], places[gap] - (at[gap] - stop[one])
        missing = (right - left) - (stop[one] - first[one])
        if left < right and (joint[one] or missing > _STRAY):
            new_at.append(np.array([first[one], stop[one]], np.float64))
            new_places.append(np.array([left, right]))
    at, places = np.concatenate(new_at), np.concatenate(new_places)
    order = np.argsort(at, kind="stable")
    return sequence, at[order], places[order]


def _once(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the words that occur once in a sequence, and their positions."""
    number, first, counted = np.unique(found, return_index=True, return_counts=True)
    kept = (counted == 1) & (number >= 0)
    return number[kept], first[kept]


def _known(found: tuple[np.ndarray, np.ndarray], anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the anchors among these words, and their positions, by coordinate."""
    number, at = found
    if not len(anchors):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = np.minimum(np.searchsorted(anchors, number), len(anchors) - 1)
    is_anchor = anchors[index] == number
    index, at = index[is_anchor], at[is_anchor]
    order = np.argsort(at)
    return index[order], at[order]


def _line(at: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Remove anchors that match by chance; return positions and coordinates, or None if too few anchors remain."""
    if len(at) < _LEAST:
        return None
    offset = places - at
    kept = np.abs(offset - median_filter(offset, size=_STRAY, mode="mirror")) <= _STRAY
    at, places = at[kept], places[kept]
    kept = _rising(places)
    return (at[kept], places[kept]) if len(kept) >= _LEAST else None


def _rising(values: np.ndarray) -> np.ndarray:
    """Find the longest increasing subsequence: its indices."""
    ends: list[float] = []  # lowest end of a subsequence of each length
    position: list[int] = []
    before = np.full(len(values), -1)
    for i, value in enumerate(values.tolist()):
        length = bisect_left(ends, value)
        before[i] = position[length - 1] if length else -1
        if length == len(ends):
            ends.append(value)
            position.append(i)
        else:
            ends[length], position[length] = value, i
    run = [position[-1]] if position else []
    while run and before[run[-1]] >= 0:
        run.append(int(before[run[-1]]))
    return np.array(run[::-1], np.int64)


def _on_line(spots: np.ndarray, at: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate the coordinates of positions in a sequence; beyond the ends, one per letter."""
    value = np.interp(spots, at, places)
    return value + np.minimum(spots - at[0], 0) + np.maximum(spots - at[-1], 0)


def _shifted(places: np.ndarray) -> np.ndarray:
    """Coordinates one apart instead of stretched between two anchors; NaN for letters that are too many.

    What is missing or too much there lies in the middle, so that a letter has the column of its like in a relative,
    whichever side of it the relatives differ on.
    """
    n = len(places)
    if n < 2:
        return places
    step = np.diff(places)
    bounds = np.concatenate([[0], 1 + np.flatnonzero(np.abs(np.diff(step)) > 1e-9), [n - 1]])
    of = np.minimum(np.searchsorted(bounds, np.arange(n), side="right") - 1, len(bounds) - 2)
    first, last = bounds[of], bounds[of + 1]
    from_left, to_right = np.arange(n) - first, last - np.arange(n)
    middle = (places[first] + places[last]) / 2
    left, right = places[first] + from_left, places[last] - to_right
    near_left = from_left < to_right
    kept = np.where(near_left, left < middle, right >= middle) | (np.abs(step[np.minimum(first, n - 2)] - 1) < 1e-9)
    return np.where(kept, np.where(near_left, left, right), np.nan)


def _medians(group: np.ndarray, value: np.ndarray, n_groups: int) -> np.ndarray:
    """Compute the median of the values of each group, NaN for groups without values."""
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    size = np.bincount(group, minlength=n_groups)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    middle = np.full(n_groups, np.nan)
    has = size > 0
    middle[has] = value[(start + size // 2)[has]]
    return middle
