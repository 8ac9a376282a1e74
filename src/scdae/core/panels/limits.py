"""Levels and limits of predicted counts, learned from genes that were measured and hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

__all__ = ["Calibration", "Levels", "log_excess"]

_LOG_THETA = (-2.5, 7.0)  # of any gene
_SEARCH = {"xatol": 0.01, "fatol": 1e-6, "maxfev": 60}


def log_excess(counts: sp.csr_matrix, total: np.ndarray) -> np.ndarray:
    """Compute by how much counts vary beyond the Poisson distribution, in squares of their means.

    Parameters
    ----------
    counts
        CSR (n_obs, n_vars).
    total
        float (n_obs,): counts of the cells that the means are proportional to.

    Returns
    -------
    numpy.ndarray
        float64 (n_vars,): its logarithm, between log 0.01 and log 100.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> np.exp(log_excess(sp.csr_matrix([[0.0], [4.0]]), np.ones(2))).tolist()
    [0.5]
    """
    share = np.asarray(counts.sum(axis=0), np.float64).ravel() / total.sum()
    squares = np.asarray(counts.multiply(counts).sum(axis=0)).ravel()
    length = float(total @ total)
    variance = squares - 2 * share * np.asarray(counts.T @ total).ravel() + share**2 * length
    excess = (variance - share * total.sum()) / np.maximum(share**2 * length, 1e-12)
    return np.log(np.clip(excess, 0.01, 100))


@dataclass(frozen=True)
class Levels:
    """How the mean count that a platform measures depends on the one predicted, on a logarithmic scale.

    Parameters
    ----------
    intercept, slope
        Of the line through the hidden genes; the slope lies between 0 and 1.
    """

    intercept: float
    slope: float

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Levels:
        """Fit the line by least squares.

        Parameters
        ----------
        predicted, measured
            Mean counts of the hidden genes, float (n,); those of `predicted` are positive.
        """
        x, y = np.log(predicted), np.log(np.maximum(measured, 1e-9))
        spread = float(((x - x.mean()) ** 2).sum())
        slope = float(np.clip((x - x.mean()) @ (y - y.mean()) / spread, 0, 1)) if spread > 1e-9 else 1.0
        return cls(float(y.mean() - slope * x.mean()), slope)

    def factors(self, predicted: np.ndarray) -> np.ndarray:
        """Factors that bring predicted mean counts, float (n,), to the platform's level; 1 where the mean is 0."""
        positive = predicted > 0
        logs = np.log(np.where(positive, predicted, 1.0))
        return np.where(positive, np.exp(self.intercept + (self.slope - 1) * logs), 1.0)


@dataclass(frozen=True)
class Calibration:
    """A negative binomial around the prediction, and which of its quantiles hold as many counts as asked for.

    Parameters
    ----------
    theta
        Its inverse dispersion in a gene of `log_excess` 0.
    slope
        By how much the logarithm of the inverse dispersion changes with a gene's `log_excess` in the reference: genes
        that vary more there vary more about their predictions. From -1.5 to 0.
    below, above
        Probabilities of counts beyond each limit.
    """

    theta: float
    slope: float
    below: float
    above: float

    @classmethod
    def of(
        cls,
        means: np.ndarray,
        counts: np.ndarray,
        excess: np.ndarray,
        weights: np.ndarray,
        level: float,
        rng: np.random.Generator,
    ) -> Calibration:
        """Calibrate with hidden counts.

        Parameters
        ----------
        means, counts
            Predicted and measured, float (n,).
        excess
            float (n,): `log_excess` of each entry's gene.
        weights
            float (n,): of each entry.
        level
            Fraction of the counts that the limits shall hold.
        rng
            Places a count at random between the probabilities of fewer, and of as many or fewer.
        """
        from scipy import stats
        from scipy.optimize import minimize

        means = np.maximum(means, 1e-8)

        def theta_of(line: np.ndarray) -> np.ndarray:
            return np.exp(np.clip(line[0] + line[1] * excess, *_LOG_THETA))

        def loss(line: np.ndarray) -> float:
            theta = theta_of(line)
            return -float(weights @ stats.nbinom.logpmf(counts, theta, theta / (theta + means))) / weights.sum()

        found = minimize(loss, [0.5, -0.5], method="Nelder-Mead", bounds=[(-2.5, 7), (-1.5, 0)], options=_SEARCH).x
        theta = theta_of(found)
        law = stats.nbinom(theta, theta / (theta + means))
        at, lot = law.pmf(counts), rng.random(len(counts))
        tail = (1 - level) / 2
        fewer, more = (
            law.cdf(counts - 1) + lot * at,
            law.sf(counts) + (1 - lot) * at,
        )  # of sum 1, each exact where small
        return cls(
            float(np.exp(found[0])), float(found[1]), *(_quantile(place, weights, tail) for place in (fewer, more))
        )

    def limits(self, means: np.ndarray, excess: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Compute the limits of counts.

        Counts are whole numbers, and no whole limit is exact. A count at a limit is within it by lot, as often as makes
        the limits exact on average; the median is always within.

        Parameters
        ----------
        means
            Predicted counts, float (n_obs, n_vars).
        excess
            float (n_vars,): `log_excess` of each gene.
        rng
            Draws the lots.

        Returns
        -------
        lower, upper
            float64 (n_obs, n_vars), whole numbers; a count is within if lower <= count <= upper.
        """
        from scipy import stats

        theta = np.exp(np.clip(np.log(self.theta) + self.slope * excess, *_LOG_THETA))
        law = stats.nbinom(theta, theta / (theta + np.maximum(means, 1e-8)))
        median = law.ppf(0.5)
        lower, upper = np.maximum(law.ppf(self.below), 0), _survival_quantile(means, theta, self.above)
        out = [
            (self.below - law.cdf(lower - 1)) / np.maximum(law.pmf(lower), 1e-300),
            (self.above - law.sf(upper)) / np.maximum(law.pmf(upper), 1e-300),
        ]  # probabilities that a count at the limit is beyond it
        lower = lower + (rng.random(means.shape) < out[0])
        upper = upper - (rng.random(means.shape) < out[1])
        return np.minimum(lower, median), np.maximum(upper, median)


def _quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    """Return the weighted quantile."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(reached, probability)), len(order) - 1)])


def _survival_quantile(means: np.ndarray, theta: np.ndarray, probability: float) -> np.ndarray:
    """Smallest counts that are exceeded with at most this probability, by bisection: SciPy's are infinite below 1e-16."""
    from scipy import stats

    law = stats.nbinom(theta, theta / (theta + np.maximum(means, 1e-8)))
    low, high = np.full(means.shape, -1.0), np.ones(means.shape)
    while (short := law.sf(high) > probability).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        short = law.sf(middle) > probability
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high
