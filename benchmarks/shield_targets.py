"""What is attacked: a classifier, trained as usual or against attacks, with or without a purifier before it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from attacks import Gain, Slope, by_logs, greedy
from shield_cells import Cells, of_counts

from scdae.core.guard.purification import Purification, counts_of_logs, purify_logs, thinned_draws
from scdae.core.network.encoder_input import TARGET

HIDDEN = {"LR": (), "MLP": (64,)}  # LR: multinomial logistic regression
EPOCHS, BATCH = 20, 128
DRAWS = 4  # of the purifier in each step of an attack; fresh ones, so that the steps average over more
Weights = list[tuple[jax.Array, jax.Array]]
Change = Callable[[Weights, Cells, float], Cells]  # cells attacked by a part of the budget, for training


@jax.jit
def scores(weights: Weights, logs: jax.Array) -> jax.Array:
    """Logits of a network with rectified hidden layers."""
    for kernel, bias in weights[:-1]:
        logs = jax.nn.relu(logs @ kernel + bias[None, :])
    return logs @ weights[-1][0] + weights[-1][1][None, :]


def entropy(logits: jax.Array, labels: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def margin(logits: jax.Array, labels: Any) -> jax.Array:
    """Largest logit of the other classes less that of the label: above 0 if the cell is taken for another."""
    own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    return jnp.where(own, -jnp.inf, logits).max(axis=1) - jnp.where(own, logits, 0).sum(axis=1)


def toward(target: np.ndarray) -> Callable:
    """The logit of one other class less that of the label."""
    row = np.arange(len(target))
    return lambda logits, labels: logits[row, target] - logits[row, labels]


def trained(cells: Cells, kind: str, seed: int, change: Change | None = None) -> Weights:
    """AdamW; with `change` on attacked cells alone (Madry and others, 2018), at a budget that grows over half of the epochs."""
    sizes = (cells.logs.shape[1], *HIDDEN[kind], int(cells.labels.max()) + 1)
    keys = jax.random.split(jax.random.key(seed), len(sizes))
    weights = [
        (jax.random.normal(key, (n, m)) * np.sqrt(1 / n), jnp.zeros(m))
        for key, n, m in zip(keys, sizes[:-1], sizes[1:], strict=False)
    ]
    optimizer = optax.adamw(1e-3, weight_decay=1e-2)
    state, rng = optimizer.init(weights), np.random.default_rng(seed)

    @jax.jit
    def step(weights: Weights, state: Any, logs: jax.Array, labels: jax.Array) -> tuple[Weights, Any]:
        slope = jax.grad(lambda w: entropy(scores(w, logs), labels).mean())(weights)
        moves, state = optimizer.update(slope, state, weights)
        return optax.apply_updates(weights, moves), state

    for epoch in range(EPOCHS):
        order = rng.permutation(len(cells.labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            part = cells.take(order[start : start + BATCH])
            if change is not None:
                part = change(weights, part, min(1.0, 2 * (epoch + 1) / EPOCHS))
            weights, state = step(weights, state, part.logs, part.labels)
    return weights


@partial(jax.jit, static_argnames="steps")
def _descended(weights: Weights, logs: jax.Array, labels: Any, epsilon: Any, steps: int = 7) -> jax.Array:
    slope = jax.grad(lambda x: entropy(scores(weights, x), labels).sum())
    low, high = jnp.maximum(logs - epsilon, 0), logs + epsilon
    return jax.lax.fori_loop(
        0, steps, lambda _, x: jnp.clip(x + 2.5 * epsilon / steps * jnp.sign(slope(x)), low, high), logs
    )


def changed_logs(epsilon: float) -> Change:
    """For training against changes of logs: seven steps of PGD."""
    return lambda weights, cells, part: replace(
        cells, logs=np.asarray(_descended(weights, cells.logs, cells.labels, epsilon * part))
    )


def changed_counts(number: int, most: np.ndarray) -> Change:
    """For training against changed molecules: four rounds by the gradient."""

    def change(weights: Weights, cells: Cells, part: float) -> Cells:
        target = Target(weights)
        attacked, _ = greedy(
            target.gain_counts(cells.labels, number), whole(cells), max(round(number * part), 1), most, rounds=4
        )
        return of_counts(attacked, cells.labels)

    return change


def whole(cells: Cells) -> np.ndarray:
    return np.rint(cells.counts)


@dataclass(frozen=True)
class Target:
    """A classifier that may stand behind a purifier (`fitted`, `how`), or behind rounding to whole molecules alone."""

    weights: Weights
    fitted: Any = None
    how: Purification | None = None
    rounding: bool = False

    @property
    def thinned(self) -> bool:
        return self.how is not None and self.how.keep < 1

    @property
    def rounds(self) -> bool:
        return self.rounding or (self.how is not None and self.how.fractions != "keep")

    def shown(self, logs: Any, depth: Any, drawn: Any) -> jax.Array:
        """What the classifier sees; rounding and thinning have a straight-through gradient."""
        if self.rounding:
            steps = jnp.log1p(jnp.rint(counts_of_logs(logs, depth)) * (TARGET / depth)[:, None])
            return logs + jax.lax.stop_gradient(steps - logs)
        return logs if self.how is None else purify_logs(self.fitted, logs, depth, self.how, drawn=drawn)

    def drawn(self, logs: Any, depth: Any, rng: np.random.Generator, draws: int = DRAWS) -> Any:
        if self.how is None:
            return None
        return thinned_draws(np.asarray(counts_of_logs(logs, depth)), self.how._replace(n_draws=draws), rng)

    def logits(self, logs: Any, depth: Any, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
        return np.array(scores(self.weights, self.shown(logs, depth, self.drawn(logs, depth, rng, draws))))

    def right(self, cells: Cells, seed: int = 1000) -> np.ndarray:
        """Which cells are classified correctly, with 16 draws that no attack has seen; in parts of one size."""
        rng, size = np.random.default_rng(seed), min(100, len(cells.labels))
        found = np.zeros(len(cells.labels), bool)
        for start in range(0, len(found), size):
            part = cells.take(np.minimum(np.arange(start, start + size), len(found) - 1))
            held = self.logits(part.logs, part.depth, rng, 16).argmax(axis=1) == part.labels
            found[start : start + size] = held[: len(found) - start]
        return found

    def slope(self, depth: np.ndarray, labels: np.ndarray, goal: Callable = entropy, seed: int = 0) -> Slope:
        """Loss of each cell and its gradient in the logs, at a depth that stays; the mean over `DRAWS` fresh draws."""
        at, rng = self._with_gradient(labels, goal), np.random.default_rng(seed)
        return lambda logs: at(logs, depth, self.drawn(logs, depth, rng))

    def gain_counts(self, labels: np.ndarray, number: int, goal: Callable = entropy, seed: int = 0) -> Gain:
        """What single molecules are worth, for attacks on whole counts; `number` is their budget."""
        rng = np.random.default_rng(seed)
        at = self._with_gradient(labels, goal)

        def slope(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            now = of_counts(counts, labels)
            return at(now.logs, now.depth, self.drawn(now.logs, now.depth, rng))

        return self._gain_thinned(labels, goal, rng) if self.thinned else by_logs(slope, number)

    def _gain_thinned(self, labels: np.ndarray, goal: Callable, rng: np.random.Generator) -> Gain:
        """The same through thinning: by the gradient in what the encoder sees, where a molecule is there or not.

        The straight-through gradient takes each thinned count for `keep` times the count; for the few molecules of a
        gene in a cell that is far off on the scale of logs.
        """
        keep = self.how.keep

        @jax.value_and_grad
        def loss(drawn: jax.Array, logs: Any, depth: Any) -> jax.Array:
            return goal(scores(self.weights, self.shown(logs, depth, drawn)), labels).sum()

        def gain(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            now = of_counts(counts, labels)
            drawn = self.drawn(now.logs, now.depth, rng)
            _, by_molecule = loss(jnp.asarray(drawn), now.logs, now.depth)
            each = goal(scores(self.weights, self.shown(now.logs, now.depth, drawn)), labels)
            one = (
                np.maximum(drawn.sum(axis=2, keepdims=True), 1) / TARGET
            )  # log1p(count / one) is what the encoder sees
            by_log = np.asarray(by_molecule) * (drawn + one)
            more = keep * (by_log * np.log1p(1 / (drawn + one))).sum(axis=0)
            less = -(by_log * np.log1p(drawn / one)).sum(axis=0) / np.maximum(counts, 1)
            return np.array(each), more, less

        return gain

    def _with_gradient(self, labels: np.ndarray, goal: Callable) -> Callable:
        def loss(logs: jax.Array, depth: Any, drawn: Any) -> tuple[jax.Array, jax.Array]:
            each = goal(scores(self.weights, self.shown(logs, depth, drawn)), labels)
            return each.sum(), each

        both = jax.value_and_grad(loss, has_aux=True)

        def at(logs: np.ndarray, depth: np.ndarray, drawn: Any) -> tuple[np.ndarray, np.ndarray]:
            (_, each), gradient = both(jnp.asarray(logs), jnp.asarray(depth), drawn)
            return np.array(each), np.array(gradient)

        return at

    def loss(self, cells: Cells, seed: int = 0, draws: int = DRAWS) -> Callable[[np.ndarray], np.ndarray]:
        """Margin without a gradient, of logs: what an attack sees that asks for scores."""
        rng = np.random.default_rng(seed)
        return lambda logs: np.array(margin(self.logits(logs, cells.depth, rng, draws), cells.labels))

    def loss_counts(self, labels: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Callable[[np.ndarray], np.ndarray]:
        rng = np.random.default_rng(seed)

        def loss(counts: np.ndarray) -> np.ndarray:
            now = of_counts(counts, labels)
            return np.array(margin(self.logits(now.logs, now.depth, rng, draws), labels))

        return loss
