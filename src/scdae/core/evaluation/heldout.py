"""What the held-out molecules say: how good the network is, and what was gained."""

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

from scdae.core.data.cell_sums import sum_columns, sum_rows
from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, observed_mask, scatter
from scdae.core.data.thinning import thin
from scdae.core.distributions.laws import Laws, even_laws, filled
from scdae.core.distributions.posterior import dropout_probability, posterior_mean
from scdae.core.evaluation.report import Report, ratio_of_sums
from scdae.core.minibatches.build import cells_at_once, slices, split_batches
from scdae.core.network.latent_prior import LatentPrior
from scdae.core.network.loss import entries_of, log_norm, log_proportions, nb_loss, poisson_loss, zinb_loss
from scdae.core.network.parameters import Network
from scdae.core.network.principal_axes import Axes
from scdae.core.prediction.law_readout import Block, corrected_logits, corrected_proportions, counted_mean, level_at
from scdae.core.prediction.refine import refined
from scdae.core.runtime.background import one_behind

__all__ = [
    "HeldOut",
    "forward",
    "gated_logits",
    "latent_and_norm",
    "measure_gain",
    "read_out_law",
]

_WATCHED = 512  # cells looked at while training
_JUDGED = 2048  # cells on which genes are judged: whether they have dropout
_GATED = 1024  # and how far the network's means are to be trusted
_FLOOR = 1e-8  # expected counts below it are scored as it


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

    def warm_up(self, graph: Any, params: Any, profile: np.ndarray, likelihood: str) -> None:
        """Compile what judges a network without dropout."""
        batch = self.watched()[0]
        no_dropout = np.zeros(self.data.n_vars, bool)
        plain = read_out_law(likelihood, no_dropout)
        _log_likelihoods(graph, params, batch, no_dropout, 1.0, plain)
        laws = None if plain == "poisson" else even_laws(self.data.n_vars)
        latent = _encoded(Network(graph, params), batch.inputs, batch.conditions)
        _deviance(graph, params, batch, no_dropout, profile.astype(np.float32), self.ratio, plain, laws, latent)

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


def measure_gain(
    graph: Any,
    params: Any,
    inflated: Any,
    profile: np.ndarray,
    held_out: HeldOut,
    likelihood: str,
    laws: Laws | None = None,
    prior: LatentPrior | None = None,
) -> Report:
    """Score what the training molecules say of the held-out ones, gene by gene and cell by cell.

    Counts follow the `laws` of the genes; without, those of the parameters, with dropout where `inflated`. Cells with few
    molecules are placed by the `prior`; without, by the encoder.
    """
    n_obs, n_vars = held_out.data.counts.shape
    of_gene = np.zeros((5, n_vars))
    of_cell = np.zeros((5, n_obs))
    base = profile.astype(np.float32)
    laws = None if laws is None else filled(laws)
    network, few = Network(graph, params), prior is not None and prior.doubt(held_out.data.exposure).any()

    def place(batch: Batch) -> Any:
        latent = _encoded(network, batch.inputs, batch.conditions)
        return refined(network, prior, batch, latent, likelihood) if few else latent

    scored = (
        (cells, *_deviance(graph, params, batch, inflated, base, held_out.ratio, likelihood, laws, place(batch)))
        for cells, batch in held_out.batches()
    )
    for cells, genes, per_cell in one_behind(scored):
        of_gene += np.asarray(genes, dtype=np.float64)
        of_cell[:, cells] = np.asarray(per_cell)[:, : len(cells)]
    decoded, restored, baseline, square, expected = of_gene
    margin = baseline - decoded
    efficiency, error = ratio_of_sums(of_cell[2] - of_cell[1], of_cell[3])
    return Report(
        gene_deviance=decoded,
        gene_restored=restored,
        gene_baseline=baseline,
        gene_error=np.sqrt(np.maximum(square - margin**2 / max(n_obs, 1), 0)),
        gene_molecules=np.asarray(held_out.counts.sum(axis=0), np.float64).ravel(),
        cell_deviance=of_cell[0],
        cell_baseline=of_cell[2],
        cell_molecules=of_cell[4],
        expected=expected,
        molecules=float(held_out.counts.sum()),
        efficiency=efficiency,
        efficiency_error=error,
    )


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


@jax.jit
def _encoded(network: Network, inputs: Any, conditions: Conditions) -> jax.Array:
    return network.merged().encode(inputs, conditions)


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


@partial(jax.jit, static_argnames=("graph", "likelihood"))
def _deviance(
    graph: Any,
    params: Any,
    batch: Batch,
    inflated: Any,
    profile: Any,
    ratio: Any,
    likelihood: str,
    laws: Laws | None,
    latent: Any,
) -> tuple[jax.Array, jax.Array]:
    """Compute the sums over the held-out molecules, by gene and by cell, where cells lie at `latent` (b, n_latent).

    Returns
    -------
    tuple
        (5, n_vars): deviance under the decoder's mean, the same with own counts weighed in, deviance under the gene means, sum of
        the squared margins of the first over the third, and training molecules that the decoder expects. (5, b): the three
        deviances, the gain with own counts over the gene means that the model expects, and the molecules.
    """
    model = nnx.merge(graph, params)
    log_rho, observed = forward(model, batch, 1.0, latent)
    if laws is not None:
        log_rho = corrected_proportions(laws.by_level, log_rho, observed)
    mean = batch.total_in[:, None] * jnp.exp(log_rho)
    base = (batch.total_in / batch.share)[:, None] * profile[None, :]
    if laws is None:
        predicted, lasting = _predict(model, scatter(batch.x_in, batch, *mean.shape), mean, inflated, likelihood)
    else:
        level = level_at(laws, log_rho, batch.share)
        block = Block(laws, mean * laws.lift[None, :], batch.x_in, batch.rows, batch.cols, level=level)
        predicted, lasting = counted_mean(block), mean

    def seen(dense: jax.Array) -> jax.Array:
        return dense if observed is None else jnp.where(observed, dense, 0)

    y, at = batch.x_out, (batch.rows, batch.cols)
    means = [jnp.maximum(ratio * values, _FLOOR) for values in (lasting, predicted, base)]
    dense = [seen(values) for values in means]
    stored = [y * jnp.log(jnp.where(y > 0, y, 1) / values[at]) - y for values in means]
    of_gene = [2 * sum_rows(one).at[batch.cols].add(more) for one, more in zip(dense, stored, strict=True)]
    of_cell = [2 * sum_columns(one).at[batch.rows].add(more) for one, more in zip(dense, stored, strict=True)]
    # An entry's margin is that of its zero, which every entry has, and what its molecules have on top.
    zero, more = 2 * (dense[2] - dense[0]), 2 * (stored[2] - stored[0])
    square = sum_rows(zero**2).at[batch.cols].add(2 * zero[at] * more + more**2)
    hoped = 2 * sum_columns(seen(means[1] * jnp.log(means[1] / means[2]) - means[1] + means[2]))
    molecules = jnp.zeros(len(base), y.dtype).at[batch.rows].add(y)
    return jnp.stack([*of_gene, square, sum_rows(seen(lasting))]), jnp.stack([*of_cell, hoped, molecules])


def _predict(model: Any, x: jax.Array, mean: jax.Array, inflated: Any, likelihood: str) -> tuple[jax.Array, jax.Array]:
    """Compute the expected molecules of the same entries given the counts, and the mean that is left after dropout.

    Held-out molecules are lost with the others where an entry dropped out, so dropout is not undone here as it is in what is
    restored: this is the mean of :func:`scdae.core.distributions.predictive_numpy.predictive_law`.
    """
    if likelihood == "poisson":
        return mean, mean
    theta = model.theta(inflated if likelihood == "zinb" else None)[None, :]
    kept = posterior_mean(x, mean, theta)
    if likelihood == "nb":
        return kept, mean
    pi = model.pi(inflated)[None, :]
    return (1 - dropout_probability(x, mean, theta, pi)) * kept, mean * (1 - pi)
