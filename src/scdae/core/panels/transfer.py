"""Values of reference cells brought to the cells of a panel, by neighbors and by kernel regression on shared genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

__all__ = ["Transfer", "log_shares", "standardized"]

_NOISE, _NOISE_DENOISED = 10.0, 1.0  # variance of a cell's log counts about the regression, the kernel's being 1
_MOST_CENTERS = 1000  # reference cells at which kernels are centered; the regression is exact up to here


def log_shares(counts: np.ndarray) -> np.ndarray:
    """Compute log1p of counts scaled to the median total of the cells.

    Parameters
    ----------
    counts
        float (n_obs, n_vars); each cell has counts.

    Returns
    -------
    numpy.ndarray
        float64 (n_obs, n_vars).

    Examples
    --------
    >>> import numpy as np
    >>> np.expm1(log_shares(np.array([[1.0, 1.0], [4.0, 2.0]]))).round(3).tolist()
    [[2.0, 2.0], [2.667, 1.333]]
    """
    total = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.log1p(counts * (np.median(total) / total))


def standardized(values: np.ndarray) -> np.ndarray:
    """Bring every column to mean 0 and standard deviation 1; constant columns become 0: float64 (n_obs, n_vars)."""
    values = np.asarray(values, np.float64)
    sd = values.std(axis=0)
    constant = sd <= 1e-9 * np.maximum(np.abs(values).max(axis=0, initial=0), 1e-300)
    return np.where(constant, 0.0, (values - values.mean(axis=0)) / np.where(constant, 1.0, sd))


@dataclass(frozen=True)
class Transfer:
    """What brings values of the reference cells to the cells of the panel.

    Every gene is standardized on each side, so that what a platform does to a gene's level and range drops out.

    Parameters
    ----------
    near
        Weights of the reference cells, CSR (n_obs, n_reference); every row has sum 1.
    projections
        One pair for each regression, float64 (n_obs, n_centers) and (n_reference, n_centers): log counts of the
        reference times the second, transposed, times the first are the predictions.
    panel
        Counts of the reference cells in the shared genes, float64 (n_reference,), all positive.

    Notes
    -----
    Neighbors by cosine distance and averages of logs are what SpaGE :cite:p:`Abdelaal2020` owes its accuracy to. The
    regressions have a Gaussian kernel of the mean squared difference of standardized genes, halved, and are those of a
    Gaussian process; with more reference cells than centers, by the subset of regressors
    :cite:p:`Rasmussen2006`.
    """

    near: sp.csr_matrix
    projections: tuple[tuple[np.ndarray, np.ndarray], ...]
    panel: np.ndarray

    @classmethod
    def of(
        cls,
        spatial: np.ndarray,
        reference: np.ndarray,
        denoised: tuple[np.ndarray, np.ndarray],
        n_neighbors: int,
    ) -> Transfer:
        """Find neighbors and prepare the regressions.

        Parameters
        ----------
        spatial, reference
            Counts of the shared genes, float (n_obs, n_shared) and (n_reference, n_shared); each cell has counts.
        denoised
            The same two without noise, as logs.
        n_neighbors
            Reference cells that are averaged.
        """
        raw = standardized(log_shares(spatial)), standardized(log_shares(reference))
        smooth = standardized(denoised[0]), standardized(denoised[1])
        near = _neighbors(*raw, min(n_neighbors, len(reference)))
        projections = _projection(*raw, _NOISE), _projection(*smooth, _NOISE_DENOISED)
        return cls(near, projections, reference.sum(axis=1, dtype=np.float64))

    def logs(self, targets: sp.csr_matrix) -> np.ndarray:
        """Predict log counts, at the median total of the reference in the shared genes.

        Parameters
        ----------
        targets
            Counts of the genes to predict, CSR (n_reference, n_targets).

        Returns
        -------
        numpy.ndarray
            float64 (3, n_obs, n_targets): mean of the neighbors, regression on the shared genes, and on the same
            genes denoised. Regressions are departures from the reference's mean.
        """
        scale = np.median(self.panel) / self.panel
        values = (sp.diags_array(scale) @ targets).tocsr().log1p()
        found = [np.asarray((self.near @ values).todense())]
        found += [left @ np.asarray((values.T @ right).T) for left, right in self.projections]
        return np.stack(found)

    def shares(self, targets: sp.csr_matrix) -> np.ndarray:
        """Predict counts per count in the shared genes, by the neighbors: float64 (n_obs, n_targets)."""
        return np.asarray((self.near @ targets).todense()) / (self.near @ self.panel)[:, None]


def _neighbors(cells: np.ndarray, points: np.ndarray, n_neighbors: int) -> sp.csr_matrix:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine", algorithm="brute").fit(points)
    found = search.kneighbors(cells, return_distance=False)
    starts = np.arange(0, found.size + 1, n_neighbors)
    weights = np.full(found.size, 1 / n_neighbors)
    return sp.csr_matrix((weights, found.ravel(), starts), (len(cells), len(points)))


def _projection(cells: np.ndarray, points: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both factors of a kernel regression's predictions: (first @ (second.T @ y)), the mean of y taken out."""
    from scipy.linalg import solve
    from sklearn.metrics.pairwise import rbf_kernel

    centers = points[np.linspace(0, len(points) - 1, min(len(points), _MOST_CENTERS)).astype(int)]
    gamma = 0.5 / points.shape[1]
    seen, between = rbf_kernel(points, centers, gamma), rbf_kernel(centers, gamma=gamma)
    gram = seen.T @ seen + noise * between
    gram[np.diag_indices_from(gram)] += 1e-6 * gram.trace() / len(gram)
    return solve(gram, rbf_kernel(cells, centers, gamma).T, assume_a="pos").T, seen - seen.mean(axis=0)
