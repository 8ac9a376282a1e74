"""Training: steps on padded minibatches, watched by molecules that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
import optax
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.data.cells import CellData
from scdae.core.evaluation.gain import warm_up
from scdae.core.evaluation.heldout import HeldOut, read_out_law
from scdae.core.evaluation.zero_inflation import candidates, find_dropout
from scdae.core.minibatches.devices import Devices, OneDevice
from scdae.core.minibatches.loader import Source
from scdae.core.minibatches.process_shares import share_for
from scdae.core.network.encoder_input import Axes
from scdae.core.progress.checkpoints import Checkpoints
from scdae.core.progress.ending import stopped_well
from scdae.core.progress.state import Progress
from scdae.core.runtime.background import closed_at_end, finishing, in_background
from scdae.core.runtime.freed import give_back
from scdae.core.steps.numbers import Pace
from scdae.core.steps.steppers import Task, stepper_for
from scdae.core.training.initialize import Start
from scdae.core.training.optimizer import Optimizer
from scdae.core.training.schedule import Schedule, weight_decay_for

__all__ = ["Trained", "train"]

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
    schedule = Schedule.of(config, source.n_obs, source.n_vars)
    config = replace(config, weight_decay=weight_decay_for(config, source, schedule.n_steps))
    devices = (OneDevice() if devices is None else devices).cut(schedule.batch_size, source.n_vars)

    # Which cells come in which step, and which of them this process reads.
    order = source.order(schedule.batch_size, schedule.n_steps, rng)
    order, share = share_for(source, order, devices, config.seed)

    # Where training starts, and where it was when an earlier run was interrupted.
    start = begin(rng)
    parts, params = devices.agree(((start.axes.weight, start.axes.gene_mean, start.axes.effects), start.params))
    optimizer, pace = Optimizer(config.learning_rate), Pace.of(config.weight_decay, schedule.n_steps, start.towards)
    watcher = HeldOut(data, held_out, Axes(*parts), rng)
    screen_seed = int(rng.integers(2**32))
    run = _begun(watcher.axes, params, optimizer(pace), rng, devices)
    if checkpoints is not None:
        run = _resumed(run, checkpoints, devices)
        watcher.axes = run.axes
    task = Task(source, config, devices, run.axes, start.graph, optimizer, pace, order, share)
    stepper = stepper_for(task, screen_seed, schedule.stops)
    stepper.use(run.inflated)

    def make_ready(params: Any) -> None:
        watcher.warm_up(start.graph, params, config.likelihood)
        warm_up(watcher, start.graph, params, profile, config.likelihood)
        give_back()  # what compiling took

    ready: Future[None] | None = None
    screened = config.likelihood == "zinb" and bool(candidates(data.counts).any())
    numbers = watch(range(run.step + 1, schedule.n_steps + 1), schedule.n_steps) if not run.finished else ()
    numbers = closed_at_end(stopped_well(numbers, run, checkpoints, devices))
    for step in closed_at_end(stepper.steps(run, numbers)):
        # What judges the network is compiled beside the first steps.
        if ready is None:
            ready = in_background(make_ready, devices.fetch(run.params))
        if step in schedule.checks or step == schedule.screen:
            ready.result()
            give_back()

        # Half-way: genes that have dropout are scored with it from here on.
        if step == schedule.screen and screened:
            params, run.inflated = devices.agree(
                find_dropout(start.graph, devices.fetch(run.params), watcher, screen_seed)
            )
            run.params = devices.place(params)
            if run.inflated.any():
                stepper.use(run.inflated)

        # Four times: the held-out molecules say whether it still gets better.
        if step in schedule.checks:
            law = read_out_law(config.likelihood, run.inflated)
            score = watcher.log_likelihood(start.graph, devices.fetch(run.params), run.inflated, law)
            run.look(float(devices.agree(score)))
        run.finished = step == schedule.n_steps or run.n_worse >= _PATIENCE
        if checkpoints is not None and (run.finished or checkpoints.due(step)):
            checkpoints.keep(run)
        if run.n_worse >= _PATIENCE:
            break
    params, inflated = run.best
    return Trained(
        axes=run.axes,
        held_out=watcher,
        graph=start.graph,
        params=devices.fetch(params),
        inflated=inflated,
        history=run.history,
        n_epochs=run.step * schedule.batch_size / source.n_obs,
        stopped_early=run.step < schedule.n_steps,
        diverged=not np.isfinite(run.best_score),
    )


def _begun(
    axes: Axes, params: Any, optimizer: optax.GradientTransformation, rng: np.random.Generator, devices: Devices
) -> Progress:
    """Begin a run, with parameters and optimizer state on the devices."""
    params = devices.place(params)
    state = jax.eval_shape(optimizer.init, params)  # all zeros, which need no compilation
    state = devices.place(jax.tree.map(lambda part: np.zeros(part.shape, part.dtype), state))
    no_dropout = np.zeros(len(axes.weight), bool)
    return Progress(axes, params, state, inflated=no_dropout, best=(params, no_dropout), rng=rng)


def _resumed(run: Progress, checkpoints: Checkpoints, devices: Devices) -> Progress:
    """Resume the run from its last checkpoint, the same in all processes; return `run` where there is none."""
    run = checkpoints.restore(run)
    if devices.processes > 1:
        run = run.shared(devices.agree)
    run.params, run.state = devices.place(run.params), devices.place(run.state)
    return run
