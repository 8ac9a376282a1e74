"""Effects of batches and covariates on the genes, before any network: a starting point and what the encoder takes off.

Cells are put into groups of alike ones. A gene's expected count is the cell's exposure, times the share of the gene in
its group, times a factor for each level that the cell has; both are found by turns. Comparing within groups keeps apart
what a batch does to a gene and which cells it happens to hold. The factors have a Gamma prior whose spread is learnt
from all genes of the level (empirical Bayes), so that a level of few cells is hardly moved, and counts that vary more
than Poisson counts are given less weight.

Groups are found as in :mod:`scdae.core.alignment`, on principal axes of the counts with the effects taken off, which
start as the ratios of the levels' means. A group of one batch alone says nothing of its effect, which then shrinks: that
mends a start that took the cells of a batch for its effect, where the batches have some kinds of cells in common and none
holds one kind alone.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.alignment import fit_alignment, n_groups_for
from scdae.core.axes import fit_axes, project
from scdae.core.cells import CellData
from scdae.core.gate import moment_theta

__all__ = ["find_effects", "level_effects", "posterior_effect"]

_ROUNDS = 3  # of grouping the cells and finding the effects in turn
_TURNS = 10  # of shares and factors, in each round
_COMPONENTS = 20
_LARGEST = 1000  # groups times combinations of levels
_ENOUGH = 10.0  # expected molecules of a gene from which the spread of the factors is learnt
_SPREADS = (0.02, 2.0)  # standard deviations of the factors that are allowed


def find_effects(data: CellData, profile: np.ndarray, n_levels: int, rng: np.random.Generator) -> np.ndarray:
    """Effect of each level on the log share of each gene.

    Parameters
    ----------
    data
        The cells, with their conditions.
    profile
        Share of each gene in the average cell, float64 (n_vars,).
    n_levels
        Levels of all categorical columns.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        float32 (n_levels + n_continuous, n_vars); the rows of continuous columns are 0.
    """
    n_continuous = data.conditions.values.shape[1]
    effects = np.zeros((n_levels + n_continuous, data.n_vars), np.float32)
    if not n_levels:
        return effects
    theta = moment_theta(data.counts, profile, data.share)
    combinations, place = np.unique(data.conditions.levels, axis=0, return_inverse=True)
    n_groups = min(n_groups_for(data.n_obs), _LARGEST // len(combinations))
    group = np.zeros(data.n_obs, np.int64)
    effects[:n_levels] = level_effects(data, theta, group, combinations, place.ravel(), n_levels)
    for _ in range(_ROUNDS if n_groups > 1 else 0):
        axes = fit_axes(data, 1.0, _COMPONENTS, rng, effects=effects)
        groups = fit_alignment(
            project(axes, data), data.conditions.levels[:, 0], n_groups, int(rng.integers(2**31))
        ).groups
        effects[:n_levels] = level_effects(data, theta, groups, combinations, place.ravel(), n_levels)
    return effects


def level_effects(
    data: CellData,
    theta: np.ndarray,
    group: np.ndarray,
    combinations: np.ndarray,
    place: np.ndarray,
    n_levels: int,
) -> np.ndarray:
    """Effects of the levels, given groups of alike cells: float32 (n_levels, n_vars).

    Parameters
    ----------
    data
        The cells.
    theta
        Inverse dispersion of each gene, (n_vars,).
    group
        int (n_obs,).
    combinations
        Levels that occur together, int (n_combinations, n_categorical).
    place
        Which of them each cell has, int (n_obs,).
    n_levels
        Number of levels.
    """
    rows, row = np.unique(np.stack([group, place]), axis=1, return_inverse=True)
    row = row.ravel()
    member = sp.csr_matrix((np.ones(data.n_obs), (row, np.arange(data.n_obs))), shape=(rows.shape[1], data.n_obs))
    exposure = np.asarray(data.counts.sum(axis=1), np.float64).ravel() / data.share
    counted = (member @ data.counts).toarray()
    exposed, square = (member @ exposure)[:, None], (member @ exposure**2)[:, None]
    if data.unobserved is not None:
        gaps = data.unobserved.astype(np.float64)
        exposed = exposed - (member.multiply(exposure) @ gaps).toarray()
        square = square - (member.multiply(exposure**2) @ gaps).toarray()
    of_group = sp.csr_matrix((np.ones(rows.shape[1]), (rows[0], np.arange(rows.shape[1]))))
    effects = np.zeros((n_levels, data.n_vars))
    factors = combinations[rows[1]].T  # (n_categorical, n_rows)
    for _ in range(_TURNS):
        total = sum(effects[levels] for levels in factors)
        expected = of_group @ (exposed * np.exp(total))
        share = np.divide(of_group @ counted, expected, out=np.zeros_like(expected), where=expected > 0)[rows[0]]
        for i, levels in enumerate(factors):
            others = sum(effects[other] for other in np.delete(factors, i, axis=0))
            mean = exposed * share * np.exp(others)
            of_level = sp.csr_matrix((np.ones(len(levels)), (levels, np.arange(len(levels)))), (n_levels, len(levels)))
            before, found = of_level @ mean, of_level @ counted
            spread = of_level @ (square * (share * np.exp(others + effects[levels])) ** 2) / theta
            now = before * np.exp(effects)
            weight = now / np.maximum(now + spread, 1e-12)
            for level in np.unique(levels):
                effects[level] = posterior_effect(found[level] * weight[level], before[level] * weight[level])
    return effects.astype(np.float32)


def posterior_effect(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Log of the posterior mean of Gamma factors of mean 1, given Poisson counts; the spread is that of the genes."""
    clear = (expected > _ENOUGH) | (found > _ENOUGH)
    spread = _SPREADS[0]
    if clear.sum() > 10:
        ratio = np.log((found[clear] + 0.5) / (expected[clear] + 0.5))
        noise = 1 / (0.5 * (found[clear] + expected[clear]))
        spread = np.sqrt(np.clip(np.mean(ratio**2 - noise), 0, None))
    shape = 1 / np.clip(spread, *_SPREADS) ** 2
    return np.log((shape + found) / (shape + expected))
