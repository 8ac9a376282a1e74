"""The law of each gene's expected counts: a mixture of Gamma laws, with dropout as far as the data speak for it.

An entry's expected count is ``mean * g``, where ``mean`` is the model's and ``g`` has mean 1. For most genes one Gamma law of
`g` is too rigid: a few cells stand out from what the other genes say of them, far more than all others do. So `g` has a
mixture of Gamma laws of mean 1, over a grid of inverse dispersions that all genes share, with weights of its own for each
gene. A second mixture is that of the same gene with dropout: counts are lost with probability ``pi``, and are ``1 / (1 - pi)``
times as large where they are not. The two are weighed by how likely the gene's counts make either of them.

All that follows from a count is a sum over the components. Zeros, nine entries of ten, need only the probability of a zero
under each of them, ``(1 + mean / theta) ** -theta``, and the grid is made of powers of four, for which that is a division and
some squares or square roots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.distributions.likelihoods import nb_log_prob
from scdae.core.runtime.buckets import bucket

__all__ = [
    "GRID",
    "Components",
    "Laws",
    "Part",
    "Zeros",
    "at_zero",
    "components",
    "even_laws",
    "filled",
    "laws_from_arrays",
    "laws_to_arrays",
    "of_stored",
    "powers",
    "some_laws",
    "zero_probability",
]

GRID = (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0, 256.0)  # inverse dispersions, the last next to none
_TINY = 1e-30
_FEW = 1024  # genes
Array = Any  # NumPy outside of compiled functions, JAX within


class Part(NamedTuple):
    """Components over the grid, of all genes or of some."""

    weight: Array  # float32 (len(GRID), c): of all parts of a gene together they sum to one
    scale: Array  # float32 (c,): mean of these components over that of the gene
    lost: Array  # float32 (c,): probability of dropout under these components
    genes: Array | None = None  # int32 (c,): the genes; None for all


class Laws(NamedTuple):
    """Laws of all genes of a model."""

    plain: Part  # without dropout, of all genes
    dropout: Part | None  # with dropout, of the genes in which it is not ruled out
    lift: Array  # float32 (n,): expected counts, had none been lost, over those that the decoder expects to be counted
    chance: Array  # float32 (n,): probability that a gene has dropout that is worth the name

    @property
    def parts(self) -> tuple[Part, ...]:
        """One or both."""
        return (self.plain,) if self.dropout is None else (self.plain, self.dropout)


class Zeros(NamedTuple):
    """Sums over the components at entries without counts, each an array (b, n) with the prior mean as the unit."""

    probability: Array  # of a zero
    lost: Array  # of a dropout
    mean: Array  # probability times the expected factor g, which is what a kept zero says, or a lost one leaves
    kept: Array  # the same without what was lost
    square: Array  # probability times the expected square of g


class Components(NamedTuple):
    """Components of some genes side by side: float64 (c, n) each."""

    theta: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    lost: np.ndarray

    @property
    def dispersion(self) -> np.ndarray:
        """Variance of g, (n,): ``1 / theta`` where there is one component."""
        if len(self.theta) == 1:
            return np.asarray(1 / self.theta[0])
        second = (self.weight * self.scale**2 * (1 + 1 / self.theta)).sum(axis=0)
        return np.maximum(second - (self.weight * self.scale).sum(axis=0) ** 2, 0)

    @property
    def dropout(self) -> np.ndarray:
        """Probability that a count is lost, (n,)."""
        return (self.weight * self.lost).sum(axis=0)

    @property
    def kept(self) -> np.ndarray:
        """Share of the expected counts that is not lost, (n,)."""
        return (self.weight * self.scale * (1 - self.lost)).sum(axis=0)

    @property
    def kept_square(self) -> np.ndarray:
        """Expected square of g where nothing is lost, times the probability of that, (n,)."""
        return (self.weight * self.scale**2 * (1 - self.lost) * (1 + 1 / self.theta)).sum(axis=0)

    def at(self, genes: Any) -> Components:
        """Those of some genes, which may be given twice: ``(c, *shape of genes)``."""
        return Components(*(part[:, genes] for part in self))


def laws_to_arrays(laws: Laws | None) -> dict[str, np.ndarray]:
    """Arrays by name, for a file; none where there are no laws."""
    if laws is None:
        return {}
    arrays = {"laws_weight": laws.plain.weight, "laws_scale": laws.plain.scale, "laws_lift": laws.lift}
    arrays["laws_chance"] = laws.chance
    if laws.dropout is not None:
        named = {f"laws_dropout_{name}": value for name, value in laws.dropout._asdict().items()}
        arrays |= named | {"laws_dropout_genes": np.asarray(laws.dropout.genes, np.int64)}
    return {name: np.asarray(value) for name, value in arrays.items()}


def laws_from_arrays(arrays: Mapping[str, np.ndarray]) -> Laws | None:
    """The laws that these arrays hold, or None.

    Raises
    ------
    ValueError
        Arrays are missing, of another shape or type than they have to be, or out of range.
    """
    if "laws_weight" not in arrays:
        return None
    n = len(arrays["genes"])
    plain = Part(arrays["laws_weight"], arrays["laws_scale"], np.zeros(n, np.float32))
    dropout = None
    if "laws_dropout_genes" in arrays:
        genes = arrays["laws_dropout_genes"]
        if genes.ndim != 1 or genes.dtype != np.int64 or not len(genes) or (np.diff(genes) <= 0).any():
            raise ValueError("laws_dropout_genes holds no rising places")
        if genes[0] < 0 or genes[-1] >= n:
            raise ValueError("laws_dropout_genes holds places beyond the genes")
        weight, scale, lost = (arrays[f"laws_dropout_{name}"] for name in Part._fields[:3])
        dropout = Part(weight, scale, lost, genes.astype(np.int32))
    found = Laws(plain, dropout, arrays["laws_lift"], arrays["laws_chance"])
    _check(found, n)
    return found


def _check(laws: Laws, n: int) -> None:
    total = np.zeros(n)
    for part in laws.parts:
        number = n if part.genes is None else len(part.genes)
        for name, value in zip(Part._fields, part[:3], strict=False):
            shape = (len(GRID), number) if name == "weight" else (number,)
            if value.shape != shape or value.dtype != np.float32:
                raise ValueError(
                    f"the {name} of the laws is of type {value.dtype} and shape {value.shape}, not {shape}"
                )
        if part.weight.min() < 0 or part.lost.min() < 0 or part.lost.max() > 1 or part.scale.min() <= 0:
            raise ValueError("a number of the laws is out of range")
        total[slice(None) if part.genes is None else part.genes] += part.weight.sum(axis=0)
    if np.abs(total - 1).max() > 1e-3:
        raise ValueError("the weights of the laws do not add up to 1")
    if laws.lift.shape != (n,) or laws.lift.dtype != np.float32 or laws.lift.min() <= 0:
        raise ValueError("the lift of the laws is not a positive number for each gene")
    if laws.chance.shape != (n,) or laws.chance.dtype != np.float32 or laws.chance.min() < 0 or laws.chance.max() > 1:
        raise ValueError("the chance of dropout is not a probability for each gene")


def even_laws(n_vars: int) -> Laws:
    """Laws in which all components weigh the same, for compiling what other laws are passed to."""
    weight = np.full((len(GRID), n_vars), 1 / len(GRID), np.float32)
    ones = np.ones(n_vars, np.float32)
    return Laws(Part(weight, ones, 0 * ones), None, ones, 0 * ones)


def components(laws: Laws) -> Components:
    """All components of all genes; those that no gene has are left out."""
    n = laws.plain.weight.shape[1]
    parts = []
    for part in laws.parts:
        weight, scale, lost = np.zeros((len(GRID), n)), np.ones(n), np.zeros(n)
        genes = slice(None) if part.genes is None else np.asarray(part.genes)
        weight[:, genes], scale[genes], lost[genes] = part.weight, part.scale, part.lost
        theta = np.broadcast_to(np.array(GRID)[:, None], weight.shape)
        parts.append([theta, weight, *(np.broadcast_to(values, weight.shape) for values in (scale, lost))])
    joined = Components(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    used = joined.weight.max(axis=1, initial=0) > 0
    return Components(*(values[used] for values in joined))


def some_laws(laws: Laws, genes: Any) -> Laws:
    """The laws of the genes in `genes`, int (n,), of which one may be there twice; all where it is None."""
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
    return Laws(plain, dropout, np.asarray(laws.lift)[genes], np.asarray(laws.chance)[genes])


def filled(laws: Laws) -> Laws:
    """The same laws with places for dropout beyond those that are needed, so that what is compiled for them serves others.

    Their gene is one past the last, and nothing is added there. It is for compiled functions alone.

    Examples
    --------
    >>> import numpy as np
    >>> even = even_laws(100)
    >>> some = Part(even.plain.weight[:, :33], *(np.ones(33, np.float32) for _ in "12"), np.arange(33, dtype=np.int32))
    >>> filled(even._replace(dropout=some)).dropout.weight.shape
    (8, 64)
    """
    if laws.dropout is None:
        return laws
    genes = np.asarray(laws.dropout.genes)
    beyond = len(laws.lift)
    more = (0, min(bucket(len(genes), _FEW), beyond) - len(genes))
    weight, scale, lost = (np.asarray(values) for values in laws.dropout[:3])
    found = Part(
        np.pad(weight, ((0, 0), more)),
        np.pad(scale, more, constant_values=1),
        np.pad(lost, more),
        np.pad(genes, more, constant_values=beyond),
    )
    return laws._replace(dropout=found)


def at_zero(laws: Laws, mean: jax.Array) -> Zeros:
    """Sums over the components at entries of prior mean `mean` (b, n) without counts."""
    zeros = Zeros(*_zeros(laws.plain, mean))
    if laws.dropout is None:
        return zeros
    genes = laws.dropout.genes
    more = _zeros(laws.dropout, mean[:, genes])
    return Zeros(*(one.at[:, genes].add(other) for one, other in zip(zeros, more, strict=True)))


def _zeros(part: Part, mean: jax.Array) -> list[jax.Array]:
    scale, rows = part.scale[None, :], part.weight[:, None, :]
    inner = mean * scale
    zero = first = second = jnp.zeros_like(mean)
    before = jnp.zeros_like(scale)
    for theta, weight in zip(GRID, rows, strict=True):
        share, chance = _power(inner, theta)
        chance = weight * chance
        zero, first = zero + chance, first + chance * share
        second = second + chance * share * share * (1 + 1 / theta)
        before = before + weight * (1 + 1 / theta)
    dropout = part.lost[None, :]
    kept = 1 - dropout
    lost = _total(rows) * dropout
    everywhere = jnp.broadcast_to(lost, mean.shape)
    kept_mean = kept * scale * first
    square = scale**2 * (kept * second + dropout * before)
    return [kept * zero + lost, everywhere, kept_mean + lost * scale, kept_mean, square]


def _total(weight: jax.Array) -> jax.Array:
    """Sum over the components, term by term: XLA fuses a reduction into the loop over the cells, which takes ten times as long."""
    return sum(weight[1:], weight[0])


def zero_probability(laws: Laws, mean: jax.Array) -> jax.Array:
    """Probability that an entry of prior mean `mean` (b, n) has no counts."""
    probability = _zero_probability(laws.plain, mean)
    if laws.dropout is None:
        return probability
    genes = laws.dropout.genes
    return probability.at[:, genes].add(_zero_probability(laws.dropout, mean[:, genes]))


def _zero_probability(part: Part, mean: jax.Array) -> jax.Array:
    inner, rows, dropout = mean * part.scale[None, :], part.weight[:, None, :], part.lost[None, :]
    zero = jnp.zeros_like(mean)
    for theta, weight in zip(GRID, rows, strict=True):
        zero = zero + weight * _power(inner, theta)[1]
    return (1 - dropout) * zero + _total(rows) * dropout


def powers(mean: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """For each inverse dispersion of the grid ``theta / (theta + mean)``, and that to the power of it: the chance of a zero."""
    return [_power(mean, theta) for theta in GRID]


def _power(mean: jax.Array, theta: float) -> tuple[jax.Array, jax.Array]:
    """``theta / (theta + mean)``, and the probability of a zero, which is that to the power of `theta`."""
    share = 1 / (1 + mean / theta)
    chance: jax.Array = share
    power = theta
    while power < 1:
        chance, power = jnp.sqrt(chance), power * 2
    while power > 1:
        chance, power = chance * chance, power / 2
    return share, chance


def of_stored(laws: Laws, x: jax.Array, mean: jax.Array, cols: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Posterior of entries with counts: its components.

    Parameters
    ----------
    laws
        Of all genes.
    x
        (k,) counts; where one is zero, what is given for it means nothing.
    mean
        (k,) prior means.
    cols
        (k,) genes.

    Returns
    -------
    tuple
        Weight, shape and mean of each component, (c, k) each. The weights of an entry sum to one. Dropout is ruled out.

    Notes
    -----
    All components are computed as one array: written out one by one, they took most of the time that a fit compiles.
    """
    theta = jnp.asarray(GRID, jnp.float32)[:, None]
    logs, means = [], []
    for part in laws.parts:
        if part.genes is None:
            weight, scale, lost, here = part.weight[:, cols], part.scale[cols], part.lost[cols], jnp.ones_like(x)
        else:
            n = laws.lift.shape[0]
            column = jnp.full(n, -1, jnp.int32).at[part.genes].set(jnp.arange(len(part.genes), dtype=jnp.int32))[cols]
            at = jnp.maximum(column, 0)
            weight, scale, lost, here = part.weight[:, at], part.scale[at], part.lost[at], (column >= 0).astype(x.dtype)
        inner, chance = mean * scale, weight * (1 - lost)[None, :] * here[None, :]
        logs.append(_log_chances(chance, x, inner))
        means.append(inner[None, :] * (1 + x[None, :] / theta) / (1 + inner[None, :] / theta))
    log = jnp.concatenate(logs)
    likely = jnp.exp(log - log.max(axis=0, keepdims=True))
    shape = jnp.broadcast_to(theta + x[None, :], logs[0].shape)
    return likely / likely.sum(axis=0, keepdims=True), jnp.concatenate([shape] * len(logs)), jnp.concatenate(means)


def _log_chances(chances: jax.Array, x: jax.Array, mean: jax.Array) -> jax.Array:
    """Log weight of each component with the probability of the counts under it: (len(GRID), k).

    One component after the other, in a loop that XLA compiles once. Of all of them in one expression it makes a loop over the entries
    that computes some parts again and again, which takes two to six times as long.
    """

    def of_one(_: None, component: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        chance, theta = component
        log = jnp.log(jnp.maximum(chance, _TINY)) + nb_log_prob(x, mean, theta)
        return None, jnp.where(chance > 0, log, -jnp.inf)

    return jax.lax.scan(of_one, None, (chances, jnp.asarray(GRID, mean.dtype)))[1]
