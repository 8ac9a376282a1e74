"""What a network gains over the gene means on held-out molecules, gene by gene and cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scdae.core.data.cell_sums import sum_columns, sum_rows
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, scatter
from scdae.core.distributions.laws import Laws, even_laws, filled
from scdae.core.distributions.posterior import dropout_probability, posterior_mean
from scdae.core.evaluation.heldout import HeldOut, forward, read_out_law
from scdae.core.evaluation.report import Report, ratio_of_sums
from scdae.core.network.latent_prior import LatentPrior
from scdae.core.network.parameters import Network
from scdae.core.prediction.law_readout import Block, corrected_proportions, counted_mean, level_at
from scdae.core.prediction.refine import refined
from scdae.core.runtime.background import one_behind

__all__ = ["measure_gain", "warm_up"]

_RESTORED = 2048  # cells by which what is restored is judged, where there are more than twice as many
_FLOOR = 1e-8  # expected counts below it are scored as it


def warm_up(held_out: HeldOut, graph: Any, params: Any, profile: np.ndarray, likelihood: str) -> None:
    """Compile what judges a network without dropout once it is trained."""
    batch, n_vars = held_out.watched()[0], held_out.data.n_vars
    plain = read_out_law(likelihood, np.zeros(n_vars, bool))
    laws = None if plain == "poisson" else even_laws(n_vars)
    latent = _encoded(Network(graph, params), batch.inputs, batch.conditions)
    of_batch = batch, np.zeros(n_vars, bool), profile.astype(np.float32), held_out.ratio, plain, laws, latent
    _deviance(graph, params, *of_batch, own=True)


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
    of_gene, of_cell = np.zeros((5, n_vars)), np.zeros((5, n_obs))
    base = profile.astype(np.float32)
    laws = None if laws is None else filled(laws)
    network, few = Network(graph, params), prior is not None and prior.doubt(held_out.data.exposure).any()
    most = _RESTORED if n_obs > 2 * _RESTORED else n_obs

    def place(batch: Batch) -> Any:
        latent = _encoded(network, batch.inputs, batch.conditions)
        return refined(network, prior, batch, latent, likelihood) if few else latent

    def scored() -> Iterator[tuple[np.ndarray, bool, jax.Array, jax.Array]]:
        seen = 0
        for cells, batch in held_out.batches():
            of_batch = batch, inflated, base, held_out.ratio, likelihood, laws, place(batch)
            yield cells, seen < most, *_deviance(graph, params, *of_batch, own=seen < most)
            seen += len(cells)

    # Own counts are weighed in for some thousand cells, which stand for the others.
    gained, own = np.zeros(n_vars), np.zeros(n_obs, bool)
    for cells, has_own, genes, per_cell in one_behind(scored()):
        sums = np.asarray(genes, dtype=np.float64)
        of_gene += sums
        of_cell[:, cells] = np.asarray(per_cell)[:, : len(cells)]
        if has_own:
            gained += sums[0] - sums[1]
            own[cells] = True
    decoded, _, baseline, square, expected = of_gene
    margin = baseline - decoded
    restored = decoded - gained * (of_cell[4].sum() / max(of_cell[4, own].sum(), 1.0))
    efficiency, error = ratio_of_sums((of_cell[2] - of_cell[1])[own], of_cell[3, own])
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


@jax.jit
def _encoded(network: Network, inputs: Any, conditions: Conditions) -> jax.Array:
    return network.merged().encode(inputs, conditions)


@partial(jax.jit, static_argnames=("graph", "likelihood", "own"))
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
    *,
    own: bool,
) -> tuple[jax.Array, jax.Array]:
    """Compute the sums over the held-out molecules, by gene and by cell, where cells lie at `latent` (b, n_latent).

    Without `own` no own counts are weighed in: the second deviance is the first, and no gain is expected.

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
        lasting = mean
        if own:
            level = level_at(laws, log_rho, batch.share)
            predicted = counted_mean(
                Block(laws, mean * laws.lift[None, :], batch.x_in, batch.rows, batch.cols, level=level)
            )

    def seen(dense: jax.Array) -> jax.Array:
        return dense if observed is None else jnp.where(observed, dense, 0)

    y, at = batch.x_out, (batch.rows, batch.cols)
    means = [jnp.maximum(ratio * values, _FLOOR) for values in (lasting, predicted if own else lasting, base)]
    dense = [seen(values) for values in means]
    stored = [y * jnp.log(jnp.where(y > 0, y, 1) / values[at]) - y for values in means]
    of_gene = [2 * sum_rows(one).at[batch.cols].add(more) for one, more in zip(dense, stored, strict=True)]
    of_cell = [2 * sum_columns(one).at[batch.rows].add(more) for one, more in zip(dense, stored, strict=True)]
    # An entry's margin is that of its zero, which every entry has, and what its molecules have on top.
    zero, more = 2 * (dense[2] - dense[0]), 2 * (stored[2] - stored[0])
    square = sum_rows(zero**2).at[batch.cols].add(2 * zero[at] * more + more**2)
    hoped = jnp.zeros(len(base), y.dtype)
    if own:
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
