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
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import total_effects, values_of
from scdae.core.prediction.decode import law_of_genes, read_out

__all__ = ["FoldChanges", "GroupSums", "draw_log_change", "fit_fold_changes", "sum_groups"]

# Shapes of the prior's Gamma components: standard deviation of the fold change 0.02 (almost none), 0.05, ..., 1.6.
SHAPES = np.array([2500.0, 400.0, 100.0, 25.0, 6.25, 1.5625, 0.390625])
_PSEUDO = 40.0  # pseudo-genes of each prior component, so that weights learned from few genes do not overfit
_ROUNDS = 3  # of learning weights and then centers
_CENTRES = np.exp(np.linspace(-0.5, 0.5, 41))  # candidates for the center of a group


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
    laws = law_of_genes(fitted)
    kept, whole_exposure = laws.kept, data.exposure
    values = values_of(fitted.params)
    profile, effects = np.asarray(values["log_profile"], np.float64)[None], total_effects(values)
    sums = np.zeros((len(GroupSums._fields), n_groups, data.n_vars))
    for rows, prior, _ in read_out(fitted, data, "prior"):
        mean = kept * prior.astype(np.float64)
        spread = laws.kept_square(laws.level(prior, whole_exposure[rows])) / kept**2 - 1
        exposure = np.broadcast_to(whole_exposure[rows, None].astype(np.float64), mean.shape)
        if data.unobserved is not None:
            observed = ~data.unobserved[rows].toarray()
            mean, exposure = np.where(observed, mean, 0), np.where(observed, exposure, 0)
        logits = profile if effects is None else profile + effect_of(effects, data.conditions.take(rows))
        parts = GroupSums(
            counted=data.counts[rows].toarray(),
            base=exposure * kept * special.softmax(logits, axis=1),
            expected=mean,
            dispersed=mean**2 * spread,
            square=mean**2,
            cross=mean * exposure,
            exposure_square=exposure**2,
        )
        member = (group[rows, None] == np.arange(n_groups)).astype(np.float64).T
        for whole, part in zip(sums, parts, strict=True):
            whole += member @ part
    group_sums = GroupSums(*sums)
    scale = (group_sums.counted.sum(axis=0) + 1) / (
        group_sums.base.sum(axis=0) + 1
    )  # fold changes are relative to the mean over these groups
    return group_sums._replace(base=group_sums.base * scale)


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
    for _ in range(_ROUNDS if judged.any() else 0):
        likelihood = _likelihood(counted[:, judged], base[:, judged] * center)[0]
        for _ in range(n_iter):
            weight = prior[:, None, None] * likelihood
            learned = (weight / weight.sum(axis=0)).mean(axis=(1, 2))
            prior = (n_pairs * learned + _PSEUDO) / (n_pairs + _PSEUDO * len(SHAPES))
        center = np.stack(
            [_center(*of_group, prior) for of_group in zip(counted[:, judged], base[:, judged], strict=True)]
        )
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


def _center(counted: np.ndarray, base: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Find the center with the highest likelihood of a group's counts: (1,)."""
    of_counts, score = _of_counts(counted), []
    for center in _CENTRES:
        likelihood, scale = _scaled(of_counts, counted, base * center)
        score.append(float((np.log(prior @ likelihood) + scale).sum()))
    return _CENTRES[[int(np.argmax(score))]]


def draw_log_change(changes: FoldChanges, group: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the natural logarithm of a group's fold changes: float64 (n, n_vars)."""
    chance = changes.weight[:, group].cumsum(axis=0)
    component = (rng.random((n, 1, chance.shape[1])) > chance[:-1]).sum(axis=1)
    shape = SHAPES[component]
    drawn = rng.standard_gamma(shape + changes.counted[group])
    return changes.log_center[group] + np.log(np.maximum(drawn, 1e-300)) - np.log(shape + changes.base[group])
