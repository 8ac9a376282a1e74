"""Evidence that a cell is a doublet: simulated doublets among its neighbors in latent space, and its number of genes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scdae.core.runtime.threads import few_threads

__all__ = ["Evidence", "evidence", "place_evidence", "probability", "size_weight"]

_SHARES = (0.04, 0.08, 0.16)  # neighbors to look at, of all cells and simulated doublets
_MOST = 1500  # of which shares are taken at most
_TOP = 0.1  # share of the cells whose size is looked at
_WIDEST = 3.0  # standard deviations of the number of genes beyond which it says no more
_FOLDS = 5


class Evidence(NamedTuple):
    """Evidence for cells and simulated doublets; higher is more like a doublet."""

    cells: np.ndarray  # float64 (n,)
    simulated: np.ndarray  # float64 (m,)
    size_weight: float  # 0 to 1: how much the number of genes counted


def place_evidence(latent: np.ndarray, simulated: np.ndarray) -> np.ndarray:
    """Compute the log odds of simulated doublets among the neighbors in latent space, the mean over three numbers of neighbors.

    Parameters
    ----------
    latent
        float (n, d): cells.
    simulated
        float (m, d): simulated doublets.

    Returns
    -------
    numpy.ndarray
        float64 (n + m,): cells, then simulated doublets. Neither is a neighbor of its own, so no cell is judged by
        itself as a single cell. One is added to both sides of the odds.

    Notes
    -----
    The numbers of neighbors are 4, 8 and 16 % of cells and simulated doublets together, and of 1500 if there are more.
    """
    from sklearn.neighbors import NearestNeighbors

    both = np.concatenate([latent, simulated])
    is_simulated = np.arange(len(both)) >= len(latent)
    numbers = [max(1, min(len(both) - 1, round(share * min(len(both), _MOST)))) for share in _SHARES]
    with few_threads(len(both)):
        near = NearestNeighbors(n_neighbors=max(numbers)).fit(both).kneighbors(return_distance=False)
    hits = np.cumsum(is_simulated[near], axis=1)
    return np.mean([np.log((hits[:, k - 1] + 1) / (k - hits[:, k - 1] + 1)) for k in numbers], axis=0)


def size_weight(place: np.ndarray, depth: np.ndarray, simulated_depth: np.ndarray) -> float:
    """Compute how much the size of a cell says: 0 to 1.

    Parameters
    ----------
    place
        float (n,): evidence of the cells by place.
    depth, simulated_depth
        float (n,) and (m,): molecules of cells and of simulated doublets, positive.

    Returns
    -------
    float
        With s the difference in median log molecules between the tenth of the cells with the most evidence and all
        cells, over that between simulated doublets and all cells: 2 s - 1, cut to 0 to 1. Cells that lie where doublets
        lie but have no more molecules than others are no sums of two cells of usual size (cells that share a droplet
        with debris, for example), and there size would mislead.

    Examples
    --------
    >>> import numpy as np
    >>> place, depth = np.arange(100.0), np.where(np.arange(100) < 90, 10.0, 20.0)
    >>> size_weight(place, depth, np.full(50, 20.0)), size_weight(-place, depth, np.full(50, 20.0))
    (1.0, 0.0)
    """
    middle = np.median(np.log(depth))
    expected = np.median(np.log(simulated_depth)) - middle
    top = np.argsort(-place, kind="stable")[: max(1, int(_TOP * len(place)))]
    found = np.median(np.log(depth[top])) - middle
    return float(np.clip(2 * found / expected - 1, 0, 1)) if expected > 0 else 0.0


def evidence(
    latent: tuple[np.ndarray, np.ndarray], depth: tuple[np.ndarray, np.ndarray], genes: tuple[np.ndarray, np.ndarray]
) -> Evidence:
    """Combine place and number of genes.

    Parameters
    ----------
    latent
        float (n, d) of cells and (m, d) of simulated doublets.
    depth, genes
        Molecules and genes of both, positive: float (n,) and (m,).

    Returns
    -------
    Evidence
        Log odds by place, plus the standardized log number of genes, cut at three standard deviations, times the
        standard deviation of the log odds and :func:`size_weight`.
    """
    n_obs = len(latent[0])
    place = place_evidence(*latent)
    weight = size_weight(place[:n_obs], *depth)
    of_cells, of_simulated = (np.log(part) for part in genes)
    spread = max(float(of_cells.std()), 1e-6)
    size = np.clip((np.concatenate([of_cells, of_simulated]) - np.median(of_cells)) / spread, -_WIDEST, _WIDEST)
    total = place + weight * place[:n_obs].std() * size
    return Evidence(total[:n_obs], total[n_obs:], weight)


def probability(found: np.ndarray, n_cells: int, rate: float, seed: int) -> np.ndarray:
    """Compute the probability that a cell is a doublet, float64 (n,).

    Parameters
    ----------
    found
        float (n + m,): evidence of cells, then of simulated doublets.
    n_cells
        Number n of cells.
    rate
        Expected fraction of doublets, 0 to 1.
    seed
        Seed of the folds.

    Notes
    -----
    The cells are a mixture of single cells and doublets, so by Bayes' rule the probability is `rate` times the density
    of doublets over that of the cells, at most 1. The ratio is that of a logistic regression of simulated against
    observed cells (scikit-learn), each cell being judged by a regression that was not fitted to it. It holds where real
    doublets are like simulated ones and as many as `rate` says.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = found
    labels = np.arange(len(x)) >= n_cells
    scaled = ((x - x.mean()) / max(float(x.std()), 1e-9))[:, None]
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(class_weight="balanced")
    chance = cross_val_predict(model, scaled, labels, cv=folds, method="predict_proba")[:n_cells, 1]
    return np.asarray(np.minimum(rate * chance / np.maximum(1 - chance, 1e-12), 1))
