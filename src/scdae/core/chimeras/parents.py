"""One parent or two: the letters of a sequence that two of a reference explain, one on each side, over what one explains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaln

__all__ = ["UNEXPLAINED", "Parents", "chance", "find_parents"]

_LETTERS = 4
_BREAKS = 100  # places at which a breakpoint is looked for
_RATE = (0.5, 10.0)  # beta distribution of the fraction of letters in which relatives differ
UNEXPLAINED = 3.0  # added to the letters that two parents leave unexplained, under the root
_AT_ONCE = 12_000_000  # entries of sequences x reference x breaks
_FAR = 1e6
_SINGLES = 3  # candidates that explain most of all letters
_SPOTS = (0.2, 0.5, 0.8)  # of the breaks: candidates are those that explain most on each side of these, and of the best


class Parents(NamedTuple):
    """Of each sequence, at the breakpoint at which two parents explain it best: all (n_obs,) but the last."""

    ratio: np.ndarray  # float64: log of how much more probable two parents are than one
    gain: np.ndarray  # letters that two parents explain and the best single one does not
    scaled_gain: np.ndarray  # the same over the root of what two leave unexplained, the best of all breakpoints
    one: np.ndarray  # letters that the best single parent leaves unexplained
    two: np.ndarray  # letters that the two parents leave unexplained
    exchange: np.ndarray  # letters more that the parent of the other side leaves unexplained, on the side with fewer
    shorter: np.ndarray  # fraction of the letters on the shorter side
    column: np.ndarray  # int64: columns on the left of the breakpoint
    left: np.ndarray  # int64: reference that explains most of the left side
    right: np.ndarray
    candidates: (
        np.ndarray
    )  # int64 (n_obs, n_candidates): references that explain much of all or of one side; -1 for none


def find_parents(rows: np.ndarray, reference: np.ndarray, excluded: np.ndarray | None = None) -> Parents:
    """Compare sequences with all pairs of a reference, one on each side of a breakpoint, and with all single ones.

    Parameters
    ----------
    rows
        int8 (n_obs, n_columns): letters in the columns of a frame, as :meth:`scdae.core.chimeras.kmers.Placed.row` gives
        them. What is no letter is not compared.
    reference
        int8 (n_reference, n_columns).
    excluded
        bool (n_obs, n_reference): relatives not to be looked at, such as the sequence itself.

    Notes
    -----
    Mismatches on the left of a breakpoint and on its right are independent sums over columns, so the best parent of each
    side is a minimum, and no pair has to be tried. How many letters relatives differ in is a beta-binomial count, since
    their distance is not known; the ratio compares one count over all letters with one on each side. Sequences that leave
    nothing unexplained with two parents, and something with one, stand out most.

    Examples
    --------
    >>> import numpy as np
    >>> known = np.array([[0] * 40, [1] * 40], np.int8)
    >>> found = find_parents(np.array([[0] * 20 + [1] * 20], np.int8), known)
    >>> found.one.tolist(), found.two.tolist(), found.column.tolist(), found.left.tolist(), found.right.tolist()
    ([20.0], [0.0], [20], [0], [1])
    """
    n_columns = rows.shape[1]
    edges = np.unique(np.linspace(0, n_columns, min(_BREAKS, n_columns) + 1).astype(int))
    blocks = [_one_hot(reference[:, start:stop]) for start, stop in zip(edges, edges[1:], strict=False)]
    at_once = max(1, _AT_ONCE // (len(blocks) * len(reference)))
    found = []
    for start in range(0, len(rows), at_once):
        here = slice(start, start + at_once)
        found.append(_find(rows[here], reference, blocks, edges, None if excluded is None else excluded[here]))
    return Parents(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _one_hot(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Letters as ones, float32 (n, n_columns * 4), and where there are any, float32 (n, n_columns)."""
    hot = (rows[:, :, None] == np.arange(_LETTERS, dtype=np.int8)).astype(np.float32)
    return hot.reshape(len(rows), -1), hot.sum(axis=2)


def _find(
    rows: np.ndarray,
    reference: np.ndarray,
    blocks: list[tuple[np.ndarray, np.ndarray]],
    edges: np.ndarray,
    excluded: np.ndarray | None,
) -> Parents:
    n_obs, n_blocks, n_reference = len(rows), len(blocks), len(blocks[0][0])
    left = np.empty((n_blocks, n_obs, n_reference), np.float32)
    for i, (hot, known) in enumerate(blocks):
        own, own_known = _one_hot(rows[:, edges[i] : edges[i + 1]])
        left[i] = own_known @ known.T - own @ hot.T
    np.cumsum(left, axis=0, out=left)
    total = left[-1].copy()
    left = left[:-1]
    right = total - left
    if excluded is not None:
        total[excluded] = _FAR
        left[:, excluded] = _FAR
        right[:, excluded] = _FAR
    left_parent, right_parent = left.argmin(axis=2), right.argmin(axis=2)

    def taken(mismatches: np.ndarray, parent: np.ndarray) -> np.ndarray:
        return np.take_along_axis(mismatches, parent[:, :, None], axis=2)[:, :, 0].astype(np.float64)

    of_left, of_right = taken(left, left_parent), taken(right, right_parent)
    one, two = total.min(axis=1).astype(np.float64), of_left + of_right
    letters = np.cumsum((rows >= 0) & (rows < _LETTERS), axis=1)
    n_left, n = letters[:, edges[1:-1] - 1].T, letters[:, -1]
    at = np.arange(n_obs)
    best = (chance(of_left, n_left) + chance(of_right, n - n_left)).argmax(axis=0)
    parents = left_parent[best, at], right_parent[best, at]
    scaled_gain = ((one - two) / np.sqrt(two + UNEXPLAINED)).max(axis=0)
    singles = np.argpartition(total, min(_SINGLES, n_reference) - 1, axis=1)[:, :_SINGLES]
    breaks = [best, *(np.full(n_obs, min(int(spot * n_blocks), len(left) - 1)) for spot in _SPOTS)]
    candidates = [singles, *(side[spot, at][:, None] for spot in breaks for side in (left_parent, right_parent))]
    candidate = np.concatenate(candidates, axis=1).astype(np.int64)
    candidate[np.take_along_axis(total, candidate, axis=1) >= _FAR] = -1
    return _to_the_letter(rows, letters, reference, parents, one, scaled_gain, candidate)


def _to_the_letter(
    rows: np.ndarray,
    letters: np.ndarray,
    reference: np.ndarray,
    parents: tuple[np.ndarray, np.ndarray],
    one: np.ndarray,
    scaled_gain: np.ndarray,
    candidates: np.ndarray,
) -> Parents:
    """Move the breakpoint to the column at which these parents explain most."""
    mismatches = []
    for parent in parents:
        other = reference[parent]
        differ = (rows != other) & (rows >= 0) & (rows < _LETTERS) & (other >= 0) & (other < _LETTERS)
        mismatches.append(np.cumsum(differ, axis=1).astype(np.float64))
    by_left, by_right = mismatches
    two = by_left + by_right[:, -1:] - by_right
    two[:, -1] = _FAR
    column, at = two.argmin(axis=1), np.arange(len(rows))
    last = two.shape[1] - 1 - two[:, ::-1].argmin(axis=1)  # any column from the first to the last one will do
    column = (column + last) // 2
    n, n_left = letters[:, -1], letters[at, column]
    of_left, of_right = by_left[at, column], (by_right[:, -1] - by_right[at, column])
    exchange = np.minimum(by_right[at, column] - of_left, by_left[:, -1] - by_left[at, column] - of_right)
    return Parents(
        ratio=chance(of_left, n_left) + chance(of_right, n - n_left) - chance(one, n),
        gain=one - of_left - of_right,
        scaled_gain=scaled_gain,
        one=one,
        two=of_left + of_right,
        exchange=exchange,
        shorter=np.minimum(n_left, n - n_left) / np.maximum(n, 1),
        column=column + 1,
        left=parents[0],
        right=parents[1],
        candidates=candidates,
    )


def chance(mismatches: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Log probability of certain mismatches among so many letters, at an unknown rate."""
    a, b = _RATE
    chance: np.ndarray = betaln(mismatches + a, np.maximum(n - mismatches, 0) + b) - betaln(a, b)
    return chance
