"""Training: one compiled step on padded minibatches, watched by molecules that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse as sp
from flax import nnx

from scdae.core.axes import Axes, fit_axes, project
from scdae.core.batches import Batch, CellData, Size, epoch_order, make_batch, observed_mask
from scdae.core.config import Config
from scdae.core.heldout import HeldOut, candidates, read_out_law, screen_dropout
from scdae.core.network import Autoencoder
from scdae.core.objective import Entries, entries_of, log_proportions, nb_loss, poisson_loss, zinb_loss

__all__ = ["Trained", "batch_size_for", "n_steps_for", "train", "weight_decay_for"]

_SLOW_START = 0.05  # share of the steps in which the learning rate rises
_GENE_RATE = 10.0  # learning rate of dispersion and dropout (on the log scale) relative to the rest
_MOLECULES = 800.0  # of a gene, at which the weight decay is 1
_DROPOUT_COST = 3.0  # penalty on a gene's dropout probability, in nats per pass over the cells
_SCREEN_AT = 0.5  # share of the steps after which genes are looked at for zero inflation
_CHECKS = (0.4, 0.6, 0.8, 1.0)  # shares of the steps at which the held-out molecules are looked at
_PATIENCE = 2  # checks without progress before training stops


@dataclass
class Trained:
    """A trained network and the course of its training."""

    axes: Axes
    graph: Any
    params: Any
    inflated: np.ndarray  # bool (n_vars,): genes with dropout
    held_out: HeldOut
    history: dict[str, list[float]] = field(default_factory=dict)
    n_epochs: float = 0.0
    stopped_early: bool = False


def batch_size_for(config: Config, n_obs: int, n_vars: int) -> int:
    """Cells in a step: as asked, or more where there are few genes, so that a step costs about the same."""
    size = int(np.clip(8e5 / n_vars, 64, 96)) if config.batch_size is None else config.batch_size
    return min(size, n_obs)


def weight_decay_for(config: Config, data: CellData) -> float:
    """Weight decay: as asked, or more where genes have fewer molecules to learn their loadings from."""
    if config.weight_decay is not None:
        return config.weight_decay
    per_gene = float(data.counts.sum()) / data.n_vars
    return float(np.clip(np.sqrt(_MOLECULES / per_gene), 0.5, 2))


def n_steps_for(config: Config, n_obs: int, batch_size: int) -> int:
    """Number of steps: the epochs asked for; or 40 epochs, but 150 to 400 steps; or one epoch if that is more."""
    per_epoch = -(-n_obs // batch_size)
    if config.max_epochs is not None:
        return per_epoch * config.max_epochs
    return max(int(np.clip(40 * n_obs / batch_size, 150, 400)), per_epoch)


def train(
    data: CellData,
    held_out: sp.csr_matrix,
    profile: np.ndarray,
    n_batches: int,
    config: Config,
    *,
    watch: Callable[[Iterable[int], int], Iterable[int]] = lambda steps, total: steps,
) -> Trained:
    """Train the network on `data`, and stop by how well `held_out` is predicted.

    Parameters
    ----------
    data
        Training molecules.
    held_out
        float32 CSR (n_obs, n_vars): molecules of the same cells that are not trained on.
    profile
        Share of each gene in the average cell, float64 (n_vars,).
    n_batches
        Levels of the batch codes.
    config
        Settings.
    watch
        Wraps the steps in a progress bar: ``watch(steps, total)``.
    """
    rng = np.random.default_rng(config.seed)
    batch_size = batch_size_for(config, data.n_obs, data.n_vars)
    n_steps = n_steps_for(config, data.n_obs, batch_size)
    order = epoch_order(data.n_obs, batch_size, n_steps, rng)
    maybe = candidates(data.counts) if config.likelihood == "zinb" else np.zeros(data.n_vars, bool)
    size = Size.of(data, order, maybe if maybe.any() else None)

    low, high = config.noise
    seen = 1 - (low + high) / 2 if config.corruption == "thinning" else 1.0
    axes = fit_axes(data, seen, config.n_components, rng)
    axes = jax.device_put(axes)
    model = Autoencoder(
        profile,
        n_inputs=axes.weight.shape[1],
        n_hidden=config.n_hidden,
        n_latent=config.n_latent,
        n_batches=n_batches,
        seed=config.seed,
    )
    graph, params = nnx.split(model, nnx.Param)
    config = replace(config, weight_decay=weight_decay_for(config, data))
    optimiser = _optimiser(config, n_steps, params)
    params = jax.device_put(params)
    state = jax.jit(optimiser.init)(params)

    watcher = HeldOut(data, held_out, rng, maybe)
    compiling = watcher.compile(graph, params, axes, profile, config.likelihood)
    inflated = np.zeros(data.n_vars, bool)
    law = config.likelihood if maybe.any() or config.likelihood != "zinb" else "nb"
    update = _make_update(graph, optimiser, replace(config, likelihood=law), data, maybe)
    screen_step = int(np.ceil(_SCREEN_AT * n_steps))
    checks = {int(np.ceil(share * n_steps)) for share in _CHECKS}
    best, best_score, n_worse = (params, inflated), -np.inf, 0  # dropout moves the means of its genes: they go together
    losses: list[jax.Array] = []
    history: dict[str, list[float]] = {"step": [], "loss": [], "heldout_loglik": []}
    done = n_steps
    for step in watch(range(1, n_steps + 1), n_steps):
        noise = rng.uniform(low, high, batch_size).astype(np.float32)
        kept = 1 - noise if config.corruption == "thinning" else None
        batch = make_batch(data, order[step - 1], size, kept_share=kept, rng=rng)
        params, state, loss = update(
            params, state, axes, batch, np.array([config.seed, step], np.uint32), noise, inflated
        )
        losses.append(loss)
        if law == "zinb" and step == screen_step:
            params, inflated = screen_dropout(graph, params, axes, inflated, watcher)
        if step not in checks:
            continue
        score = watcher.log_likelihood(graph, params, axes, inflated, read_out_law(law, inflated))
        history["step"].append(float(step))
        history["loss"].append(float(np.mean([float(value) for value in losses])))
        history["heldout_loglik"].append(score)
        losses = []
        if score > best_score:
            best, best_score, n_worse = (params, inflated), score, 0
        else:
            n_worse += 1
        if n_worse >= _PATIENCE:
            done = step
            break
    compiling.join()
    params, inflated = best
    if law == "zinb":  # once more for those that learnt their dropout late
        params, inflated = screen_dropout(graph, params, axes, inflated, watcher)
    return Trained(
        axes=axes,
        held_out=watcher,
        graph=graph,
        params=params,
        inflated=inflated,
        history=history,
        n_epochs=done * batch_size / data.n_obs,
        stopped_early=done < n_steps,
    )


def _optimiser(config: Config, n_steps: int, params: Any) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay; gene-wise parameters move faster and are not decayed."""

    def label(path: Any, leaf: Any) -> str:
        names = [str(getattr(part, "key", part)) for part in path]
        if any(name.startswith(("log_theta", "logit_pi")) for name in names):
            return "gene"
        decayed = any(name in ("hidden_kernel", "latent_kernel", "loading", "batch_effect") for name in names)
        return "decayed" if decayed else "plain"

    labels = jax.tree_util.tree_map_with_path(label, params)
    decayed = jax.tree.map(lambda name: name == "decayed", labels)
    gene = jax.tree.map(lambda name: name == "gene", labels)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, int(_SLOW_START * n_steps)), max(2, n_steps)
    )
    return optax.chain(
        optax.scale_by_adam(b2=0.99),
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.masked(optax.scale(_GENE_RATE), gene),
        optax.scale_by_learning_rate(schedule),
    )


def _make_update(
    graph: Any, optimiser: optax.GradientTransformation, config: Config, data: CellData, maybe: np.ndarray
) -> Callable[..., Any]:
    """Compile one step: corrupt, encode, decode, score what was set aside, and move the parameters."""
    molecules, n_obs = float(data.counts.sum()) / data.n_obs, data.n_obs
    genes = jnp.asarray(np.flatnonzero(maybe), jnp.int32)
    place = jnp.asarray(np.maximum(np.cumsum(maybe) - 1, 0), jnp.int32)  # of a candidate among the candidates

    @partial(jax.jit, donate_argnums=(1,))
    def update(
        params: Any, state: Any, axes: Axes, batch: Batch, draw: Any, noise: Any, inflated: Any
    ) -> tuple[Any, Any, jax.Array]:
        def sum_of(parts: tuple[jax.Array, jax.Array], where: jax.Array | None) -> jax.Array:
            return (parts[0] if where is None else jnp.where(where, parts[0], 0)).sum() + parts[1].sum()

        def objective(params: Any) -> jax.Array:
            model = nnx.merge(graph, params)
            n_cells = batch.codes.shape[0]
            per_cell = jnp.zeros(n_cells)
            observed = observed_mask(batch, n_cells, axes.gene_mean.shape[0])
            inputs, half, scored = _corrupt(axes, batch, observed, draw, noise, config)
            total_in = per_cell.at[half.rows].add(half.x_in)
            total_out = per_cell.at[half.rows].add(half.x_out)
            logits = model.decode(model.encode(inputs), half.codes)
            log_rho = log_proportions(logits, observed if config.corruption != "masking" else scored)

            entries = entries_of(log_rho, half, total_in, total_out)
            rho = jnp.exp(log_rho)
            if config.likelihood == "poisson":
                return sum_of(poisson_loss(rho, total_out, entries), scored) / (molecules * n_cells)
            theta = model.theta()
            dense, stored = nb_loss(rho, total_in, total_out, theta, entries, theta[half.cols])
            if config.likelihood == "nb":
                return sum_of((dense, stored), scored) / (molecules * n_cells)

            # Genes with dropout move the network by the law with it, all others by the law without. Candidates that
            # have none (yet) learn its parameters on the side, from means that are held still.
            value = sum_of((jnp.where(inflated, 0, dense), jnp.where(inflated[half.cols], 0, stored)), scored)
            law, at, column = model.dropout().at(genes), half.chosen, place[half.cols[half.chosen]]
            has, has_at = inflated[genes], inflated[genes][column]
            own, own_at = log_rho[:, genes], entries.log_rho[at]
            still, still_at = jax.lax.stop_gradient((own, own_at))
            some = Entries(*(part[at] for part in entries))
            law_at = law.at(column)
            mixed = jnp.exp(jnp.where(has, own, still - law.log_keep))
            mixed_at = some._replace(log_rho=jnp.where(has_at, own_at, still_at - law_at.log_keep))
            chosen = None if scored is None else scored[:, genes]
            value += sum_of(zinb_loss(mixed, total_in, total_out, law, mixed_at, law_at), chosen)
            value += _DROPOUT_COST * n_cells / n_obs * jnp.exp(law.log_drop).sum()
            return value / (molecules * n_cells)

        loss, gradient = jax.value_and_grad(objective)(params)
        step, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, step), state, loss

    return update


def _corrupt(
    axes: Axes, batch: Batch, observed: jax.Array | None, draw: Any, noise: jax.Array, config: Config
) -> tuple[jax.Array, Batch, jax.Array | None]:
    """Inputs of the encoder, the halves to score, and where to score them (None: everywhere)."""
    n_cells, n_vars = batch.codes.shape[0], axes.gene_mean.shape[0]
    total = jnp.zeros(n_cells).at[batch.rows].add(batch.x_in)
    if config.corruption == "thinning":
        return project(axes, batch, total / batch.share, observed), batch, observed
    nothing = jnp.zeros_like(batch.x_in)
    key = jax.random.fold_in(jax.random.key(draw[0]), draw[1])
    if config.corruption == "gaussian":
        inputs = project(axes, batch, total / batch.share, observed)
        length = jnp.sqrt((axes.weight**2).sum(axis=0))  # noise on the genes, as it arrives on the axes
        inputs = inputs + noise[:, None] * length * jax.random.normal(key, inputs.shape)
        return inputs, batch._replace(x_in=nothing, x_out=batch.x_in), observed
    hidden = jax.random.bernoulli(key, noise[:, None], (n_cells, n_vars))
    visible = ~hidden if observed is None else observed & ~hidden
    at_entry = visible[batch.rows, batch.cols]
    share = jnp.maximum(1 - noise, 1e-3) * batch.share
    shown = jnp.zeros(n_cells).at[batch.rows].add(jnp.where(at_entry, batch.x_in, 0))
    inputs = project(axes, batch, shown / share, visible, at_entry)
    scored = hidden if observed is None else observed & hidden
    return inputs, batch._replace(x_in=nothing, x_out=jnp.where(at_entry, 0, batch.x_in)), scored
