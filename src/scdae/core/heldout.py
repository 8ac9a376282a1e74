"""What the held-out molecules say: how good the network is, where dropout is real, and what was gained."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from flax import nnx

from scdae.core.axes import Axes, project
from scdae.core.batches import Batch, CellData, cells_at_once, observed_mask, scatter, split_batches
from scdae.core.network import with_values
from scdae.core.objective import Entries, entries_of, log_proportions, nb_loss, poisson_loss, zinb_loss
from scdae.core.posterior import posterior_mean
from scdae.core.thinning import thin

__all__ = [
    "HeldOut",
    "Report",
    "candidates",
    "gated_logits",
    "measure_gain",
    "read_out_law",
    "restore",
    "screen_dropout",
]

_WATCHED = 512  # cells looked at while training
_JUDGED = 2048  # cells on which genes are judged
_NATS, _ERRORS = 5.0, 4.0  # log likelihood and standard errors by which dropout has to win
_PRESENT = 0.75  # share of the zeros that dropout predicts where the gene is expressed most that have to be there
_LARGE, _LARGE_CELLS = 3, 10  # counts that make a zero elsewhere surprising, and cells that have to show them
_FLOOR = 1e-8  # expected counts below it are scored as it


class HeldOut:
    """Molecules of the training cells that were not trained on, in batches of one shape and random order.

    Parameters
    ----------
    data
        Training molecules.
    held_out
        float32 CSR (n_obs, n_vars).
    rng
        Source of the order of the cells.
    candidates
        bool (n_vars,): genes that may have dropout; None for none.
    """

    def __init__(
        self,
        data: CellData,
        held_out: sp.csr_matrix,
        rng: np.random.Generator,
        candidates: np.ndarray | None = None,
    ):
        self.data = data
        self.candidates = np.zeros(data.n_vars, bool) if candidates is None else candidates
        self.counts = held_out
        self._order = rng.permutation(data.n_obs)
        self._halves_seed = int(rng.integers(2**32))
        self.ratio = float(held_out.sum() / max(float(data.counts.sum()), 1.0))

    def batches(self, limit: int | None = None) -> Iterator[tuple[np.ndarray, Batch]]:
        """Cells and batch, for all cells or for `limit` of them, rounded up to whole batches."""
        size = cells_at_once(self.data.n_obs, self.data.n_vars)
        some = self.candidates if self.candidates.any() else None
        for i, part in enumerate(split_batches(self.data, self.counts, self._order, size, some)):
            if limit is not None and i * size >= limit:
                return
            yield part

    def halved(self) -> HeldOut:
        """The same cells with half of all molecules to be predicted, those held out among them, from the other half."""
        share = 0.5 * (1 + self.ratio)
        kept, rest = thin(self.data.counts, min(share, 1.0), np.random.default_rng(self._halves_seed))
        half = copy(self)
        half.data, half.counts = replace(self.data, counts=kept), (rest + self.counts).tocsr()
        return half

    def compile(self, graph: Any, params: Any, axes: Axes, profile: np.ndarray, likelihood: str) -> Thread:
        """Compile what judges the network in a thread of its own, while the training step is being compiled."""
        batch = next(iter(self.batches(1)))[1]
        nobody = np.zeros(self.data.n_vars, bool)
        plain = read_out_law(likelihood, nobody)

        def run() -> None:
            _log_likelihoods(graph, params, axes, batch, nobody, 1.0, plain)
            _deviance(graph, params, axes, batch, nobody, profile.astype(np.float32), self.ratio, plain)
            if self.candidates.any():
                genes = np.flatnonzero(self.candidates).astype(np.int32)
                _dropout_evidence(graph, params, axes, batch, genes)

        thread = Thread(target=run, name="scdae-compile", daemon=True)
        thread.start()
        return thread

    def log_likelihood(self, graph: Any, params: Any, axes: Axes, inflated: Any, likelihood: str) -> float:
        """Log predictive law of the held-out molecules of a few hundred cells, per molecule, up to a constant."""
        total = molecules = 0.0
        for _, batch in self.batches(_WATCHED):
            genes, _ = _log_likelihoods(graph, params, axes, batch, inflated, 1.0, likelihood)
            total += float(genes.sum())
            molecules += float(batch.x_out.sum())
        return total / max(molecules, 1.0)

    def log_likelihoods(
        self, graph: Any, params: Any, axes: Axes, inflated: Any, gate: float, likelihood: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same summed by gene and by cell, for some thousand cells, with the network's part scaled by `gate`."""
        of_gene, of_cell = np.zeros(self.data.n_vars), []
        for cells, batch in self.batches(_JUDGED):
            genes, per_cell = _log_likelihoods(graph, params, axes, batch, inflated, gate, likelihood)
            of_gene += np.asarray(genes)
            of_cell.append(np.asarray(per_cell, dtype=np.float64)[: len(cells)])
        return of_gene, np.concatenate(of_cell)


@dataclass(frozen=True)
class Report:
    """Poisson deviance of the held-out molecules under the gene means and under the posterior mean."""

    gene_deviance: np.ndarray  # (n_vars,)
    gene_baseline: np.ndarray  # (n_vars,)
    cell_deviance: np.ndarray  # (n_obs,)
    cell_baseline: np.ndarray  # (n_obs,)
    expected: np.ndarray  # (n_vars,): training molecules that the decoder expects
    molecules: float

    @property
    def skill(self) -> float:
        """Share of the baseline's deviance that is removed."""
        return float(1 - self.gene_deviance.sum() / self.gene_baseline.sum())

    @property
    def gene_gain(self) -> np.ndarray:
        """The same for each gene, float32 (n_vars,); 0 for genes without held-out molecules to judge by."""
        return _gain(self.gene_deviance, self.gene_baseline)

    @property
    def cell_gain(self) -> np.ndarray:
        """The same for each cell, float32 (n_obs,)."""
        return _gain(self.cell_deviance, self.cell_baseline)


def gated_logits(model: Any, latent: jax.Array, codes: jax.Array, gate: Any) -> jax.Array:
    """Logits with the network's departure from the gene means scaled by `gate` (a scalar or one for each gene)."""
    base = model.log_profile[...]
    return base + gate * (model.decode(latent, codes) - base)


def candidates(counts: sp.csr_matrix) -> np.ndarray:
    """Mark the genes in which dropout could be told from chance: bool (n_vars,).

    A zero speaks for dropout only where several molecules were to be expected, so a gene has to reach three in at least
    one cell of a hundred, and in ten cells.
    """
    large = np.bincount(counts.indices[counts.data >= _LARGE], minlength=counts.shape[1])
    return large >= max(_LARGE_CELLS, 0.01 * counts.shape[0])


def screen_dropout(
    graph: Any, params: Any, axes: Axes, inflated: np.ndarray, held_out: HeldOut
) -> tuple[Any, np.ndarray]:
    """Decide in which genes zero inflation earns its place.

    Half of the molecules, those held out among them, are hidden from the network, which gives their mean from the other
    half. Dropout has earned its place where the predictive law with it beats the law without on the hidden half by
    several nats and by several standard errors, and where most of the zeros that it predicts are there in the cells
    that express the gene most: a marker of another cell type has too many zeros as well, but none in those cells. The
    decoder's mean is that before dropout in these genes, so a gene that comes to them changes its mean; those already
    marked in `inflated` stay.

    Returns
    -------
    tuple
        Parameters, and bool (n_vars,) for the genes with dropout.
    """
    lead, square, zeros, predicted = np.zeros((4, len(inflated)))
    genes = np.flatnonzero(held_out.candidates).astype(np.int32)
    for _, batch in held_out.halved().batches(_JUDGED):
        found = _dropout_evidence(graph, params, axes, batch, genes)
        for total, part in zip((lead, square, zeros, predicted), found, strict=True):
            total[genes] += np.asarray(part)
    earned = (lead > _NATS) & (lead > _ERRORS * np.sqrt(square)) & (zeros > _PRESENT * predicted) | inflated
    values = nnx.to_pure_dict(params)
    log_keep = -np.logaddexp(0, np.asarray(values["logit_pi"]))
    values["log_profile"] = np.asarray(values["log_profile"]) + log_keep * (inflated.astype(int) - earned.astype(int))
    return with_values(params, values), earned


def read_out_law(likelihood: str, inflated: np.ndarray) -> str:
    """The law to compute with: NB in place of ZINB where no gene has dropout, which is the same and cheaper."""
    return "nb" if likelihood == "zinb" and not inflated.any() else likelihood


def measure_gain(
    graph: Any, params: Any, axes: Axes, inflated: Any, profile: np.ndarray, held_out: HeldOut, likelihood: str
) -> Report:
    """Score the posterior mean of the training molecules on the held-out ones, gene by gene and cell by cell."""
    n_obs, n_vars = held_out.data.counts.shape
    of_gene = np.zeros((3, n_vars))
    of_cell = np.zeros((2, n_obs))
    base = profile.astype(np.float32)
    for cells, batch in held_out.batches():
        genes, per_cell = _deviance(graph, params, axes, batch, inflated, base, held_out.ratio, likelihood)
        of_gene += np.asarray(genes, dtype=np.float64)
        of_cell[:, cells] = np.asarray(per_cell)[:, : len(cells)]
    return Report(
        gene_deviance=of_gene[0],
        gene_baseline=of_gene[1],
        cell_deviance=of_cell[0],
        cell_baseline=of_cell[1],
        expected=of_gene[2],
        molecules=float(held_out.counts.sum()),
    )


def _gain(deviance: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    gain = np.divide(baseline - deviance, baseline, out=np.zeros_like(baseline), where=baseline > 1e-6)
    return gain.astype(np.float32)


def _forward(
    model: Any, axes: Axes, batch: Batch, gate: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Log proportions, totals of the two halves and the mask of a batch."""
    n_cells, n_vars = batch.codes.shape[0], axes.gene_mean.shape[0]
    per_cell = jnp.zeros(n_cells)
    total_in, total_out = per_cell.at[batch.rows].add(batch.x_in), per_cell.at[batch.rows].add(batch.x_out)
    observed = observed_mask(batch, n_cells, n_vars)
    latent = model.encode(project(axes, batch, total_in / batch.share, observed))
    log_rho = log_proportions(gated_logits(model, latent, batch.codes, gate), observed)
    return log_rho, total_in, total_out, observed


def _by_gene(dense: jax.Array, stored: jax.Array, batch: Batch, observed: jax.Array | None) -> jax.Array:
    seen = dense if observed is None else jnp.where(observed, dense, 0)
    return seen.sum(axis=0).at[batch.cols].add(stored)


@partial(jax.jit, static_argnames=("graph", "likelihood"))
def _log_likelihoods(
    graph: Any, params: Any, axes: Axes, batch: Batch, inflated: Any, gate: Any, likelihood: str
) -> tuple[jax.Array, jax.Array]:
    """Log predictive law summed by gene, (n_vars,), and by cell, (b,)."""
    model = nnx.merge(graph, params)
    log_rho, total_in, total_out, observed = _forward(model, axes, batch, gate)
    entries, rho = entries_of(log_rho, batch, total_in, total_out), jnp.exp(log_rho)
    if likelihood == "poisson":
        dense, stored = poisson_loss(rho, total_out, entries)
    else:
        theta = model.theta()
        dense, stored = nb_loss(rho, total_in, total_out, theta, entries, theta[batch.cols])
    if likelihood == "zinb":  # the law with dropout, in the place of the other, for the genes that have it
        law = model.dropout()
        with_it, stored_with = zinb_loss(rho, total_in, total_out, law, entries, law.at(batch.cols))
        dense = jnp.where(inflated, with_it, dense)
        stored = jnp.where(inflated[batch.cols], stored_with, stored)
    dense = dense if observed is None else jnp.where(observed, dense, 0)
    return -dense.sum(axis=0).at[batch.cols].add(stored), -dense.sum(axis=1).at[batch.rows].add(stored)


@partial(jax.jit, static_argnames=("graph",))
def _dropout_evidence(
    graph: Any, params: Any, axes: Axes, batch: Batch, genes: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What speaks for dropout in each candidate that has none.

    Returns
    -------
    tuple
        (n_candidates,) sums over entries: the log likelihood that dropout adds, its squares, and, weighted by the square
        of the expected share, the zeros beyond those expected without dropout, found and predicted with it.
    """
    model = nnx.merge(graph, params)
    log_rho, total_in, total_out, observed = _forward(model, axes, batch, 1.0)
    entries = Entries(*(part[batch.chosen] for part in entries_of(log_rho, batch, total_in, total_out)))
    column = jnp.zeros(log_rho.shape[1], int).at[genes].set(jnp.arange(len(genes)))[batch.cols[batch.chosen]]
    law, theta, own = model.dropout().at(genes), model.theta()[genes], log_rho[:, genes]
    without, stored_without = nb_loss(jnp.exp(own), total_in, total_out, theta, entries, theta[column])
    mixed_at = entries._replace(log_rho=entries.log_rho - law.log_keep[column])
    mixed = jnp.exp(own - law.log_keep)
    with_it, stored_with = zinb_loss(mixed, total_in, total_out, law, mixed_at, law.at(column))
    lead = (without - with_it).at[batch.rows[batch.chosen], column].add(stored_without - stored_with)
    lead = lead if observed is None else jnp.where(observed[:, genes], lead, 0)

    molecules = jnp.zeros(own.shape).at[batch.rows[batch.chosen], column].add(entries.x_in + entries.x_out)
    by_chance = (1 + (total_in + total_out)[:, None] * mixed / law.theta) ** -law.theta
    weight = mixed**2 if observed is None else jnp.where(observed[:, genes], mixed**2, 0)
    zeros = (weight * ((molecules == 0) - by_chance)).sum(axis=0)
    predicted = (weight * jnp.exp(law.log_drop) * (1 - by_chance)).sum(axis=0)
    return lead.sum(axis=0), (lead**2).sum(axis=0), zeros, predicted


@partial(jax.jit, static_argnames=("graph", "likelihood"))
def _deviance(
    graph: Any, params: Any, axes: Axes, batch: Batch, inflated: Any, profile: Any, ratio: Any, likelihood: str
) -> tuple[jax.Array, jax.Array]:
    """Deviance of posterior mean and gene means, and expected training molecules: (3, n_vars) and (2, b)."""
    model = nnx.merge(graph, params)
    log_rho, total_in, _, observed = _forward(model, axes, batch, 1.0)
    mean = total_in[:, None] * jnp.exp(log_rho)
    base = (total_in / batch.share)[:, None] * profile
    x_in = scatter(batch.x_in, batch, *mean.shape)
    restored, lasting = restore(model, x_in, mean, inflated, likelihood)

    def deviance(expected: jax.Array) -> tuple[jax.Array, jax.Array]:
        expected = jnp.maximum(ratio * expected, _FLOOR)
        y = batch.x_out
        log_ratio = jnp.log(jnp.where(y > 0, y, 1) / expected[batch.rows, batch.cols])
        stored = jnp.where(y > 0, y * log_ratio - y, 0)
        dense = expected if observed is None else jnp.where(observed, expected, 0)
        return 2 * _by_gene(dense, stored, batch, None), 2 * dense.sum(axis=1).at[batch.rows].add(stored)

    (gene, cell), (gene_base, cell_base) = deviance(restored), deviance(base)
    seen = lasting if observed is None else jnp.where(observed, lasting, 0)
    return jnp.stack([gene, gene_base, seen.sum(axis=0)]), jnp.stack([cell, cell_base])


def restore(model: Any, x: jax.Array, mean: jax.Array, inflated: Any, likelihood: str) -> tuple[jax.Array, jax.Array]:
    """Posterior mean given the counts, and the mean that is left after dropout."""
    if likelihood == "poisson":
        return mean, mean
    if likelihood == "nb":
        return posterior_mean(x, mean, model.theta()), mean
    pi = model.pi(inflated)
    return posterior_mean(x, mean, model.theta(inflated), pi), mean * (1 - pi)
