"""Anomaly of cells: how rare their latent position is, and how much the model leaves unexplained.

Both depend on sequencing depth in all cells, normal or not: a shallow cell has a noisier latent position, and more
deviance per molecule. Each is therefore compared with normal cells of the same depth.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy import special

from scdae.core.distributions.components import Components
from scdae.core.distributions.mixtures import log_counts, zero_chance
from scdae.core.distributions.predictive_numpy import HeldOutLaw, log_prob_zero
from scdae.core.runtime.threads import few_threads

__all__ = ["Readings", "cell_deviance", "combined", "entry_deviance", "neighbors", "rarity", "standardize"]

_MOST = 20_000  # normal cells to which the density is fitted, at most
_GAUSSIANS, _CELLS_EACH, _RIDGE = 20, 50, 0.01
_PARTS = 5
_WEIGHT = 0.5
_ROUNDS, _CUT = 5, 3.0  # of fitting a trend, and scales beyond which a cell is excluded
_UPPER = 0.8413  # quantile one standard deviation above the median of a normal distribution


class Readings(NamedTuple):
    """Depth, deviance and latent position of some cells."""

    depth: np.ndarray  # float64 (n,): molecules
    deviance: np.ndarray  # float64 (n,): unexplained, per molecule; NaN for a cell without molecules
    latent: np.ndarray  # float32 (n, n_latent)


def entry_deviance(counts: np.ndarray, mean: np.ndarray, laws: Components) -> np.ndarray:
    """Compute the deviance of each entry: twice its log likelihood ratio to a distribution whose mean is the count.

    Parameters
    ----------
    counts
        (..., n) counts.
    mean
        (..., n) expected counts before dropout, positive.
    laws
        Components of the genes, (c, n), or of the entries, (c, ..., n).

    Returns
    -------
    numpy.ndarray
        float64 (..., n), zero or more. The reference distribution has no dropout.

    Notes
    -----
    For the negative binomial see McCullagh and Nelder (1989), section 11. Dropout adds ``-2 log(1 - pi)`` to the
    deviance of a positive count, and reduces that of a zero.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.guard.anomaly import entry_deviance
    >>> from scdae.core.distributions.components import Components
    >>> poisson = Components(*(np.full((1, 2), value) for value in (np.inf, 1.0, 1.0, 0.0)))
    >>> entry_deviance(np.array([[3.0, 0.0]]), np.array([[3.0, 2.0]]), poisson).tolist()
    [[0.0, 4.0]]
    """
    x, mean = np.asarray(counts, np.float64), np.maximum(np.asarray(mean, np.float64), 1e-12)
    if x.ndim > laws.theta.ndim - 1:
        laws = laws.over_cells()
    return np.asarray(2 * np.maximum(_log_sum(laws, x, x, kept=True) - _log_sum(laws, x, mean), 0))


def _log_sum(laws: Components, x: np.ndarray, mean: np.ndarray, *, kept: bool = False) -> np.ndarray:
    """Compute the log probability of counts under the mixture at each entry; with `kept`, without dropout."""
    theta, weight, scale, lost = laws[:4]
    with np.errstate(divide="ignore"):
        log = np.log(weight) + log_counts(x, scale * mean, theta)
        if not kept:
            log = np.logaddexp(np.log1p(-lost) + log, np.log(weight * lost * (x == 0)))
    return np.asarray(special.logsumexp(log, axis=0))


def cell_deviance(
    counts: sp.csr_matrix,
    mean: np.ndarray,
    laws: Components,
    observed: np.ndarray | None = None,
    level: np.ndarray | None = None,
) -> np.ndarray:
    """Sum the deviance over the observed entries of each cell, float64 (b,); a zero costs one logarithm per component.

    Parameters
    ----------
    counts
        CSR (b, n) without counts at missing values.
    mean, laws
        As for :func:`entry_deviance`.
    observed
        Boolean (b, n), or None if no values are missing.
    level
        (b, n): levels of the entries, or None.
    """
    mean = np.maximum(mean, np.float32(1e-12))
    log_zero = _log_zero(laws, mean, level)
    total = -(log_zero if observed is None else np.where(observed, log_zero, 0)).sum(axis=1, dtype=np.float64)
    entries = counts.tocoo()
    at = entries.row, entries.col
    stored = (
        entry_deviance(entries.data, mean[at], laws.at(entries.col, None if level is None else level[at])) / 2
        + log_zero[at]
    )
    return 2 * (total + np.bincount(entries.row, weights=stored, minlength=len(total)))


def _log_zero(laws: Components, mean: np.ndarray, level: np.ndarray | None) -> np.ndarray:
    """Compute the log probability of a zero, in the dtype of `mean`: (b, n)."""
    if len(laws.theta) == 1 and not laws.lost.any():
        return log_prob_zero(HeldOutLaw(mean, laws.theta[0].astype(mean.dtype), np.zeros(1)))
    return np.asarray(np.log(np.maximum(zero_chance(laws, mean, level=level), 1e-35)))


def rarity(latent: np.ndarray, normal: np.ndarray, seed: int) -> np.ndarray:
    """Compute how rare each cell's latent position is: minus the log density of normal cells there.

    Parameters
    ----------
    latent
        (n, n_latent).
    normal
        int (m,): indices of normal cells, at least two. Coordinates are divided by their standard deviation.
    seed
        Seed of the mixture, and of the sample if there are more than 20,000 normal cells.

    Returns
    -------
    numpy.ndarray
        float64 (n,). Normal cells are split into five parts, and five densities are fitted, each to all parts but one.
        A normal cell gets the density that was not fitted to it, any other cell the mean of the five log densities, so
        that the two are comparable.

    Notes
    -----
    A density is a mixture of up to 20 Gaussians, at most one per 50 cells, fitted by scikit-learn. Distances to the
    nearest normal cells are less informative (see ``benchmarks/guard.py``).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(seed)
    normal = rng.permutation(normal)[:_MOST]
    scaled = (latent / np.maximum(latent[normal].std(axis=0), 1e-6)).astype(np.float64)
    parts = np.array_split(normal, min(_PARTS, len(normal)))
    number = int(np.clip((len(normal) - len(parts[0])) // _CELLS_EACH, 1, _GAUSSIANS))
    rarities = np.zeros(len(latent))
    for part in parts:
        others = np.setdiff1d(normal, part)
        mixture = GaussianMixture(number, reg_covar=_RIDGE, random_state=seed)
        with few_threads(len(normal)), warnings.catch_warnings():  # the fit begins with k-means
            warnings.simplefilter("ignore", ConvergenceWarning)  # an unconverged mixture is used as it is
            mixture.fit(scaled[others if len(others) > 1 else np.repeat(others, 2)])
        here = np.setdiff1d(np.arange(len(latent)), others)
        minus_log = -mixture.score_samples(scaled[here])
        rarities[here] += np.where(np.isin(here, part), 1, 1 / len(parts)) * minus_log
    return rarities


def neighbors(latent: np.ndarray, normal: np.ndarray, k: int = 10) -> np.ndarray:
    """Find the nearest normal cells (m, n_latent) of each cell (n, n_latent), without the cell itself: int64 (n, k)."""
    from sklearn.neighbors import NearestNeighbors

    unit = np.maximum(normal.std(axis=0), 1e-6)
    k = min(k, max(len(normal) - 1, 1))
    with few_threads(len(latent)):
        apart, who = NearestNeighbors(n_neighbors=min(k + 1, len(normal))).fit(normal / unit).kneighbors(latent / unit)
    first = (apart[:, 0] < 1e-6) & (apart.shape[1] > k)  # the cell itself
    return np.where(first[:, None], who[:, -k:], who[:, :k])


def combined(rarity: np.ndarray, deviance: np.ndarray) -> np.ndarray:
    """Combine standardized rarity and deviance to one score per cell, float64 (n,).

    Deviance below the median of normal cells is ignored, and deviance above it has half the weight of rarity: most
    anomalous cells have a rare position, but one with genes that the latent space does not represent has only deviance.
    """
    return np.minimum(rarity, 0) + np.hypot(np.maximum(rarity, 0), _WEIGHT * np.maximum(deviance, 0))


def standardize(values: np.ndarray, depth: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Standardize values by those of normal cells of the same depth.

    Parameters
    ----------
    values
        (n,); NaN stays NaN.
    depth
        (n,) molecules.
    normal
        Boolean (n,): normal cells. Their trend with log depth (a parabola) is subtracted, and the residual is divided
        by their spread above the median, which may also change with depth. Outliers are excluded from both fits.

    Returns
    -------
    numpy.ndarray
        float64 (n,): 0 at the median of normal cells, 1 at their 84 % quantile.
    """
    y, x = np.asarray(values, np.float64), np.log(np.maximum(depth, 1))
    used = normal & np.isfinite(y)
    if used.sum() < 2:
        return np.where(np.isfinite(y), 0.0, np.nan)
    middle, width = x[used].mean(), max(float(x[used].std()), 1e-6)
    x = np.clip((x - middle) / width, (x[used].min() - middle) / width, (x[used].max() - middle) / width)
    degree = min(2, int(used.sum()) // 20)
    rest = y
    for _ in range(_ROUNDS):
        rest = y - np.polyval(np.polyfit(x[used], y[used], degree), x)
        spread = 1.4826 * np.median(np.abs(rest[normal & np.isfinite(y)]))
        used = normal & np.isfinite(y) & (np.abs(rest) <= _CUT * max(spread, 1e-9))
    size = np.polyval(np.polyfit(x[used], np.abs(rest[used]), min(degree, 1)), x)
    rest = rest / np.maximum(size, 0.2 * max(float(np.abs(rest[used]).mean()), 1e-9))
    of_normal = rest[normal & np.isfinite(y)]
    center = np.median(of_normal)
    return (rest - center) / max(float(np.quantile(of_normal, _UPPER) - center), 1e-9)
