"""The distributions of the genes, fitted to counts while the network's means are held still.

Half of a cell's molecules are hidden from the network, which gives the means of all from the other shown. What is left to be
found for each gene are the weights of its components, where it is low and where it is high, and whether it has dropout. Counts
enter by how often each occurs at each level of the mean: that is little work whatever the number of cells, and the likelihood
has one maximum. An entry counts for the two levels on either side of its mean, for the nearer one more.

The weights of a gene are drawn to those of all genes by as much as some cells would say (a Dirichlet prior whose middle is
learned from all genes: empirical Bayes). Dropout is tried at several probabilities. How likely each makes the counts of a
gene, against no dropout, and how common dropout is among the genes, give its probability. Nothing is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from scdae.core.data.exposure import gene_profile
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.evaluation.correction import fit_correction
from scdae.core.evaluation.heldout import HeldOut
from scdae.core.evaluation.law_counts import Counted, Means, count_levels

__all__ = ["LawFit", "fit_laws"]

_ENTRIES = 4e7  # cells times genes that are looked at
_FEWEST = 512  # cells at least
_HIDDEN = 0.2  # share of the molecules that the network does not get
_PRIOR_CELLS = 6.0  # what all genes say of one, where it is low and where it is high
_STEPS, _STEPS_DROPOUT = 30, 8
_TOGETHER = 512  # genes that are fitted together
_COMMON_GENES, _STEPS_COMMON = 600, 60  # from which what genes have in common is learned
_FURTHER = 0.9  # of a step of the EM algorithm that is gone on top of it
_FLOOR = 1e-6  # weight that every component has
_SHIFTS = (0.06, 0.13, 0.25, 0.4, 0.6, 1.0, 1.5)  # by which the logarithm of what was not lost is larger: -log(1 - pi)
_LEAST = 0.05  # inverse dispersion of counts that were not lost
_LEEWAY = 5.0  # log likelihood that a closer look may add
_HOPELESS = -4.0  # log likelihood at a first look below which dropout is ruled out
_PRICE = 3.0  # log likelihood that dropout has to add
_USUAL, _PSEUDO = 0.04, 5.0  # share of the genes that look like dropout without any, and genes that say so beforehand
_OFF, _SLIGHT = 0.2, (0.01, 0.5)  # inverse dispersion of genes that are off, and dropout in their place


@dataclass
class Found:
    """Weights of some genes and the logarithm of how likely they make the counts, with the prior of the weights."""

    weight: np.ndarray  # float64 (1 or 2, len(GRID), n): everywhere, or where the gene is low and high
    log_likelihood: np.ndarray  # float64 (n,)


class LawFit:
    """Likelihood of the counts under each component, at each level of the mean.

    Parameters
    ----------
    counted
        The counts.
    shift
        By how much the logarithm of the mean is larger; a count is lost with the probability that makes up for it.
    """

    def __init__(self, counted: Counted, shift: float = 0.0):
        self.counted = counted
        mean, theta = counted.mean * np.exp(shift), np.array(GRID)[:, None]
        self.lost = -np.expm1(-shift)
        log_zero = -theta * np.log1p(mean / theta)
        self._zero = self.lost + (1 - self.lost) * np.exp(log_zero)  # (K, n_levels)
        self._zero_least = self._zero.min(axis=0)
        values, of_value = np.unique(counted.x, return_inverse=True)
        rising = special.gammaln(theta + values) - special.gammaln(theta)
        ratio = np.log(mean / (theta + mean))
        factorial, x, of_value = special.gammaln(values + 1), counted.x.astype(np.float32), of_value.ravel()
        log = np.empty((len(theta), len(x)), np.float32)
        for k in range(len(theta)):
            log[k] = (
                (rising[k] - factorial)[of_value] + counted.x * ratio[k][counted.level] + log_zero[k][counted.level]
            )
        top = log.max(axis=0)
        self._own = np.exp(log - top)  # (K, e)
        self._more = self._own - self._own.min(axis=0)
        self._top = counted.number * (top + np.log1p(-self.lost))

    def fit(
        self, common: np.ndarray, weight: np.ndarray, n_steps: int, *, learn: bool = False
    ) -> tuple[Found, np.ndarray]:
        """Fit the weights, and with `learn` those of all genes, by the EM algorithm that starts from `weight`.

        What no component makes more likely than others says nothing, and is left out of the shares that components have in an
        entry, without which the steps would be tiny.

        Parameters
        ----------
        common
            Weights of all genes, (1 or 2, len(GRID)).
        weight
            Where to start, (1 or 2, len(GRID), n).
        n_steps
            Steps.
        learn
            Whether the common weights are found as well.
        """
        counted, chance = self.counted, self._zero.astype(np.float32)
        more, of_zeros = (self._zero - self._zero_least).astype(np.float32), counted.zeros.astype(np.float32)
        number = counted.number.astype(np.float32)
        parts = self._parts(len(weight), np.float32)
        for _ in range(n_steps):
            zeros = of_zeros / self._of_zeros(weight.astype(np.float32), parts, chance)
            told_more = self._more * (number / self._of_own(weight, parts))
            share = np.stack(
                [
                    own * (more @ (at_zeros * zeros).T + counted.sum(told_more * at_own))
                    for own, (at_zeros, at_own) in zip(weight, parts, strict=True)
                ]
            )
            if learn:
                told = share.sum(axis=1, keepdims=True)
                common = (share / (told + _PRIOR_CELLS)).sum(axis=2) + _FLOOR
                common /= common.sum(axis=1, keepdims=True)
            new = share + _PRIOR_CELLS * common[..., None] + _FLOOR
            new /= new.sum(axis=1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                new *= (new / weight) ** _FURTHER
            weight = np.where(common[..., None] > 0, np.maximum(new, _FLOOR**2), 0)
            weight /= weight.sum(axis=1, keepdims=True)
        return Found(weight, self.log_likelihood(weight) + log_prior(weight, common)), common

    def log_likelihood(self, weight: np.ndarray) -> np.ndarray:
        """Compute the log likelihood of each gene, (n,), under weights (1 or 2, len(GRID), n)."""
        counted, parts = self.counted, self._parts(len(weight), np.float64)
        zero = np.einsum("nl,nl->n", counted.zeros, np.log(self._of_zeros(weight, parts, self._zero)))
        among = np.maximum(self._of_own(weight, parts), 1e-30)
        return np.asarray(zero + counted.sum(counted.number * np.log(among) + self._top))

    def _parts(self, n: int, dtype: Any) -> list[tuple[Any, Any]]:
        """How far each of `n` kinds of weights counts at each level of each gene, and for each row of counts."""
        if n == 1:
            return [(dtype(1), np.float32(1))]
        height = self.counted.height.astype(dtype)
        own = height[self.counted.gene, self.counted.level].astype(np.float32)
        return [(1 - height, 1 - own), (height, own)]

    def _of_zeros(self, weight: np.ndarray, parts: list[tuple[Any, Any]], chance: np.ndarray) -> np.ndarray:
        """Probability of a zero of each gene at each level, (n, n_levels), from that under each component, `chance`."""
        total = parts[0][0] * (weight[0].T @ chance)
        for own, (at_zeros, _) in zip(weight[1:], parts[1:], strict=True):
            total += at_zeros * (own.T @ chance)
        return np.maximum(total, 1e-30)

    def _of_own(self, weight: np.ndarray, parts: list[tuple[Any, Any]]) -> np.ndarray:
        """Compute the probability of each row of counts, over that under its likeliest component, (e,)."""
        gene, out = self.counted.gene, np.zeros(len(self.counted.gene), np.float32)
        for own, (_, at_own) in zip(weight.astype(np.float32), parts, strict=True):
            out += at_own * np.einsum("ke,ke->e", own[:, gene], self._own)
        return out


def log_prior(weight: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Compute the log density of the weights of each gene, but for a constant: arguments as for :meth:`LawFit.fit`."""
    total = np.zeros(weight.shape[2])
    for of_genes, of_all in zip(weight, common, strict=True):
        some = of_all > 0
        total += _PRIOR_CELLS * (of_all[some, None] * np.log(of_genes[some] / of_all[some, None])).sum(axis=0)
    return total


def fit_laws(
    graph: Any, params: Any, held_out: HeldOut, told: np.ndarray, seed: int, genes: np.ndarray | None = None
) -> Laws:
    """Find the distributions of the genes.

    Parameters
    ----------
    graph, params
        The network, whose means are those of what is counted.
    held_out
        Molecules of the training cells; those that were trained on are looked at, too.
    told
        How far dropout is looked for in each gene, from 0 to 1, float64 (n_vars,).
    seed
        Of what is hidden.
    genes
        Genes to look at, rising; None for all.
    """
    n_cells = int(max(_FEWEST, _ENTRIES / held_out.data.n_vars))
    shown = held_out.judged(n_cells).with_hidden(_HIDDEN, np.random.default_rng(seed))
    counts = (shown.data.counts + shown.counts).tocsc()
    gaps = None if shown.data.unobserved is None else shown.data.unobserved.tocsc()
    if genes is not None:
        counts, told = counts[:, genes], told[genes]
        gaps = None if gaps is None else gaps[:, genes]
    profile = gene_profile(shown.data.counts + shown.counts, shown.data.unobserved)
    log_share = np.log(np.maximum(profile if genes is None else profile[genes], 1e-12))
    correction = fit_correction(graph, params, held_out, log_share) if genes is None else None
    means = Means(graph, params, shown, genes, log_share, correction)
    return laws_of_counted(count_levels(means, counts, gaps, log_share), told)._replace(correction=correction)


def laws_of_counted(counted: Counted, told: np.ndarray) -> Laws:
    """Distributions of all genes; `told` says how far dropout is looked for, from 0 to 1, float64 (n,)."""
    n = len(counted.zeros)
    common = _common(counted)
    weights = _weights(counted, common)
    chance, some, lost = np.zeros((3, n))
    weight, genes = weights.copy(), np.flatnonzero(told > 0)
    if len(genes):
        of_genes = _dropout(counted.take(genes).expressed(), weights[..., genes], common)
        chance[genes], some[genes] = of_genes.chance * told[genes], of_genes.some * told[genes]
        lost[genes], weight[..., genes] = of_genes.lost, of_genes.weight
    lift = 1 - some + some / (1 - lost)
    plain = Part(*_float32(weights * (1 - some), 1 / lift, np.zeros(n)))
    dropout, has = None, np.flatnonzero(some > 0)
    if len(has):
        of_some = weight[..., has] * some[has], 1 / (lift * (1 - lost))[has], lost[has]
        own, scale, gone = _float32(*of_some)
        dropout = Part(own, scale, gone, has.astype(np.int32))
    return Laws(plain, dropout, *_float32(lift, chance, counted.log_share))


def _weights(counted: Counted, common: np.ndarray) -> np.ndarray:
    """Compute the weights of each gene, float64 (2, len(GRID), n), genes of like expression together."""
    n = len(counted.zeros)
    weight = np.empty((*common.shape, n))
    order = np.argsort(counted.sum(counted.number * counted.x), kind="stable")
    for first in range(0, n, _TOGETHER):
        genes = np.sort(order[first : first + _TOGETHER])
        start = np.tile(common[..., None], len(genes))
        weight[..., genes] = LawFit(counted.take(genes)).fit(common, start, _STEPS)[0].weight
    return weight


def _common(counted: Counted) -> np.ndarray:
    """Compute the weights that all genes have in common, from as many of low as of high expression."""
    n = len(counted.zeros)
    total = counted.sum(counted.number * counted.x)
    genes = np.sort(np.argsort(total, kind="stable")[:: -(-n // _COMMON_GENES)])
    even = np.full((2, len(GRID)), 1 / len(GRID))
    start = np.tile(even[..., None], len(genes))
    return LawFit(counted.take(genes)).fit(even, start, _STEPS_COMMON, learn=True)[1]


class Dropout(NamedTuple):
    """What is known of dropout in some genes."""

    chance: np.ndarray  # float64 (n,): probability that a gene has dropout worth the name
    some: (
        np.ndarray
    )  # float64 (n,): or what cannot be told from a gene that is off, which may be dropout where others have it
    lost: np.ndarray  # float64 (n,): probability that a count is lost, if there is some
    weight: np.ndarray  # float64 (2, len(GRID), n): weights of the components, if there is some


def _dropout(counted: Counted, weight: np.ndarray, common: np.ndarray) -> Dropout:
    """Weigh dropout against none where genes are expressed most, with the weights of high expression."""
    high = common[-1:]
    without = LawFit(counted).fit(high, weight[-1:], _STEPS_DROPOUT)[0]
    even = np.where(np.array(GRID) < _LEAST, 0, high)  # dropout in the place of what is spread most
    even /= even.sum()
    start = np.where(even[..., None] > 0, without.weight, 0)
    start /= start.sum(axis=1, keepdims=True)
    lead = np.full(weight.shape[2], -np.inf)
    for shift in _SHIFTS:
        law = LawFit(counted, shift)
        lead = np.maximum(lead, law.log_likelihood(start) + log_prior(start, even) - without.log_likelihood)
    nothing = np.zeros(len(lead))
    if (lead > _PRICE - _LEEWAY).mean() < _USUAL:  # whatever a closer look at them would say
        return Dropout(nothing, nothing, nothing, weight)
    evidence, lost, own = lead - np.log(len(_SHIFTS)), np.full(len(lead), -np.expm1(-_SHIFTS[0])), start[0].copy()
    genes = np.flatnonzero(lead > _HOPELESS)
    if len(genes):
        few = counted.take(genes)
        fits = [LawFit(few, shift).fit(even, start[..., genes], _STEPS_DROPOUT)[0] for shift in _SHIFTS]
        leads = np.stack([one.log_likelihood for one in fits]) - without.log_likelihood[genes]
        evidence[genes] = special.logsumexp(leads, axis=0) - np.log(len(_SHIFTS))
        share = special.softmax(leads, axis=0)
        lost[genes] = -np.expm1(-np.array(_SHIFTS)) @ share
        own[:, genes] = np.einsum("sg,skg->kg", share, np.stack([one.weight[0] for one in fits]))
    share, chance = _posterior(evidence)
    if share == 0:
        return Dropout(nothing, nothing, nothing, weight)
    chance = share * chance
    # Without it, what looks like a gene that is off in some cells may still be dropout where other genes have it.
    off = np.array(GRID) < _OFF
    off_share = np.clip(weight[-1][off].sum(axis=0), *_SLIGHT)
    rest = np.where(off[:, None], 0, weight)
    slight = (1 - chance) * share / 2
    some = chance + slight
    lost = (chance * lost + slight * off_share) / some
    return Dropout(chance, some, lost, (chance * own + slight * rest / rest.sum(axis=1, keepdims=True)) / some)


def _posterior(evidence: np.ndarray) -> tuple[float, np.ndarray]:
    """How far what looks like dropout is dropout, and the probability that each gene looks like it.

    By the log of its Bayes factor, in which the price of the distribution is not yet. Genes that are on in some cells and off in others
    look like dropout, too, and there are some in all data. Dropout is a matter of how cells are measured, and hits many genes:
    what a few genes have is not taken for it.
    """
    common = 0.1
    for _ in range(100):
        chance = special.expit(evidence - _PRICE + special.logit(common))
        common = float(np.clip((chance.sum() + _PSEUDO * _USUAL) / (len(chance) + _PSEUDO), 1e-3, 0.95))
    return max(1 - _USUAL / common, 0.0), chance


def _float32(*values: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(value, np.float32) for value in values)
