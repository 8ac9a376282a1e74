"""Alignment of batches: centroids of groups of similar cells, in each batch and common to all.

Cells are grouped by k-means. In a group with cells of several batches, each batch's shift is the distance of its
centroid from the common one; a batch with few cells in the group gets the shift it has in other groups. The shifts are
subtracted from the cells, the groups are found again, and so on, as in Harmony (Korsunsky et al., 2019). The result is
centroids only, so the same rule applies to new cells: subtract the shifts of the groups, weighted by how close the
cell is to the centroids of its own batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scdae.core.runtime.threads import few_threads

__all__ = ["MAX_CELLS", "Alignment", "align_to", "fit_alignment", "n_groups_for"]

_ROUNDS = 5
_GROUPS = 10
_FEW_GROUPS = 4
MAX_CELLS = 4096  # used to choose the start
_CELLS = 20  # per group, on average, at least
_FEW = 10.0  # cells of a batch in a group at which its own shift there gets half of the weight
_SHIFT = 0.1  # variance of the shifts of batches, relative to that of the centroids
_DEVIATIONS = 10.0 ** np.arange(-4, 0.6, 0.5)  # the same for the deviations of a batch in a single group
Array = Any


class Alignment(NamedTuple):
    """Centroids of groups of similar cells."""

    common: Array  # float32 (n_groups, n_components)
    of_level: Array  # float32 (n_levels, n_groups, n_components)
    scale: Array  # float32 (): variance of a cell around its centroid, on each component
    groups: Array = None  # int (n_obs,): group of each cell that was used

    @classmethod
    def of_arrays(cls, arrays: dict[str, Array]) -> Alignment | None:
        """Take the network's parameters of these names; None if it has none."""
        if "centroids" not in arrays:
            return None
        return cls(arrays["centroids"], arrays["batch_centroids"], arrays["centroid_scale"])


def n_groups_for(n_obs: int) -> int:
    """Choose the number of groups: ten, or fewer for few cells."""
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
        Number of batches; needed if the last of them have no cells.
    coarse
        Also start from batches that were first aligned with few groups.

    Notes
    -----
    The result depends on the start. In one start the cells of each batch are centered, which is right if batches hold
    similar cells; in another they stay in place, which is right if a batch holds cells of one type only. With `coarse`,
    both are also aligned with few groups first, since a batch far from the others would get groups of its own if there
    were many. The result with the highest :func:`_evidence` is kept. With many cells, a subset is used for the choice.
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
    """Alternate between grouping the shifted cells and finding their shifts."""
    from sklearn.cluster import KMeans

    for _ in range(_ROUNDS):
        with few_threads(len(moved)):
            groups = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(moved)
        centroid, number = _centroids(inputs, level, groups, n_levels, n_groups)
        weight = (number / (number + _FEW))[..., None]
        common = (weight * centroid).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)  # batches have equal weight
        shift = _shift(centroid - common, number, (number > 0).sum(axis=0) > 1)
        moved = inputs - shift[level, groups]
    scale = np.mean((moved - common[groups]) ** 2) + 1e-6 * np.mean(inputs**2) + 1e-12  # never 0
    of_level = common + shift
    return Alignment(common.astype(np.float32), of_level.astype(np.float32), np.float32(scale), groups)


def _evidence(inputs: np.ndarray, level: np.ndarray, groups: np.ndarray, n_levels: int, n_groups: int) -> float:
    """Compute the log marginal likelihood of the cells, given their groups, up to a constant.

    A cell varies around the centroid of its batch in its group. This is the sum of the group's centroid, the shift of
    the batch, and a deviation of the batch in this group; all are Gaussian and integrated out. Groups that several
    batches share are therefore more likely than groups of one batch, and batches with the same shift in all groups more
    likely than others. Centroids have the variance of the cells, shifts a tenth of it, and deviations the variance that
    maximizes the likelihood.
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
    for share in _DEVIATIONS:  # Woodbury identity: matrices with a row for each group and batch only
        noise = share * between + within / number
        scaled = member / noise[:, None]
        root = np.linalg.cholesky(np.eye(member.shape[1]) / between + member.T @ scaled)
        explained = np.linalg.solve(root, scaled.T @ values)
        fit = np.sum(explained**2) - np.sum(values**2 / noise[:, None])
        size = 2 * np.log(np.diag(root)).sum() + member.shape[1] * np.log(between) + np.log(noise).sum()
        best = max(best, fit - n_components * size)
    return (best - freedom * (np.log(within) + 1) - n_components * np.log(number).sum()) / 2


def align_to(known: Alignment, inputs: np.ndarray, level: np.ndarray, n_levels: int | None = None) -> Alignment:
    """Find centroids of new batches, given common ones; arguments and result as for :func:`fit_alignment`.

    Cells, with the effects on their genes subtracted, are shifted until each group lies on the common centroid.
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
    """Average the cells of each batch and group, (n_levels, n_groups, n_components), and count them."""
    number = np.zeros((n_levels, n_groups))
    np.add.at(number, (level, groups), 1)
    total = np.zeros((n_levels, n_groups, inputs.shape[1]))
    np.add.at(total, (level, groups), inputs)
    return total / np.maximum(number, 1)[..., None], number


def _shift(found: np.ndarray, number: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Estimate the shift of each batch in each group; with few cells, from its shifts in the groups `compared`."""
    found = np.where(number[..., None] > 0, found, 0)
    cells = (compared * number)[..., None]
    typical = (cells * found).sum(axis=1) / np.maximum(cells.sum(axis=1), 1e-9)
    weight = (number / (number + _FEW))[..., None]
    return weight * found + (1 - weight) * typical[:, None]
