"""P-values of scores by comparison with scores of normal data, for any distribution of the scores."""

from __future__ import annotations

import numpy as np

__all__ = ["conformal_pvalue", "least_called"]


def conformal_pvalue(score: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Compute the probability of a score at least as high in normal data.

    Parameters
    ----------
    score
        float (n,): scores to test; higher means less normal.
    normal
        float (m,): scores of normal data that the scoring rule was not fitted to.

    Returns
    -------
    numpy.ndarray
        float64 (n,), from 1 / (m + 1) to 1; NaN where the score is NaN.

    Raises
    ------
    ValueError
        When there are no normal scores, or some are NaN.

    Notes
    -----
    Split conformal inference (Vovk, Gammerman and Shafer, 2005): if a score and the normal ones are exchangeable, its
    p-value is below any level with at most that probability. A tie makes the p-value larger.

    Examples
    --------
    >>> import numpy as np
    >>> conformal_pvalue(np.array([0.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 0.5, 0.25]
    """
    normal = np.sort(np.asarray(normal, np.float64))
    if len(normal) == 0:
        raise ValueError("P-values need scores of normal data, and there are none.")
    if np.isnan(normal).any():
        raise ValueError(f"{np.isnan(normal).sum():,} of {len(normal):,} scores of normal data are NaN.")
    score = np.asarray(score, np.float64)
    as_high = len(normal) - np.searchsorted(normal, score, side="left")
    return np.where(np.isnan(score), np.nan, (1 + as_high) / (len(normal) + 1))


def least_called(n_calibrating: int, n_tested: int, level: float) -> int:
    """Fewest tests that can be called together by Benjamini and Hochberg, given the smallest p-value there is.

    A p-value is at least 1 / (n_calibrating + 1), so k tests that all have it are adjusted to
    n_tested / (k (n_calibrating + 1)), which is below `level` from some k on.

    Parameters
    ----------
    n_calibrating
        Number of calibration values.
    n_tested
        Number of tests.
    level
        False discovery rate that the adjusted p-values must be below.

    Returns
    -------
    int
        That k, at least 1. Above `n_tested` if no test can be called at all.

    Examples
    --------
    >>> least_called(99, 1000, 0.05)
    201
    """
    return int(n_tested / (level * (n_calibrating + 1))) + 1
