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

from scdae.core.runtime.threads import few_threads

__all__ = ["MAX_CELLS", "Alignment", "align_to", "fit_alignment", "n_groups_for"]

_ROUNDS = 5
_GROUPS = 10
_FEW_GROUPS = 4
MAX_CELLS = 4096  # on which a start is chosen
_CELLS = 20  # a group, at least, on average
_FEW = 10.0  # cells of a batch in a group whose shift is believed by half
_SHIFT = 0.1  # variance of the shifts of batches, of that of the centroids
_DEVIATIONS = 10.0 ** np.arange(-4, 0.6, 0.5)  # the same of what a batch is shifted otherwise in a single group
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
    inputs: np.ndarray, level: np.ndarray, n_groups: int, seed: int, n_levels: int | None = None, coarse: bool = True
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
    coarse
        Also start from batches that were aligned in a few groups.

    Notes
    -----
    Where this ends depends on where it starts. The cells of each batch are centered, which is right where batches hold alike
    cells, or left where they are, which is right where a batch holds cells of one kind alone; and both are also taken to a
    few groups first, since a batch that lies far from the others would have groups of its own among many. Of what these
    lead to, that of highest :func:`_evidence` is kept. It is chosen on some of the cells, where they are many.
    """
    n_levels = int(level.max()) + 1 if n_levels is None else n_levels
    if len(inputs) > MAX_CELLS:
        some = np.sort(np.random.default_rng(seed).choice(len(inputs), MAX_CELLS, replace=False))
        alignment = fit_alignment(inputs[some], level[some], n_groups, seed, n_levels, coarse)
        gap = np.stack(
            [((inputs - of_group) ** 2).sum(axis=1) for of_group in alignment.of_level.swapaxes(0, 1)[:, level]]
        )
        moved = inputs - (alignment.of_level - alignment.common)[level, gap.argmin(axis=0)]
        return _alternate(inputs, moved, level, n_levels, n_groups, seed)
    member = (level[:, None] == np.arange(n_levels)).astype(np.float32)  # (n_obs, n_levels)
    means = member.T @ inputs / np.maximum(member.sum(axis=0), 1)[:, None]
    starts = [inputs - (means - inputs.mean(axis=0))[level]]
    if (member.sum(axis=0) > 0).sum() > 1:
        starts.append(inputs)
        if coarse and n_groups > _FEW_GROUPS:
            few = [_alternate(inputs, moved, level, n_levels, _FEW_GROUPS, seed) for moved in starts]
            starts += [inputs - (one.of_level - one.common)[level, one.groups] for one in few]
    tried = [_alternate(inputs, moved, level, n_levels, n_groups, seed) for moved in starts]
    return max(tried, key=lambda one: _evidence(inputs, level, one.groups, n_levels, n_groups) if tried[1:] else 0)


def _alternate(
    inputs: np.ndarray, moved: np.ndarray, level: np.ndarray, n_levels: int, n_groups: int, seed: int
) -> Alignment:
    """Find groups of the cells where they were moved to, and move them anew, by turns."""
    from sklearn.cluster import KMeans

    for _ in range(_ROUNDS):
        with few_threads(len(moved)):
            groups = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(moved)
        centroid, number = _centroids(inputs, level, groups, n_levels, n_groups)
        weight = (number / (number + _FEW))[..., None]
        common = (weight * centroid).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)  # batches count alike
        shift = _shift(centroid - common, number, (number > 0).sum(axis=0) > 1)
        moved = inputs - shift[level, groups]
    scale = np.mean((moved - common[groups]) ** 2) + 1e-6 * np.mean(inputs**2) + 1e-12  # never 0, were all on one spot
    of_level = common + shift
    return Alignment(common.astype(np.float32), of_level.astype(np.float32), np.float32(scale), groups)


def _evidence(inputs: np.ndarray, level: np.ndarray, groups: np.ndarray, n_levels: int, n_groups: int) -> float:
    """Log marginal likelihood of the cells, given their groups, up to a constant.

    A cell varies around the centroid of its batch in its group. That is the group's centroid, and the shift of the batch,
    and a deviation of the batch in the group: all Gaussian, and integrated out. So groups that several batches share cost
    less than groups of one batch alone, and batches that are moved alike in all groups less than others. Centroids vary as
    the cells do, shifts with a tenth of that variance, and deviations with that which makes the likelihood highest.
    """
    centroid, number = _centroids(inputs, level, groups, n_levels, n_groups)
    n_obs, n_components = inputs.shape
    of_level, of_group = np.nonzero(number)
    number, values = number[of_level, of_group], (centroid - inputs.mean(axis=0, dtype=np.float64))[of_level, of_group]
    freedom = n_components * (n_obs - len(number))
    within = max(np.sum((inputs - centroid[level, groups]) ** 2) / max(freedom, 1), 1e-9)
    between = max(float(number @ (values**2).mean(axis=1)) / n_obs, 1e-9)
    member = np.concatenate([np.eye(n_groups)[of_group], np.sqrt(_SHIFT) * np.eye(n_levels)[of_level]], axis=1)
    best = -np.inf
    for share in _DEVIATIONS:  # Woodbury's identity: the matrices have as many rows as there are groups and batches
        noise = share * between + within / number
        scaled = member / noise[:, None]
        root = np.linalg.cholesky(np.eye(member.shape[1]) / between + member.T @ scaled)
        explained = np.linalg.solve(root, scaled.T @ values)
        fit = np.sum(explained**2) - np.sum(values**2 / noise[:, None])
        size = 2 * np.log(np.diag(root)).sum() + member.shape[1] * np.log(between) + np.log(noise).sum()
        best = max(best, fit - n_components * size)
    return (best - freedom * (np.log(within) + 1) - n_components * np.log(number).sum()) / 2


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
