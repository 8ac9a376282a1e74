"""The distributions of the genes, fitted to counts while the network's means are held still.

Half of a cell's molecules are hidden from the network, which gives the means of all from the other half. What is left to be
found for each gene are the weights of its components, and whether it has dropout. Counts enter by how often each occurs at
each level of the mean: that is little work whatever the number of cells, and the likelihood has one maximum.

The weights of a gene are drawn to those of all genes by as much as some cells would say (a Dirichlet prior whose middle is
learned from all genes: empirical Bayes). Dropout is tried at several probabilities. How likely each makes the counts of a
gene, against no dropout, and how common dropout is among the genes, give its probability. Nothing is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from flax import nnx
from scipy import special

from scdae.core.data.conditions import effect_of
from scdae.core.distributions.laws import GRID, Laws, Part
from scdae.core.evaluation.heldout import HeldOut, latent_and_norm
from scdae.core.network.autoencoder import total_effects
from scdae.core.network.principal_axes import project

__all__ = ["LawFit", "fit_laws"]

_ENTRIES = 4e7  # cells times genes that are looked at
_FEWEST = 512  # cells at least
_AT_ONCE = 2e6  # of them at a time
_WIDTH = 0.25  # of a level of the mean, on the log scale
_LOW, _HIGH = np.log(1e-4), np.log(1e5)
_PRIOR_CELLS = 30.0  # what all genes say of one
_STEPS, _STEPS_DROPOUT = 15, 8
_COMMON_GENES, _STEPS_COMMON = 1000, 60  # from which what genes have in common is learned
_FURTHER = 0.7  # of a step of the EM algorithm that is gone on top of it
_FLOOR = 1e-6  # weight that every component has
_SHIFTS = (0.06, 0.13, 0.25, 0.4, 0.6, 1.0, 1.5)  # by which the logarithm of what was not lost is larger: -log(1 - pi)
_TOP = (0.7, 0.9)  # share of the sum of squared means above which entries count less, and not at all
_LEAST = 0.05  # inverse dispersion of counts that were not lost
_LEEWAY = 5.0  # log likelihood that a closer look may add
_HOPELESS = -4.0  # log likelihood at a first look below which dropout is ruled out
_PRICE = 3.0  # log likelihood that dropout has to add
_USUAL, _PSEUDO = 0.04, 5.0  # share of the genes that look like dropout without any, and genes that say so beforehand
_OFF, _SLIGHT = 0.2, (0.01, 0.5)  # inverse dispersion of genes that are off, and dropout in their place
_WHOLE = 4095  # counts up to this are put together where they are equal


class Counted(NamedTuple):
    """How often each count occurs at each level of the mean, gene by gene."""

    zeros: np.ndarray  # float64 (n, n_levels): entries without counts
    start: np.ndarray  # int64 (n + 1,): first row of each gene in what follows
    gene: np.ndarray  # int64 (e,)
    level: np.ndarray  # int64 (e,)
    x: np.ndarray  # float64 (e,): count
    number: np.ndarray  # float64 (e,): entries with it

    def take(self, genes: np.ndarray) -> Counted:
        """Those of some genes, int (m,) rising."""
        length = np.diff(self.start)[genes]
        start = np.concatenate([[0], np.cumsum(length)])
        where = np.arange(start[-1]) + np.repeat(self.start[genes] - start[:-1], length)
        gene = np.repeat(np.arange(len(genes)), length)
        return Counted(self.zeros[genes], start, gene, self.level[where], self.x[where], self.number[where])

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over the rows of each gene: (..., e) to float64 (..., n)."""
        out = np.zeros((*values.shape[:-1], len(self.start) - 1))
        some = np.diff(self.start) > 0
        if some.any():
            out[..., some] = np.add.reduceat(values, self.start[:-1][some], axis=-1)
        return out

    def expressed(self) -> Counted:
        """The entries in which each gene is expressed most, the others with less weight or none.

        A marker of another cell type has too many zeros as well where the network expects some of it, but none in the cells that
        have most of it; dropout takes as much there as anywhere.
        """
        number = self.zeros + self.sum_levels()
        square = (number * _CENTRES**2)[:, ::-1].cumsum(axis=1)[:, ::-1]
        above = (
            square / np.maximum(square[:, :1], 1e-300) - number * _CENTRES**2 / np.maximum(square[:, :1], 1e-300) / 2
        )
        weight = np.clip((_TOP[1] - above) / (_TOP[1] - _TOP[0]), 0, 1)
        own = weight[self.gene, self.level]
        some = own > 0
        start = np.concatenate([[0], np.cumsum(np.bincount(self.gene[some], minlength=len(self.zeros)))])
        rest = (self.gene[some], self.level[some], self.x[some], (self.number * own)[some])
        return Counted(self.zeros * weight, start, *rest)

    def sum_levels(self) -> np.ndarray:
        """Entries with counts at each level, float64 (n, n_levels)."""
        at = self.gene * _LEVELS + self.level
        return np.bincount(at, self.number, len(self.zeros) * _LEVELS).reshape(-1, _LEVELS)


class Means:
    """Means of the network for some cells, gene by gene."""

    def __init__(self, graph: Any, params: Any, half: HeldOut, genes: np.ndarray | None = None):
        conditions, inputs = half.data.conditions, project(half.axes, half.data)
        latent, norm = latent_and_norm(graph, params, half.data, inputs)
        values = nnx.to_pure_dict(params)
        loading = np.asarray(values["loading"])
        if "turn_loading" in values:  # all that multiplies loadings, side by side
            turned = np.asarray(nnx.merge(graph, params).turned(latent, conditions))
            latent = np.concatenate([latent, turned], axis=1)
            loading = np.concatenate([loading, np.asarray(values["turn_loading"])])
        some = slice(None) if genes is None else genes
        self._latent, self._loading = latent, loading[:, some]
        self._base, self._conditions = np.asarray(values["log_profile"])[some], conditions
        self._effects = total_effects(values, some)
        total = np.asarray(half.data.counts.sum(axis=1) + half.counts.sum(axis=1), np.float32).ravel()
        self._of_cell = np.log(np.maximum(total, 1e-6))[:, None] - norm

    def level(self, genes: slice) -> np.ndarray:
        """Level of the logarithm of the mean of all molecules: int64 (n_cells, width)."""
        logs = self._latent @ self._loading[:, genes]
        logs += self._base[genes]
        logs += self._of_cell
        if self._effects is not None:
            logs += np.asarray(effect_of(self._effects[:, genes], self._conditions))
        logs -= np.float32(_LOW)
        logs *= np.float32(1 / _WIDTH)
        return np.clip(np.nan_to_num(logs, copy=False, nan=0.0), 0, _LEVELS - 1, out=logs).astype(np.int64)


_LEVELS = int(np.ceil((_HIGH - _LOW) / _WIDTH))
_CENTRES = np.exp(_LOW + _WIDTH * (np.arange(_LEVELS) + 0.5))


def count_levels(means: Means, counts: sp.csc_matrix, gaps: sp.csc_matrix | None) -> Counted:
    """Go through the entries, gene by gene."""
    n_cells, n_vars = counts.shape
    zeros, rows = np.zeros((n_vars, _LEVELS)), []
    width = max(1, int(_AT_ONCE / n_cells))
    for first in range(0, n_vars, width):
        genes = slice(first, min(first + width, n_vars))
        level = means.level(genes)
        n = level.shape[1]
        entries, col = _column_entries(counts, genes)
        at = level[entries, col]
        level += np.arange(n) * _LEVELS
        number = np.bincount(level.ravel(), minlength=n * _LEVELS)
        number = number - np.bincount(col * _LEVELS + at, minlength=n * _LEVELS)
        if gaps is not None:
            number = number - np.bincount(level[_column_entries(gaps, genes)], minlength=n * _LEVELS)
        zeros[genes] = number.reshape(n, _LEVELS)
        x = counts.data[counts.indptr[genes.start] : counts.indptr[genes.stop]]
        rows.append(_together(first + col, at, x))
    gene, level, x, number = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    start = np.concatenate([[0], np.cumsum(np.bincount(gene, minlength=n_vars))])
    return Counted(zeros, start, gene, level, x, number)


def _column_entries(matrix: sp.csc_matrix, genes: slice) -> tuple[np.ndarray, np.ndarray]:
    """Row, and column within the block, of the stored entries of some columns."""
    ends = matrix.indptr[genes.start : genes.stop + 1]
    return matrix.indices[ends[0] : ends[-1]], np.repeat(np.arange(len(ends) - 1), np.diff(ends))


def _together(gene: np.ndarray, level: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Equal counts of a gene at a level, and how many there are; in the order of the genes."""
    whole = (x == np.floor(x)) & (x <= _WHOLE)
    key = (gene[whole].astype(np.int64) * _LEVELS + level[whole]) * (_WHOLE + 1) + x[whole].astype(np.int64)
    key, number = np.unique(key, return_counts=True)
    parts = [
        np.concatenate([key // (_WHOLE + 1) // _LEVELS, gene[~whole]]),
        np.concatenate([key // (_WHOLE + 1) % _LEVELS, level[~whole]]),
        np.concatenate([(key % (_WHOLE + 1)).astype(np.float64), x[~whole]]),
        np.concatenate([number.astype(np.float64), np.ones(int((~whole).sum()))]),
    ]
    order = np.argsort(parts[0], kind="stable")
    return tuple(part[order] for part in parts)


@dataclass
class Found:
    """Weights of some genes and the logarithm of how likely they make the counts, with the prior of the weights."""

    weight: np.ndarray  # float64 (len(GRID), n)
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
        mean, theta = _CENTRES * np.exp(shift), np.array(GRID)[:, None]
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
        """EM algorithm for the weights, and with `learn` for those of all genes, from `weight` on.

        What no component makes more likely than others says nothing, and is left out of the shares that components have in an
        entry, without which the steps would be tiny.
        """
        counted, more = self.counted, self._zero - self._zero_least
        number = counted.number.astype(np.float32)
        for _ in range(n_steps):
            zeros = counted.zeros / np.maximum(weight.T @ self._zero, 1e-300)
            own = weight.astype(np.float32)[:, counted.gene]
            ratio = number / np.einsum("ke,ke->e", own, self._own)
            own *= self._more
            own *= ratio
            share = weight * (more @ zeros.T) + counted.sum(own)
            told = share.sum(axis=0)
            if learn:
                common = (share / (told + _PRIOR_CELLS)).sum(axis=1) + _FLOOR
                common /= common.sum()
            new = share + _PRIOR_CELLS * common[:, None] + _FLOOR
            new /= new.sum(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                new *= (new / weight) ** _FURTHER
            weight = np.where(common[:, None] > 0, np.maximum(new, _FLOOR**2), 0)
            weight /= weight.sum(axis=0)
        return Found(weight, self.log_likelihood(weight) + log_prior(weight, common)), common

    def log_likelihood(self, weight: np.ndarray) -> np.ndarray:
        """Log likelihood of each gene, (n,)."""
        counted = self.counted
        zero = np.einsum("nl,nl->n", counted.zeros, np.log(np.maximum(weight.T @ self._zero, 1e-300)))
        among = np.einsum("ke,ke->e", weight.astype(np.float32)[:, counted.gene], self._own)
        return zero + counted.sum(counted.number * np.log(np.maximum(among, 1e-30)) + self._top)


def log_prior(weight: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Log density of the weights of each gene, but for a constant."""
    some = common > 0
    return _PRIOR_CELLS * (common[some, None] * np.log(weight[some] / common[some, None])).sum(axis=0)


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
        Of the halves.
    genes
        Genes to look at, rising; None for all.
    """
    n_cells = int(max(_FEWEST, _ENTRIES / held_out.data.n_vars))
    half = held_out.judged(n_cells).halved(np.random.default_rng(seed))
    counts = (half.data.counts + half.counts).tocsc()
    gaps = None if half.data.unobserved is None else half.data.unobserved.tocsc()
    means = Means(graph, params, half, genes)
    if genes is not None:
        counts, told = counts[:, genes], told[genes]
        gaps = None if gaps is None else gaps[:, genes]
    return laws_of_counted(count_levels(means, counts, gaps), told)


def laws_of_counted(counted: Counted, told: np.ndarray) -> Laws:
    """Distributions of all genes; `told` says how far dropout is looked for, from 0 to 1, float64 (n,)."""
    n = len(counted.zeros)
    common = _common(counted)
    weights, _ = LawFit(counted).fit(common, np.tile(common[:, None], n), _STEPS)
    chance, some, lost = np.zeros((3, n))
    weight, genes = weights.weight.copy(), np.flatnonzero(told > 0)
    if len(genes):
        of_genes = _dropout(counted.take(genes).expressed(), weights.weight[:, genes], common)
        chance[genes], some[genes] = of_genes.chance * told[genes], of_genes.some * told[genes]
        lost[genes], weight[:, genes] = of_genes.lost, of_genes.weight
    lift = 1 - some + some / (1 - lost)
    plain = Part(*_float32(weights.weight * (1 - some), 1 / lift, np.zeros(n)))
    dropout, has = None, np.flatnonzero(some > 0)
    if len(has):
        of_some = weight[:, has] * some[has], 1 / (lift * (1 - lost))[has], lost[has]
        own, scale, gone = _float32(*of_some)
        dropout = Part(own, scale, gone, has.astype(np.int32))
    return Laws(plain, dropout, *_float32(lift, chance))


def _common(counted: Counted) -> np.ndarray:
    """Weights that all genes have in common, from some of them: as many that are expressed a little as that are much."""
    n = len(counted.zeros)
    total = counted.sum(counted.number * counted.x)
    genes = np.sort(np.argsort(total, kind="stable")[:: -(-n // _COMMON_GENES)])
    even = np.full(len(GRID), 1 / len(GRID))
    start = np.tile(even[:, None], len(genes))
    return LawFit(counted.take(genes)).fit(even, start, _STEPS_COMMON, learn=True)[1]


class Dropout(NamedTuple):
    """What is known of dropout in some genes."""

    chance: np.ndarray  # float64 (n,): probability that a gene has dropout worth the name
    some: (
        np.ndarray
    )  # float64 (n,): or what cannot be told from a gene that is off, which may be dropout where others have it
    lost: np.ndarray  # float64 (n,): probability that a count is lost, if there is some
    weight: np.ndarray  # float64 (len(GRID), n): weights of the components, if there is some


def _dropout(counted: Counted, weight: np.ndarray, common: np.ndarray) -> Dropout:
    """Weigh dropout against none."""
    without = LawFit(counted).fit(common, weight, _STEPS_DROPOUT)[0]
    even = np.where(np.array(GRID) < _LEAST, 0, common)  # dropout in the place of what is spread most
    even /= even.sum()
    start = np.where(even[:, None] > 0, without.weight, 0)
    start /= start.sum(axis=0)
    lead = np.full(weight.shape[1], -np.inf)
    for shift in _SHIFTS:
        law = LawFit(counted, shift)
        lead = np.maximum(lead, law.log_likelihood(start) + log_prior(start, even) - without.log_likelihood)
    nothing = np.zeros(len(lead))
    if (lead > _PRICE - _LEEWAY).mean() < _USUAL:  # whatever a closer look at them would say
        return Dropout(nothing, nothing, nothing, weight)
    evidence, lost, own = lead - np.log(len(_SHIFTS)), np.full(len(lead), -np.expm1(-_SHIFTS[0])), start.copy()
    genes = np.flatnonzero(lead > _HOPELESS)
    if len(genes):
        few = counted.take(genes)
        fits = [LawFit(few, shift).fit(even, start[:, genes], _STEPS_DROPOUT)[0] for shift in _SHIFTS]
        leads = np.stack([one.log_likelihood for one in fits]) - without.log_likelihood[genes]
        evidence[genes] = special.logsumexp(leads, axis=0) - np.log(len(_SHIFTS))
        share = special.softmax(leads, axis=0)
        lost[genes] = -np.expm1(-np.array(_SHIFTS)) @ share
        own[:, genes] = np.einsum("sg,skg->kg", share, np.stack([one.weight for one in fits]))
    share, chance = _posterior(evidence)
    if share == 0:
        return Dropout(nothing, nothing, nothing, weight)
    chance = share * chance
    # Without it, what looks like a gene that is off in some cells may still be dropout where other genes have it.
    off = np.array(GRID) < _OFF
    off_share = np.clip(weight[off].sum(axis=0), *_SLIGHT)
    rest = np.where(off[:, None], 0, weight)
    slight = (1 - chance) * share / 2
    some = chance + slight
    lost = (chance * lost + slight * off_share) / some
    return Dropout(chance, some, lost, (chance * own + slight * rest / rest.sum(axis=0)) / some)


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
