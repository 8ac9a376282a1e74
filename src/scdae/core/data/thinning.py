"""Binomial thinning: split counts into two parts that are independent given the true rate.

If a count is Poisson with rate ``m`` and each of its molecules is put into the first part with probability `fraction`,
the parts are independent Poisson counts with rates ``fraction * m`` and ``(1 - fraction) * m``. A network can therefore
be trained to predict one part from the other without clean data. Estimated counts are not whole numbers: their
fractional part goes to one of the two as a whole, since dividing it would make the parts dependent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

__all__ = ["thin", "thin_values"]

_FEW = 4  # molecules that are drawn one by one


def thin_values(values: np.ndarray, fraction: npt.ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """Keep each molecule with probability `fraction`.

    Parameters
    ----------
    values
        Counts, zero or more, of any shape and of integer or floating dtype. The integer part is drawn from a binomial
        distribution; a fractional part (of counts estimated by a quantifier) goes to one of the two parts as a whole,
        chosen at random.
    fraction
        Probability of keeping a molecule, from 0 to 1: a scalar, or an array that broadcasts to the shape of `values`.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        The part kept, a new array of the shape and dtype of `values`. ``values - kept`` is the other part, and the two
        add up to `values` without rounding error.

    Raises
    ------
    ValueError
        When `values` has negative, infinite or NaN entries, or `fraction` is outside 0 to 1 or does not broadcast
        to their shape.

    Examples
    --------
    >>> import numpy as np
    >>> from scdae.core.data.thinning import thin_values
    >>> counts = np.array([1.0, 40.0, 0.0, 1000.0])
    >>> kept = thin_values(counts, 0.5, np.random.default_rng(0))
    >>> bool((kept <= counts).all())
    True
    """
    values = np.asarray(values)
    fraction = _checked_fraction(fraction, values.shape)
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        message = "`values` must be finite and zero or more, but {} of {} are not (the first: {} at {}); correct them."
        raise ValueError(message.format(wrong.sum(), values.size, values[first], first))

    whole = np.floor(values)
    # Most counts are small: drawing a uniform number per molecule is much faster than drawing from a binomial.
    kept = ((rng.random(values.shape, dtype=np.float32) < fraction) & (whole >= 1)).astype(values.dtype)
    left, flat = np.flatnonzero((whole >= 2) & (whole <= _FEW)), kept.reshape(-1)
    counts, chance = whole.reshape(-1)[left], _pick(fraction.reshape(-1), left)
    for drawn in range(2, _FEW + 1):
        flat[left] += rng.random(len(left), dtype=np.float32) < chance
        more = counts > drawn
        left, counts, chance = left[more], counts[more], _pick(chance, more)
    many = np.flatnonzero(whole > _FEW)
    flat[many] = rng.binomial(whole.reshape(-1)[many].astype(np.int64), _pick(fraction.reshape(-1), many))

    split = values != whole
    if split.any():
        # Dividing the fractional part would correlate the two parts, so that noise would seem predictable.
        total, by_lot = values[split], rng.random(int(split.sum()), dtype=np.float32) < _pick(fraction, split)
        rest = total - (kept[split] + (total - whole[split]) * by_lot).astype(values.dtype)
        kept[split] = total - rest  # one of the two differences is exact, whichever part is larger, and so is the sum
    return kept


def thin(
    counts: sparse.csr_matrix, fraction: npt.ArrayLike, rng: np.random.Generator
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split a sparse count matrix into two by binomial thinning.

    Parameters
    ----------
    counts
        CSR matrix or array of shape (n_obs, n_vars). It is not changed; stored zeros, unsorted indices and repeated
        entries are allowed.
    fraction
        Probability that a molecule goes to the first part, from 0 to 1: a scalar or one for each row.
    rng
        Source of random numbers.

    Returns
    -------
    tuple
        The kept part and the rest, of the type, shape and dtype of `counts`, which is their sum. Both have sorted
        indices, no repeated entries and no stored zeros.

    Raises
    ------
    TypeError
        When `counts` is not in CSR format.
    ValueError
        As in :func:`thin_values`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from scdae.core.data.thinning import thin
    >>> counts = sparse.csr_matrix(np.array([[1.0, 0.0, 7.0], [0.0, 2.0, 0.0]]))
    >>> kept, rest = thin(counts, 0.9, np.random.default_rng(0))
    >>> bool(((kept + rest) != counts).nnz == 0)
    True
    """
    if not (sparse.issparse(counts) and counts.format == "csr"):
        kind = f"{counts.format} matrix" if sparse.issparse(counts) else type(counts).__name__
        raise TypeError(f"`counts` must be a SciPy CSR matrix, but it is a {kind}; convert it with csr_matrix(counts).")
    total = counts.copy()
    total.sum_duplicates()
    fraction = _checked_fraction(fraction, (total.shape[0],))
    if fraction.ndim:
        fraction = np.repeat(fraction, np.diff(total.indptr))
    kept, rest = total.copy(), total
    kept.data = thin_values(total.data, fraction, rng)
    rest.data = total.data - kept.data
    kept.eliminate_zeros()
    rest.eliminate_zeros()
    return kept, rest


def _checked_fraction(fraction: npt.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Check that `fraction` holds probabilities, and return it as a scalar array or one of `shape`."""
    fraction = np.asarray(fraction, dtype=np.float64)
    outside = ~((fraction >= 0) & (fraction <= 1))
    if outside.any():
        message = "`fraction` must lie between 0 and 1, but {} of its {} values do not (the first: {}); correct it."
        raise ValueError(message.format(outside.sum(), fraction.size, fraction[outside].flat[0]))
    if fraction.ndim == 0:
        return fraction
    try:
        return np.broadcast_to(fraction, shape)
    except ValueError:
        message = f"`fraction` has shape {fraction.shape}, which does not fit {shape}; give a scalar or that shape."
        raise ValueError(message) from None


def _pick(fraction: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the fraction of the chosen entries, or the one for all."""
    return fraction[chosen] if fraction.size > 1 else fraction
