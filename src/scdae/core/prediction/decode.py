"""Outputs of a fitted model: expected counts, proportions, uncertainty and latent space, in batches of cells."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import Batch, Size, among, observed_mask, scatter
from scdae.core.distributions.components import Components
from scdae.core.distributions.expected_log1p import POISSON, expected_log1p
from scdae.core.distributions.laws import Laws, components, filled, some_laws
from scdae.core.distributions.posterior import dropout_probability, posterior_mean, posterior_sd
from scdae.core.minibatches.build import cells_at_once, slice_batches, slices
from scdae.core.network.encoder_input import TARGET
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import Network, all_in_batch
from scdae.core.prediction.encode import encode, latents
from scdae.core.prediction.law_readout import Block, corrected_proportions, level_at, log1p_of, mean_of, sd_of
from scdae.core.prediction.missing import Gaps, complete
from scdae.core.prediction.refine import refined
from scdae.core.runtime.background import one_behind

__all__ = ["OUTPUTS", "dropout_chance", "law_of_genes", "law_without_laws", "read_out", "shares_at"]

OUTPUTS = {
    "mean": "expected counts at the cell's own depth",
    "prior": "expected counts at the cell's own depth, without the cell's own count of the gene",
    "rate": "share of the cell's expression",
    "sd": "standard deviation of the expected count, in counts at the cell's own depth",
    "log1p": "expected log1p of counts per 10,000, as if measured anew",
}


def read_out(
    fitted: Fitted,
    data: CellData,
    output: str | tuple[str, ...],
    depth: np.ndarray | None = None,
    gaps: Gaps | None = None,
    batch: np.ndarray | None = None,
    shape: tuple[int, Size] | None = None,
    genes: np.ndarray | None = None,
) -> Iterator[tuple[slice, Any, np.ndarray]]:
    """Compute an output of the model for cells, in order.

    Parameters
    ----------
    fitted
        The model.
    data
        The cells.
    output
        One of :data:`OUTPUTS`; several of them, of which all but the last step is computed once; or ``"latent"`` for the
        latent space only, without decoding.
    depth
        Molecules of a new measurement of each cell, float32 (n_obs,), for ``"log1p"``; None for as many as counted.
    gaps
        Collects how the missing values were filled.
    batch
        Batch that all cells are treated as measured in, as for
        :func:`scdae.core.network.parameters.all_in_batch`; None for each cell's own.
    shape
        Number of cells in a batch, and capacities of their lists, among them that of the entries of `genes`, if the cells are a
        part of many, so that one compiled program serves all parts; None for what these cells need.
    genes
        Genes of the network to return, int (n,); None for all, n_kept.

    Yields
    ------
    tuple
        Slice of cells, float32 (cells, n) values of `output`, or a list of such arrays where several are asked for, and
        float32 (cells, n_latent) latent representation.
    """
    outputs = (output,) if isinstance(output, str) else output
    if shape is None:
        at_once = cells_at_once(data.n_obs, data.n_vars)
        shape = at_once, Size.of(data, slices(data.n_obs, at_once), among(genes, data.n_vars)).rounded()
    size, capacities = shape
    if depth is None:
        depth = np.asarray(data.counts.sum(axis=1), np.float32).ravel()
    network = fitted.network
    in_batch = None if batch is None else network._replace(params=all_in_batch(fitted.params, batch))
    laws = None if fitted.laws is None else filled(some_laws(fitted.laws, genes))
    laws, by_level = jax.device_put((laws, None if fitted.laws is None else fitted.laws.by_level))  # not batch by batch
    has_gaps = data.unobserved is not None and data.unobserved.nnz > 0
    if gaps is not None and data.unobserved is not None:
        gaps.n_unobserved += int(data.unobserved.nnz)
    alone = isinstance(output, str)
    few = fitted.prior is not None and fitted.prior.doubt(data.exposure).any()
    if outputs == ("latent",) and not has_gaps and not few:
        for rows, latent in latents(fitted, data):
            nothing = np.zeros((len(latent), 0), np.float32)
            yield rows, nothing if alone else [nothing], latent
        return

    def started() -> Iterator[tuple[slice, Any, Any]]:
        for rows, cells in slice_batches(data, fitted.axes, size, capacities):
            if has_gaps and fitted.gaps.max_iter > 0:
                axes, how = fitted.axes, fitted.gaps
                known = axes.weight, axes.center, axes.effects
                completed = complete(fitted.network, cells, *known, fitted.likelihood, how)
                cells = cells._replace(inputs=completed.inputs)
                if gaps is not None:
                    gaps.add(completed, cells, rows.stop - rows.start, how)
            latent = encode(fitted, cells.inputs, cells.conditions)
            if few:
                latent = refined(network, fitted.prior, cells, latent, fitted.likelihood)
            if outputs == ("latent",):
                yield rows, (np.zeros((size, 0), np.float32),), latent
                continue
            anew = np.pad(depth[rows], (0, size - (rows.stop - rows.start)), mode="edge")
            values = _read_out(
                network,
                in_batch,
                cells,
                latent,
                fitted.inflated,
                anew,
                genes,
                fitted.likelihood,
                laws,
                by_level,
                outputs=outputs,
            )
            yield rows, values, latent

    for rows, values, latent in one_behind(started()):
        n_cells = rows.stop - rows.start
        parts = [np.asarray(part)[:n_cells] for part in values]
        yield rows, parts[0] if alone else parts, np.asarray(latent)[:n_cells]


def law_of_genes(fitted: Fitted) -> Components:
    """Return the distribution of each gene's expected counts around the output ``"prior"``, (c, n_kept)."""
    if fitted.laws is not None:
        return components(fitted.laws)
    theta, pi = law_without_laws(fitted)
    theta = theta[None].astype(np.float64)
    return Components(theta, np.ones_like(theta), np.ones_like(theta), np.zeros_like(theta) if pi is None else pi[None])


def dropout_chance(fitted: Fitted) -> np.ndarray:
    """Return the probability that each gene has any dropout, float32 (n_kept,)."""
    if fitted.laws is None:
        return fitted.inflated.astype(np.float32)
    return np.asarray(fitted.laws.chance)


def law_without_laws(fitted: Fitted) -> tuple[np.ndarray, np.ndarray | None]:
    """Return inverse dispersions, float32 (n_kept,), infinite for Poisson, and dropout probabilities or None."""
    model = fitted.network.merged()
    if fitted.likelihood == "poisson":
        return np.full(len(fitted.profile), np.inf, np.float32), None
    theta = np.asarray(model.theta(fitted.inflated))
    return theta, np.asarray(model.pi(fitted.inflated)) if fitted.likelihood == "zinb" else None


def shares_at(fitted: Fitted, latent: np.ndarray, conditions: Conditions) -> np.ndarray:
    """Decode latent positions (b, n_latent) to expected fractions of the genes: float32 (b, n_kept)."""
    model = fitted.network.merged()
    by_level = None if fitted.laws is None else fitted.laws.by_level
    return np.asarray(jnp.exp(corrected_proportions(by_level, model.decode(jnp.asarray(latent), conditions), None)))


@partial(jax.jit, static_argnames=("likelihood", "outputs"))
def _read_out(
    network: Network,
    in_batch: Network | None,
    batch: Batch,
    latent: Any,
    inflated: Any,
    depth: Any,
    genes: Any,
    likelihood: str,
    laws: Laws | None,
    by_level: tuple[Any, Any] | None,
    *,
    outputs: tuple[str, ...],
) -> tuple[jax.Array, ...]:
    model = network.merged()
    n_cells, n_vars = batch.inputs.shape[0], model.log_profile.shape[0]
    total, observed = batch.total_in, observed_mask(batch, n_cells, n_vars)
    log_share = corrected_proportions(by_level, model.decode(latent, batch.conditions), observed)
    whole = (
        jnp.ones(n_cells, jnp.float32) if observed is None else jnp.exp(log_share).sum(axis=1)
    )  # fractions of all genes, whose sum may exceed 1
    log_share = _some(log_share, genes)
    share = jnp.exp(log_share)
    factor = None
    if in_batch is not None:  # the same exposure, with the fractions in the other batch
        other = corrected_proportions(by_level, in_batch.merged().decode(latent, batch.conditions), None)
        factor = jnp.exp(_some(other, genes)) * whole[:, None] / jnp.maximum(share, 1e-30)
    mean, observed = total[:, None] * share, _some(observed, genes)
    ratio = (depth / jnp.maximum(total, 1e-12))[:, None] * (1 if factor is None else factor)  # of a new measurement
    batch = batch if genes is None else batch.of_chosen()  # what the other entries say is in the latent representation
    if laws is not None:
        level = level_at(laws, log_share, batch.share)
        block = Block.of(laws, mean * laws.lift[None, :], batch, genes, n_vars, observed, level)
        scale = (TARGET / jnp.maximum(depth, 1e-12))[:, None]
        values = {
            name: log1p_of(block, ratio, scale)
            if name == "log1p"
            else _moved(_of_laws(block, name), factor, total * whole, name)
            for name in outputs
        }
        return tuple(values.values())
    theta = jnp.full(n_vars, jnp.inf, jnp.float32) if likelihood == "poisson" else model.theta(inflated)
    pi = _some(model.pi(inflated), genes)[None, :] if likelihood == "zinb" else None
    x = _scatter_some(batch, n_cells, n_vars, genes)
    entries = _Entries(x, mean, _some(theta, genes)[None, :], pi, observed)
    values = {
        name: _expected_log(entries, ratio, depth)
        if name == "log1p"
        else _moved(_counts(entries, name), factor, total * whole, name)
        for name in outputs
    }
    return tuple(values.values())


def _of_laws(block: Block, output: str) -> jax.Array:
    """Expected counts, before or after each entry's own count is known, or their standard deviation."""
    return block.mean if output == "prior" else sd_of(block) if output == "sd" else mean_of(block)


def _moved(values: jax.Array, factor: Any, molecules: jax.Array, output: str) -> jax.Array:
    """Multiply values by the factor of another batch, if any; convert them to fractions if `output` asks for these."""
    values = values if factor is None else factor * values
    return values / jnp.maximum(molecules, 1e-12)[:, None] if output == "rate" else values


class _Entries(NamedTuple):
    """Cells by genes whose output is computed."""

    x: jax.Array  # (b, n) counts
    mean: jax.Array  # (b, n) expected counts, before the entry's own count is used
    theta: jax.Array  # (1, n) inverse dispersion, infinite for Poisson
    pi: jax.Array | None  # (1, n) probability of dropout
    observed: jax.Array | None  # bool (b, n)


def _some(values: Any, genes: Any) -> Any:
    """Select the columns of `genes`; all if it is None."""
    return values if values is None or genes is None else values[..., genes]


def _scatter_some(batch: Batch, n_cells: int, n_vars: int, genes: Any) -> jax.Array:
    """Place the counts of `genes` in a dense array (b, n)."""
    if genes is None:
        return scatter(batch.x_in, batch, n_cells, n_vars)
    n = len(genes)
    column_of_gene = (
        jnp.full(n_vars, n, jnp.int32).at[genes].set(jnp.arange(n, dtype=jnp.int32))
    )  # other genes go to a column that is not returned
    counts = jnp.zeros((n_cells, n + 1), jnp.float32).at[batch.rows, column_of_gene[batch.cols]].add(batch.x_in)
    return counts[:, column_of_gene[genes]]  # a gene may be requested twice


def _counts(entries: _Entries, output: str) -> jax.Array:
    """Compute expected counts, prior or posterior to each entry's own count, or their standard deviation."""
    x, mean, theta, pi, observed = entries
    if output == "prior":
        return mean
    if output == "sd":
        spread = posterior_sd(x, mean, theta, pi)
        return spread if observed is None else jnp.where(observed, spread, mean / jnp.sqrt(theta))
    restored = posterior_mean(x, mean, theta, pi)
    return restored if observed is None else jnp.where(observed, restored, mean)


def _expected_log(entries: _Entries, ratio: jax.Array, depth: jax.Array) -> jax.Array:
    """Compute the expected log1p of counts per 10,000 of a new measurement, `ratio` (b, n) times as deep.

    Given the counts, the new count is negative binomial: its rate has the posterior Gamma distribution, with shape
    ``theta + x``. A zero from dropout, or a missing value, holds no information on the rate, which then keeps its prior
    distribution.
    """
    x, mean, theta, pi, observed = entries
    theta = jnp.where(jnp.isinf(theta), POISSON, jnp.broadcast_to(theta, mean.shape))
    scale = (TARGET / jnp.maximum(depth, 1e-12))[:, None]
    known = expected_log1p(ratio * mean * (theta + x) / (theta + mean), theta + x, scale)
    if pi is None and observed is None:
        return known
    unknown = expected_log1p(ratio * mean, theta, scale)
    lost = 0.0 if pi is None else dropout_probability(x, mean, theta, pi)
    lost = lost if observed is None else jnp.where(observed, lost, 1.0)
    return known + lost * (unknown - known)
