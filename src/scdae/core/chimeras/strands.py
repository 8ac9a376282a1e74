"""Strands of the sequences of a family, found without a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

__all__ = ["other_strand"]

_WORDS = 1000  # the most common ones, which distinguish the strands
_ROUNDS = 20


def other_strand(words: Sequence[np.ndarray], k: int, *, common: float, least: int) -> np.ndarray:
    """Find the sequences on the strand of the minority.

    Parameters
    ----------
    words
        Words that occur once in each sequence, as :func:`scdae.core.chimeras.letters.words` encodes them.
    k
        Letters of a word.
    common
        Fraction of the sequences in which a word must occur, on either strand.
    least
        Number of words by which a sequence must be closer to the other strand.

    Returns
    -------
    numpy.ndarray
        Boolean (n_sequences,). If both strands have equally many, the first sequence is False.

    Notes
    -----
    A word and its reverse complement are treated as one, with a sign for the strand. A sequence is then a vector of
    signs, and its reverse complement the negative of it. The sum of the vectors, each with the sign that agrees with
    the sum, is found by iteration, starting from the sequence with the largest number of common words.
    """
    turned_word = _complements(k)
    counted = np.zeros(4**k, np.int64)
    for found in words:
        counted[np.minimum(found, turned_word[found])] += 1
    chosen = np.flatnonzero(counted >= max(common * len(words), 2))
    chosen = np.sort(chosen[np.argsort(-counted[chosen], kind="stable")[:_WORDS]])
    none_turned = np.zeros(len(words), bool)
    if not len(chosen):
        return none_turned
    signs = _signs(words, turned_word, chosen, 4**k)
    towards = np.asarray(signs[int(np.diff(signs.indptr).argmax())].todense()).ravel()
    nearer = np.zeros(len(words))
    for _ in range(_ROUNDS):
        now = signs @ np.sign(towards)
        if np.array_equal(np.sign(now), np.sign(nearer)):
            break
        nearer = now
        towards = signs.T @ np.sign(nearer)
    decided = np.flatnonzero(np.abs(nearer) >= least)
    turned = nearer <= -least
    n_turned = int(turned.sum())
    if 2 * n_turned > len(decided) or (2 * n_turned == len(decided) > 0 and turned[decided[0]]):
        turned = nearer >= least
    return turned


def _complements(k: int) -> np.ndarray:
    """Return the code of the reverse complement of each word: int64 (4**k,)."""
    left, complement = np.arange(4**k), np.zeros(4**k, np.int64)
    for _ in range(k):
        complement = 4 * complement + 3 - left % 4
        left //= 4
    return complement


def _signs(words: Sequence[np.ndarray], turned_word: np.ndarray, chosen: np.ndarray, n_words: int) -> sp.csr_matrix:
    """Return the strand on which each sequence has each chosen word: float32 CSR of 1 and -1."""
    column = np.full(n_words, -1, np.int32)
    column[chosen] = np.arange(len(chosen))
    columns, values, ends = [], [], [0]
    for found in words:
        other = turned_word[found]
        at = column[np.minimum(found, other)]
        kept = (at >= 0) & (found != other)
        columns.append(at[kept])
        values.append(np.where(found[kept] < other[kept], 1, -1).astype(np.float32))
        ends.append(ends[-1] + len(columns[-1]))
    matrix = sp.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.array(ends)), shape=(len(words), len(chosen))
    )
    matrix.sum_duplicates()  # a word on both strands is uninformative
    return matrix
