"""Law of the molecules set aside of whole cells, given those shown, under laws of several components.

Nearly all entries have no molecules on either side. What these need is summed on the device, see
:func:`scdae.core.distributions.law_sums.zero_again`. The others are few, and worked out one by one in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy import special

from scdae.core.data.non_zeros import entry_rows
from scdae.core.distributions.components import Components
from scdae.core.distributions.law_sums import Again
from scdae.core.distributions.mixtures import log_rising
from scdae.core.distributions.predictive_numpy import HeldOutLaw, law_of_entries, log_prob_zero

__all__ = ["BlockLaw"]

_ENTRIES = 1 << 12  # at a time
_UNLIKELY = -10.0  # log probability of a zero


class BlockLaw:
    """Law of the molecules set aside of whole cells under laws of several components, worked out where it is asked for.

    Parameters
    ----------
    laws
        Components of the genes, (c, n), which all have the same inverse dispersions.
    again
        What :func:`scdae.core.distributions.law_sums.zero_again` says of the entries, in at least as many rows: for those without molecules.
    counts
        CSR (b, n): molecules shown, without stored zeros; None for what is known without them.
    prior
        float32 (b, n): expected molecules among them by the model, before dropout.
    ratio
        Molecules set aside for each that is shown.
    level
        (b, n): levels of the entries, or None.
    """

    def __init__(
        self,
        laws: Components,
        again: Again,
        counts: sp.csr_matrix | None,
        prior: np.ndarray,
        ratio: float,
        level: np.ndarray | None = None,
    ):
        self._laws, self._again, self._prior, self._ratio, self._level = laws, again, prior, ratio, level
        self._counts = counts
        self._at: Any = None if counts is None else (entry_rows(counts), counts.indices)
        self._even = bool((laws.scale == 1).all())
        self._loses = bool(laws.lost.any())

    @cached_property
    def _x(self) -> np.ndarray | None:
        return None if self._counts is None else self._counts.toarray()

    @cached_property
    def _shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Expected molecules, and log probability of none, at the entries with molecules shown: (k,) each."""
        counts: Any = self._counts
        at = self._at
        expected, log_zero = np.empty((2, counts.nnz))
        for some in _some(len(expected)):
            x, entries = counts.data[some].astype(np.float64), self._entries(at[0][some], at[1][some])
            log, terms = entries.log_sum(x, 1.0)
            inner = entries.prior * entries.scale
            expected[some] = (terms * inner * (entries.theta + x) / (entries.theta + inner)).sum(axis=0) / terms.sum(
                axis=0
            )
            log_zero[some] = entries.log_sum(x, 1 + self._ratio)[0] - log
        return self._ratio * expected, log_zero

    @cached_property
    def expected(self) -> np.ndarray:
        """Expected molecules, float64 (b, n)."""
        if self._counts is None:
            return np.asarray((self._ratio * self._laws.kept) * self._prior)
        value = np.asarray(self._again.expected)[: len(self._prior)].astype(np.float64)
        value[self._at] = self._shown[0]
        return value

    def log_zero(self) -> np.ndarray:
        """Compute the log probability of no molecule, float32 (b, n)."""
        alone = self._counts is None
        value = np.array((self._again.log_zero_alone if alone else self._again.log_zero)[: len(self._prior)])
        if not alone:
            value[self._at] = self._shown[1]
        few = np.flatnonzero(value.min(axis=0, initial=0) < _UNLIKELY)  # genes
        if len(few):  # beyond what float32 can tell from no chance at all
            rows, cols = (value[:, few] < _UNLIKELY).nonzero()
            value[rows, few[cols]] = log_prob_zero(self.at(rows, few[cols]))
        return value

    def log_prob(self, y: sp.csr_matrix) -> np.ndarray:
        """Compute the log probability of every entry of `y`, CSR (b, n) without stored zeros: float32 (b, n)."""
        value, at = self.log_zero(), (entry_rows(y), y.indices)
        found = np.empty(y.nnz)
        for some in _some(y.nnz):
            rows, cols, own = at[0][some], at[1][some], y.data[some].astype(np.float64)
            entries = self._entries(rows, cols)
            found[some] = special.xlogy(own, np.maximum(self._ratio * entries.prior, 1e-12)) - special.gammaln(own + 1)
            if self._x is None:
                found[some] += entries.log_sum(own, self._ratio)[0]
                continue
            x = self._x[rows, cols].astype(np.float64)
            before = entries.log_sum(x, 1.0)[0]
            if self._loses:
                before = np.where(x > 0, before, np.logaddexp(before, entries.log_lost))
            found[some] += entries.log_sum(x + own, 1 + self._ratio)[0] - before
        value[at] = found
        return value

    def at(self, *index: np.ndarray) -> HeldOutLaw:
        """Return the law of some entries: of rows and columns, or where a boolean (b, n) is True."""
        at = index[0].nonzero() if len(index) == 1 else index
        laws = self._laws.at(at[1], None if self._level is None else self._level[at])
        x = None if self._x is None else self._x[at]
        return law_of_entries(laws, x, self._prior[at], self._ratio)

    def _entries(self, rows: np.ndarray, cols: np.ndarray) -> _Entries:
        laws = self._laws
        weight = laws.weight.take(cols, axis=1)
        if laws.high is not None and self._level is not None:
            weight += self._level[rows, cols] * (laws.high.take(cols, axis=1) - weight)
        scale = np.ones((1, 1)) if self._even else laws.scale.take(cols, axis=1)
        lost = laws.lost.take(cols, axis=1) if self._loses else np.zeros((1, 1))
        return _Entries(laws.theta[:, :1], weight, scale, lost, self._prior[rows, cols].astype(np.float64))


class _Entries(NamedTuple):
    """Some entries, and the components of their genes: float64 (c, k) each, or what broadcasts to that."""

    theta: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    lost: np.ndarray
    prior: np.ndarray  # (k,)

    @property
    def log_lost(self) -> np.ndarray:
        """Log probability of dropout, (k,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log((self.weight * self.lost).sum(axis=0)))

    def log_sum(self, x: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Log probability that nothing is lost and `x` (k,) molecules are counted in all, of `depth` times as many expected ones.

        Left out is what does not depend on the component: the log of ``(depth * prior) ** x / x!``. Also returned are the shares of the
        components in it, (c, k), up to a factor for each entry.
        """
        log = log_rising(x, self.theta)
        rate = np.log1p(self.prior * (depth * self.scale) / self.theta)
        rate *= self.theta + x
        log -= rate
        with np.errstate(divide="ignore"):
            log += np.log(self.weight * (1 - self.lost))
        if self.scale.size > 1:
            log += x * np.log(self.scale)
        top = log.max(axis=0)
        top[~np.isfinite(top)] = 0
        log -= top
        terms = np.exp(log, out=log)
        with np.errstate(divide="ignore"):
            return np.log(terms.sum(axis=0)) + top, terms


def _some(n: int) -> Iterator[slice]:
    """Entries that stay in the processor's cache with their components, up to `n`."""
    for start in range(0, n, _ENTRIES):
        yield slice(start, min(start + _ENTRIES, n))
