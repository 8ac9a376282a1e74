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

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
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
_STEPS, _STEPS_DROPOUT = 60, 8
_TOGETHER = 512  # genes that are fitted together
_COMMON_GENES, _STEPS_COMMON = 300, 60  # from which what genes have in common is learned
_FURTHER = 0.9  # of a step of the EM algorithm that is gone on top of it
_SLIGHT_GAIN = 1e-3  # log likelihood that a step adds to a gene that is about done
_FEW_LEFT = 0.5  # of the genes that were fitted together, with which it goes on without the others
_FLOOR = 1e-6  # weight that every component has
_LEAST_CHANCE = 1e-30  # smaller ones are none in single precision
_SHIFTS = (0.06, 0.13, 0.25, 0.4, 0.6, 1.0, 1.5)  # by which the logarithm of what was not lost is larger: -log(1 - pi)
_LEAST = 0.05  # inverse dispersion of counts that were not lost
_LEEWAY = 5.0  # log likelihood that a closer look may add
_HOPELESS = -4.0  # log likelihood at a first look below which dropout is ruled out
_PRICE = 3.0  # log likelihood that dropout has to add
_USUAL, _PSEUDO = 0.04, 5.0  # share of the genes that look like dropout without any, and genes that say so beforehand
_OFF, _SLIGHT = 0.2, (0.01, 0.5)  # inverse dispersion of genes that are off, and dropout in their place


class LawFit:
    """Likelihood of the counts under each component, at each level of the mean.

    Parameters
    ----------
    counted
        The counts.
    shift
        By how much the logarithm of the mean is larger; a count is lost with the probability that makes up for it.
    like
        Of the same counts with another shift, whose work need not be done again; None for none.
    """

    def __init__(self, counted: Counted, shift: float = 0.0, like: LawFit | None = None):
        self.counted, self.shift = counted, shift
        self._pairs: _Pairs = _pairs(counted) if like is None else like._pairs
        pairs = self._pairs
        mean, theta = counted.mean * np.exp(shift), np.array(GRID)
        log_zero = -theta * np.log1p(mean[:, None] / theta)
        lost = -np.expm1(-shift)
        self._zero = np.maximum(lost + (1 - lost) * np.exp(log_zero), _LEAST_CHANCE)  # float64 (n_levels, K)
        rising = special.gammaln(theta + pairs.x[:, None]) - special.gammaln(theta) - pairs.log_factorial[:, None]
        log = rising[pairs.value] + log_zero[pairs.level]
        log += pairs.x[pairs.value][:, None] * np.log(mean[:, None] / (theta + mean[:, None]))[pairs.level]
        top = log.max(axis=1)
        self._own = np.exp(log - top[:, None]).astype(np.float32)  # (pairs, K)
        self._top = top + np.log1p(-lost)

    def fit(
        self, common: np.ndarray, weight: np.ndarray, n_steps: int, *, learn: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit the weights, and with `learn` those of all genes, by the EM algorithm that starts from `weight`.

        What no component makes more likely than others says nothing, and is left out of the shares that components have in an
        entry, without which the steps would be tiny. Genes that gain next to nothing by a step are left as they are.

        Parameters
        ----------
        common
            Weights of all genes, (1 or 2, len(GRID)).
        weight
            Where to start, (1 or 2, len(GRID), n).
        n_steps
            Steps at most.
        learn
            Whether the common weights are found as well.

        Returns
        -------
        tuple
            The weights, as `weight`, and the common weights.
        """
        counted = self.counted
        chance = self._zero.astype(np.float32)
        more, own_more = chance - chance.min(axis=1, keepdims=True), self._own - self._own.min(axis=1, keepdims=True)
        zeros, number = counted.zeros.astype(np.float32), counted.number.astype(np.float32)
        height = counted.height.astype(np.float32) if len(weight) == 2 else None
        rows = self._rows(height)
        for step in range(n_steps):
            by_gene = np.moveaxis(weight, 2, 1).astype(np.float32)
            told, told_own = zeros / _mixed(by_gene, chance.T, height), number / self._of_own(by_gene, *rows)
            share = told @ more + self._sum(told_own, own_more)
            if height is None:
                shares = share[None]
            else:
                high = (told * height) @ more + self._sum(told_own * rows[1], own_more)
                shares = np.stack([share - high, high])
            share = np.maximum(weight * np.moveaxis(shares, 1, 2), 0)
            if learn:
                told = share.sum(axis=1, keepdims=True)
                common = (share / (told + _PRIOR_CELLS)).sum(axis=2) + _FLOOR
                common /= common.sum(axis=1, keepdims=True)
            new = share + _PRIOR_CELLS * common[..., None] + _FLOOR
            total = new.sum(axis=1, keepdims=True)
            new /= total
            some = common[..., None] > 0
            further = np.log(np.divide(new, weight, out=np.ones(new.shape), where=some & (weight > 0)))
            gain = (total * new * further).sum(axis=(0, 1))  # log likelihood, at least
            new *= np.exp(_FURTHER * further)
            weight = np.where(some, np.maximum(new, _FLOOR**2), 0)
            weight /= weight.sum(axis=1, keepdims=True)
            left = np.flatnonzero(gain > _SLIGHT_GAIN)
            if not learn and len(left) <= _FEW_LEFT * len(gain):
                if len(left) and step + 1 < n_steps:
                    rest = LawFit(counted.take(left), self.shift)
                    weight[..., left] = rest.fit(common, weight[..., left], n_steps - step - 1)[0]
                break
        return weight, common

    def log_posterior(self, weight: np.ndarray, common: np.ndarray) -> np.ndarray:
        """Log of how likely weights make the counts of each gene, with the prior of the weights, (n,): see :meth:`fit`."""
        return self.log_likelihood(weight) + log_prior(weight, common)

    def log_likelihood(self, weight: np.ndarray) -> np.ndarray:
        """Compute the log likelihood of each gene, (n,), under weights (1 or 2, len(GRID), n)."""
        counted, by_gene = self.counted, np.moveaxis(weight, 2, 1)
        height = counted.height if len(weight) == 2 else None
        zero = np.einsum("nl,nl->n", counted.zeros, np.log(_mixed(by_gene, self._zero.T, height)))
        among = self._of_own(by_gene.astype(np.float32), *self._rows(height))
        return np.asarray(zero + counted.sum(counted.number * (np.log(among) + self._top[self._pairs.of_row])))

    def _rows(self, height: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Likelihood of each row of counts under each component, float32 (e, K), and how high the gene is there, (e,)."""
        counted = self.counted
        own = self._own[self._pairs.of_row]
        return own, None if height is None else height[counted.gene, counted.level].astype(np.float32)

    def _of_own(self, weight: np.ndarray, own: np.ndarray, high: np.ndarray | None) -> np.ndarray:
        """Compute the probability of each row of counts, over that under its likeliest component, float32 (e,)."""
        length, ones = np.diff(self.counted.start), np.ones(own.shape[1], np.float32)
        out = (np.repeat(weight[0], length, axis=0) * own) @ ones
        if high is not None:
            out += high * ((np.repeat(weight[1] - weight[0], length, axis=0) * own) @ ones)
        return np.maximum(out, _LEAST_CHANCE)

    def _sum(self, told: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Sum over the rows of each gene of `told`, (e,), times what `table`, (pairs, K), says of their pair: (n, K)."""
        shape = (len(self.counted.zeros), len(table))
        return np.asarray(sp.csr_matrix((told, self._pairs.of_row, self.counted.start), shape) @ table)


class _Pairs(NamedTuple):
    """What counts occur at which levels."""

    x: np.ndarray  # float64 (n_values,): counts that occur
    log_factorial: np.ndarray  # float64 (n_values,)
    value: np.ndarray  # int64 (pairs,): which of these
    level: np.ndarray  # int64 (pairs,)
    of_row: np.ndarray  # int32 (e,): the pair of each row


def _pairs(counted: Counted) -> _Pairs:
    values, of_value = np.unique(counted.x, return_inverse=True)
    key = of_value.ravel() * len(counted.mean) + counted.level
    occurs = np.zeros(len(values) * len(counted.mean), bool)
    occurs[key] = True
    value, level = np.divmod(np.flatnonzero(occurs), len(counted.mean))
    of_row = (np.cumsum(occurs, dtype=np.int32) - np.int32(1))[key]
    return _Pairs(values, special.gammaln(values + 1), value, level, of_row)


def _mixed(weight: np.ndarray, chance: np.ndarray, height: np.ndarray | None) -> np.ndarray:
    """Mix the probabilities under each component, (K, n_levels), by weights (1 or 2, n, K): (n, n_levels)."""
    out = weight[0] @ chance
    if height is not None:
        out += height * ((weight[1] - weight[0]) @ chance)
    return np.asarray(out)


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
        weight[..., genes] = LawFit(counted.take(genes)).fit(common, start, _STEPS)[0]
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
    high, none = common[-1:], LawFit(counted)
    without = none.fit(high, weight[-1:], _STEPS_DROPOUT)[0]
    base = none.log_posterior(without, high)
    even = np.where(np.array(GRID) < _LEAST, 0, high)  # dropout in the place of what is spread most
    even /= even.sum()
    start = np.where(even[..., None] > 0, without, 0)
    start /= start.sum(axis=1, keepdims=True)
    lead = np.full(weight.shape[2], -np.inf)
    for shift in _SHIFTS:
        lead = np.maximum(lead, LawFit(counted, shift, none).log_posterior(start, even) - base)
    nothing = np.zeros(len(lead))
    if (lead > _PRICE - _LEEWAY).mean() < _USUAL:  # whatever a closer look at them would say
        return Dropout(nothing, nothing, nothing, weight)
    evidence, lost, own = lead - np.log(len(_SHIFTS)), np.full(len(lead), -np.expm1(-_SHIFTS[0])), start[0].copy()
    genes = np.flatnonzero(lead > _HOPELESS)
    if len(genes):
        few = LawFit(counted.take(genes))
        laws = [LawFit(few.counted, shift, few) for shift in _SHIFTS]
        fits = [law.fit(even, start[..., genes], _STEPS_DROPOUT)[0] for law in laws]
        leads = np.stack([law.log_posterior(one, even) for law, one in zip(laws, fits, strict=True)]) - base[genes]
        evidence[genes] = special.logsumexp(leads, axis=0) - np.log(len(_SHIFTS))
        share = special.softmax(leads, axis=0)
        lost[genes] = -np.expm1(-np.array(_SHIFTS)) @ share
        own[:, genes] = np.einsum("sg,skg->kg", share, np.stack([one[0] for one in fits]))
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
