"""Score a fitted model, and what it has to beat, on molecules of the same cells that it has not seen.

Molecular cross-validation (Batson, Royer and Webber, 2019): given the true expression, the molecules set aside are
independent of those shown, so a prediction gains nothing by repeating the noise of what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.non_zeros import entry_rows
from scdae.core.distributions.components import Components
from scdae.core.distributions.predictive_numpy import (
    BlockLaw,
    HeldOutLaw,
    log_prob,
    log_prob_zero,
    predictive_law,
    predictive_pit,
)
from scdae.core.evaluation.baselines import Baseline, GeneMean
from scdae.core.network.fitted import Fitted
from scdae.core.prediction.decode import law_of_genes, read_out

__all__ = [
    "GENE_MEAN",
    "MODEL",
    "PIT_BINS",
    "RESTORED",
    "Calibration",
    "Score",
    "Scores",
    "own_log_likelihood",
    "score",
]

MODEL, RESTORED, GENE_MEAN = "scdae", "scdae with own counts", "gene mean"
BLEND = 0.01  # of the gene means in what is compared with raw counts, so that a predicted zero is not infinitely wrong
Watch = Callable[[slice, np.ndarray, np.ndarray], None]
_RIVALS = {MODEL: GENE_MEAN, RESTORED: GENE_MEAN, GENE_MEAN: MODEL}  # of all others: what is restored
PIT_BINS = 20
PIT_LEAST = 0.5  # expected held-out molecules of the entries whose intervals are judged


class Score(NamedTuple):
    """One method on the molecules set aside."""

    deviance: np.ndarray  # float64 (n_vars,): Poisson deviance by gene
    cell_deviance: np.ndarray  # float64 (n_obs,)
    log_likelihood: np.ndarray  # float64 (n_obs,): negative binomial, by cell
    margin_error: np.ndarray  # float64 (n_vars,): standard error, over cells, of its deviance minus that of its rival


class Calibration(NamedTuple):
    """The model's predictive distribution on the entries with enough expected molecules."""

    pit: np.ndarray  # int64 (PIT_BINS,): histogram of the probability integral transform
    covered: int  # entries in their 90 % interval


class Scores(NamedTuple):
    """The model and the baselines, by name."""

    methods: dict[str, Score]
    calibration: Calibration
    molecules: float  # that were set aside


@dataclass(frozen=True)
class _Block:
    """Some cells: what was set aside of them, and which entries were observed."""

    rows: slice
    y: sp.csr_matrix
    at: tuple[np.ndarray, np.ndarray]  # row and column of the entries of `y`
    observed: np.ndarray | None

    @classmethod
    def of(cls, rows: slice, data: CellData, held_out: sp.csr_matrix) -> _Block:
        y = held_out[rows]
        hidden = data.unobserved
        return cls(rows, y, (entry_rows(y), y.indices), None if hidden is None else ~hidden[rows].toarray())

    def seen(self, values: np.ndarray) -> np.ndarray:
        """Return the values, with zeros at missing values."""
        return values if self.observed is None else np.where(self.observed, values, 0)

    def deviance(self, mean: np.ndarray) -> np.ndarray:
        """Return the Poisson deviance of every entry."""
        value = 2 * self.seen(mean)
        y = self.y.data.astype(np.float64)
        value[self.at] += 2 * (y * np.log(y / mean[self.at]) - y)
        return value

    def log_likelihood(self, law: HeldOutLaw | BlockLaw) -> np.ndarray:
        """Compute the log probability of each cell."""
        at = law.at(*self.at)
        extra = log_prob(self.y.data.astype(np.float64), at) - log_prob_zero(at)
        total = self.seen(law.log_zero()).sum(axis=1)
        return total + np.bincount(self.at[0], weights=extra, minlength=len(total))


class _Tally:
    """Sums of one method over all cells."""

    def __init__(self, n_obs: int, n_vars: int):
        self.of_gene = np.zeros(n_vars)
        self.of_cell = np.zeros(n_obs)
        self.likelihood = np.zeros(n_obs)
        self.margin, self.margin_square = np.zeros(n_vars), np.zeros(n_vars)
        self.excess, self.mean_square = np.zeros(n_vars), np.zeros(n_vars)

    def add(self, block: _Block, deviance: np.ndarray, of_rival: np.ndarray, mean: np.ndarray) -> None:
        self.of_gene += deviance.sum(axis=0)
        self.of_cell[block.rows] = deviance.sum(axis=1)
        margin = deviance - of_rival
        self.margin += margin.sum(axis=0)
        self.margin_square += (margin**2).sum(axis=0)
        mean = block.seen(mean)
        square = (mean**2).sum(axis=0)
        self.mean_square += square
        self.excess += square - mean.sum(axis=0)  # sum of (y - m)^2 - m over the cells
        y = block.y.data
        self.excess += np.bincount(block.y.indices, weights=y * (y - 2 * mean[block.at]), minlength=len(square))

    def shape(self) -> np.ndarray:
        """Compute the inverse dispersion of each gene around the expected counts, by moments."""
        dispersion = np.divide(self.excess, self.mean_square, out=np.zeros_like(self.excess), where=self.excess > 0)
        return np.divide(1, dispersion, out=np.full_like(dispersion, np.inf), where=dispersion > 1e-8)

    def score(self) -> Score:
        error = np.sqrt(np.maximum(self.margin_square - self.margin**2 / len(self.of_cell), 0))
        return Score(self.of_gene, self.of_cell, self.likelihood, error)


def score(
    fitted: Fitted,
    data: CellData,
    held_out: sp.csr_matrix,
    ratio: float,
    baselines: Mapping[str, Baseline],
    rng: np.random.Generator,
    watch: Watch | None = None,
) -> Scores:
    """Score the model, the gene means and further baselines.

    Parameters
    ----------
    fitted
        Model that was fitted to `data`.
    data
        Molecules shown.
    held_out
        float32 CSR (n_obs, n_vars): those set aside, of genes that were seen.
    ratio
        Expected molecules set aside for each that is shown.
    baselines
        Further ones, by name.
    rng
        For the randomized transform.
    watch
        Is shown some cells at a time: their rows, and float64 (n, n_vars) what is expected among the molecules shown, without and
        with the entries' own counts.

    Notes
    -----
    "scdae" is what the other genes of a cell say, by the decoder's mean; "scdae with own counts" is what is restored. The rival
    of each of these two is the gene mean, that of the gene mean is "scdae", and that of all others is what is restored. Expected
    counts other than those of "scdae" and the gene means are blended with 1 % of the gene means. The log likelihood of
    "scdae" is that of a negative binomial around its mean, with dropout where it has any, that of "scdae with own counts" the
    predictive distribution of the model. A baseline gets a negative binomial around its expected counts, whose dispersion is fitted,
    gene by gene, to the very molecules set aside (by moments), which is in the baselines' favor.
    """
    everyone = {GENE_MEAN: GeneMean(data), **baselines}
    laws, exposure = law_of_genes(fitted), data.exposure
    tallies = {name: _Tally(*held_out.shape) for name in (MODEL, RESTORED, *everyone)}
    spans, pit, covered = [], np.zeros(PIT_BINS, np.int64), 0
    for rows, prior, _ in read_out(fitted, data, "prior"):
        spans.append(rows)
        block = _Block.of(rows, data, held_out)
        level = laws.level(prior, exposure[rows])
        law = _law(laws, data.counts[rows], prior, ratio, level)
        alone = _law(laws, None, prior, ratio, level)
        for name, one in ((MODEL, alone), (RESTORED, law)):
            tallies[name].likelihood[rows] = block.log_likelihood(one)
        if watch is not None:
            watch(rows, alone.expected / ratio, law.expected / ratio)
        means = dict(_means(everyone, rows, ratio))
        means |= {MODEL: alone.expected, RESTORED: (1 - BLEND) * law.expected + BLEND * means[GENE_MEAN]}
        deviances = {name: block.deviance(means[name]) for name in (MODEL, RESTORED, GENE_MEAN)}
        for name, mean in means.items():
            deviance = deviances[name] if name in deviances else block.deviance(mean)
            tallies[name].add(block, deviance, deviances[_RIVALS.get(name, RESTORED)], mean)
        judged = block.seen(law.expected) > PIT_LEAST
        if judged.any():
            value = predictive_pit(block.y.toarray()[judged], law.at(judged), rng)
            pit += np.histogram(value, PIT_BINS, (0, 1))[0]
            covered += int(((value > 0.05) & (value < 0.95)).sum())

    shapes = {name: tallies[name].shape() for name in everyone}
    for rows in spans:
        block = _Block.of(rows, data, held_out)
        for name, mean in _means(everyone, rows, ratio):
            tallies[name].likelihood[rows] = block.log_likelihood(HeldOutLaw(mean, shapes[name], np.zeros(1)))
    methods = {name: tally.score() for name, tally in tallies.items()}
    return Scores(methods, Calibration(pit, covered), float(held_out.sum()))


def own_log_likelihood(fitted: Fitted, data: CellData, held_out: sp.csr_matrix, ratio: float) -> np.ndarray:
    """Log likelihood of the molecules set aside under the model's own distribution, by cell: float64 (n_obs,).

    Arguments as for :func:`score`.
    """
    laws, exposure = law_of_genes(fitted), data.exposure
    log_likelihood = np.zeros(data.n_obs)
    for rows, prior, _ in read_out(fitted, data, "prior"):
        law = _law(laws, data.counts[rows], prior, ratio, laws.level(prior, exposure[rows]))
        log_likelihood[rows] = _Block.of(rows, data, held_out).log_likelihood(law)
    return log_likelihood


def _law(
    laws: Components, counts: sp.csr_matrix | None, prior: np.ndarray, ratio: float, level: np.ndarray | None
) -> HeldOutLaw | BlockLaw:
    """Compute the law of the molecules set aside, given those shown, or without them."""
    if len(laws.theta) > 1:
        return BlockLaw(laws, counts, prior, ratio, level)
    theta, pi = laws.theta[0], laws.lost[0]
    if counts is not None:
        return predictive_law(counts.toarray(), prior, theta, pi, ratio)
    return HeldOutLaw(ratio * prior.astype(np.float64), theta[None], pi[None])


def _means(everyone: Mapping[str, Baseline], rows: slice, ratio: float) -> Iterator[tuple[str, np.ndarray]]:
    """Return the molecules that each baseline expects among those set aside."""
    base = ratio * everyone[GENE_MEAN].expect(rows)
    for name, baseline in everyone.items():
        yield name, base if name == GENE_MEAN else (1 - BLEND) * ratio * baseline.expect(rows) + BLEND * base
