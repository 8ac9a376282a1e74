"""Detection of chimeras: do the two sides of a sequence have one relative in common, or two different ones?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

__all__ = ["Evidence", "Split", "evidence", "fit_split", "sides"]

_SHRINK = 0.1  # shrinkage of the correlations between axes in the differences of relatives
_ROUNDS = 3
_AT_ONCE = 500  # sequences that are compared with the reference at once
_CLOSEST = 0.02  # mean squared difference, relative to the usual one, below which relatives count as equally close


class Split(NamedTuple):
    """Differences of relatives on the two sides of a breakpoint.

    Parameters
    ----------
    places
        float64 (n_reference, 2 * n_latent): latent positions of the reference from its left and from its right windows.
    whiten
        Whitening matrices of the differences of relatives: for both sides, the left one, the right one.
    shape
        Degrees of freedom of the distribution of differences.
    """

    places: np.ndarray
    whiten: tuple[np.ndarray, np.ndarray, np.ndarray]
    shape: float


class Evidence(NamedTuple):
    """Evidence on each sequence."""

    ratio: np.ndarray  # float64 (n_obs,): log likelihood ratio of two relatives to one
    left: np.ndarray  # int64 (n_obs,): reference nearest to the left side
    right: np.ndarray


def sides(n_windows: int) -> np.ndarray:
    """List parts of the windows: all, then the left sides of each breakpoint, then the right sides.

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
    """Learn from a reference how relatives differ on the two sides of a breakpoint.

    Parameters
    ----------
    left, right
        (n_reference, n_latent): latent positions from the windows of each side.
    shape
        Degrees of freedom of the distribution of differences: fewer for heavier tails.

    Notes
    -----
    Each sequence is compared with its nearest relative. Differences are divided by their size, so that distant and
    close relatives have equal weight in the covariance of the axes; then the nearest relatives are searched again.
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
    """Compute the evidence for two relatives against one.

    Parameters
    ----------
    split
        From :func:`fit_split`, for this breakpoint.
    left, right
        (n_obs, n_latent): latent positions from the windows of each side.
    excluded
        bool (n_obs, n_reference): relatives to be ignored, such as the sequence itself.

    Notes
    -----
    A sequence that is no chimera has one relative, each in the reference with equal probability. Its difference from
    it, on both sides together, has a multivariate Student distribution: a normal distribution of unknown scale, which
    is the distance of the two (Kotz and Nadarajah, 2004). In a chimera each side has a relative and a scale of its own.
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
    """Find the nearest other row of each row, and its squared distance."""
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
    """Compute a matrix `m` with ``m @ m.T`` the inverse of `spread`."""
    return np.linalg.cholesky(np.linalg.inv(spread))


def _squares(one: np.ndarray, other: np.ndarray, whiten: np.ndarray) -> np.ndarray:
    """Compute the squared distances of whitened rows."""
    a, b = one @ whiten, other @ whiten
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)
