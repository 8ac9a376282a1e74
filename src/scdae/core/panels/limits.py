"""Levels and limits of predicted counts, learned from genes that were measured and hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Calibration", "Levels"]


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
        Its inverse dispersion.
    lower, upper
        The two probabilities.
    """

    theta: float
    lower: float
    upper: float

    @classmethod
    def of(
        cls, means: np.ndarray, counts: np.ndarray, weights: np.ndarray, level: float, rng: np.random.Generator
    ) -> Calibration:
        """Calibrate with hidden counts.

        Parameters
        ----------
        means, counts
            Predicted and measured, float (n,).
        weights
            float (n,): of each entry.
        level
            Fraction of the counts that the limits shall hold.
        rng
            Places a count at random between the probabilities of fewer, and of as many or fewer.
        """
        from scipy import stats
        from scipy.optimize import minimize_scalar

        means = np.maximum(means, 1e-8)

        def loss(log_theta: float) -> float:
            theta = np.exp(log_theta)
            return -float(weights @ stats.nbinom.logpmf(counts, theta, theta / (theta + means)))

        theta = float(np.exp(minimize_scalar(loss, bounds=(-5, 7), method="bounded").x))
        law = stats.nbinom(theta, theta / (theta + means))
        below = law.cdf(counts - 1)
        place = below + rng.random(len(counts)) * (law.cdf(counts) - below)
        order = np.argsort(place)
        reached = np.cumsum(weights[order]) / weights.sum()
        at = np.searchsorted(reached, [(1 - level) / 2, (1 + level) / 2]).clip(max=len(order) - 1)
        return cls(theta, *map(float, place[order][at]))

    def limits(self, means: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Compute the limits of counts.

        Counts are whole numbers, and no whole limit is exact. A count at a limit is within it by lot, as often as makes
        the limits exact on average; the median is always within.

        Parameters
        ----------
        means
            Predicted counts, float (n_obs, n_vars).
        rng
            Draws the lots.

        Returns
        -------
        lower, upper
            float64 (n_obs, n_vars), whole numbers; a count is within if lower <= count <= upper.
        """
        from scipy import stats

        law = stats.nbinom(self.theta, self.theta / (self.theta + np.maximum(means, 1e-8)))
        median = law.ppf(0.5)
        ends = []
        for probability in (self.lower, self.upper):
            end = np.maximum(law.ppf(probability), 0)
            below = law.cdf(end - 1)
            within = (probability - below) / np.maximum(law.cdf(end) - below, 1e-300)
            ends.append((end, rng.random(means.shape) < within))
        (lower, out), (upper, within) = ends
        lower = np.minimum(lower + out, median)
        return lower, np.maximum(np.where(within, upper, upper - 1), median)
