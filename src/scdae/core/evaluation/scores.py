"""Score a fitted model, and what it has to beat, on molecules of the same cells that it has not seen.

Molecular cross-validation (Batson, Royer and Webber, 2019): given the true expression, the molecules set aside are
independent of those shown, so a prediction gains nothing by repeating the noise of what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.non_zeros import entry_rows
from scdae.core.distributions.components import Components
from scdae.core.distributions.law_sums import zero_again
from scdae.core.distributions.laws import filled
from scdae.core.distributions.predictive_numpy import (
    HeldOutLaw,
    log_prob,
    log_prob_zero,
    predictive_law,
    predictive_pit,
)
from scdae.core.evaluation.baselines import Baseline, GeneMean
from scdae.core.network.fitted import Fitted
from scdae.core.prediction.decode import law_of_genes, read_out
from scdae.core.prediction.set_aside import BlockLaw
from scdae.core.runtime.background import one_behind
from scdae.core.runtime.threads import one_for_products

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

    def more(self, mean: np.ndarray) -> np.ndarray:
        """Return what the entries of `y` add to the Poisson deviance, which is twice the mean where nothing was set aside: (k,)."""
        y = self.y.data.astype(np.float64)
        return np.asarray(2 * (y * np.log(y / mean[self.at]) - y))

    def log_likelihood(self, law: HeldOutLaw | BlockLaw) -> tuple[np.ndarray, np.ndarray]:
        """Compute the log probability of each cell, (b,), and of each entry, (b, n)."""
        of_entry = law.log_prob(self.y)
        return self.seen(of_entry).sum(axis=1, dtype=np.float64), of_entry

    def nb_log_likelihood(self, mean: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Compute the log probability of each cell under negative binomial laws: `mean` (b, n), which is used up, `shape` (n,)."""
        at = HeldOutLaw(mean[self.at], shape[self.at[1]], np.zeros(1))
        more = log_prob(self.y.data.astype(np.float64), at) - log_prob_zero(at)
        poisson = np.isinf(shape)
        of_poisson = np.einsum("ij,j->i", mean, poisson.astype(np.float64))
        mean *= 1 / shape
        np.log1p(mean, out=mean)
        of_zeros = of_poisson + np.einsum("ij,j->i", mean, np.where(poisson, 0, shape))
        return np.asarray(np.bincount(self.at[0], more, len(mean)) - of_zeros)


class _Tally:
    """Sums of one method over all cells."""

    def __init__(self, n_obs: int, n_vars: int):
        self.of_gene = np.zeros(n_vars)
        self.of_cell = np.zeros(n_obs)
        self.likelihood = np.zeros(n_obs)
        self.margin_square = np.zeros(n_vars)
        self.excess, self.mean_square = np.zeros(n_vars), np.zeros(n_vars)

    def add(self, block: _Block, mean: np.ndarray, more: np.ndarray) -> None:
        """Add some cells: what is expected, (b, n), zero at missing values, and what their entries of `y` add to the deviance."""
        rows, cols = block.at
        n_cells, n = mean.shape
        of_gene = mean.sum(axis=0)
        self.of_gene += 2 * of_gene + np.bincount(cols, more, n)
        self.of_cell[block.rows] = 2 * mean.sum(axis=1) + np.bincount(rows, more, n_cells)
        square = np.einsum("ij,ij->j", mean, mean)
        self.mean_square += square
        y = block.y.data
        self.excess += square - of_gene  # sum of (y - m)^2 - m over the cells
        self.excess += np.bincount(cols, y * (y - 2 * mean[block.at]), n)

    def add_margin(self, block: _Block, apart: np.ndarray, more: np.ndarray) -> None:
        """Add the squared margins: `apart` is how much more is expected than by the rival, `more` how much more `y` adds."""
        at = apart[block.at]
        self.margin_square += 4 * np.einsum("ij,ij->j", apart, apart)
        self.margin_square += np.bincount(block.at[1], more * (4 * at + more), len(self.margin_square))

    def shape(self) -> np.ndarray:
        """Compute the inverse dispersion of each gene around the expected counts, by moments."""
        dispersion = np.divide(self.excess, self.mean_square, out=np.zeros_like(self.excess), where=self.excess > 0)
        return np.divide(1, dispersion, out=np.full_like(dispersion, np.inf), where=dispersion > 1e-8)

    def score(self, rival: _Tally) -> Score:
        margin = self.of_gene - rival.of_gene
        error = np.sqrt(np.maximum(self.margin_square - margin**2 / len(self.of_cell), 0))
        return Score(self.of_gene, self.of_cell, self.likelihood, error)


@one_for_products()
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
    tallies = {name: _Tally(*held_out.shape) for name in (MODEL, RESTORED, *everyone)}
    rivals = {name: _RIVALS.get(name, RESTORED) for name in tallies}
    spans, pit, covered = [], np.zeros(PIT_BINS, np.int64), 0
    for rows, alone, law in one_behind(_laws(fitted, data, ratio)):
        spans.append(rows)
        block = _Block.of(rows, data, held_out)
        means = dict(_means(everyone, block, ratio))
        tallies[MODEL].likelihood[rows], _ = block.log_likelihood(alone)
        tallies[RESTORED].likelihood[rows], log_prob = block.log_likelihood(law)
        if watch is not None:
            watch(rows, alone.expected / ratio, law.expected / ratio)
        restored = block.seen(law.expected)
        means |= {MODEL: block.seen(alone.expected), RESTORED: (1 - BLEND) * restored + BLEND * means[GENE_MEAN]}
        more = {name: block.more(mean) for name, mean in means.items()}
        for name, mean in means.items():
            tallies[name].add(block, mean, more[name])
            rival = rivals[name]
            tallies[name].add_margin(block, mean - means[rival], more[name] - more[rival])
        judged = restored > PIT_LEAST
        if judged.any():
            y, chance = block.y.toarray()[judged].astype(np.float64), np.exp(log_prob[judged], dtype=np.float64)
            value = predictive_pit(y, law.at(judged), rng, chance)
            pit += np.histogram(value, PIT_BINS, (0, 1))[0]
            covered += int(((value > 0.05) & (value < 0.95)).sum())

    shapes = {name: tallies[name].shape() for name in everyone}
    for rows in spans:
        block = _Block.of(rows, data, held_out)
        for name, mean in _means(everyone, block, ratio):
            tallies[name].likelihood[rows] = block.nb_log_likelihood(mean, shapes[name])
    methods = {name: tally.score(tallies[rivals[name]]) for name, tally in tallies.items()}
    return Scores(methods, Calibration(pit, covered), float(held_out.sum()))


def own_log_likelihood(fitted: Fitted, data: CellData, held_out: sp.csr_matrix, ratio: float) -> np.ndarray:
    """Log likelihood of the molecules set aside under the model's own distribution, by cell: float64 (n_obs,).

    Arguments as for :func:`score`.
    """
    log_likelihood = np.zeros(data.n_obs)
    for rows, _, law in one_behind(_laws(fitted, data, ratio)):
        log_likelihood[rows], _ = _Block.of(rows, data, held_out).log_likelihood(law)
    return log_likelihood


def _laws(
    fitted: Fitted, data: CellData, ratio: float
) -> Iterator[tuple[slice, HeldOutLaw | BlockLaw, HeldOutLaw | BlockLaw]]:
    """Yield some cells, and the laws of the molecules set aside of them: without those shown, and given these."""
    laws, exposure = law_of_genes(fitted), data.exposure
    of_genes = None if fitted.laws is None else jax.device_put(filled(fitted.laws))
    size = 0
    for rows, prior, _ in read_out(fitted, data, "prior"):
        counts = data.counts[rows]
        if of_genes is None:
            yield rows, *_single_laws(laws, counts, prior, ratio)
            continue
        level = laws.level(prior, exposure[rows])
        size = max(size, len(prior))  # of all but the last, which is filled up for the same compiled program
        whole = (
            None if part is None else np.pad(part, ((0, size - len(prior)), (0, 0)), "edge") for part in (prior, level)
        )
        again = zero_again(of_genes, *whole, np.float32(ratio))
        yield (
            rows,
            BlockLaw(laws, again, None, prior, ratio, level),
            BlockLaw(laws, again, counts, prior, ratio, level),
        )


def _single_laws(
    laws: Components, counts: sp.csr_matrix, prior: np.ndarray, ratio: float
) -> tuple[HeldOutLaw, HeldOutLaw]:
    theta, pi = laws.theta[0], laws.lost[0]
    alone = HeldOutLaw(ratio * prior.astype(np.float64), theta[None], pi[None])
    return alone, predictive_law(counts.toarray(), prior, theta, pi, ratio)


def _means(everyone: Mapping[str, Baseline], block: _Block, ratio: float) -> Iterator[tuple[str, np.ndarray]]:
    """Return the molecules that each baseline expects among those set aside, zero at missing values."""
    base = block.seen(everyone[GENE_MEAN].expect(block.rows, ratio))
    least = BLEND * base
    for name, baseline in everyone.items():
        if name != GENE_MEAN:
            mean = block.seen(baseline.expect(block.rows, (1 - BLEND) * ratio))
            mean += least
            yield name, mean
    yield GENE_MEAN, base
