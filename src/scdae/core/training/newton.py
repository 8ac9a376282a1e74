"""The decoder's loadings, solved for: damped Newton steps on each gene's Poisson likelihood, given where cells lie.

Gradient steps leave large fold changes of rare cells unlearned: a gene of a hundred cells in ten thousand gets a hundredth of
the steps. Given the latent positions, though, each gene is a Poisson regression of its own, whose likelihood is concave, and
a few Newton steps reach the top. What each gene has to do with the others is the sum of the shares in a cell, which is the
offset of all of them and is brought up to date after every round.

Loadings are drawn to zero, or to those of a reference, by a Gaussian prior whose variance is that of the axis times that of
the gene. Both are learned by turns with the loadings (EM), the latter under an inverse-gamma law of four degrees of freedom: an
axis that no gene needs costs nothing, and a gene that needs a large loading may have it.

What is as large as cells by genes is in :mod:`scdae.core.training.regressions`. The systems of equations are solved by LAPACK,
because batched dense linear algebra within compiled programs can stand still on some versions of JAX.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from scdae.core.runtime.stopping import stop_if_asked
from scdae.core.training.regressions import Cells, Refit, Regressions

__all__ = ["learn_prior", "refit", "standard_axes"]

STEPS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.003)  # a fold change of a thousand is overshot by longer ones
_ROUNDS = 4
_FIRST = 1 / 16  # variance of the loadings on positions of unit variance, before it has been learned
_DEGREES = 4.0  # of freedom, of the law of the genes' scales
_FLAT = 1e-6  # precision of the gene means
_TINY = 1e-6  # relative loss that is rounding


def standard_axes(latent: np.ndarray, *, least: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the positions, float64 (n_latent,), and the map to axes of variance 1 that are not correlated, (n_latent, n_axes).

    Directions with less than `least` of the variance of the widest are left out: nothing was learned along them.

    Examples
    --------
    >>> import numpy as np
    >>> latent = np.random.default_rng(0).normal(size=(50, 2)) * [3.0, 0.0] + 1
    >>> mean, axes = standard_axes(latent)
    >>> axes.shape, round(float(((latent - mean) @ axes).var()), 3)
    ((2, 1), 1.0)
    """
    latent = latent.astype(np.float64)
    mean = latent.mean(axis=0)
    centered = latent - mean
    variance, turn = np.linalg.eigh(centered.T @ centered / len(latent))
    variance, turn = variance[::-1], turn[:, ::-1]
    kept = variance > max(least * variance[0], 1e-12)
    return mean, turn[:, kept] / np.sqrt(variance[kept])


def learn_prior(loading: np.ndarray, error: np.ndarray, *, n_iter: int = 5) -> np.ndarray:
    """Learn the prior variance of every loading, by axis times by gene, from the loadings.

    Parameters
    ----------
    loading
        float (n_axes, n_vars), less what they are drawn to.
    error
        Their variance given the counts, of the same shape.
    n_iter
        Turns of axes and genes.

    Returns
    -------
    numpy.ndarray
        float64 (n_axes, n_vars).

    Examples
    --------
    >>> import numpy as np
    >>> learn_prior(np.array([[2.0, 2.0]]), np.zeros((1, 2))).round(6).tolist()
    [[4.0, 4.0]]
    """
    square = loading.astype(np.float64) ** 2 + error
    gene = np.ones(square.shape[1])
    axis = square.mean(axis=1)
    for _ in range(n_iter):
        axis = np.maximum((square / gene).mean(axis=1), 1e-12)
        gene = (_DEGREES + (square / axis[:, None]).sum(axis=0)) / (_DEGREES + len(square))
    return axis[:, None] * gene


def refit(
    cells: Cells,
    loading: np.ndarray,
    intercept: np.ndarray,
    *,
    effects: np.ndarray | None = None,
    turn_loading: np.ndarray | None = None,
    kept: np.ndarray | None = None,
    center: np.ndarray | None = None,
    n_rounds: int = _ROUNDS,
) -> Refit:
    """Solve for the loadings of all genes.

    Parameters
    ----------
    cells
        What they are learned from.
    loading, intercept
        Where to start: float (n_axes, n_vars) and (n_vars,).
    effects
        Of the conditions, float (n_effects, n_vars).
    turn_loading
        Of the hidden units, float (n_turns, n_vars).
    kept
        Share of each gene's molecules that dropout leaves, (n_vars,); None for all.
    center
        What loadings are drawn to, (n_axes, n_vars); None for zero.
    n_rounds
        Rounds of one step of every gene, the sums of the shares, and the prior.
    """
    work = Regressions(cells, effects, turn_loading, kept)
    center = np.zeros(loading.shape) if center is None else center
    solution = Refit(loading.astype(np.float32), intercept.astype(np.float32), np.full(loading.shape, _FIRST))
    molecules = max(float(work.totals.sum()), 1.0)
    work.update_norm(np.sum([work.look(solution, genes).rows for genes in work.blocks()], axis=0))
    more, last = None, n_rounds - 1
    for i in range(n_rounds):
        if i == 1:  # the first round has gone most of the way
            over = work.left_over(solution)
            work.leave_out_own(over)
            more = work.square_left_over(over)
        rows, error = np.zeros(work.n_obs), np.empty(loading.shape)
        reached, left, unsettled = _Reached(*np.zeros((2, work.n_vars))), [], []
        for genes in work.blocks():
            stop_if_asked()
            way, error[:, genes] = _aim(work, solution, genes, center, reached, more if i == 1 else None)
            of_cells, rest = _go(work, solution, way, STEPS[0], reached)
            if len(rest.genes):
                left.append(rest)
                unsettled.append(genes)
            else:
                rows += of_cells
        refused = _shorter(work, solution, left, reached)
        for genes in unsettled:
            rows += work.look(solution, genes).rows
        if i == last and not work.has_more:
            solution.evidence = work.evidence(solution, reached.expected)
        work.update_norm(rows)
        solution.refused.append(refused)
        solution.gain.append(float(reached.gain.sum()) / molecules)
        solution.variance = learn_prior(solution.loading - center, error)
    return solution


@dataclass
class _Reached:
    """What a round has come to."""

    gain: np.ndarray  # float64 (n_vars,): of the log posterior
    expected: np.ndarray  # float64 (n_vars,): molecules of each gene


@dataclass
class _Way:
    """Where some genes are, and where to: columns of one gene each."""

    genes: np.ndarray  # int64 (w,)
    now: np.ndarray  # float64 (1 + n_axes, w)
    move: np.ndarray  # float64 (1 + n_axes, w): a whole step
    value: np.ndarray  # float64 (w,): log posterior, but for a constant
    sums: np.ndarray  # float64 (1 + n_axes, w): counts, and counts times positions
    precision: np.ndarray  # float64 (1 + n_axes, w): of the prior, whose mean is the goal
    goal: np.ndarray  # float64 (1 + n_axes, w)

    def value_of(self, coefficients: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Compute the log posterior of the coefficients, but for a constant, by the molecules expected: float64 (w,)."""
        drawn = 0.5 * (self.precision * (coefficients - self.goal) ** 2).sum(axis=0)
        return np.asarray((self.sums * coefficients).sum(axis=0) - expected - drawn)

    def take(self, which: Any) -> _Way:
        """Those of some of the genes."""
        return _Way(*(getattr(self, part.name)[..., which] for part in fields(self)))


def _aim(
    work: Regressions,
    solution: Refit,
    genes: np.ndarray,
    center: np.ndarray,
    reached: _Reached,
    more: np.ndarray | None,
) -> tuple[_Way, np.ndarray]:
    """Where a Newton step takes some genes, and the variance of their loadings given the counts, float64 (n_axes, w).

    The excess is learned anew where there is `more` of what :meth:`Regressions.learn_excess` needs.
    """
    look = work.look(solution, genes, curved=True)
    if more is not None:
        work.learn_excess(genes, look, more)
    reached.expected[genes] = look.sums[0]
    sums, precision = work.sums[:, genes], np.full((work.width, len(genes)), _FLAT)
    precision[1:] = work.excess[genes] / np.maximum(solution.variance[:, genes], 1e-12)
    goal = np.zeros(precision.shape)
    goal[1:] = center[:, genes]
    now = np.concatenate([solution.intercept[None, genes], solution.loading[:, genes]]).astype(np.float64)
    curvature = work.full(look.products)
    diagonal = np.arange(work.width)
    curvature[:, diagonal, diagonal] += precision.T
    gradient = sums - look.sums - precision * (now - goal)
    move = np.linalg.solve(curvature, gradient.T[..., None])[..., 0].T
    way = _Way(genes, now, move, np.zeros(len(genes)), sums, precision, goal)
    way.value = way.value_of(now, look.sums[0])
    return way, work.excess[genes] / curvature[:, diagonal, diagonal].T[1:]


def _go(work: Regressions, solution: Refit, way: _Way, length: float, reached: _Reached) -> tuple[np.ndarray, _Way]:
    """Go a part of the way with the genes that gain by it: molecules expected in each cell if all do, and the way of the others."""
    trial = way.now + length * way.move
    looked = work.look(trial.astype(np.float32), way.genes)
    value = way.value_of(trial, looked.sums[0])
    good = value >= way.value - _TINY * np.abs(way.value)
    moved = way.genes[good]
    solution.intercept[moved], solution.loading[:, moved] = trial[0, good], trial[1:, good]
    reached.gain[moved], reached.expected[moved] = (value - way.value)[good], looked.sums[0, good]
    return looked.rows, way.take(~good)


def _shorter(work: Regressions, solution: Refit, left: list[_Way], reached: _Reached) -> int:
    """Go shorter and shorter steps with the genes that are left of all blocks, many at a time; return how many gain by none."""
    for length in STEPS[1:]:
        if not left:
            return 0
        way = _Way(*(np.concatenate([getattr(one, part.name) for one in left], axis=-1) for part in fields(_Way)))
        starts = range(0, len(way.genes), work.at_once)
        rests = [_go(work, solution, way.take(slice(k, k + work.at_once)), length, reached)[1] for k in starts]
        left = [rest for rest in rests if len(rest.genes)]
    return sum(len(rest.genes) for rest in left)
