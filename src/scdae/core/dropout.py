"""Where dropout is real: zero inflation has to earn its place, gene by gene, on molecules that the network did not see.

Half of a cell's molecules are hidden from the network, which gives their means from the other half. With these means
held still, the law with dropout and the law without are both fitted to the hidden half, and compared.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from flax import nnx
from scipy.stats import false_discovery_control, norm

from scdae.core.axes import Axes
from scdae.core.batches import Batch, cells_at_once, observed_mask, padded, slice_batches, values_at
from scdae.core.cells import CellData
from scdae.core.dropout_law import CellMeans, Evidence, GeneBlock, first_look, fit_laws, losses
from scdae.core.network import with_values
from scdae.core.objective import log_proportions
from scdae.core.thinning import thin

__all__ = ["Screen", "candidates", "find_dropout"]

_NATS = 5.0  # log likelihood by which dropout has to win
_FALSE = 0.05  # share of the genes said to have dropout in which it may be chance
_PRESENT = 0.75  # share of the zeros that dropout predicts where the gene is expressed most that have to be there
_LARGE, _LARGE_CELLS = 3, 10  # counts that make a zero elsewhere surprising, and cells that have to show them
_CELLS = 2048  # cells on which genes are judged
_RULED_OUT = -6.0  # logit of the dropout probability of the others
_WIDTH = 256  # genes that are fitted together


def candidates(counts: sp.csr_matrix) -> np.ndarray:
    """Mark the genes in which dropout could be told from chance: bool (n_vars,).

    A zero speaks for dropout only where several molecules were to be expected, so a gene has to reach three in at least
    one cell of a hundred, and in ten cells.
    """
    large = np.bincount(counts.indices[counts.data >= _LARGE], minlength=counts.shape[1])
    return large >= max(_LARGE_CELLS, 0.01 * counts.shape[0])


def find_dropout(
    graph: Any, params: Any, axes: Axes, data: CellData, held_out: sp.csr_matrix, maybe: np.ndarray, seed: int
) -> tuple[Any, np.ndarray]:
    """Decide in which genes zero inflation earns its place, and set its law.

    Dropout has earned its place where the law with it beats the law without on the hidden half by several nats and by
    more than chance (its lead in standard errors, corrected for the number of genes by Benjamini and Hochberg's
    procedure), and where most of the zeros that it predicts are there in the cells that express the gene
    most: a marker of another cell type has too many zeros as well, but none in those cells. The decoder's mean is that
    before dropout in these genes, so they change it.

    Parameters
    ----------
    graph, params, axes
        A network trained without dropout.
    data
        Training molecules.
    held_out
        float32 CSR (n_obs, n_vars): molecules that were not trained on.
    maybe
        bool (n_vars,): genes to look at, as from :func:`candidates`.
    seed
        Seed of the cells and the halves.

    Returns
    -------
    tuple
        Parameters, with the law of dropout of all genes looked at, and bool (n_vars,) for the genes that have it.
    """
    screen = Screen(graph, params, axes, data, held_out, maybe, seed)
    values = {name: np.array(value) for name, value in nnx.to_pure_dict(params).items()}
    values["logit_pi"][maybe] = _RULED_OUT
    genes = screen.suspects()
    inflated = np.zeros(len(maybe), bool)
    if len(genes):
        found = screen.fit(genes)
        chance = np.ones(len(screen.genes))
        chance[: len(genes)] = norm.sf(found.lead / np.sqrt(np.maximum(found.square, 1e-12)))
        earned = false_discovery_control(chance)[: len(genes)] < _FALSE
        earned &= (found.lead > _NATS) & (found.zeros > _PRESENT * found.predicted)
        values["logit_pi"][genes], values["log_theta_zi"][genes] = found.logit_pi, found.log_theta
        values["log_profile"][genes[earned]] += np.logaddexp(0, found.logit_pi[earned])
        inflated[genes[earned]] = True
    return with_values(params, values), inflated


class Screen:
    """The counts of up to two thousand cells, halved, and what a network makes of the visible half.

    Parameters
    ----------
    graph, params, axes, data, held_out, maybe, seed
        As for :func:`find_dropout`.
    """

    def __init__(
        self,
        graph: Any,
        params: Any,
        axes: Axes,
        data: CellData,
        held_out: sp.csr_matrix,
        maybe: np.ndarray,
        seed: int,
    ):
        rng = np.random.default_rng(seed)
        if data.n_obs > _CELLS:
            some = np.sort(rng.choice(data.n_obs, _CELLS, replace=False))
            data, held_out = data.take(some), held_out[some]
        ratio = float(held_out.sum() / max(float(data.counts.sum()), 1.0))
        shown, hidden = thin(data.counts, min(0.5 * (1 + ratio), 1.0), rng)
        both = data.counts + held_out
        self.genes = np.flatnonzero(maybe)
        self._values = nnx.to_pure_dict(params)
        half = CellData(shown, data.unobserved, data.codes, data.share)
        self._cells = _look(graph, params, axes, half, both - shown)
        self._shown, self._both = shown.tocsc(), both.tocsc()
        self._gaps = None if data.unobserved is None else data.unobserved.tocsc()
        self._width = min(_WIDTH, len(self.genes))
        stored = np.sort(np.diff(self._both.indptr)[self.genes])
        self._capacity = int(stored[-self._width :].sum()) // 4096 * 4096 + 4096  # enough for any block

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

    def compile(self) -> None:
        """Compile what the fit needs."""
        genes = self._block(self.genes[: self._width])
        losses(self._cells, genes, np.stack([genes.log_theta, genes.log_theta]))

    def _blocks(self, genes: np.ndarray) -> list[np.ndarray]:
        return [genes[start : start + self._width] for start in range(0, len(genes), self._width)]

    def _base(self, genes: np.ndarray) -> np.ndarray:
        """Logits without the latent part, (n_batches, n_genes)."""
        base = np.asarray(self._values["log_profile"])[None, genes]
        return base + np.asarray(self._values["batch_effect"])[:, genes] if "batch_effect" in self._values else base

    def _block(self, genes: np.ndarray) -> GeneBlock:
        shown, both = self._shown[:, genes].T.tocsr(), self._both[:, genes].T.tocsr()
        both.sort_indices()
        x_in = values_at(shown, both)
        at = padded(genes, self._width, fill=genes[-1])
        observed = None
        if self._gaps is not None:
            observed = ~self._gaps[:, at].toarray()
        cols = np.repeat(np.arange(len(genes), dtype=np.int32), np.diff(both.indptr))
        return GeneBlock(
            loading=np.asarray(self._values["loading"])[:, at],
            base=self._base(at),
            log_theta=np.asarray(self._values["log_theta"])[at],
            rows=padded(both.indices, self._capacity),
            cols=padded(cols, self._capacity),
            x_in=padded(x_in, self._capacity),
            x_out=padded(both.data - x_in, self._capacity),
            observed=observed,
        )


def _look(graph: Any, params: Any, axes: Axes, shown: CellData, hidden: sp.csr_matrix) -> CellMeans:
    latent, norm = [], []
    for rows, batch in slice_batches(shown, axes, cells_at_once(shown.n_obs, shown.n_vars)):
        z, log_sum = _encode(graph, params, batch)
        n_cells = rows.stop - rows.start
        latent.append(np.asarray(z)[:n_cells])
        norm.append(np.asarray(log_sum)[:n_cells])
    totals = (np.asarray(x.sum(axis=1), np.float32).ravel() for x in (shown.counts, hidden))
    return CellMeans(np.concatenate(latent), np.concatenate(norm), shown.codes, *totals)


@partial(jax.jit, static_argnames=("graph",))
def _encode(graph: Any, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, params)
    observed = observed_mask(batch, batch.codes.shape[0], model.log_profile.shape[0])
    latent = model.encode(batch.inputs)
    logits = model.decode(latent, batch.codes)
    return latent, (logits - log_proportions(logits, observed))[:, :1]
