"""Letters aligned: insertions and deletions between a sequence and the references that may be its parents.

Columns of a frame put the letters between two anchors where they fall, so a chimera of two parents whose stretches there
differ in length agrees with neither. Alignments to a few candidates tell what is really unexplained.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scdae.core.chimeras.parents import UNEXPLAINED, Parents, chance

__all__ = ["Pieces", "align_parents", "edits_from_the_left"]

_BAND = 24  # letters by which two sequences may be shifted against each other
_AT_ONCE = 4000  # pairs
_MIDDLE = (0.04, 0.96)  # where breakpoints lie, as a fraction of the letters
_LEAST = 20  # letters of a sequence that is aligned
_NONE, _BEYOND = -2, -3  # fill up the letters of sequences, and of references
_FAR = 10_000


class Pieces(NamedTuple):
    """Letters of sequences within the columns of a frame, without gaps, each with its place."""

    letters: list[np.ndarray]  # int8 (length,) each: 0 to 3, -1 where unknown
    places: list[np.ndarray]  # float64 (length,) each: column, not decreasing

    def some(self, rows: np.ndarray) -> Pieces:
        """Return those of some sequences."""
        return Pieces([self.letters[i] for i in rows], [self.places[i] for i in rows])

    def join(self, pairs: np.ndarray, column: np.ndarray) -> Pieces:
        """Join the letters of one sequence on the left of a column with those of another on its right.

        Parameters
        ----------
        pairs
            int (n, 2): which sequences.
        column
            int (n,): columns on the left of each breakpoint.
        """
        letters, places = [], []
        for (left, right), at in zip(pairs, column, strict=True):
            stop, start = (int(np.searchsorted(self.places[one], at - 0.5)) for one in (left, right))
            letters.append(np.concatenate([self.letters[left][:stop], self.letters[right][start:]]))
            places.append(np.concatenate([self.places[left][:stop], self.places[right][start:]]))
        return Pieces(letters, places)

    def ends(self) -> np.ndarray:
        """Columns of the first and last letters: float64 (2, n); 0 for sequences without letters."""
        return np.array([(one[0], one[-1]) if len(one) else (0.0, 0.0) for one in self.places]).reshape(-1, 2).T


def align_parents(found: Parents, pieces: Pieces, reference: Pieces) -> Parents:
    """Count anew what one and two parents leave unexplained, in edits of an alignment.

    Parameters
    ----------
    found
        By the columns, with candidates.
    pieces
        The sequences (n_obs).
    reference
        The references that candidates name.

    Returns
    -------
    Parents
        `found`, but for `ratio`, `gain`, `scaled_gain`, `one`, `two` and `exchange`. Sequences of fewer than 20 letters
        within the columns, and those without a candidate, keep theirs.

    Notes
    -----
    Edits are substitutions, insertions and deletions (Levenshtein, 1966), worked out from both ends in a band of 24
    letters on either side. Letters at the ends that the other sequence does not reach cost nothing, unknown ones neither.
    """
    out = {name: getattr(found, name).copy() for name in ("ratio", "gain", "scaled_gain", "exchange", "two", "one")}
    size = np.array([len(one) for one in pieces.letters], np.int64)
    of_query = [np.unique(row[row >= 0]) for row in found.candidates]
    of_query = [row if n >= _LEAST else row[:0] for row, n in zip(of_query, size, strict=True)]
    stop = np.cumsum([len(row) for row in of_query])
    start = 0
    while start < len(size):
        done = stop[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(stop, done + _AT_ONCE)))
        here = range(start, end)
        pairs = np.repeat(np.arange(end - start), [len(of_query[i]) for i in here])
        if len(pairs):
            number = np.concatenate([of_query[i] for i in here])
            left, right = _both_ends(pieces.some(np.arange(start, end)), pairs, reference.some(number))
            for i in here:
                if len(of_query[i]):
                    these = pairs == i - start
                    told = _tell(left[these, : size[i] + 1], right[these, : size[i] + 1][:, ::-1])
                    for name, value in told.items():
                        out[name][i] = value
        start = end
    return found._replace(**out)


def _both_ends(queries: Pieces, pairs: np.ndarray, references: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Fewest edits of the first and of the last i letters of each query: two of int16 (n_pairs, longest + 1)."""
    lead, tail = references.ends() - queries.ends()[:, pairs]
    found = []
    for turned, ahead in ((False, lead), (True, -tail)):
        turn = slice(None, None, -1 if turned else 1)
        sequences = _padded([one[turn] for one in queries.letters], _NONE)[pairs]
        others = _padded([one[turn] for one in references.letters], _BEYOND)
        ahead = np.rint(ahead).astype(np.int64)
        found.append(edits_from_the_left(sequences, others, np.maximum(ahead, 0), np.maximum(-ahead, 0)))
    return found[0], found[1]


def edits_from_the_left(
    sequences: np.ndarray, references: np.ndarray, free: np.ndarray, skipped: np.ndarray
) -> np.ndarray:
    """Count the fewest edits that turn the first letters of a sequence into the beginning of a reference.

    Parameters
    ----------
    sequences
        int8 (n, longest): letters of each, filled up with anything below -1. Unknown letters, -1, agree with all.
    references
        int8 (n, longest_reference): one for each sequence, filled up with -3.
    free
        int (n,): letters at the beginning of each sequence that cost nothing, since its reference begins later.
    skipped
        int (n,): letters at the beginning of each reference that cost nothing.

    Returns
    -------
    numpy.ndarray
        int16 (n, longest + 1): for each number of letters from 0 on. Shifts of more than 24 letters are not looked at.

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0, 1, 2, 3, 0]], np.int8), np.array([[0, 2, 3, 0]], np.int8)
    >>> edits_from_the_left(one, other, np.zeros(1, int), np.zeros(1, int)).tolist()
    [[0, 0, 1, 1, 1, 1]]
    """
    n, width = len(sequences), 2 * _BAND + 1
    shift = skipped - free  # of the reference's letters against the sequence's
    margin = _BAND + int(np.abs(shift).max(initial=0)) + 1
    length = margin + max(references.shape[1], sequences.shape[1]) + margin
    filled = np.full((n, length + width), _BEYOND, np.int8)
    filled[:, margin : margin + references.shape[1]] = references
    bands = np.lib.stride_tricks.sliding_window_view(filled, width, axis=1)
    rows, ramp = np.arange(n), np.arange(width, dtype=np.int16)
    at = shift[:, None] + np.arange(width) - _BAND  # letters of the reference that have been passed
    edits = np.where(at >= 0, np.clip(at - skipped[:, None], 0, _FAR), _FAR).astype(np.int16)
    found = np.empty((n, sequences.shape[1] + 1), np.int16)
    found[:, 0] = edits.min(axis=1)
    for i in range(1, found.shape[1]):
        others = bands[rows, margin + shift - _BAND + i - 1]
        own = sequences[:, i - 1][:, None]
        step = edits + ((others != own) & (own != -1) & (others != -1))
        step[others == _BEYOND] = _FAR
        inserted = np.full_like(edits, _FAR)
        inserted[:, :-1] = edits[:, 1:] + (i > free)[:, None]
        step = np.minimum(step, inserted)
        step[at + i < 0] = _FAR
        step = np.minimum.accumulate(step - ramp, axis=1) + ramp  # letters of the reference left out
        edits = np.minimum(step, _FAR).astype(np.int16)
        found[:, i] = edits.min(axis=1)
    return found


def _tell(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Compare the best candidate with the best two, one on each side: both (n_candidates, n_letters + 1)."""
    n = left.shape[1] - 1
    left, right = left.astype(np.float64), right.astype(np.float64)
    one = (left + right).max(axis=1).min()  # any breakpoint costs a candidate at most its edits over all letters
    both = left.min(axis=0) + right.min(axis=0)
    low, high = (int(share * n) for share in _MIDDLE)
    middle = both[low:high]
    last = len(middle) - 1 - int(middle[::-1].argmin())
    at = low + (int(middle.argmin()) + last) // 2
    first, second = int(left[:, at].argmin()), int(right[:, at].argmin())
    of_left, of_right, two = left[first, at], right[second, at], middle.min()
    ratio = chance(of_left, np.array(at)) + chance(of_right, np.array(n - at)) - chance(one, np.array(n))
    return {
        "ratio": float(ratio),
        "gain": one - two,
        "scaled_gain": ((one - both) / np.sqrt(both + UNEXPLAINED)).max(),
        "exchange": min(left[second, at] - of_left, right[first, at] - of_right),
        "two": two,
        "one": one,
    }


def _padded(sequences: list[np.ndarray], fill: int) -> np.ndarray:
    """Put sequences of different lengths into the rows of a matrix."""
    padded = np.full((len(sequences), max(map(len, sequences), default=0)), fill, np.int8)
    for i, one in enumerate(sequences):
        padded[i, : len(one)] = one
    return padded
