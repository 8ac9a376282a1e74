"""Are these log1p of counts per 10,000? Molecules are whole, so the values of a cell, taken back, are multiples of one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.data.non_zeros import entry_rows
from scdae.matrices.rows import canonical_csr

__all__ = ["check_logs", "one_molecule"]

_LARGEST = 20.0  # log1p of counts per 10,000 stays far below
_TOTALS = (1e3, 1e5)  # counts per 10,000 add up to 10,000, more or less, even where they were perturbed
_TARGET = 1e4
_CELLS = 500  # looked at, to tell the scale
_MOST = 64  # molecules of the smallest count of a cell, at most
_NEAR = 0.03  # a multiple is a whole number, but for this and for the rounding of logs
_ROUNDING = 2e-5  # of the number itself
_FEW = 50  # molecules, beyond which rounded logs do not say how many they were
_STEP = 0.005  # relative values of a cell that differ by less are one
_ENOUGH = 20  # different values above the smallest of their cell, to tell by
_CHANCE = 0.01  # for those of a cell to be multiples of some part of the smallest
_LIKE, _UNLIKE = 0.9, 0.5  # shares of these that are multiples where the scale is right, and below which it is wrong
_SAME = 1e-4  # relative spread of totals that were made the same
_OFF, _FAR_OFF = 0.01, 0.2  # from 10,000, for such a total to be another one; a perturbation may move it
_LEAST_CELLS = 20  # to tell whether genes were centered
_CENTRED = 0.02  # mean of a gene in its standard deviations: half of the genes are nearer to 0
_DEEP, _MANY = -1.5, 0.01  # what no small perturbation makes of a zero, and the share of the values that is below
_HALF, _ABOVE = (
    0.1,
    0.7,
)  # of 1, for halves of z-scores, see _half_of_scores; and most values that are above the mean of a gene
_ZEROS, _APART = 0.1, 0.1  # share of the cells that have a gene's lowest value, and relative spread of these over genes

_BACK: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log2 of one plus the normalized counts (multiply by numpy.log(2))": lambda x: np.exp2(x) - 1,
    "log10 of one plus the normalized counts (multiply by numpy.log(10))": lambda x: np.power(10.0, x) - 1,
    "normalized counts without a logarithm": lambda x: x,
    "square roots of counts": np.square,
}
_GIVE = (
    "Give log1p of counts per 10,000 over all genes of the model (scanpy.pp.normalize_total(adata, target_sum=1e4), then "
    "scanpy.pp.log1p, of raw counts), or the counts with input_scale='counts'."
)


def check_logs(block: Any, name: str, start: int = 0, *, clean: bool = False) -> sp.csr_matrix:
    """Check values that are said to be log1p of counts per 10,000, and return them as canonical float32 CSR.

    Parameters
    ----------
    block
        Rows of a matrix, dense or sparse. Perturbed values pass, negative ones included, unless they are to be `clean`.
    name
        What the user calls the matrix.
    start
        Its first row, for the message.
    clean
        Ask for logs of whole counts: not negative, and multiples of one molecule when they are taken back.

    Raises
    ------
    ValueError
        Values are NaN, infinite or too large for a logarithm, do not add up to about 10,000 when taken back, are known
        to be on another scale, or are not clean where they have to be.
    """
    csr = canonical_csr(block)
    values = csr.data
    with np.errstate(invalid="ignore"):
        kinds = {
            "NaN": np.isnan(values),
            "infinite": np.isinf(values),
            f"above {_LARGEST:g}, which no log1p of counts per 10,000 is": values > _LARGEST,
        }
    for kind, where in kinds.items():
        if where.any():
            at = int(np.flatnonzero(where)[0])
            row, column = start + int(entry_rows(csr)[at]), int(csr.indices[at])
            raise ValueError(
                f"{name} is not log-normalized: {int(where.sum()):,} value(s) are {kind}; the first is {values[at]:.6g} in row "
                f"{row}, column {column}. Give log1p of counts per 10,000, or counts with input_scale='counts'."
            )
    csr = sp.csr_matrix((values.astype(np.float32, copy=False), csr.indices, csr.indptr), shape=csr.shape)
    reason = _what_else(csr, clean)
    if reason is not None:
        raise ValueError(f"{name} is not log1p of counts per 10,000: {reason} {_GIVE}")
    return csr


def one_molecule(scaled: sp.csr_matrix) -> np.ndarray:
    """Find the value of one molecule in each cell: the largest number of which all of its values are multiples.

    Parameters
    ----------
    scaled
        CSR (n_obs, n_vars) of positive values: normalized counts.

    Returns
    -------
    numpy.ndarray
        float32 (n_obs,): the smallest value of a cell, or a whole fraction of it where that makes all others whole; the
        smallest value where nothing does, and 1 for a cell without any.
    """
    smallest, molecules, _, _ = _multiples(scaled)
    return (smallest / molecules).astype(np.float32)


def _what_else(csr: sp.csr_matrix, clean: bool) -> str | None:
    """Return what the values are instead, and how that is known; None where they may be what they have to be."""
    values = csr.data
    if not values.size:
        return None
    reason = _centered(csr) or _half_of_scores(csr)
    if reason is not None:
        return reason
    back = csr.copy()
    back.data = np.expm1(np.maximum(values.astype(np.float64), 0))
    totals = np.asarray(back.sum(axis=1)).ravel()
    totals = totals[totals > 0]
    if not totals.size:
        return None
    some = _sample(back)
    _, _, whole, looked = _multiples(some)
    is_like = whole >= _LIKE * looked
    same = _made_the_same(totals)
    if (values == np.rint(values)).all() and values.size >= _ENOUGH:
        return "all values are whole numbers, so they are counts."
    if same is not None and abs(same / _TARGET - 1) > (_OFF if clean else _FAR_OFF):
        return f"taken back by expm1, the values of each cell add up to {same:,.6g}, the counts per {same:,.6g}."
    if is_like and same is None and looked >= _ENOUGH and (np.abs(some.data - np.rint(some.data)) < _NEAR).all():
        return "taken back by expm1, all values are whole numbers, so the counts were not normalized."
    if looked >= _ENOUGH and whole < _UNLIKE * looked:
        scale = _other_scale(_sample(csr))
        if scale is not None:
            return f"they look like {scale}: taken back so, the values of a cell are multiples of one molecule."
    if not _TOTALS[0] <= np.median(totals) <= _TOTALS[1]:
        return f"taken back by expm1, the values of a cell add up to {np.median(totals):,.4g} (median)."
    if clean and not is_like and looked >= _ENOUGH:
        return (
            f"taken back by expm1, {looked - whole:,} of {looked:,} values above the smallest of their cell are not multiples of one molecule of "
            "it, as with noise, scaled genes or another transformation. For logs of estimated or perturbed counts, "
            "pass allow_fractional=True."
        )
    return None


def _centered(csr: sp.csr_matrix) -> str | None:
    """Return whether genes were centered, as for z-scores, and not merely perturbed at their zeros."""
    negative = int((csr.data < 0).sum())
    if not negative:
        return None
    n_obs, n_vars = csr.shape
    is_centered = (csr.data < _DEEP).sum() > _MANY * n_obs * n_vars
    if n_obs >= _LEAST_CELLS and not is_centered:
        by_gene = csr.tocsc()
        lowest = by_gene.min(axis=0).toarray().ravel()
        at_lowest = np.bincount(csr.indices[csr.data <= lowest[csr.indices] + 1e-5], minlength=n_vars) / n_obs
        zeros = lowest[(lowest < 0) & (at_lowest >= _ZEROS)]
        is_centered = len(zeros) > n_vars / 2 and zeros.std() > _APART * -zeros.mean()
        mean = np.asarray(csr.mean(axis=0, dtype=np.float64)).ravel()
        square = np.bincount(csr.indices, csr.data.astype(np.float64) ** 2, n_vars) / n_obs
        varies = square > mean**2 + 1e-12
        off = np.abs(mean[varies]) / np.sqrt(square[varies] - mean[varies] ** 2)
        is_centered = is_centered or (off.size > 0 and np.median(off) < _CENTRED)
    if not is_centered:
        return None
    return f"{negative:,} of {n_obs * n_vars:,} values are negative, as in z-scores or other centered values."


def _half_of_scores(csr: sp.csr_matrix) -> str | None:
    """Return whether these are z-scores without the negative ones.

    The squares of a gene's z-scores have the mean 1, and what is below the gene's mean has about its share in it: where
    values are symmetric, and where all of them are one and the same. So the squares of the others and their share add
    up to 1 in each gene; for logs of counts that is a matter of the gene.
    """
    n_obs, n_vars = csr.shape
    if min(n_obs, n_vars) < _LEAST_CELLS:
        return None
    above = csr.data > 0
    genes, values = csr.indices[above], csr.data[above].astype(np.float64)
    share = np.bincount(genes, minlength=n_vars) / n_obs
    square = np.bincount(genes, values**2, n_vars) / n_obs
    varies = (share > 0) & (share < _ABOVE)
    if varies.sum() < n_vars / 2 or np.median(np.abs(square + share - 1)[varies]) > _HALF:
        return None
    return "genes have the same spread, as in z-scores of which the negative ones were cut off."


def _made_the_same(totals: np.ndarray) -> float | None:
    """Return the total of every cell where all have the same, as after normalization."""
    middle = float(np.median(totals))
    return middle if len(totals) > 2 and np.abs(totals - middle).max() <= _SAME * middle else None


def _other_scale(csr: sp.csr_matrix) -> str | None:
    for name, back in _BACK.items():
        taken = csr.copy()
        taken.data = back(np.maximum(csr.data.astype(np.float64), 0))
        taken.eliminate_zeros()
        _, _, whole, looked = _multiples(taken)
        if looked >= _ENOUGH and whole >= _LIKE * looked:
            return name
    return None


def _sample(csr: sp.csr_matrix) -> sp.csr_matrix:
    """Return some of the cells, without zeros."""
    some = csr[:: -(-csr.shape[0] // _CELLS)].copy()
    some.eliminate_zeros()
    return some


def _multiples(scaled: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Smallest value of each cell, the molecules that it stands for, values that are multiples then, and values looked at."""
    lengths = np.diff(scaled.indptr)
    filled = np.flatnonzero(lengths)
    smallest, molecules = np.ones(scaled.shape[0]), np.ones(scaled.shape[0])
    if not filled.size:
        return smallest, molecules, 0, 0
    smallest[filled] = np.minimum.reduceat(scaled.data, scaled.indptr[filled])
    row = entry_rows(scaled).astype(np.int64)  # its codes do not fit in 32 bits
    row, ratio = _levels(row, scaled.data / smallest[row])
    best_whole, best_looked = np.zeros(scaled.shape[0]), np.zeros(scaled.shape[0])
    unknown = np.ones(scaled.shape[0], bool)  # cells whose values are not yet known to be multiples
    for count in range(1, _MOST + 1):
        times = ratio * count
        looked = times <= 3 * count + _FEW
        whole = looked & (np.abs(times - np.rint(times)) <= _NEAR + _ROUNDING * times)
        n_looked = np.bincount(row[looked], minlength=scaled.shape[0])
        n_whole = np.bincount(row[whole], minlength=scaled.shape[0])
        like = n_whole >= _LIKE * n_looked
        if count > 1:  # with many tries, a few levels are multiples by chance
            like &= (n_whole == n_looked) & (count * (2 * _NEAR) ** n_looked < _CHANCE)
        taken = unknown & (like | (count == 1))
        molecules[unknown & like], best_whole[taken], best_looked[taken] = count, n_whole[taken], n_looked[taken]
        unknown &= ~like
        kept = unknown[row]
        row, ratio = row[kept], ratio[kept]
        if not row.size:
            break
    return smallest, molecules, int(best_whole.sum()), int(best_looked.sum())


def _levels(row: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different values of each cell above its smallest, up to those that say nothing."""
    told = (ratio > 1 + _NEAR) & (ratio <= 3 + _FEW)
    row, ratio = row[told], ratio[told]
    _, first = np.unique(row * 2**16 + np.rint(ratio / _STEP).astype(np.int64), return_index=True)
    return row[first], ratio[first]
