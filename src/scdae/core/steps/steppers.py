"""Who takes the steps of a training: the host, which makes each minibatch, or an accelerator, which takes many in one call.

Both change a :class:`~scdae.core.progress.state.Progress` and say after which steps it may be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scdae.core.config import Config
from scdae.core.data.minibatch import Size
from scdae.core.minibatches.corruption import corrupt
from scdae.core.minibatches.devices import Devices
from scdae.core.minibatches.loader import Source
from scdae.core.minibatches.on_device import fits, make_minibatch, make_run, put
from scdae.core.minibatches.process_shares import Share
from scdae.core.network.encoder_input import Axes
from scdae.core.progress.state import Progress
from scdae.core.steps.numbers import Pace, Terms
from scdae.core.steps.update import Update, make_objective, make_update

__all__ = ["DeviceStepper", "HostStepper", "Stepper", "Task", "stepper_for"]


@dataclass(frozen=True)
class Task:
    """What all steps of a training have in common."""

    source: Source
    config: Config
    devices: Devices
    axes: Axes
    graph: Any
    optimizer: Callable[[Pace], optax.GradientTransformation]
    pace: Pace
    order: np.ndarray  # cells of each step, int64 (n_steps, batch_size)
    share: Share  # of each step's cells, what this process reads

    @property
    def batch_size(self) -> int:
        """Cells in a step."""
        return int(self.order.shape[1])

    def compiled(self, inflated: np.ndarray) -> tuple[Update, Size]:
        """Make the step that scores the genes marked in `inflated` with dropout, and the capacities of its minibatches."""
        size = self.source.size(self.devices.groups(self.order), inflated if inflated.any() else None)
        objective = make_objective(self.graph, self.config.likelihood, self.source.n_vars)
        of_data = Terms.of(self.source, inflated, batch_size=self.batch_size, parts=self.devices.parts)
        return make_update(objective, self.optimizer, self.devices, of_data, self.pace), size


class Stepper(Protocol):
    """Takes the steps of a training."""

    def use(self, inflated: np.ndarray) -> None:
        """Score the genes marked in `inflated`, bool (n_vars,), with dropout from the next step on."""

    def steps(self, run: Progress, numbers: Iterable[int]) -> Generator[int, None, None]:
        """Take the steps with these numbers, changing `run`; yield each after which `run` is up to date."""


class HostStepper:
    """Makes and corrupts a minibatch for each step, while the device computes the one before.

    Parameters
    ----------
    task
        The training.
    """

    def __init__(self, task: Task):
        self._task = task

    def use(self, inflated: np.ndarray) -> None:
        """Compile the step for these genes."""
        self._update, self._size = self._task.compiled(inflated)

    def steps(self, run: Progress, numbers: Iterable[int]) -> Generator[int, None, None]:
        """Take one step after the other."""
        task, share = self._task, self._task.share
        low, high = task.config.noise
        with closing(task.source.minibatches(task.order[run.step :, share.columns])) as minibatches:
            for step in numbers:
                cells, rng = next(minibatches), share.generator(step, run.rng)
                noise = rng.uniform(low, high, cells.n_obs).astype(np.float32)
                halves = corrupt(task.axes, cells, noise, task.config.corruption, rng)
                batches = task.devices.make_batches(cells, halves, self._size, task.batch_size)
                run.params, run.state, loss = self._update(run.params, run.state, batches)
                run.took(step, loss)
                yield step


class DeviceStepper:
    """Holds all counts on the device, where minibatches are made and many steps are taken in one call.

    Parameters
    ----------
    task
        The training.
    seed
        Seed of the thinning. Step `i` draws the same whatever was done before.
    stops
        Steps after which a call ends.
    """

    def __init__(self, task: Task, seed: int, stops: frozenset[int]):
        self._task, self._stops = task, stops
        self._data, place_of_cell = put(task.source)
        self._order, self._key = jnp.asarray(place_of_cell[task.order]), jax.random.key(seed)

    def use(self, inflated: np.ndarray) -> None:
        """Compile a call for these genes."""
        task = self._task
        update, size = task.compiled(inflated)
        minibatch = make_minibatch(task.axes, task.config.noise, size, task.source.n_vars)
        self._run: Callable[..., Any] = make_run(lambda params, state, batch: update(params, state, [batch]), minibatch)

    def steps(self, run: Progress, numbers: Iterable[int]) -> Generator[int, None, None]:
        """Take all steps up to the next stop in one call; the loss is their mean."""
        for step in numbers:
            if step not in self._stops:
                continue
            run.params, run.state, loss = self._run(
                run.params, run.state, self._data, self._order, run.step, step, self._key
            )
            run.took(step, loss)
            yield step


def stepper_for(task: Task, seed: int, stops: frozenset[int]) -> Stepper:
    """Choose the device where it is a single accelerator on which the counts have room, else the host."""
    if task.devices.number == 1 and task.config.corruption == "thinning" and fits(task.source):
        return DeviceStepper(task, seed, stops)
    return HostStepper(task)
