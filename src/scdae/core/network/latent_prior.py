"""Where cells lie in the latent space before anything is known of them, and down to which depth the encoder is believed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["LatentPrior"]

_BELIEVED, _NOT_BELIEVED = 0.2, 0.1  # of the usual depth of the cells of the fit: training hides 80 % of it at most
_RIDGE = 1e-3  # of the mean variance, added to each


class LatentPrior(NamedTuple):
    """Gaussian distribution of the latent positions of the cells of a fit, and the usual depth of these.

    Parameters
    ----------
    mean
        float64 (n_latent,).
    precision
        Inverse covariance, float64 (n_latent, n_latent).
    depth
        Median exposure of the cells, in molecules.
    """

    mean: np.ndarray
    precision: np.ndarray
    depth: float

    @classmethod
    def of(cls, latent: np.ndarray, exposure: np.ndarray) -> LatentPrior | None:
        """Return the prior of cells at `latent`, float (n_obs, n_latent), of `exposure`, float (n_obs,).

        None where these say nothing: fewer than two cells, all in one place, or values that are not finite.

        Examples
        --------
        >>> prior = LatentPrior.of(np.array([[0.0], [2.0]]), np.array([900.0, 1100.0]))
        >>> prior.mean.tolist(), prior.depth
        ([1.0], 1000.0)
        """
        latent = np.asarray(latent, np.float64)
        if len(latent) < 2 or not np.isfinite(latent).all():
            return None
        covariance = np.atleast_2d(np.cov(latent, rowvar=False))
        middle = float(np.trace(covariance)) / len(covariance)
        depth = float(np.median(exposure))
        if not middle > 1e-12 or not depth > 0:
            return None
        precision = np.linalg.inv(covariance + _RIDGE * middle * np.eye(len(covariance)))
        return cls(latent.mean(axis=0), (precision + precision.T) / 2, depth)

    def doubt(self, exposure: np.ndarray) -> np.ndarray:
        """Return how little the encoder is believed at some exposures: 0 down to a fifth of the usual depth, 1 below a tenth.

        Between the two it is linear in the logarithm.

        Examples
        --------
        >>> prior = LatentPrior(np.zeros(1), np.eye(1), 1000.0)
        >>> prior.doubt(np.array([5000.0, 200.0, 100 * 2**0.5, 100.0, 0.0])).round(3).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
        """
        share = np.maximum(np.asarray(exposure, np.float64) / self.depth, 1e-12)
        return np.clip(np.log(_BELIEVED / share) / np.log(_BELIEVED / _NOT_BELIEVED), 0, 1)
