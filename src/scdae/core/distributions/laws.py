"""The law of each gene's expected counts: a mixture of Gamma laws, with dropout as far as the data speak for it.

An entry's expected count is ``mean * g``, where ``mean`` is the model's and ``g`` has mean 1. For most genes one Gamma law of
`g` is too rigid: a few cells stand out from what the other genes say of them, far more than all others do. So `g` has a
mixture of Gamma laws of mean 1, over a grid of inverse dispersions that all genes share, with weights of its own for each
gene. A second mixture is that of the same gene with dropout: counts are lost with probability ``pi``, and are ``1 / (1 - pi)``
times as large where they are not. The two are weighed by how likely the gene's counts make either of them.

A gene's weights where it is low and where it is high may differ, see :mod:`scdae.core.distributions.components`. What is
worked out with all this stands in :mod:`scdae.core.distributions.law_sums`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scdae.core.distributions.components import KNOTS, Components
from scdae.core.runtime.buckets import bucket

__all__ = [
    "GRID",
    "Laws",
    "Part",
    "components",
    "even_laws",
    "filled",
    "laws_from_arrays",
    "laws_to_arrays",
    "some_laws",
]

GRID = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0, 256.0)  # inverse dispersions, the last next to none
_FEW = 1024  # genes
Array = Any  # NumPy outside of compiled functions, JAX within


class Part(NamedTuple):
    """Components over the grid, of all genes or of some."""

    weight: Array  # float32 (1 or 2, len(GRID), c): where the gene is low and high, or everywhere; all parts together sum to one
    scale: Array  # float32 (c,): mean of these components over that of the gene
    lost: Array  # float32 (c,): probability of dropout under these components
    genes: Array | None = None  # int32 (c,): the genes; None for all


class Laws(NamedTuple):
    """Laws of all genes of a model."""

    plain: Part  # without dropout, of all genes
    dropout: Part | None  # with dropout, of the genes in which it is not ruled out
    lift: Array  # float32 (n,): expected counts, had none been lost, over those that the decoder expects to be counted
    chance: Array  # float32 (n,): probability that a gene has dropout that is worth the name
    log_share: Array | None = (
        None  # float32 (n,): log of the share of the average cell; None if weights are the same everywhere
    )
    correction: Array | None = (
        None  # float32 (len(KNOTS), n): added to the decoder's log proportions, see :func:`corrected`; None for none
    )

    @property
    def by_level(self) -> tuple[Array, Array] | None:
        """Log share of each gene in the average cell, and the correction; None without one."""
        return None if self.correction is None or self.log_share is None else (self.log_share, self.correction)

    @property
    def parts(self) -> tuple[Part, ...]:
        """One or both."""
        return (self.plain,) if self.dropout is None else (self.plain, self.dropout)


def laws_to_arrays(laws: Laws | None) -> dict[str, np.ndarray]:
    """Arrays by name, for a file; none where there are no laws."""
    if laws is None:
        return {}
    arrays = {"laws_weight": laws.plain.weight, "laws_scale": laws.plain.scale, "laws_lift": laws.lift}
    arrays["laws_chance"] = laws.chance
    if laws.log_share is not None:
        arrays["laws_log_share"] = laws.log_share
    if laws.correction is not None:
        arrays["laws_correction"] = laws.correction
    if laws.dropout is not None:
        named = {f"laws_dropout_{name}": value for name, value in laws.dropout._asdict().items()}
        arrays |= named | {"laws_dropout_genes": np.asarray(laws.dropout.genes, np.int64)}
    return {name: np.asarray(value) for name, value in arrays.items()}


def laws_from_arrays(arrays: Mapping[str, np.ndarray]) -> Laws | None:
    """Return the laws that these arrays hold, or None.

    Raises
    ------
    ValueError
        Arrays are missing, of another shape or type than they have to be, or out of range.
    """
    if "laws_weight" not in arrays:
        return None
    n = len(arrays["genes"])
    plain = Part(_by_level(arrays["laws_weight"]), arrays["laws_scale"], np.zeros(n, np.float32))
    dropout = None
    if "laws_dropout_genes" in arrays:
        genes = arrays["laws_dropout_genes"]
        if genes.ndim != 1 or genes.dtype != np.int64 or not len(genes) or (np.diff(genes) <= 0).any():
            raise ValueError("laws_dropout_genes holds no rising places")
        if genes[0] < 0 or genes[-1] >= n:
            raise ValueError("laws_dropout_genes holds places beyond the genes")
        weight, scale, lost = (arrays[f"laws_dropout_{name}"] for name in Part._fields[:3])
        dropout = Part(_by_level(weight), scale, lost, genes.astype(np.int32))
    optional = (arrays.get(f"laws_{name}") for name in ("log_share", "correction"))
    found = Laws(plain, dropout, arrays["laws_lift"], arrays["laws_chance"], *optional)
    _check(found, n)
    return found


def _by_level(weight: np.ndarray) -> np.ndarray:
    """Bring the weights to the form in which they are kept now: files of version 0.1 have no axis of levels."""
    return weight[None] if weight.ndim == 2 else weight


def _check(laws: Laws, n: int) -> None:
    n_levels = 1 if laws.log_share is None else 2
    total = np.zeros((n_levels, n))
    for part in laws.parts:
        number = n if part.genes is None else len(part.genes)
        for name, value in zip(Part._fields, part[:3], strict=False):
            shape = (n_levels, len(GRID), number) if name == "weight" else (number,)
            if value.shape != shape or value.dtype != np.float32:
                raise ValueError(
                    f"the {name} of the laws is of type {value.dtype} and shape {value.shape}, not {shape}"
                )
        if part.weight.min() < 0 or part.lost.min() < 0 or part.lost.max() > 1 or part.scale.min() <= 0:
            raise ValueError("a number of the laws is out of range")
        total[:, slice(None) if part.genes is None else part.genes] += part.weight.sum(axis=1)
    if np.abs(total - 1).max() > 1e-3:
        raise ValueError("the weights of the laws do not add up to 1")
    if laws.lift.shape != (n,) or laws.lift.dtype != np.float32 or laws.lift.min() <= 0:
        raise ValueError("the lift of the laws is not a positive number for each gene")
    share = laws.log_share
    if share is not None and (share.shape != (n,) or share.dtype != np.float32 or not np.isfinite(share).all()):
        raise ValueError("the log share of the laws is not a number for each gene")
    correction = laws.correction
    if correction is not None:
        if share is None or correction.shape != (len(KNOTS), n) or correction.dtype != np.float32:
            raise ValueError("the correction of the laws is not a number for each knot and gene")
        if not np.isfinite(correction).all():
            raise ValueError("the correction of the laws holds values that are no numbers")
    if laws.chance.shape != (n,) or laws.chance.dtype != np.float32 or laws.chance.min() < 0 or laws.chance.max() > 1:
        raise ValueError("the chance of dropout is not a probability for each gene")


def even_laws(n_vars: int) -> Laws:
    """Laws in which all components weigh the same, for compiling what other laws are passed to."""
    weight = np.full((2, len(GRID), n_vars), 1 / len(GRID), np.float32)
    ones = np.ones(n_vars, np.float32)
    return Laws(
        Part(weight, ones, 0 * ones), None, ones, 0 * ones, 0 * ones, np.zeros((len(KNOTS), n_vars), np.float32)
    )


def components(laws: Laws) -> Components:
    """All components of all genes; those that no gene has are left out."""
    n_levels, _, n = laws.plain.weight.shape
    parts = []
    for part in laws.parts:
        weight, scale, lost = np.zeros((n_levels, len(GRID), n)), np.ones(n), np.zeros(n)
        genes = slice(None) if part.genes is None else np.asarray(part.genes)
        weight[..., genes], scale[genes], lost[genes] = part.weight, part.scale, part.lost
        theta = np.broadcast_to(np.array(GRID)[:, None], weight.shape[1:])
        parts.append(
            [theta, weight[0], *(np.broadcast_to(values, theta.shape) for values in (scale, lost)), weight[-1]]
        )
    *joined, high = (np.concatenate(values) for values in zip(*parts, strict=True))
    used = np.maximum(joined[1], high).max(axis=1, initial=0) > 0
    found = Components(*(values[used] for values in joined))
    if laws.log_share is None:
        return found
    usual = np.exp(np.asarray(laws.log_share, np.float64)) * np.asarray(laws.lift, np.float64)
    return found._replace(high=high[used], usual=usual)


def some_laws(laws: Laws, genes: Any) -> Laws:
    """Return the laws of the genes in `genes`, int (n,), of which one may be there twice; all where it is None."""
    if genes is None:
        return laws
    genes = np.asarray(genes)

    def pick(part: Part, columns: np.ndarray, named: np.ndarray | None) -> Part:
        weight, scale, lost = (np.asarray(values)[..., columns] for values in part[:3])
        return Part(weight, scale, lost, named)

    plain, dropout = pick(laws.plain, genes, None), None
    if laws.dropout is not None:
        column_of_gene = np.full(len(laws.lift), -1)
        own = np.asarray(laws.dropout.genes)
        column_of_gene[own] = np.arange(len(own))
        named = np.flatnonzero(column_of_gene[genes] >= 0).astype(np.int32)
        if len(named):
            dropout = pick(laws.dropout, column_of_gene[genes[named]], named)
    share, correction = (
        None if values is None else np.asarray(values)[..., genes] for values in (laws.log_share, laws.correction)
    )
    return Laws(plain, dropout, np.asarray(laws.lift)[genes], np.asarray(laws.chance)[genes], share, correction)


def filled(laws: Laws) -> Laws:
    """Add unused places for dropout, so that what is compiled for these distributions serves others.

    Their gene is one past the last, and nothing is added there. It is for compiled functions alone.

    Examples
    --------
    >>> import numpy as np
    >>> even = even_laws(100)
    >>> some = Part(
    ...     even.plain.weight[..., :33], *(np.ones(33, np.float32) for _ in "12"), np.arange(33, dtype=np.int32)
    ... )
    >>> filled(even._replace(dropout=some)).dropout.weight.shape
    (2, 8, 64)
    """
    if laws.dropout is None:
        return laws
    genes = np.asarray(laws.dropout.genes)
    beyond = len(laws.lift)
    more = (0, min(bucket(len(genes), _FEW), beyond) - len(genes))
    weight, scale, lost = (np.asarray(values) for values in laws.dropout[:3])
    found = Part(
        np.pad(weight, ((0, 0), (0, 0), more)),
        np.pad(scale, more, constant_values=1),
        np.pad(lost, more),
        np.pad(genes, more, constant_values=beyond),
    )
    return laws._replace(dropout=found)
