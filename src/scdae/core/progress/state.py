"""Where training stands between two steps: all that a run needs to go on and end with the bits it would have had."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from scdae.core.network.encoder_input import Axes
from scdae.core.runtime.memory import available_memory

__all__ = ["Progress", "check_fits"]

_POINTS = 25  # of the curve of the loss, from one look at the held-out molecules to the next


@dataclass
class Progress:
    """Where training stands after some steps; nothing else changes from one step to the next."""

    axes: Axes
    params: Any
    state: Any  # of the optimizer
    inflated: np.ndarray  # bool (n_vars,): genes with dropout
    best: tuple[Any, np.ndarray]  # parameters and genes with dropout: they go together, for dropout moves the means
    rng: np.random.Generator
    step: int = 0
    best_score: float = -np.inf
    n_worse: int = 0
    finished: bool = False
    losses: list[Any] = field(default_factory=list)  # since the last look at the held-out molecules
    taken: list[int] = field(default_factory=list)  # steps that they are of, or that calls of several steps ended with
    history: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": [], "heldout_loglik": []})

    def took(self, step: int, loss: Any) -> None:
        """Note that a step was taken, and its loss: a scalar that may still be computed."""
        self.losses.append(loss)
        self.taken.append(step)
        self.step = step

    def look(self, score: float) -> None:
        """Note how well the held-out molecules are predicted now."""
        self.history["step"].append(float(self.step))
        losses = [float(value) for value in self.losses]
        self.history["loss"].append(float(np.mean(losses)))
        self.history["heldout_loglik"].append(score)
        points = min(len(self.taken), _POINTS)
        for part in np.array_split(np.arange(len(self.taken)), points) if points else ():
            self.history.setdefault("curve_step", []).append(float(self.taken[part[-1]]))
            self.history.setdefault("curve_loss", []).append(float(np.mean([losses[i] for i in part])))
        self.losses, self.taken = [], []
        if score > self.best_score:
            self.best, self.best_score, self.n_worse = (self.params, self.inflated), score, 0
        else:
            self.n_worse += 1

    def _arrays(self) -> Any:
        axes = (self.axes.weight, self.axes.gene_mean, self.axes.effects)
        return axes, self.inflated, self.best[1], self.params, self.best[0], self.state

    def packed(self) -> np.ndarray:
        """Return the bytes of all arrays, one after the other."""
        leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(self._arrays())]
        return np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])

    def values(self) -> dict[str, Any]:
        """Return all else, as JSON."""
        names = ("step", "best_score", "n_worse", "finished", "history", "taken")
        losses = [float(loss) for loss in self.losses]
        return {name: getattr(self, name) for name in names} | {"losses": losses, "rng": self.rng.bit_generator.state}

    def restored(self, packed: np.ndarray, values: dict[str, Any]) -> Progress:
        """Return the progress of the same run that these bytes and values are of."""
        like, tree = jax.tree.flatten(self._arrays())
        parts = np.split(packed, np.cumsum([leaf.nbytes for leaf in like])[:-1])
        leaves = [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, like, strict=True)]
        axes, inflated, best_inflated, *rest = jax.tree.unflatten(tree, leaves)
        params, best_params, state = jax.device_put(rest)
        self.rng.bit_generator.state = values["rng"]
        return Progress(
            axes=replace(self.axes, weight=axes[0], gene_mean=axes[1], effects=axes[2]),
            params=params,
            state=state,
            inflated=inflated,
            best=(best_params, best_inflated),
            rng=self.rng,
            **{name: value for name, value in values.items() if name != "rng"},
        )

    def shared(self, agree: Callable[[Any], Any]) -> Progress:
        """Return the progress that the first of several processes has."""
        text = json.dumps(self.values()).encode()
        length = int(agree(np.array(len(text))))
        text = bytes(agree(np.frombuffer(text[:length].ljust(length), np.uint8)))
        return self.restored(agree(self.packed()), json.loads(text))


def check_fits(progress: Progress) -> None:
    """Raise MemoryError unless there is memory for the bytes of a checkpoint, twice: a job that takes more than it has is killed."""
    size = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(progress._arrays()))
    free = available_memory()
    if free is not None and size > free:
        raise MemoryError(f"it takes {size / 2**20:,.0f} MiB of memory, and {free / 2**20:,.0f} MiB are free")
