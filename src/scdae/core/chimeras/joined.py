"""Chimeras made of the reference itself, to learn from how they look beside normal sequences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from scdae.core.chimeras.letters import words
from scdae.core.chimeras.placement import Windows

__all__ = ["Joined", "join"]

_MIDDLE = (0.1, 0.9)  # where breakpoints lie
_RANKS = 60  # from the nearest relative to the farthest, more of them near
_POOL = 2000  # of the reference, from which parents are drawn
_TRIES = 20  # for each chimera


class Joined(NamedTuple):
    """Chimeras of two sequences of a reference, each with one breakpoint."""

    windows: Windows
    rows: np.ndarray  # int8 (n, n_columns)
    excluded: np.ndarray  # bool (n, n_reference): what must not be looked at, where the parents are to be unknown
    parents: np.ndarray  # int64 (n, 2): of the left and the right side
    column: np.ndarray  # int64 (n,): columns on the left of the breakpoint


def join(
    windows: Windows,
    rows: np.ndarray,
    starts: np.ndarray,
    group: np.ndarray,
    shape: tuple[int, int],
    numbers: tuple[int, int],
    rng: np.random.Generator,
) -> Joined | None:
    """Join pairs of a reference, from near relatives to distant ones.

    Parameters
    ----------
    windows
        Words of the reference.
    rows
        int8 (n_reference, n_columns): its letters in the columns of the frame.
    starts
        int (n_windows + 1,): columns at which windows begin, and the last one ends.
    group
        int (n_reference,): close relatives, left out together.
    shape
        Windows, and words of each.
    numbers
        Chimeras whose parents stay in the reference, which come first, and of such whose parents' groups are left out.
    rng
        Draws parents and breakpoints.

    Returns
    -------
    Joined or None
        None where no two sequences differ on both sides of some breakpoint.
    """
    n_windows, n_words = shape
    k = round(np.log(n_words) / np.log(4))
    pool = np.sort(rng.permutation(len(group))[:_POOL])
    ranks = np.unique(np.geomspace(1, max(len(pool) - 1, 1), _RANKS).astype(int))
    counts: list[sp.csr_matrix] = []
    observed, letters, excluded, parents, columns = [], [], [], [], []
    for _ in range(_TRIES * sum(numbers)):
        if len(counts) == sum(numbers):
            break
        first = rng.choice(pool)
        apart = _differences(rows[first], rows[pool]).sum(axis=1)
        second = pool[np.argsort(apart, kind="stable")[min(rng.choice(ranks), len(pool) - 1)]]
        first, second = (first, second) if rng.random() < 0.5 else (second, first)
        at = _breakpoint(np.flatnonzero(_differences(rows[first], rows[second])), rows.shape[1], rng)
        if at is None:
            continue
        row = np.concatenate([rows[first, :at], rows[second, at:]])
        window = int(np.clip(np.searchsorted(starts, at, side="right") - 1, 0, n_windows - 1))
        middle = slice(int(starts[window]), int(starts[window + 1]))
        halves = windows.counts[first], windows.counts[second]
        seen = np.concatenate([windows.observed[first, :window], windows.observed[second, window:]])
        seen[window] &= windows.observed[first, window]
        counts.append(
            sp.hstack(
                [
                    halves[0][:, : window * n_words],
                    _words_of(row[middle], row[middle.stop : middle.stop + k - 1], k) * float(seen[window]),
                    halves[1][:, (window + 1) * n_words :],
                ],
                format="csr",
            )
        )
        observed.append(seen)
        letters.append(row)
        parents.append((first, second))
        columns.append(at)
        known = len(counts) <= numbers[0]
        excluded.append(np.isin(group, [] if known else group[[first, second]]))
    if len(counts) < sum(numbers):
        return None
    matrix = sp.csr_matrix(sp.vstack(counts, format="csr"), dtype=np.float32)
    return Joined(
        Windows(matrix, np.stack(observed)), np.stack(letters), np.stack(excluded), np.array(parents), np.array(columns)
    )


def _breakpoint(differ: np.ndarray, n_columns: int, rng: np.random.Generator) -> int | None:
    """A column in the middle four fifths, every other time one with few differences on one side; None without any."""
    low, high = (int(share * n_columns) for share in _MIDDLE)
    at = int(rng.integers(low, max(high, low + 1)))
    if rng.random() < 0.5 and len(differ) > 1:
        n_left = int(np.exp(rng.uniform(0, np.log(len(differ) / 2))))  # as often 1 to 2 as 10 to 20
        n_left = n_left if rng.random() < 0.5 else len(differ) - n_left
        at = int(np.clip((differ[n_left - 1] + differ[n_left]) // 2 + 1, low, high))
    n_left = int(np.searchsorted(differ, at))
    return at if 0 < n_left < len(differ) else None


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two rows have different letters."""
    return (one != other) & (one >= 0) & (one < 4) & (other >= 0) & (other < 4)


def _words_of(window: np.ndarray, beyond: np.ndarray, k: int) -> sp.csr_matrix:
    """Words that begin in a window, from its letters and the first few beyond: float32 (1, 4**k)."""
    kept = window[window < 4]
    found = words(np.concatenate([kept, beyond[beyond < 4]]), k)[: len(kept)]
    return sp.csr_matrix(np.bincount(found[found >= 0], minlength=4**k).astype(np.float32)[None, :])
