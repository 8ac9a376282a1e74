"""Training: one compiled step on padded minibatches, watched by molecules that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse as sp
from flax import nnx

from scdae.core.config import Config
from scdae.core.data.cells import CellData
from scdae.core.data.minibatch import Batch, observed_mask
from scdae.core.evaluation.heldout import HeldOut, read_out_law
from scdae.core.evaluation.zero_inflation import DROPOUT_COST, candidates, find_dropout
from scdae.core.minibatches.corruption import corrupt
from scdae.core.minibatches.devices import Devices, OneDevice
from scdae.core.minibatches.loader import Source
from scdae.core.minibatches.on_device import Near, fits
from scdae.core.minibatches.process_shares import share_for
from scdae.core.network.loss import entries_of, log_proportions, nb_sum, poisson_loss, zinb_loss
from scdae.core.network.principal_axes import Axes
from scdae.core.runtime.background import closed_at_end, finishing, in_background
from scdae.core.training.checkpoints import Checkpoints, Progress
from scdae.core.training.ending import stopped_well
from scdae.core.training.initialize import Start
from scdae.core.training.optimizer import optimiser_for
from scdae.core.training.sizes import most_steps

__all__ = ["Trained", "batch_size_for", "n_steps_for", "train", "weight_decay_for"]

_MOLECULES = 800.0  # of a gene, at which the weight decay is 1
_SCREEN_AT = 0.5  # share of the steps after which genes are screened for zero inflation
_STEPS = (150, 400)  # fewest and most that are chosen
_LARGEST = 512  # cells in a step that are chosen
_CHECKS = (0.4, 0.6, 0.8, 1.0)  # shares of the steps at which the held-out molecules are looked at
_CALLS = 50  # on an accelerator, over all steps
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
    diverged: bool = False  # no look at the held-out molecules gave a number; the parameters are those of the start


def batch_size_for(config: Config, n_obs: int, n_vars: int) -> int:
    """Cells in a step: as asked, or more where there are few genes or many cells.

    With few genes a larger step costs about the same. With many cells, one epoch of some hundred larger steps is quicker than
    one of thousands, and learns about as much.
    """
    if config.batch_size is not None:
        return min(config.batch_size, n_obs)
    size = max(np.clip(8e5 / n_vars, 64, 96), min(n_obs / _STEPS[1], _LARGEST))
    return min(int(size) // 8 * 8, n_obs)


def weight_decay_for(config: Config, source: Source, n_steps: int) -> float:
    """Weight decay: as asked, or more where genes have fewer molecules to learn their loadings from.

    It is scaled so that a short training shrinks as much, in all, as one of full length.
    """
    if config.weight_decay is not None:
        return config.weight_decay
    per_gene = source.molecules / source.n_vars
    shortness = np.clip(_STEPS[1] / n_steps, 1, _STEPS[1] / _STEPS[0])
    return float(shortness * np.clip(np.sqrt(_MOLECULES / per_gene), 0.5, 2))


def n_steps_for(config: Config, n_obs: int, batch_size: int) -> int:
    """Number of steps: the epochs asked for; or 40 epochs, within the bounds that the effort has; or one epoch if that is more."""
    per_epoch = -(-n_obs // batch_size)
    if config.max_epochs is not None:
        return per_epoch * config.max_epochs
    epochs = 120 if config.effort == "best" else 40
    most = most_steps(config, n_obs)
    return max(int(np.clip(epochs * n_obs / batch_size, min(_STEPS[0], most), most)), per_epoch)


@finishing
def train(
    source: Source,
    data: CellData,
    held_out: sp.csr_matrix,
    profile: np.ndarray,
    config: Config,
    begin: Callable[[np.random.Generator], Start],
    *,
    watch: Callable[[Iterable[int], int], Iterable[int]] = lambda steps, total: steps,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
) -> Trained:
    """Train the network on the cells of `source`, and stop by how well `held_out` is predicted.

    Parameters
    ----------
    source
        All cells.
    data
        Training molecules of the cells that are judged by, which may be some of all: `n_judged` of them.
    held_out
        float32 CSR (n_judged, n_vars): molecules of these cells that are not trained on.
    profile
        Share of each gene in the average cell, float64 (n_vars,).
    config
        Settings.
    begin
        Makes what training starts from, such as :func:`scdae.core.training.initialize.new_network`.
    watch
        Wraps the steps that are left in a progress bar: ``watch(steps, total)``.
    checkpoints
        Where to go on from, and where to keep how far it is.
    devices
        On what the steps are computed; None for one device.
    """
    rng = np.random.default_rng(config.seed)
    batch_size = batch_size_for(config, source.n_obs, source.n_vars)
    devices = (OneDevice() if devices is None else devices).cut(batch_size, source.n_vars)
    n_steps = n_steps_for(config, source.n_obs, batch_size)
    order = source.order(batch_size, n_steps, rng)
    order, share = share_for(source, order, devices, config.seed)
    groups = devices.groups(order)
    size = source.size(groups)

    low, high = config.noise
    start = begin(rng)
    parts, params = devices.agree(((start.axes.weight, start.axes.gene_mean, start.axes.effects), start.params))
    axes, graph = Axes(*parts), start.graph
    config = replace(config, weight_decay=weight_decay_for(config, source, n_steps))
    optimiser = optimiser_for(config, n_steps, start)
    params = devices.place(params)
    state = jax.eval_shape(optimiser.init, params)  # all zeros, which need no compilation
    state = devices.place(jax.tree.map(lambda part: np.zeros(part.shape, part.dtype), state))

    watcher = HeldOut(data, held_out, axes, rng)
    screen_seed = int(rng.integers(2**32))
    nobody = np.zeros(data.n_vars, bool)
    run = Progress(axes, params, state, inflated=nobody, best=(params, nobody), rng=rng)
    if checkpoints is not None:
        run = checkpoints.restore(run)
        if devices.processes > 1:
            run = run.shared(devices.agree)
        run.params, run.state = devices.place(run.params), devices.place(run.state)
        watcher.axes = axes = run.axes
    if run.inflated.any():
        size = source.size(groups, run.inflated)
    update = _make_update(graph, optimiser, config, source, run.inflated, devices, batch_size)
    screen_step = int(np.ceil(_SCREEN_AT * n_steps))
    screened = config.likelihood == "zinb" and bool(candidates(data.counts).any())

    def make_ready(params: Any) -> None:
        watcher.warm_up(graph, params, profile, config.likelihood)

    checks = {int(np.ceil(share * n_steps)) for share in _CHECKS}
    near, stops = None, checks | {screen_step} | set(range(0, n_steps, max(1, n_steps // _CALLS)))
    if devices.number == 1 and config.corruption == "thinning" and fits(source):
        near = Near(source, axes, config.noise, order, screen_seed)
        near.use(update, size)
    minibatches = closed_at_end(source.minibatches(order[run.step :, share.columns]))
    ready: Future[None] | None = None
    steps = watch(range(run.step + 1, n_steps + 1), n_steps) if not run.finished else ()
    for step in closed_at_end(stopped_well(steps, run, checkpoints, devices)):
        if near is None:
            cells, draw = next(minibatches), share.generator(step, rng)
            noise = draw.uniform(low, high, cells.n_obs).astype(np.float32)
            batches = devices.make_batches(
                cells, corrupt(axes, cells, noise, config.corruption, draw), size, batch_size
            )
            run.params, run.state, loss = update(run.params, run.state, batches)
        elif step in stops:
            run.params, run.state, loss = near(run.params, run.state, run.step, step)
        else:
            continue  # one call takes many steps
        run.losses.append(loss)
        run.step = step
        if ready is None:
            ready = in_background(make_ready, devices.fetch(run.params))
        if step in checks or step == screen_step:
            ready.result()
        if step == screen_step and screened:
            found = devices.agree(find_dropout(graph, devices.fetch(run.params), watcher, screen_seed))
            run.params, run.inflated = devices.place(found[0]), found[1]
            if run.inflated.any():
                size = source.size(groups, run.inflated)
                update = _make_update(graph, optimiser, config, source, run.inflated, devices, batch_size)
                if near is not None:
                    near.use(update, size)
        if step in checks:
            law = read_out_law(config.likelihood, run.inflated)
            score = watcher.log_likelihood(graph, devices.fetch(run.params), run.inflated, law)
            run.look(float(devices.agree(score)))
        run.finished = step == n_steps or run.n_worse >= _PATIENCE
        if checkpoints is not None and (run.finished or checkpoints.due(step)):
            checkpoints.keep(run)
        if run.n_worse >= _PATIENCE:
            break
    params, inflated = run.best
    return Trained(
        axes=axes,
        held_out=watcher,
        graph=graph,
        params=devices.fetch(params),
        inflated=inflated,
        history=run.history,
        n_epochs=run.step * batch_size / source.n_obs,
        stopped_early=run.step < n_steps,
        diverged=not np.isfinite(run.best_score),
    )


def _make_update(
    graph: Any,
    optimiser: optax.GradientTransformation,
    config: Config,
    source: Source,
    inflated: np.ndarray,
    devices: Devices,
    batch_size: int,
) -> Callable[..., Any]:
    """Compile one step: encode, decode, score what was set aside, and move the parameters.

    The genes marked in `inflated` are scored by the law with dropout, all others by the law without.
    """
    molecules, n_obs, n_vars = source.molecules / source.n_obs, source.n_obs, source.n_vars
    genes = np.flatnonzero(inflated)
    place = np.maximum(np.cumsum(inflated) - 1, 0).astype(np.int32)  # of a gene among those with dropout

    def sum_of(parts: tuple[jax.Array, jax.Array], where: jax.Array | None) -> jax.Array:
        return (parts[0] if where is None else jnp.where(where, parts[0], 0)).sum() + parts[1].sum()

    def objective(params: Any, batch: Batch) -> jax.Array:
        model = nnx.merge(graph, params)
        observed = batch.scored
        if observed is None:
            observed = observed_mask(batch, batch.inputs.shape[0], n_vars)
        logits = model.decode(model.encode(batch.inputs, batch.conditions), batch.conditions)
        if config.likelihood == "poisson":
            log_rho = log_proportions(logits, observed)
            loss = poisson_loss(jnp.exp(log_rho), batch.total_out, entries_of(log_rho, batch))
            return sum_of(loss, observed) / (molecules * batch_size)
        if not len(genes):
            return nb_sum(logits, model.theta(), batch, observed)[0] / (molecules * batch_size)

        value, norm = nb_sum(logits, model.theta(), batch, observed, ~jnp.asarray(inflated))
        some = batch._replace(
            **{name: getattr(batch, name)[batch.chosen] for name in ("rows", "cols", "x_in", "x_out")}
        )
        law, column = model.dropout().at(genes), jnp.asarray(place)[some.cols]
        rho = jnp.exp(logits[:, genes] - norm)
        with_it = zinb_loss(rho, batch.total_in, batch.total_out, law, entries_of(logits, some, norm), law.at(column))
        value += sum_of(with_it, None if observed is None else observed[:, genes])
        value += DROPOUT_COST * batch_size / (n_obs * devices.parts) * jnp.exp(law.log_drop).sum()
        return value / (molecules * batch_size)

    value_and_gradient = devices.gradient(objective)

    def move(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        moves, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, moves), state

    @partial(jax.jit, donate_argnums=(1,))
    def update(params: Any, state: Any, batch: Batch) -> tuple[Any, Any, jax.Array]:
        loss, gradient = value_and_gradient(params, batch)
        return *move(params, state, gradient), loss

    @jax.jit
    def add(params: Any, total: Any, part: Batch) -> Any:
        return jax.tree.map(jnp.add, total, value_and_gradient(params, part))

    move_by = jax.jit(move, donate_argnums=(1,))
    nothing: list[Any] = []

    def step(params: Any, state: Any, batches: list[Batch]) -> tuple[Any, Any, jax.Array]:
        if len(batches) == 1:
            return update(params, state, batches[0])
        if not nothing:
            nothing.append(devices.place(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (np.float32(0), params))))
        total = nothing[0]
        for part in batches:
            total = add(params, total, part)
        return *move_by(params, state, total[1]), total[0]

    return step
