"""How close a prediction comes to held-out counts or to a known truth: plain NumPy, one formula a function."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from scdae.arguments.objects import spelled
from scdae.matrices.columns import as_dense

__all__ = ["deviance_skill", "gene_correlation", "gene_mean", "log_normalize", "poisson_deviance", "rmse"]


def poisson_deviance(counts: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Poisson deviance of every entry, ``2 (x log(x / m) - x + m)``.

    Parameters
    ----------
    counts
        Observed counts ``x``, 0 or more.
    mean
        Expected counts ``m``, of a shape that broadcasts with `counts`.

    Returns
    -------
    ndarray, float64
        0 where the mean is the count, infinite where the mean is 0 and the count is not.

    Examples
    --------
    >>> poisson_deviance([0, 2], [1.0, 2.0])
    array([2., 0.])
    """
    counts, mean = _not_negative(counts, "counts"), _not_negative(mean, "mean")
    try:
        np.broadcast_shapes(counts.shape, mean.shape)
    except ValueError as error:
        raise ValueError(
            f"mean has the shape {mean.shape}, which does not go with that of counts, {counts.shape}."
        ) from error
    return 2.0 * special.kl_div(counts, mean)


def gene_mean(counts: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
    """Prediction that knows a cell's depth and a gene's average, and nothing else: ``size_i * share_j``.

    Parameters
    ----------
    counts
        Counts of shape ``(n_cells, n_genes)``.
    size
        Depth of every cell to predict for, shape ``(n_cells,)``, in molecules; the totals of `counts` when left out.

    Returns
    -------
    ndarray, float64, of shape ``(n_cells, n_genes)``
        All zero where there are no counts at all.

    Examples
    --------
    >>> gene_mean([[1, 1], [2, 0]])
    array([[1.5, 0.5],
           [1.5, 0.5]])
    """
    counts = _table(_not_negative(counts, "counts"), "counts")
    per_gene = counts.sum(axis=0)
    total = per_gene.sum()
    share = per_gene / total if total > 0 else per_gene
    size = counts.sum(axis=1) if size is None else _not_negative(size, "size")
    if size.ndim != 1:
        raise ValueError(
            f"size has the shape {size.shape}: give one depth for every cell to predict for, shape (n_cells,)."
        )
    return size[:, None] * share


def deviance_skill(counts: np.ndarray, mean: np.ndarray, baseline: np.ndarray, *, blend: float = 0.0) -> float:
    """Share of the baseline's Poisson deviance that a prediction removes, ``1 - D(mean) / D(baseline)``.

    1 is a perfect prediction, 0 no better than the baseline, negative worse. Counts are noisy, so even the true mean
    stays well below 1.

    Parameters
    ----------
    counts
        Held-out counts of shape ``(n_cells, n_genes)``.
    mean, baseline
        Two predictions of them, of the same shape.
    blend
        Share of the baseline mixed into the prediction first, so that predicted zeros do not make it infinite.

    Returns
    -------
    float
        The skill; NaN when the baseline has no deviance to remove.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[4.0, 0.0], [0.0, 4.0]])
    >>> deviance_skill(x, x, gene_mean(x))
    1.0
    """
    if not 0 <= blend <= 1:
        raise ValueError(f"blend={blend!r}: use a fraction of the baseline from 0 to 1.")
    counts, mean, baseline = (
        _not_negative(values, name) for values, name in ((counts, "counts"), (mean, "mean"), (baseline, "baseline"))
    )
    _alike(mean, counts, "mean", "counts")
    _alike(baseline, counts, "baseline", "counts")
    mean = (1 - blend) * mean + blend * baseline
    reference = poisson_deviance(counts, baseline).sum()
    return float(1 - poisson_deviance(counts, mean).sum() / reference) if reference > 0 else float("nan")


def log_normalize(counts: np.ndarray, target: float = 1e4) -> np.ndarray:
    """Log of one plus counts per `target` molecules of the cell, as in most single-cell workflows.

    Parameters
    ----------
    counts
        Counts or expected counts of shape ``(n_cells, n_genes)``.
    target
        Molecules that every cell is scaled to.

    Returns
    -------
    ndarray, float64, of the same shape
        A cell without counts stays zero.

    Examples
    --------
    >>> import numpy as np
    >>> np.expm1(log_normalize([[1, 3], [0, 0]], target=100)).round(6)
    array([[25., 75.],
           [ 0.,  0.]])
    """
    counts = _table(_not_negative(counts, "counts"), "counts")
    if not 0 < target < np.inf:
        raise ValueError(f"target={target!r}: use a positive number of molecules.")
    total = counts.sum(axis=1, keepdims=True)
    return np.log1p(np.divide(target * counts, total, out=np.zeros_like(counts), where=total > 0))


@spelled
def rmse(predicted: np.ndarray, truth: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Root mean squared error of two arrays of the same shape, over all entries or along an axis.

    Examples
    --------
    >>> float(rmse([1.0, 5.0], [1.0, 1.0]).round(3))
    2.828
    """
    predicted, truth = _float64(predicted), _float64(truth)
    _alike(predicted, truth, "predicted", "truth")
    error = predicted - truth
    return np.sqrt(np.mean(error**2, axis=axis))


def gene_correlation(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pearson correlation over cells, gene by gene.

    Parameters
    ----------
    predicted, truth
        Arrays of shape ``(n_cells, n_genes)``.

    Returns
    -------
    ndarray, float64, of shape ``(n_genes,)``
        NaN for a gene that is constant in either array.

    Examples
    --------
    >>> gene_correlation([[0, 1], [1, 1], [2, 1]], [[2, 0], [1, 1], [0, 2]])
    array([-1., nan])
    """
    a, b = _table(_float64(predicted), "predicted"), _table(_float64(truth), "truth")
    _alike(a, b, "predicted", "truth")
    a = a - a.mean(axis=0)
    b = b - b.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.full(a.shape[1], np.nan), where=scale > 0)


def _float64(values: Any) -> np.ndarray:
    """Return the values of any container as an array in memory."""
    if hasattr(values, "obs_names"):
        raise TypeError(f"A matrix is wanted here, not an {type(values).__name__}: pass adata.X or adata.layers[...].")
    return as_dense(values).astype(np.float64, copy=False)


def _not_negative(values: Any, name: str) -> np.ndarray:
    """Values of which none is below zero; NaN passes, as what was not measured."""
    array = _float64(values)
    below = array < 0
    if below.any():
        first = tuple(int(i) for i in np.argwhere(below)[0])
        raise ValueError(
            f"{name} has to be 0 or more, but {int(below.sum()):,} value(s) are negative, the first {array[first]:.6g} at {first}. "
            "Logs and z-scores are not counts."
        )
    return array


def _table(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim != 2:
        raise ValueError(f"{name} has the shape {values.shape}: give an array of cells and genes, (n_cells, n_genes).")
    return values


def _alike(one: np.ndarray, other: np.ndarray, name: str, other_name: str) -> None:
    if one.shape != other.shape:
        raise ValueError(
            f"{name} has the shape {one.shape} and {other_name} {other.shape}: they have to hold the same cells and genes."
        )
