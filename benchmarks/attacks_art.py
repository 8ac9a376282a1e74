"""Our APGD beside that of the Adversarial Robustness Toolbox (pip install adversarial-robustness-toolbox, not among our dependencies).

    python benchmarks/attacks_art.py ../shared

The same cells, budget, loss and steps, on a classifier alone and through the purifier without rounding, whose gradient is
exact; all cells at one depth, which is all that the toolbox can pass on.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from art.attacks.evasion import AutoProjectedGradientDescent
from art.estimators import BaseEstimator, LossGradientsMixin
from art.estimators.classification.classifier import ClassifierMixin
from attacks import apgd
from shield_attacks import STEPS
from shield_cells import load
from shield_known import EPSILON, GENES, LOGS
from shield_targets import Target, entropy, trained

import scdae

CELLS = 60


class Differentiable(ClassifierMixin, LossGradientsMixin, BaseEstimator):  # type: ignore[misc]
    """A target, as the toolbox wants it."""

    def __init__(self, target: Target, depth: float, n_classes: int):
        super().__init__(model=None, clip_values=(0.0, 20.0))
        self.target, self.depth, self._nb_classes = target, depth, n_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (GENES,)

    def fit(self, x: Any, y: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def _filled(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One shape for all calls, so that nothing is compiled twice."""
        rows = np.minimum(np.arange(CELLS), len(x) - 1)
        return x[rows].astype(np.float32), np.full(CELLS, self.depth, np.float32)

    def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
        return self.target.logits(*self._filled(x), np.random.default_rng(0))[: len(x)]

    def _slope(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        filled, depth = self._filled(x)
        labels = y.argmax(axis=1)[np.minimum(np.arange(CELLS), len(x) - 1)]
        value, gradient = self.target.slope(depth, labels, entropy)(filled)
        return value[: len(x)], gradient[: len(x)]

    def loss_gradient(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
        return self._slope(x, y)[1]

    def compute_loss(self, x: np.ndarray, y: np.ndarray, reduction: str = "none", **kwargs: Any) -> np.ndarray:
        return self._slope(x, y)[0]


def main(shared: Path) -> None:
    counted, (train, _, test) = load(shared, "pbmc3k, 8 types", GENES)
    cells, depth = test.take(slice(CELLS)), float(np.median(train.depth))
    weights, model = trained(train, "MLP", 0), scdae.DAE(seed=0).fit(counted)
    n_classes = int(train.labels.max()) + 1
    smooth = Target(weights, model.outcome.fitted, LOGS._replace(fractions="keep"))
    deep = np.full(CELLS, depth, np.float32)
    for name, target, epsilons in (
        ("no defense", Target(weights), (EPSILON / 4, EPSILON / 2)),
        ("scdae, no rounding", smooth, (EPSILON, 2 * EPSILON)),
    ):
        estimator = Differentiable(target, depth, n_classes)
        for epsilon in epsilons:
            start = time.perf_counter()
            attack = AutoProjectedGradientDescent(
                estimator,
                eps=epsilon,
                eps_step=2 * epsilon,
                max_iter=STEPS,
                loss_type=None,
                nb_random_init=1,
                batch_size=CELLS,
                verbose=False,
            )
            theirs, middle = attack.generate(cells.logs, np.eye(n_classes)[cells.labels]), time.perf_counter()
            low, high = np.maximum(cells.logs - epsilon, 0), cells.logs + np.float32(epsilon)
            ours, _ = apgd(target.slope(deep, cells.labels), cells.logs, low, high, STEPS)
            end = time.perf_counter()
            line = f"{name}, {epsilon:g}: right after the toolbox's"
            for x, seconds in ((theirs, middle - start), (ours, end - middle)):
                held = (estimator.predict(x).argmax(axis=1) == cells.labels).mean()
                line += f" {held:.3f} ({seconds:.0f} s), ours"
            print(line.removesuffix(", ours"), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
