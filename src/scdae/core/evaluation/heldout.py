"""What the held-out molecules say of a network: how likely it makes them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from flax import nnx

from scdae.core.data.cell_sums import sum_rows
from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, observed_mask
from scdae.core.data.thinning import thin
from scdae.core.minibatches.build import cells_at_once, slices, split_batches
from scdae.core.network.loss import entries_of, log_norm, log_proportions, nb_loss, poisson_loss, zinb_loss
from scdae.core.network.principal_axes import Axes
from scdae.core.prediction.law_readout import corrected_logits
from scdae.core.runtime.background import one_behind

__all__ = [
    "HeldOut",
    "forward",
    "gated_logits",
    "latent_and_norm",
    "read_out_law",
]

_WATCHED = 512  # cells looked at while training
_JUDGED = 2048  # cells on which genes are judged: whether they have dropout
_GATED = 1024  # and how far the network's means are to be trusted


class HeldOut:
    """Molecules of the training cells that were not trained on, in batches of one shape and random order.

    Parameters
    ----------
    data
        Training molecules.
    held_out
        float32 CSR (n_obs, n_vars).
    axes
        Fixed first layer.
    rng
        Source of the order of the cells.
    """

    def __init__(self, data: CellData, held_out: sp.csr_matrix, axes: Axes, rng: np.random.Generator):
        self.data = data
        self.axes = axes
        self.counts = held_out
        self._order = rng.permutation(data.n_obs)
        self._watched: list[Batch] | None = None
        self.ratio = float(held_out.sum() / max(float(data.counts.sum()), 1.0))

    def batches(self, limit: int | None = None) -> Iterator[tuple[np.ndarray, Batch]]:
        """Cells and batch, for all cells or for `limit` of them, rounded up to whole batches."""
        size = cells_at_once(self.data.n_obs, self.data.n_vars)
        for i, part in enumerate(split_batches(self.data, self.counts, self.axes, self._order, size)):
            if limit is not None and i * size >= limit:
                return
            yield part

    def watched(self) -> list[Batch]:
        """A few hundred cells, made up once: they are looked at several times, and take little memory."""
        if self._watched is None:
            self._watched = [batch for _, batch in self.batches(_WATCHED)]
        return self._watched

    def judged(self, most: int | None = None) -> HeldOut:
        """Select up to two thousand of the cells, or `most`."""
        cells = self._order[: _JUDGED if most is None else most]
        part = copy(self)
        part.data, part.counts = self.data.take(cells), self.counts[cells]
        part._order, part._watched = np.arange(len(cells)), None
        return part

    def with_hidden(self, share: float, rng: np.random.Generator) -> HeldOut:
        """Return the same cells with a larger fraction of the molecules to be predicted, those held out among them."""
        shown, rest = thin(self.data.counts, min((1 - share) * (1 + self.ratio), 1.0), rng)
        more = copy(self)
        more._watched = None
        more.data, more.counts = replace(self.data, counts=shown), (rest + self.counts).tocsr()
        return more

    def warm_up(self, graph: Any, params: Any, likelihood: str) -> None:
        """Compile what judges a network without dropout as it is trained."""
        no_dropout = np.zeros(self.data.n_vars, bool)
        _log_likelihoods(graph, params, self.watched()[0], no_dropout, 1.0, read_out_law(likelihood, no_dropout))

    def log_likelihood(self, graph: Any, params: Any, inflated: Any, likelihood: str) -> float:
        """Compute the log probability of the held-out molecules of a few hundred cells, per molecule, up to a constant."""
        of_genes = [_log_likelihoods(graph, params, batch, inflated, 1.0, likelihood)[0] for batch in self.watched()]
        molecules = sum(float(batch.x_out.sum()) for batch in self.watched())
        return sum(float(np.asarray(genes).sum()) for genes in of_genes) / max(molecules, 1.0)

    def log_likelihoods(
        self, graph: Any, params: Any, inflated: Any, gates: np.ndarray, likelihood: str
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """The same summed by gene and by cell, for a thousand cells, with the network's part scaled by each gate.

        Returns
        -------
        tuple
            float64 (n_gates, n_vars) and (n_gates, n_cells), and the number of molecules.
        """

        def scored() -> Iterator[tuple[int, float, list[tuple[jax.Array, jax.Array]]]]:
            for cells, batch in self.batches(_GATED):
                on_device = jax.device_put(batch)
                of_gates = [_log_likelihoods(graph, params, on_device, inflated, float(g), likelihood) for g in gates]
                yield len(cells), float(batch.x_out.sum()), of_gates

        of_gene, of_cell, molecules = np.zeros((len(gates), self.data.n_vars)), [], 0.0
        for n_cells, n_molecules, of_gates in one_behind(scored()):
            of_gene += np.stack([np.asarray(genes) for genes, _ in of_gates])
            of_cell.append(np.stack([np.asarray(per_cell)[:n_cells] for _, per_cell in of_gates]))
            molecules += n_molecules
        return of_gene, np.concatenate(of_cell, axis=1).astype(np.float64), molecules


def gated_logits(model: Any, latent: jax.Array, conditions: Conditions, gate: Any) -> jax.Array:
    """Logits with the network's departure from the gene means scaled by `gate` (a scalar or one for each gene)."""
    base = model.base(conditions)
    gate = gate if jnp.ndim(gate) == 0 else gate[None, :]
    return base + gate * (model.decode(latent, conditions) - base)


def read_out_law(likelihood: str, inflated: np.ndarray) -> str:
    """Return the distribution to compute with: NB for ZINB where no gene has dropout, which is the same and cheaper."""
    return "nb" if likelihood == "zinb" and not inflated.any() else likelihood


def forward(model: Any, batch: Batch, gate: Any, latent: Any = None) -> tuple[jax.Array, jax.Array | None]:
    """Compute the log proportions and the mask of a batch; `latent` (b, n_latent) goes before what the encoder says."""
    n_cells, n_vars = batch.inputs.shape[0], model.log_profile.shape[0]
    observed = observed_mask(batch, n_cells, n_vars)
    latent = model.encode(batch.inputs, batch.conditions) if latent is None else latent
    logits = gated_logits(model, latent, batch.conditions, gate)
    return log_proportions(logits, observed), observed


def latent_and_norm(
    graph: Any, params: Any, data: CellData, inputs: np.ndarray, by_level: tuple[Any, Any] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the network makes of some cells.

    Parameters
    ----------
    graph, params
        The network.
    data
        The cells.
    inputs
        float32 (n_obs, n_components): their counts on the axes.
    by_level
        Correction of the log proportions, :attr:`scdae.core.distributions.laws.Laws.by_level`; None for none.

    Returns
    -------
    tuple
        Latent representation, float32 (n_obs, n_latent), and logarithms of sums, float32 (n_obs, 1) each: over the observed
        genes and over all, which turn logits into proportions, and over the observed genes once these are corrected.
    """
    parts = []
    for cells in slices(data.n_obs, cells_at_once(data.n_obs, data.n_vars)):
        observed = None if data.unobserved is None else ~data.unobserved[cells].toarray()
        parts.append(_latent_and_norm(graph, params, inputs[cells], data.conditions.take(cells), observed, by_level))
    latent, norm, of_all, after = (
        np.concatenate([np.asarray(part[i]) for part in parts])[: data.n_obs] for i in range(4)
    )
    return latent, norm, of_all, after


@partial(jax.jit, static_argnames=("graph",))
def _latent_and_norm(
    graph: Any, params: Any, inputs: Any, conditions: Any, observed: Any, by_level: Any
) -> tuple[jax.Array, ...]:
    model = nnx.merge(graph, params)
    latent = model.encode(inputs, conditions)
    logits = model.decode(latent, conditions)
    norm, of_all = log_norm(logits, observed), log_norm(logits, None)
    if by_level is None:
        return latent, norm, of_all, norm
    return latent, norm, of_all, log_norm(corrected_logits(by_level, logits), observed)


@partial(jax.jit, static_argnames=("graph", "likelihood"))
def _log_likelihoods(
    graph: Any, params: Any, batch: Batch, inflated: Any, gate: Any, likelihood: str
) -> tuple[jax.Array, jax.Array]:
    """Compute the log predictive probability summed by gene, (n_vars,), and by cell, (b,)."""
    model = nnx.merge(graph, params)
    log_rho, observed = forward(model, batch, gate)
    entries, rho = entries_of(log_rho, batch), jnp.exp(log_rho)
    total_in, total_out = batch.total_in, batch.total_out
    if likelihood == "poisson":
        dense, stored = poisson_loss(rho, total_out, entries)
    else:
        theta = model.theta()
        dense, stored = nb_loss(rho, total_in, total_out, theta, entries, theta[batch.cols])
    if likelihood == "zinb":  # the one with dropout in place of the other, for the genes that have it
        law = model.dropout()
        with_it, stored_with = zinb_loss(rho, total_in, total_out, law, entries, law.at(batch.cols))
        dense = jnp.where(inflated, with_it, dense)
        stored = jnp.where(inflated[batch.cols], stored_with, stored)
    dense = dense if observed is None else jnp.where(observed, dense, 0)
    of_gene, of_cell = sum_rows(dense).at[batch.cols].add(stored), dense.sum(axis=1).at[batch.rows].add(stored)
    return -of_gene, -of_cell
