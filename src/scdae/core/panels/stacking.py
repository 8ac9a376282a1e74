"""One order of the cells from several predictions: weights by what hidden genes say of each."""

from __future__ import annotations

import numpy as np

from scdae.core.panels.transfer import standardized

__all__ = ["partial_ranks", "rank_into", "stacked", "stacking_weights"]

_TRUST = 0.1  # of equal weights, beside what is learned from the hidden genes
_BY_DEPTH = (
    0.2  # how much more a prediction departs from the mean in a cell one standard deviation (of log totals) deeper
)


def partial_ranks(values: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Compute ranks of each column, with the ranks of `total` partialled out, as unit vectors.

    The product of two such columns is their partial Spearman correlation.

    Parameters
    ----------
    values
        float (n_obs, n_vars).
    total
        float (n_obs,): counts of the cells in the panel.

    Returns
    -------
    numpy.ndarray
        float64 (n_obs, n_vars); 0 where nothing is left of a column.
    """
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0)
    ranks -= ranks.mean(axis=0)
    depth = rankdata(total)
    depth -= depth.mean()
    length = float(depth @ depth)
    before = np.sqrt((ranks**2).sum(axis=0))
    if length > 0:
        ranks -= np.outer(depth, depth @ ranks / length)
    after = np.sqrt((ranks**2).sum(axis=0))
    left = after > 1e-6 * np.maximum(before, 1e-12)
    return np.where(left, ranks / np.where(left, after, 1.0), 0.0)


def stacking_weights(agreement: np.ndarray, skill: np.ndarray) -> np.ndarray:
    """Compute the weights of predictions that make up the best of their sums.

    Parameters
    ----------
    agreement
        float (k, k): correlations between the predictions, averaged over hidden genes.
    skill
        float (k,): their correlations with what was measured.

    Returns
    -------
    numpy.ndarray
        float64 (k,), none negative, sum 1. Least squares, with a penalty on the distance from equal weights; equal
        weights where no prediction has any skill.
    """
    from scipy.optimize import nnls

    k = len(skill)
    equal = max(float(skill.sum()), 0.0) / max(float(agreement.sum()), 1e-9)
    factor = np.linalg.cholesky(agreement + 0.02 * np.eye(k))
    left = np.vstack([factor.T, np.sqrt(_TRUST) * np.eye(k)])
    right = np.concatenate([np.linalg.solve(factor, skill), np.full(k, np.sqrt(_TRUST) * equal)])
    weights = nnls(left, right)[0]
    total = weights.sum()
    return weights / total if total > 0 else np.full(k, 1 / k)


def stacked(logs: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Compute the weighted sum of standardized predictions, nearer to the mean in cells that are known less well.

    Parameters
    ----------
    logs
        float (k, n_obs, n_targets).
    weights
        float (k,).
    total
        float (n_obs,): counts of the cells in the panel, all positive.

    Returns
    -------
    numpy.ndarray
        float64 (n_obs, n_targets).
    """
    depth = np.maximum(1 + _BY_DEPTH * standardized(np.log(total)[:, None]), 0)
    return depth * sum(weight * standardized(one) for weight, one in zip(weights, logs, strict=True))


def rank_into(order: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Arrange the values of each column in the order of another array's: both float (n_obs, n_vars).

    Examples
    --------
    >>> import numpy as np
    >>> rank_into(np.array([[0.3], [-1.0], [2.0]]), np.array([[7.0], [9.0], [8.0]])).ravel().tolist()
    [8.0, 7.0, 9.0]
    """
    out = np.empty_like(values)
    np.put_along_axis(out, np.argsort(order, axis=0, kind="stable"), np.sort(values, axis=0), axis=0)
    return out
