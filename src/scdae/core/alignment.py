"""Where the cells of one batch lie among those of another: centroids of alike cells, in each batch and in common.

Cells are put into groups by k-means. Where a group has cells of several batches, the batches' centroids in it say how
far each batch lies from the common one; a batch with few cells in the group is taken to be moved as it is elsewhere.
Every cell is moved back, the groups are found again, and so on: the alternation that Harmony (Korsunsky et al., 2019) is
built on. What comes out are centroids alone, so that a cell met later is moved by the same rule: the shifts of the
groups, weighted by how near the centroids of its own batch are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Alignment", "align_to", "fit_alignment", "n_groups_for"]

_ROUNDS = 5
_GROUPS = 10
_CELLS = 20  # a group, at least, on average
_FEW = 10.0  # cells of a batch in a group whose shift is believed by half
Array = Any


class Alignment(NamedTuple):
    """Centroids of groups of alike cells."""

    common: Array  # float32 (n_groups, n_components)
    of_level: Array  # float32 (n_levels, n_groups, n_components)
    scale: Array  # float32 (): variance of a cell around its centroid, on each component
    groups: Array = None  # int (n_obs,): group of each cell that was looked at

    @classmethod
    def of_arrays(cls, arrays: dict[str, Array]) -> Alignment | None:
        """From the network's parameters of these names, if they are there."""
        if "centroids" not in arrays:
            return None
        return cls(arrays["centroids"], arrays["batch_centroids"], arrays["centroid_scale"])


def n_groups_for(n_obs: int) -> int:
    """Number of groups: ten, or less where there are few cells."""
    return int(np.clip(n_obs // _CELLS, 1, _GROUPS))


def fit_alignment(
    inputs: np.ndarray, level: np.ndarray, n_groups: int, seed: int, n_levels: int | None = None
) -> Alignment:
    """Find the centroids.

    Parameters
    ----------
    inputs
        float32 (n_obs, n_components).
    level
        int (n_obs,): batch of each cell.
    n_groups
        Number of groups.
    seed
        Of k-means.
    n_levels
        Number of batches, if the last of them have no cells here.

    Notes
    -----
    The cells of each batch are centred at first, which is right where batches hold alike cells. A batch of one kind of
    cells alone starts in the middle of the others, and may stay apart from its kind or be moved to another.
    """
    from sklearn.cluster import KMeans

    n_levels = int(level.max()) + 1 if n_levels is None else n_levels
    member = (level[:, None] == np.arange(n_levels)).astype(np.float32)  # (n_obs, n_levels)
    means = member.T @ inputs / np.maximum(member.sum(axis=0), 1)[:, None]
    moved = inputs - (means - inputs.mean(axis=0))[level]
    for _ in range(_ROUNDS):
        groups = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(moved)
        centroid, number = _centroids(inputs, level, groups, n_levels, n_groups)
        weight = (number / (number + _FEW))[..., None]
        common = (weight * centroid).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)  # batches count alike
        shift = _shift(centroid - common, number, (number > 0).sum(axis=0) > 1)
        moved = inputs - shift[level, groups]
    scale = np.mean((moved - common[groups]) ** 2)
    of_level = common + shift
    return Alignment(common.astype(np.float32), of_level.astype(np.float32), np.float32(scale), groups)


def align_to(known: Alignment, inputs: np.ndarray, level: np.ndarray, n_levels: int | None = None) -> Alignment:
    """Centroids of new batches beside common ones that are known; arguments and result as for :func:`fit_alignment`.

    Cells start where their effects on the genes have left them, and are moved until each group lies on the common centroid.
    """
    common = np.asarray(known.common, np.float64)
    n_levels, n_groups = int(level.max()) + 1 if n_levels is None else n_levels, len(common)
    moved = inputs
    for _ in range(_ROUNDS):
        groups = ((moved[:, None] - common) ** 2).sum(axis=2).argmin(axis=1)
        centroid, number = _centroids(inputs, level, groups, n_levels, n_groups)
        shift = _shift(centroid - common, number, np.ones(n_groups, bool))
        moved = inputs - shift[level, groups]
    of_level = common + shift
    return Alignment(np.asarray(known.common), of_level.astype(np.float32), np.asarray(known.scale), groups)


def _centroids(
    inputs: np.ndarray, level: np.ndarray, groups: np.ndarray, n_levels: int, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the cells of each batch and group, (n_levels, n_groups, n_components), and how many there are."""
    number = np.zeros((n_levels, n_groups))
    np.add.at(number, (level, groups), 1)
    total = np.zeros((n_levels, n_groups, inputs.shape[1]))
    np.add.at(total, (level, groups), inputs)
    return total / np.maximum(number, 1)[..., None], number


def _shift(found: np.ndarray, number: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """How far each batch has moved in each group; where it has few cells, as far as it has in the groups `compared`."""
    found = np.where(number[..., None] > 0, found, 0)
    cells = (compared * number)[..., None]
    typical = (cells * found).sum(axis=1) / np.maximum(cells.sum(axis=1), 1e-9)
    weight = (number / (number + _FEW))[..., None]
    return weight * found + (1 - weight) * typical[:, None]
