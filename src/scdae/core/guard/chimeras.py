"""One place or two: whether the two sides of a sequence have relatives in common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

__all__ = ["Evidence", "Split", "evidence", "fit_split", "sides"]

_SHRINK = 0.1  # of the correlations between the axes of relatives' differences
_ROUNDS = 3
_AT_ONCE = 500  # sequences compared with the reference together
_CLOSEST = 0.02  # mean squared difference, in units of a usual one, below which relatives count as equally close


class Split(NamedTuple):
    """Relatives in the two sides of one breakpoint.

    Parameters
    ----------
    places
        float64 (n_reference, 2 * n_latent): positions of the reference by its left windows and by its right ones.
    whiten
        Maps that make the usual difference of relatives a unit one: of both sides, of the left one, of the right one.
    shape
        Degrees of freedom of the distribution of differences.
    """

    places: np.ndarray
    whiten: tuple[np.ndarray, np.ndarray, np.ndarray]
    shape: float


class Evidence(NamedTuple):
    """Of each sequence."""

    ratio: np.ndarray  # float64 (n_obs,): log of how much more probable two places are than one
    left: np.ndarray  # int64 (n_obs,): reference nearest to the left side
    right: np.ndarray


def sides(n_windows: int) -> np.ndarray:
    """Parts of the windows: all of them, then the left sides of each breakpoint, then the right sides.

    Returns
    -------
    numpy.ndarray
        float64 (2 * n_windows - 1, n_windows).

    Examples
    --------
    >>> sides(3).astype(int).tolist()
    [[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]
    """
    left = np.tri(n_windows - 1, n_windows)
    return np.concatenate([np.ones((1, n_windows)), left, 1 - left])


def fit_split(left: np.ndarray, right: np.ndarray, shape: float) -> Split:
    """Learn from a reference how relatives differ on both sides of a breakpoint.

    Parameters
    ----------
    left, right
        (n_reference, n_latent): positions by the windows of each side.
    shape
        Degrees of freedom; fewer for differences that vary more.

    Notes
    -----
    Each sequence is compared with its nearest relative. Differences are scaled by their size, so that distant and close
    relatives have an equal say in which axes they differ in, and along which together; then nearest ones are sought
    anew.
    """
    places = np.concatenate([left, right], axis=1).astype(np.float64)
    n, width = places.shape
    spread = np.cov(places.T)
    floor = 1e-6 * max(np.trace(spread) / width, 1e-6) * np.eye(width)
    for _ in range(_ROUNDS):
        near, square = _nearest(places, _whitening(_shrunk(spread) + floor))
        size = np.maximum(square / width, _CLOSEST)
        difference = (places - places[near]) / np.sqrt(size)[:, None]
        spread = difference.T @ difference / n
    spread, half = _shrunk(spread) + floor, width // 2
    maps = (_whitening(spread), _whitening(spread[:half, :half]), _whitening(spread[half:, half:]))
    return Split(places, maps, shape)


def evidence(split: Split, left: np.ndarray, right: np.ndarray, excluded: np.ndarray | None = None) -> Evidence:
    """Weigh two places against one.

    Parameters
    ----------
    split
        Of this breakpoint.
    left, right
        (n_obs, n_latent): positions by the windows of each side.
    excluded
        bool (n_obs, n_reference): relatives not to be looked at, such as the sequence itself.

    Notes
    -----
    A sequence with one place has a relative, any of the reference alike, and differs from it by a multivariate Student
    distribution in both sides together: a normal distribution whose scale, how distant they are, is not known (Kotz and
    Nadarajah, 2004). With two places each side has a relative and a distance of its own.
    """
    if len(left) > _AT_ONCE:
        blocks = [slice(start, start + _AT_ONCE) for start in range(0, len(left), _AT_ONCE)]
        of_each = [evidence(split, left[b], right[b], None if excluded is None else excluded[b]) for b in blocks]
        return Evidence(*(np.concatenate(parts) for parts in zip(*of_each, strict=True)))
    half = split.places.shape[1] // 2
    both = np.concatenate([left, right], axis=1)
    cuts = (slice(None), slice(0, half), slice(half, None))
    squares = [_squares(both[:, cut], split.places[:, cut], map_) for cut, map_ in zip(cuts, split.whiten, strict=True)]
    if excluded is not None:
        for square in squares:
            square[excluded] = np.inf
    one, first, second = (
        logsumexp(-(split.shape + width) / 2 * np.log1p(square / split.shape), axis=1)
        for square, width in zip(squares, (2 * half, half, half), strict=True)
    )
    return Evidence(first + second - one, squares[1].argmin(axis=1), squares[2].argmin(axis=1))


def _nearest(places: np.ndarray, whiten: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest other row of each, and its squared distance."""
    near, square = np.zeros(len(places), np.int64), np.zeros(len(places))
    for start in range(0, len(places), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(places)))
        squares = _squares(places[rows], places, whiten)
        squares[rows - start, rows] = np.inf
        near[rows] = squares.argmin(axis=1)
        square[rows] = squares[rows - start, near[rows]]
    return near, square


def _shrunk(spread: np.ndarray) -> np.ndarray:
    return (1 - _SHRINK) * spread + _SHRINK * np.diag(np.diag(spread))


def _whitening(spread: np.ndarray) -> np.ndarray:
    """Map `m` with ``m @ m.T`` the inverse of `spread`."""
    return np.linalg.cholesky(np.linalg.inv(spread))


def _squares(one: np.ndarray, other: np.ndarray, whiten: np.ndarray) -> np.ndarray:
    """Squared distances of whitened rows."""
    a, b = one @ whiten, other @ whiten
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)
