"""Counts of genes that a panel did not measure: predicted, with limits, and with what hidden genes say of the accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scdae.core.panels.limits import Calibration, Levels, log_excess
from scdae.core.panels.stacking import partial_ranks, rank_into, stacked, stacking_weights
from scdae.core.panels.transfer import Transfer

__all__ = ["Hidden", "Prediction", "predict"]

Restore = Callable[[np.ndarray, np.ndarray, sp.csr_matrix | None], tuple[np.ndarray, np.ndarray, np.ndarray | None]]

_FOLDS = 4
_MOST_CELLS = 3000  # of each side, while genes are hidden
_BLOCK = 500  # genes at a time
_MOST_MODELED = 1000  # genes to predict that the model learns as well; with more it takes too long


@dataclass(frozen=True)
class Hidden:
    """Shared genes, each predicted by a part of the others.

    Parameters
    ----------
    correlation
        Partial Spearman correlation of predicted and measured counts over the cells, given their counts in the panel,
        float64 (n_shared,).
    measured, predicted
        Mean counts, float64 (n_shared,); `predicted` at the level that the genes of the other folds suggest.
    within
        Fraction of the counts within the limits, float64 (n_shared,); None without limits.
    """

    correlation: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray
    within: np.ndarray | None


@dataclass(frozen=True)
class Prediction:
    """Predicted counts.

    Parameters
    ----------
    counts
        Expected counts at the depth of the cell, float32 (n_obs, n_targets).
    lower, upper
        Limits, float32 (n_obs, n_targets); None where none were asked for.
    weights
        Of the neighbors, of the regression on the shared genes and on the same genes denoised, and of the model's own
        prediction if it has one, float64 (4,) or (3,).
    levels, calibration
        What the hidden genes say of levels and of limits.
    hidden
        How well they were predicted.
    """

    counts: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    weights: np.ndarray
    levels: Levels
    calibration: Calibration | None
    hidden: Hidden


@dataclass
class _Fold:
    genes: np.ndarray
    logs: np.ndarray
    shares: np.ndarray
    measured: np.ndarray
    total: np.ndarray
    excess: np.ndarray


def predict(
    spatial: np.ndarray,
    reference: np.ndarray,
    targets: sp.csr_matrix,
    restore: Restore,
    *,
    n_neighbors: int,
    level: float | None,
    rng: np.random.Generator,
) -> Prediction:
    """Predict the counts of genes that only the reference cells have.

    Parameters
    ----------
    spatial, reference
        Counts of the shared genes, float (n_obs, n_shared) and (n_reference, n_shared), with at least four genes;
        every cell has counts.
    targets
        Counts of the genes to predict, CSR (n_reference, n_targets).
    restore
        Takes the counts of both sides in the shared genes, and those of the reference in genes that the panel lacks,
        CSR (n_reference, k), or None. Returns logs without noise, arrays of the shapes of the first two, and
        predicted logs of the third, float (n_obs, k), or None.
    n_neighbors
        Reference cells that are averaged.
    level
        Fraction of the counts that the limits shall hold; None for no limits.
    rng
        Chooses cells and genes that are hidden, and draws lots.

    Returns
    -------
    Prediction

    Notes
    -----
    Four predictions of log counts are made: the mean of the nearest reference cells, two regressions, on the shared
    genes and on the same genes denoised, and what the model that denoises says of genes that it saw in the reference
    only (for at most 1,000 genes). A quarter of the shared genes at a time is hidden from all of this and
    predicted by the others. That gives the weights of the predictions (:func:`~scdae.core.panels.stacking.stacking_weights`),
    the level of each gene (:class:`~scdae.core.panels.limits.Levels`) and the limits
    (:class:`~scdae.core.panels.limits.Calibration`). The weighted sum orders the cells of a gene; the values that are
    put in that order are averages of the neighbors' counts.
    """
    modeled = targets.shape[1] <= _MOST_MODELED
    folds = list(_hidden(spatial, reference, restore, modeled, n_neighbors, rng))
    order = np.concatenate([fold.genes for fold in folds])
    weights, place = _weights(folds)
    raw = [_counts(fold, weights) for fold in folds]
    levels, leveled = _levels(raw, folds)
    calibration, within = None, None
    if level is not None:
        calibration, held = _calibrated(leveled, folds, level, rng)
        within = held[place]
    hidden = Hidden(
        np.concatenate([_skill(one, fold) for one, fold in zip(raw, folds, strict=True)])[np.argsort(order)],
        np.concatenate([fold.measured.mean(axis=0) for fold in folds])[np.argsort(order)],
        np.concatenate([one.mean(axis=0) for one in leveled])[np.argsort(order)],
        within,
    )

    *denoised, own = restore(spatial, reference, targets if modeled else None)
    transfer = Transfer.of(spatial, reference, (denoised[0], denoised[1]), n_neighbors)
    total = spatial.sum(axis=1, keepdims=True, dtype=np.float64)
    shape = len(spatial), targets.shape[1]
    counts = np.empty(shape, np.float32)
    lower, upper = (None, None) if level is None else (np.empty(shape, np.float32), np.empty(shape, np.float32))
    columns = targets.tocsc()
    for start in range(0, shape[1], _BLOCK):
        here = slice(start, start + _BLOCK)
        some = columns[:, here].tocsr()
        logs = _logs(transfer, some, None if own is None else own[:, here])
        one = rank_into(stacked(logs, weights, total[:, 0]), transfer.shares(some)) * total
        one *= levels.factors(one.mean(axis=0))
        counts[:, here] = one
        if calibration is not None and lower is not None and upper is not None:
            lower[:, here], upper[:, here] = calibration.limits(one, log_excess(some, transfer.panel), rng)
    return Prediction(counts, lower, upper, weights, levels, calibration, hidden)


def _logs(transfer: Transfer, targets: sp.csr_matrix, own: np.ndarray | None) -> np.ndarray:
    """Return all predictions of log counts, float64 (k, n_obs, n_targets)."""
    logs = transfer.logs(targets)
    return logs if own is None else np.concatenate([logs, own[None]])


def _hidden(
    spatial: np.ndarray,
    reference: np.ndarray,
    restore: Restore,
    modeled: bool,
    n_neighbors: int,
    rng: np.random.Generator,
) -> Iterator[_Fold]:
    """Hide a part of the shared genes at a time and predict it by the others."""
    cells, points = (
        one if len(one) <= _MOST_CELLS else one[np.sort(rng.choice(len(one), _MOST_CELLS, replace=False))]
        for one in (spatial, reference)
    )
    n_shared = spatial.shape[1]
    for genes in np.array_split(rng.permutation(n_shared), min(_FOLDS, n_shared)):
        rest = np.setdiff1d(np.arange(n_shared), genes)
        here, there = (one[one[:, rest].sum(axis=1) > 0] for one in (cells, points))
        inputs = here[:, rest], there[:, rest]
        targets = sp.csr_matrix(there[:, genes])
        *denoised, own = restore(*inputs, targets if modeled else None)
        transfer = Transfer.of(*inputs, (denoised[0], denoised[1]), n_neighbors)
        total = inputs[0].sum(axis=1, dtype=np.float64)
        yield _Fold(
            genes,
            _logs(transfer, targets, own),
            transfer.shares(targets),
            here[:, genes],
            total,
            log_excess(targets, transfer.panel),
        )


def _weights(folds: list[_Fold]) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of the predictions, and where the genes of the panel are in the folds."""
    k = len(folds[0].logs)
    agreement, skill, n_genes = np.zeros((k, k)), np.zeros(k), 0
    for fold in folds:
        measured = partial_ranks(fold.measured / fold.total[:, None], fold.total)
        predicted = np.stack([partial_ranks(one, fold.total) for one in fold.logs])
        agreement += np.einsum("kig,lig->kl", predicted, predicted)
        skill += np.einsum("kig,ig->k", predicted, measured)
        n_genes += len(fold.genes)
    return stacking_weights(agreement / n_genes, skill / n_genes), np.argsort(
        np.concatenate([fold.genes for fold in folds])
    )


def _counts(fold: _Fold, weights: np.ndarray) -> np.ndarray:
    return rank_into(stacked(fold.logs, weights, fold.total), fold.shares) * fold.total[:, None]


def _skill(predicted: np.ndarray, fold: _Fold) -> np.ndarray:
    total = fold.total
    return (
        partial_ranks(predicted / total[:, None], total) * partial_ranks(fold.measured / total[:, None], total)
    ).sum(axis=0)


def _levels(raw: list[np.ndarray], folds: list[_Fold]) -> tuple[Levels, list[np.ndarray]]:
    """Return the levels by all folds, and the predictions of each at the level by the others."""
    predicted = [one.mean(axis=0) for one in raw]
    measured = [(fold.measured.sum(axis=0) + 0.5) / len(fold.measured) for fold in folds]

    def fitted(left_out: int | None) -> Levels:
        some = [i for i in range(len(folds)) if i != left_out]
        x, y = (np.concatenate([one[i] for i in some]) for one in (predicted, measured))
        return Levels.of(x[x > 0], y[x > 0]) if (x > 0).any() else Levels(0.0, 1.0)

    leveled = [one * fitted(i).factors(means) for i, (one, means) in enumerate(zip(raw, predicted, strict=True))]
    return fitted(None), leveled


def _calibrated(
    leveled: list[np.ndarray], folds: list[_Fold], level: float, rng: np.random.Generator
) -> tuple[Calibration, np.ndarray]:
    """Return the calibration, and which fraction of the counts of each hidden gene it holds, in the folds' order."""
    means = np.concatenate([one.ravel() for one in leveled])
    counts = np.concatenate([fold.measured.ravel() for fold in folds])
    excess = np.concatenate([np.tile(fold.excess, len(fold.measured)) for fold in folds])
    weights = np.concatenate([np.full(one.size, 1 / len(one)) for one in leveled])
    most = 200_000
    some = slice(None) if len(means) <= most else rng.choice(len(means), most, replace=False)
    calibration = Calibration.of(means[some], counts[some], excess[some], weights[some], level, rng)
    held = []
    for one, fold in zip(leveled, folds, strict=True):
        lower, upper = calibration.limits(one, fold.excess, rng)
        held.append(((fold.measured >= lower) & (fold.measured <= upper)).mean(axis=0))
    return calibration, np.concatenate(held)
