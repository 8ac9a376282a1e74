"""Letters of sequences as integers, reverse complements, and k-mers (words)."""

from __future__ import annotations

import numpy as np

__all__ = ["letters", "reverse_complement", "words"]

_TABLE = np.full(256, -1, np.int8)
for _number, _letter in enumerate("ACGT"):
    _TABLE[[ord(_letter), ord(_letter.lower())]] = _number
_TABLE[[ord("U"), ord("u")]] = 3


def letters(text: str) -> np.ndarray:
    """Encode the letters of a sequence: int8 (length,), 0 to 3 for A, C, G and T or U, and -1 for others.

    Examples
    --------
    >>> letters("ACGUN").tolist()
    [0, 1, 2, 3, -1]
    """
    return _TABLE[np.frombuffer(text.encode("latin-1", "replace"), np.uint8)]


def reverse_complement(sequence: np.ndarray) -> np.ndarray:
    """Return the reverse complement of encoded letters."""
    return np.where(sequence >= 0, 3 - sequence, -1)[::-1].astype(np.int8)


def words(sequence: np.ndarray, k: int) -> np.ndarray:
    """Encode the word that begins at each letter.

    Parameters
    ----------
    sequence
        int8 (length,): encoded letters.
    k
        Letters of a word, up to 15.

    Returns
    -------
    numpy.ndarray
        int64 (length - k + 1,), from 0 to 4**k - 1; -1 if one of the letters is not A, C, G or T.

    Examples
    --------
    >>> words(letters("ACGNAC"), 2).tolist()
    [1, 6, -1, -1, 1]
    """
    n = len(sequence) - k + 1
    if n < 1:
        return np.zeros(0, np.int64)
    number, bad = np.zeros(n, np.int64), np.zeros(n, bool)
    for i in range(k):
        part = sequence[i : i + n]
        number = 4 * number + part
        bad |= part < 0
    return np.where(bad, -1, number)
