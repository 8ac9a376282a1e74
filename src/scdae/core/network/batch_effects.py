"""Effects of batches and covariates on the genes, found without the network: where its training of them starts.

The encoder subtracts them from its input. Similar cells are grouped. A gene's expected count is the cell's exposure,
times the fraction of the gene in its group, times a factor for each level of the cell; fractions and factors are found
in turn. Comparing within groups separates the effect of a batch on a gene from the composition of the batch. The
factors have a Gamma prior whose spread is learned from all genes of the level (empirical Bayes), so that a level of few
cells has small effects, and overdispersed counts get less weight than Poisson counts.

Groups are found as in :mod:`scdae.core.network.batch_alignment`, on principal axes of the counts with the effects
subtracted. The result depends on the effects at the start. The ratios of the levels' means are right if levels hold
similar cells; no effects are right if levels differ in composition instead. Both are tried, and the result with the
higher likelihood is kept, after a penalty for effects.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.network.batch_alignment import MAX_CELLS, fit_alignment, n_groups_for
from scdae.core.network.dispersion import moment_theta
from scdae.core.network.encoder_input import project
from scdae.core.network.principal_axes import fit_axes

__all__ = ["find_effects", "level_effects", "posterior_effect"]

_ROUNDS = 3  # of grouping the cells and then finding the effects
_TURNS = 10  # of fractions and factors, in each round
_COMPONENTS = 20
_LARGEST = 1000  # groups times combinations of levels
_FEW = 10.0  # cells of other levels in a group at which a comparison with them gets half of the weight
_ENOUGH = 10.0  # expected molecules from which on a gene is used to learn the spread of the factors
_SPREADS = (0.02, 2.0)  # smallest and largest standard deviation of the factors


def find_effects(data: CellData, profile: np.ndarray, n_levels: int, rng: np.random.Generator) -> np.ndarray:
    """Find the effect of each level on the log fraction of each gene.

    Parameters
    ----------
    data
        The cells, with their conditions.
    profile
        Fraction of each gene in the average cell, float64 (n_vars,).
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
    combinations, combination = np.unique(data.conditions.levels, axis=0, return_inverse=True)
    n_groups = min(n_groups_for(data.n_obs), _LARGEST // len(combinations))
    combination = combination.ravel()
    ratios = level_effects(data, theta, np.zeros(data.n_obs, np.int64), combinations, combination, n_levels)
    effects[:n_levels] = ratios
    if n_groups < 2:
        return effects
    some = np.sort(rng.permutation(data.n_obs)[:MAX_CELLS])
    few = data if len(some) == data.n_obs else data.take(some)
    best, seed = -np.inf, int(rng.integers(2**31))  # the same for all, so that only their starts differ
    for start, coarse in ((ratios, True), (np.zeros_like(ratios), False)):
        resampled, again = effects.copy(), np.random.default_rng(seed)
        resampled[:n_levels] = start
        for _ in range(_ROUNDS):
            group = _groups(few, resampled, n_groups, again, coarse)
            resampled[:n_levels] = level_effects(few, theta, group, combinations, combination[some], n_levels)
        value = _evidence(few, theta, group, combinations, combination[some], resampled[:n_levels], ratios)
        if value > best:
            best, kept = value, resampled
    if few is not data:
        kept[:n_levels] = level_effects(
            data, theta, _groups(data, kept, n_groups, rng), combinations, combination, n_levels
        )
    return kept


def _groups(
    data: CellData, effects: np.ndarray, n_groups: int, rng: np.random.Generator, coarse: bool = True
) -> np.ndarray:
    """Group similar cells, with the effects subtracted: int (n_obs,)."""
    inputs = project(fit_axes(data, 1.0, _COMPONENTS, rng, effects=effects), data)
    return fit_alignment(inputs, data.conditions.levels[:, 0], n_groups, int(rng.integers(2**31)), coarse=coarse).groups


def level_effects(
    data: CellData,
    theta: np.ndarray,
    group: np.ndarray,
    combinations: np.ndarray,
    combination: np.ndarray,
    n_levels: int,
) -> np.ndarray:
    """Find the effects of the levels, given groups of similar cells: float32 (n_levels, n_vars).

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
    combination
        Index of the combination of each cell, int (n_obs,).
    n_levels
        Number of levels.
    """
    rows, counted, exposed, square = _sums(data, group, combination)
    of_group = _indicator(rows[0])
    effects = np.zeros((n_levels, data.n_vars))
    factors = combinations[rows[1]].T  # (n_categorical, n_rows)
    for _ in range(_TURNS):
        total = sum(effects[levels] for levels in factors)
        expected = of_group @ (exposed * np.exp(total))
        share = np.divide(of_group @ counted, expected, out=np.zeros_like(expected), where=expected > 0)[rows[0]]
        for i, levels in enumerate(factors):
            others = sum(effects[other] for other in np.delete(factors, i, axis=0))
            mean = exposed * share * np.exp(others)
            of_level = _indicator(levels, n_levels)
            before, counted_of_level = of_level @ mean, of_level @ counted
            spread = of_level @ (square * (share * np.exp(others + effects[levels])) ** 2) / theta
            now = before * np.exp(effects)
            weight = now / np.maximum(now + spread, 1e-12)
            for level in np.unique(levels):
                effects[level] = posterior_effect(
                    counted_of_level[level] * weight[level], before[level] * weight[level]
                )
    return effects.astype(np.float32)


def _sums(data: CellData, group: np.ndarray, combination: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sum counts, exposures and squared exposures over the cells of each group and combination of levels.

    Returns the groups and combinations that occur, (2, n_rows), and the sums, (n_rows, n_vars) or (n_rows, 1).
    """
    rows, row = np.unique(np.stack([group, combination]), axis=1, return_inverse=True)
    member = _indicator(row.ravel(), rows.shape[1])
    exposure = np.asarray(data.counts.sum(axis=1), np.float64).ravel() / data.share
    counted = (member @ data.counts).toarray()
    exposed, square = (member @ exposure)[:, None], (member @ exposure**2)[:, None]
    if data.unobserved is not None:
        gaps = data.unobserved.astype(np.float64)
        exposed = exposed - (member.multiply(exposure) @ gaps).toarray()
        square = square - (member.multiply(exposure**2) @ gaps).toarray()
    return rows, counted, exposed, square


def _indicator(which: np.ndarray, number: int | None = None) -> sp.csr_matrix:
    """Make the matrix that sums over equal values in `which`."""
    number = int(which.max()) + 1 if number is None else number
    return sp.csr_matrix((np.ones(len(which)), (which, np.arange(len(which)))), (number, len(which)))


def _evidence(
    data: CellData,
    theta: np.ndarray,
    group: np.ndarray,
    combinations: np.ndarray,
    combination: np.ndarray,
    effects: np.ndarray,
    ratios: np.ndarray,
) -> float:
    """Compute the log likelihood of the counts in their groups minus a penalty; arguments as for `level_effects`.

    The likelihood is Poisson, with less weight for overdispersed genes. The penalty is that of a Gaussian prior with
    the variance of the effects (Laplace approximation of the marginal likelihood). A level whose cells form groups of
    their own needs no effects, but these groups differ from the others instead: its penalty is that of the `ratios` of
    the levels' means.
    """
    rows, counted, exposed, _ = _sums(data, group, combination)
    factor = np.exp(sum(effects[levels] for levels in combinations[rows[1]].T))
    of_group = _indicator(rows[0])
    expected, counted_of_group = of_group @ (exposed * factor), of_group @ counted
    share = np.divide(counted_of_group, expected, out=np.zeros_like(expected), where=expected > 0)[rows[0]]
    weight = 1 / (1 + counted.sum(axis=0) / data.n_obs / theta)
    logs = np.log(np.where(counted > 0, share * factor, 1))
    value = np.sum((counted * logs - exposed * share * factor) @ weight)
    cells = np.bincount(group)
    for column, levels in zip(data.conditions.levels.T, combinations[rows[1]].T, strict=True):
        for level in np.unique(column):
            inside = np.bincount(group[column == level], minlength=len(cells))
            compared = inside @ ((cells - inside) / (cells - inside + _FEW)) / inside.sum()
            known = weight * counted[levels == level].sum(axis=0)
            value -= compared * _price(effects[level], known) + (1 - compared) * _price(ratios[level], known)
    return float(value)


def _price(effects: np.ndarray, known: np.ndarray) -> float:
    """Compute the penalty of effects; `known` is the information that the counts hold on each."""
    clear = known > 1
    spread = np.clip(np.mean(effects[clear] ** 2), _SPREADS[0] ** 2, _SPREADS[1] ** 2) if clear.any() else 1.0
    return float(np.sum(effects[clear] ** 2 / spread + np.log1p(spread * known[clear])) / 2)


def posterior_effect(counted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Compute the log posterior mean of Gamma factors of mean 1, given Poisson counts; their spread is learned."""
    clear = (expected > _ENOUGH) | (counted > _ENOUGH)
    spread = _SPREADS[0]
    if clear.sum() > 10:
        ratio = np.log((counted[clear] + 0.5) / (expected[clear] + 0.5))
        noise = 1 / (0.5 * (counted[clear] + expected[clear]))
        spread = np.sqrt(np.clip(np.mean(ratio**2 - noise), 0, None))
    shape = 1 / np.clip(spread, *_SPREADS) ** 2
    return np.log((shape + counted) / (shape + expected))
