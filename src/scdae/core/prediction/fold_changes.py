"""Mean expression of groups of cells, with its posterior.

``X`` molecules of a gene were counted in a group; the gene's mean over all groups predicts ``E``. The fold change
against that mean is ``f = E[X] / E``. Its likelihood uses the counts only, once; the model provides their variance.
This is the dispersion within cells, ``sum(mean^2 / theta)`` for one inverse dispersion, plus the variance of the
expected expression over the cells, which are a sample themselves. It enters as a quasi-likelihood: ``X`` and ``E`` are
divided by the variance inflation, after which Gamma priors are conjugate.

The prior of the fold changes is a mixture of Gamma distributions, from almost no spread to wide, around a center. A
center is needed because expression is relative: a few genes that go up take all others down a little. Weights and
centers are learned from all genes (empirical Bayes, as in adaptive shrinkage: Stephens, 2017).

Restored values of single cells are not averaged here: the network has seen the same counts, so their average repeats
these counts with an apparent error that is far too small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import special

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import effect_of
from scdae.core.distributions.components import Components
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import total_effects, values_of
from scdae.core.prediction.decode import law_of_genes, read_out
from scdae.core.runtime.threads import one_for_products

__all__ = ["SHAPES", "FoldChanges", "GroupSums", "fit_fold_changes", "sum_groups"]

# Shapes of the prior's Gamma components: standard deviation of the fold change 0.02 (almost none), 0.05, ..., 1.6.
SHAPES = np.array([2500.0, 400.0, 100.0, 25.0, 6.25, 1.5625, 0.390625])
_PSEUDO = 40.0  # pseudo-genes of each prior component, so that weights learned from few genes do not overfit
_ROUNDS = 3  # of learning weights and then centers
_CENTRES = np.exp(np.linspace(-0.5, 0.5, 41))  # candidates for the center of a group
_FIRST_STEP = 4  # of the search among these
_ENTRIES = 1_000_000  # held at a time


class GroupSums(NamedTuple):
    """Sums over the observed cells of each group: float64 (n_groups, n_vars) each. Those of two groups can be added."""

    counted: np.ndarray  # molecules
    base: np.ndarray  # expected from the gene's mean
    expected: np.ndarray  # expected by the model
    dispersed: np.ndarray  # variance within cells, beyond Poisson
    square: np.ndarray  # squares of what the model expects
    cross: np.ndarray  # products of what the model expects and the cell's exposure
    exposure_square: np.ndarray

    def pick(self, *index: Any) -> GroupSums:
        """Select groups or genes."""
        return GroupSums(*(part[index] for part in self))

    def together(self) -> GroupSums:
        """Merge all groups into one."""
        return GroupSums(*(part.sum(axis=0, keepdims=True) for part in self))


class FoldChanges(NamedTuple):
    """Posterior of the fold changes: a mixture of Gamma distributions."""

    weight: np.ndarray  # float64 (len(SHAPES), n_groups, n_vars)
    counted: np.ndarray  # float64 (n_groups, n_vars): divided by the variance inflation
    base: np.ndarray  # the same for the counts expected at the center
    log_center: np.ndarray  # float64 (n_groups, 1): log fold change common to the genes of a group

    def pick(self, genes: slice) -> FoldChanges:
        """Select some of the genes."""
        return FoldChanges(self.weight[..., genes], self.counted[:, genes], self.base[:, genes], self.log_center)


@one_for_products()
def sum_groups(fitted: Fitted, data: CellData, group: np.ndarray, n_groups: int) -> GroupSums:
    """Sum observed and expected counts over the cells of each group.

    Parameters
    ----------
    fitted
        The model.
    data
        The cells.
    group
        int (n_obs,): group of each cell; cells below 0 are left out.
    n_groups
        Number of groups.
    """
    kept = law_of_genes(fitted).kept
    spread = _Spread.of(law_of_genes(fitted))
    member = (group == np.arange(n_groups)[:, None]).astype(np.float32)
    exposure = data.exposure
    counted, base = _counted(data, member), _base(fitted, data, member) * kept
    n_by = 2 * n_groups
    both = np.concatenate([member, member * exposure])
    sums, square, dispersed = np.zeros((n_by, data.n_vars)), *np.zeros((2, n_groups, data.n_vars))
    for rows, prior, _ in read_out(fitted, data, "prior"):
        level = spread.level(prior, exposure[rows])
        mean = prior if data.unobserved is None else np.where(data.unobserved[rows].toarray(), np.float32(0), prior)
        sums += both[:, rows] @ mean
        squared = mean * mean
        square += member[:, rows] @ squared
        if level is not None:
            squared *= level
            dispersed += member[:, rows] @ squared
    group_sums = GroupSums(
        counted,
        base,
        expected=sums[:n_groups] * kept,
        dispersed=(square * spread.low + dispersed * spread.more) * kept**2,
        square=square * kept**2,
        cross=sums[n_groups:] * kept,
        exposure_square=_over_observed(data, member * np.float64(1) * exposure**2),
    )
    scale = (group_sums.counted.sum(axis=0) + 1) / (
        group_sums.base.sum(axis=0) + 1
    )  # fold changes are relative to the mean over these groups
    return group_sums._replace(base=group_sums.base * scale)


class _Spread(NamedTuple):
    """Variance of expected counts within a cell over their square: ``low + level * more``, where there is a level."""

    laws: Components
    low: np.ndarray  # float64 (n,)
    more: np.ndarray  # float64 (n,)

    @classmethod
    def of(cls, laws: Components) -> _Spread:
        """Of the laws of the genes."""
        ends = [laws.kept_square(None if laws.high is None else np.array(level)) for level in (0.0, 1.0)]
        return cls(laws, ends[0] / laws.kept**2 - 1, (ends[1] - ends[0]) / laws.kept**2)

    def level(self, prior: np.ndarray, exposure: np.ndarray) -> np.ndarray | None:
        """Level of entries, float32 (b, n), see :meth:`scdae.core.distributions.components.Components.level`."""
        return None if self.laws.high is None else self.laws.level(prior, exposure)


def _over_observed(data: CellData, weights: np.ndarray) -> np.ndarray:
    """Sums of `weights`, (m, n_obs), over the cells in which a gene was observed: float64 (m, n_vars)."""
    total = np.repeat(weights.sum(axis=1, dtype=np.float64)[:, None], data.n_vars, axis=1)
    return total if data.unobserved is None else total - (data.unobserved.T.astype(np.float64) @ weights.T).T


def _counted(data: CellData, member: np.ndarray) -> np.ndarray:
    """Molecules of each group: float64 (n_groups, n_vars)."""
    return np.asarray((data.counts.T.astype(np.float64) @ member.T).T)


def _base(fitted: Fitted, data: CellData, member: np.ndarray) -> np.ndarray:
    """What the gene's mean makes one expect of each group, were nothing lost: float64 (n_groups, n_vars)."""
    values = values_of(fitted.params)
    profile, effects = np.asarray(values["log_profile"], np.float64)[None], total_effects(values)
    exposure = data.exposure.astype(np.float64)
    if effects is None:
        return np.asarray(special.softmax(profile, axis=1) * _over_observed(data, member * exposure))
    total = np.zeros((len(member), data.n_vars))
    size = max(1, _ENTRIES // data.n_vars)
    for start in range(0, data.n_obs, size):
        rows = slice(start, min(start + size, data.n_obs))
        own = special.softmax(profile + effect_of(effects, data.conditions.take(rows)), axis=1) * exposure[rows, None]
        if data.unobserved is not None:
            own[data.unobserved[rows].toarray()] = 0
        total += member[:, rows] @ own
    return total


@one_for_products()
def fit_fold_changes(sums: GroupSums, *, n_iter: int = 50) -> FoldChanges:
    """Compute the posterior of each gene's fold change in each group, under a prior learned from all genes.

    Parameters
    ----------
    sums
        From :func:`sum_groups`.
    n_iter
        Steps of the EM algorithm for the prior.
    """
    even = np.divide(sums.cross**2, sums.exposure_square, out=np.zeros_like(sums.cross), where=sums.exposure_square > 0)
    variance = sums.dispersed + np.maximum(sums.square - even, 0)
    inflation = 1 + np.divide(variance, sums.expected, out=np.zeros_like(variance), where=sums.expected > 0)
    counted, base = sums.counted / inflation, sums.base / inflation
    judged = (base > 0).all(axis=0)
    n_pairs = len(base) * int(judged.sum())
    prior = np.full(len(SHAPES), 1 / len(SHAPES))
    center = np.ones((len(base), 1))
    places = [len(_CENTRES) // 2] * len(base)
    of_group = list(zip(counted[:, judged], base[:, judged], strict=True))
    of_counts = [_of_counts(of_one) for of_one, _ in of_group]
    for k in range(_ROUNDS if judged.any() else 0):
        at = zip(of_counts, of_group, center, strict=True)
        likelihood = np.concatenate([_scaled(of_one, x, expected * c)[0] for of_one, (x, expected), c in at], axis=1)
        for _ in range(n_iter):
            learned = prior * (likelihood @ (1 / (prior @ likelihood))) / n_pairs
            prior = (n_pairs * learned + _PSEUDO) / (n_pairs + _PSEUDO * len(SHAPES))
        step = _FIRST_STEP if k == 0 else 1
        known = zip(of_counts, of_group, places, strict=True)
        places = [_best_center(of_one, *x, prior, place, step) for of_one, x, place in known]
        center = _CENTRES[places][:, None]
    base = base * center
    weight = prior[:, None, None] * _likelihood(counted, base)[0]
    return FoldChanges(weight / weight.sum(axis=0), counted, base, np.log(center))


def _likelihood(counted: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the likelihood of each Gamma component, (len(SHAPES), ...), scaled to at most 1, and the log scale."""
    return _scaled(_of_counts(counted), counted, base)


def _of_counts(counted: np.ndarray) -> np.ndarray:
    """Compute the terms of the log likelihood that depend on the counts only: (len(SHAPES), ...)."""
    shape = SHAPES.reshape(-1, *[1] * counted.ndim)
    return np.asarray(special.gammaln(shape + counted) - special.gammaln(shape) + shape * np.log(shape))


def _scaled(of_counts: np.ndarray, counted: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = SHAPES.reshape(-1, *[1] * counted.ndim)
    evidence = of_counts - (shape + counted) * np.log(shape + base)
    evidence += special.xlogy(counted, base)
    top = evidence.max(axis=0)
    evidence -= top
    return np.exp(evidence, out=evidence), top


def _best_center(
    of_counts: np.ndarray, counted: np.ndarray, base: np.ndarray, prior: np.ndarray, place: int, step: int
) -> int:
    """Place among the centers of that under which the counts of a group are likeliest.

    From `place` on it goes uphill in steps that become shorter, as the likelihood has one maximum.
    """
    scores: dict[int, float] = {}

    def score(at: int) -> float:
        if at not in scores:
            likelihood, scale = _scaled(of_counts, counted, base * _CENTRES[at])
            scores[at] = float((np.log(prior @ likelihood) + scale).sum())
        return scores[at]

    while step:
        around = [at for at in (place, place - step, place + step) if 0 <= at < len(_CENTRES)]
        best = max(around, key=score)
        place, step = best, step if best != place else step // 2
    return place
