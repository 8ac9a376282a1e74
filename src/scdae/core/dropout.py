"""Where dropout is real: zero inflation has to earn its place, gene by gene, on molecules that the network did not see.

Half of a cell's molecules are hidden from the network, which gives their means from the other half. With these means
held still, the law with dropout and the law without are both fitted to the hidden half, and compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from flax import nnx
from scipy.special import ndtr

from scdae.core.axes import project
from scdae.core.batches import padded, paired
from scdae.core.cells import entry_rows
from scdae.core.dropout_law import CellMeans, Evidence, GeneBlock, first_look, fit_laws, losses
from scdae.core.heldout import HeldOut, latent_and_norm
from scdae.core.network import total_effects, with_values

__all__ = ["Screen", "candidates", "find_dropout"]

_NATS = 5.0  # log likelihood by which dropout has to win
_FALSE = 0.05  # share of the genes said to have dropout in which it may be chance
_PRESENT = 0.75  # share of the zeros that dropout predicts where the gene is expressed most that have to be there
_LARGE, _LARGE_CELLS = 3, 10  # counts that make a zero elsewhere surprising, and cells that have to show them
_RULED_OUT = -6.0  # logit of the dropout probability of the others
_WIDTH = 64  # genes that are fitted together


def candidates(counts: sp.csr_matrix) -> np.ndarray:
    """Mark the genes in which dropout could be told from chance: bool (n_vars,).

    A zero speaks for dropout only where several molecules were to be expected, so a gene has to reach three in at least
    one cell of a hundred, and in ten cells.
    """
    large = np.bincount(counts.indices[counts.data >= _LARGE], minlength=counts.shape[1])
    return large >= max(_LARGE_CELLS, 0.01 * counts.shape[0])


def find_dropout(graph: Any, params: Any, screen: Screen) -> tuple[Any, np.ndarray]:
    """Decide in which genes zero inflation earns its place, and set its law.

    Dropout has earned its place where the law with it beats the law without on the hidden half by several nats and by
    more than chance (its lead in standard errors, corrected for the number of genes by Benjamini and Hochberg's
    procedure), and where most of the zeros that it predicts are there in the cells that express the gene
    most: a marker of another cell type has too many zeros as well, but none in those cells. The decoder's mean is that
    before dropout in these genes, so they change it.

    Parameters
    ----------
    graph, params
        A network trained without dropout.
    screen
        The counts to look at.

    Returns
    -------
    tuple
        Parameters, with the law of dropout of all genes looked at, and bool (n_vars,) for the genes that have it.
    """
    screen.use(graph, params)
    values = {name: np.array(value) for name, value in nnx.to_pure_dict(params).items()}
    values["logit_pi"][screen.genes] = _RULED_OUT
    genes = screen.suspects()
    inflated = np.zeros(screen.n_vars, bool)
    if len(genes):
        found = screen.fit(genes)
        earned = _beyond_chance(found.lead / np.sqrt(np.maximum(found.square, 1e-12)), len(screen.genes))
        earned &= (found.lead > _NATS) & (found.zeros > _PRESENT * found.predicted)
        values["logit_pi"][genes], values["log_theta_zi"][genes] = found.logit_pi, found.log_theta
        values["log_profile"][genes[earned]] += np.logaddexp(0, found.logit_pi[earned])
        inflated[genes[earned]] = True
    return with_values(params, values), inflated


def _beyond_chance(errors: np.ndarray, n_genes: int) -> np.ndarray:
    """Leads, in standard errors, that are not chance, after Benjamini and Hochberg (1995) over all genes screened.

    SciPy has the procedure, too, in a module that takes a second to import.
    """
    chance = ndtr(-errors)
    allowed = _FALSE * np.arange(1, len(errors) + 1) / n_genes
    passed = np.sort(chance)[np.sort(chance) <= allowed]
    return chance <= passed.max() if len(passed) else np.zeros(len(errors), bool)


class Screen:
    """The counts of up to two thousand cells, halved, and what a network makes of the visible half.

    Parameters
    ----------
    held_out
        Molecules that were not trained on.
    maybe
        bool (n_vars,): genes to look at, as from :func:`candidates`; one at least.
    seed
        Seed of the halves.
    """

    def __init__(self, held_out: HeldOut, maybe: np.ndarray, seed: int):
        self.n_vars = len(maybe)
        self.genes = np.flatnonzero(maybe)
        half = held_out.judged().halved(np.random.default_rng(seed))
        self._data, self._inputs = half.data, project(half.axes, half.data)
        counts = (half.data.counts, half.counts)
        self._totals = [np.asarray(part.sum(axis=1), np.float32).ravel() for part in counts]
        self._both = paired(half.data.counts, half.counts).tocsc()
        self._gaps = None if half.data.unobserved is None else half.data.unobserved.tocsc()
        self._width = min(_WIDTH, len(self.genes))
        stored = np.sort(np.diff(self._both.indptr)[self.genes])
        self._capacity = int(stored[-self._width :].sum()) // 4096 * 4096 + 4096  # enough for any block

    def use(self, graph: Any, params: Any) -> None:
        """Take the means of this network."""
        conditions = self._data.conditions
        latent, norm = latent_and_norm(graph, params, self._data, self._inputs)
        self._values = nnx.to_pure_dict(params)
        if "turn_loading" in self._values:  # all that multiplies loadings, side by side
            turned = np.asarray(nnx.merge(graph, params).turned(latent, conditions))
            latent = np.concatenate([latent, turned], axis=1)
            loadings = [np.asarray(self._values[name]) for name in ("loading", "turn_loading")]
            self._values = self._values | {"loading": np.concatenate(loadings)}
        self._cells = CellMeans(latent, norm, conditions, *self._totals)

    def suspects(self) -> np.ndarray:
        """Candidates that a first look does not rule out, int64 (n,).

        In these the law with dropout, at one of a few points, beats the law without at the network's dispersion.
        """
        leads = [first_look(self._cells, self._block(genes))[: len(genes)] for genes in self._blocks(self.genes)]
        return self.genes[np.concatenate(leads) > 0]

    def fit(self, genes: np.ndarray) -> Evidence:
        """Fit the law with dropout and the law without to `genes`."""
        parts = [np.asarray(fit_laws(self._cells, self._block(some)))[:, : len(some)] for some in self._blocks(genes)]
        return Evidence(*np.concatenate(parts, axis=1))

    def compile(self, graph: Any, params: Any) -> None:
        """Compile what the fit needs."""
        self.use(graph, params)
        genes = self._block(self.genes[: self._width])
        losses(self._cells, genes, np.stack([genes.log_theta, genes.log_theta]))

    def _blocks(self, genes: np.ndarray) -> list[np.ndarray]:
        return [genes[start : start + self._width] for start in range(0, len(genes), self._width)]

    def _block(self, genes: np.ndarray) -> GeneBlock:
        both = self._both[:, genes].T.tocsr()
        at = padded(genes, self._width, fill=genes[-1])
        observed = None
        if self._gaps is not None:
            observed = ~self._gaps[:, at].toarray()
        return GeneBlock(
            loading=np.asarray(self._values["loading"])[:, at],
            base=np.asarray(self._values["log_profile"])[at],
            effects=total_effects(self._values, at),
            log_theta=np.asarray(self._values["log_theta"])[at],
            rows=padded(both.indices, self._capacity),
            cols=padded(entry_rows(both), self._capacity),
            x_in=padded(both.data.real, self._capacity),
            x_out=padded(both.data.imag, self._capacity),
            observed=observed,
        )
