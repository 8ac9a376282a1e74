"""The shield against attackers who know of it, by the customs of adversarial robustness.

Attackers know weights, purifier and settings, but not the random numbers that thinning will draw. A cell counts as
withstanding if it is right under every attack. Two sets of changes: logs within `epsilon` of each log count (gradient:
APGD on cross entropy and on margins to single classes, the gradient averaged over draws, from the cell and from the
result of the attack that does not know of the purifier, and among whole molecules where the purifier rounds), and whole
molecules within a budget (gradient: greedily, then exchanged). Scores alone: Square. Transfer: from another seed's
classifier and purifier. Noise: the worst of 20 random changes.
"""

from dataclasses import replace

import numpy as np
from attacks import Found, Loss, apgd, better, exchange, greedy, noise, random_molecules, square, square_counts
from shield_cells import Cells, of_counts
from shield_targets import Target, entropy, margin, toward, whole

from scdae.core.guard.purification import counts_of_logs
from scdae.core.network.encoder_input import TARGET

STEPS, SQUARE, EXCHANGES = 30, 150, 15
ATTACKS = ("noise", "transfer", "unaware", "Square", "gradient")


def box(cells: Cells, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(cells.logs - epsilon, 0), cells.logs + np.float32(epsilon)


def others(target: Target, cells: Cells, number: int) -> list[np.ndarray]:
    """The classes, other than its own, that are nearest to each cell: their logits are the largest."""
    logits = target.logits(cells.logs, cells.depth, np.random.default_rng(0))
    logits[np.arange(len(logits)), cells.labels] = -np.inf
    order = np.argsort(-logits, axis=1)
    return [order[:, place] for place in range(min(number, logits.shape[1] - 1))]


def through_logs(target: Target, cells: Cells, epsilon: float, starts: list[np.ndarray]) -> np.ndarray:
    """APGD with every loss and start, and the best of its points by the margin over 16 draws."""
    (low, high), judge = box(cells, epsilon), target.loss(cells, seed=5, draws=16)
    points = [cells.logs, *starts]
    found = [apgd(target.slope(cells.depth, cells.labels), x, low, high, STEPS)[0] for x in points]
    for place, other in enumerate(others(target, cells, 2)):
        slope = target.slope(cells.depth, cells.labels, toward(other), seed=place)
        found.append(apgd(slope, cells.logs, low, high, STEPS)[0])
    if target.rounds:  # a change of less than half a molecule is lost: walk between whole ones that are within reach
        scale = (TARGET / cells.depth)[:, None]
        ends = [np.log1p(np.rint(counts_of_logs(x, cells.depth)) * scale).astype(np.float32) for x in (low, high)]
        for goal in (entropy, margin):
            slope = target.slope(cells.depth, cells.labels, goal)
            inside = lambda x, slope=slope: slope(np.clip(x, low, high))
            found.append(np.clip(apgd(inside, cells.logs, *ends, STEPS)[0], low, high))
    best = cells.logs, judge(cells.logs)
    for x in [*starts, *found]:
        best = better(best, (x, judge(x)))
    return best[0]


def on_logs(target: Target, cells: Cells, epsilon: float, known: list[np.ndarray]) -> dict[str, Cells]:
    """Every attack within `epsilon`; `known` are points that fooled a surrogate."""
    low, high = box(cells, epsilon)
    judge, rng = target.loss(cells, draws=16), np.random.default_rng(0)
    points = {"noise": noise(target.loss(cells), low, high, rng)[0]}
    points["transfer"] = _worst(judge, known)
    bare = Target(target.weights)
    points["unaware"] = apgd(bare.slope(cells.depth, cells.labels), cells.logs, low, high, STEPS)[0]
    points["Square"] = square(target.loss(cells), low, high, rng, SQUARE)[0]
    points["gradient"] = through_logs(target, cells, epsilon, [points["unaware"], points["transfer"]])
    return {name: replace(cells, logs=x.astype(np.float32)) for name, x in points.items()}


def on_counts(target: Target, cells: Cells, number: int, most: np.ndarray, known: list[np.ndarray]) -> dict[str, Cells]:
    """Every attack that moves `number` molecules."""
    base, labels = whole(cells), cells.labels
    judge, rng = target.loss_counts(labels, draws=16), np.random.default_rng(0)
    points = {"noise": random_molecules(target.loss_counts(labels), base, number, most, rng)[0]}
    points["transfer"] = _worst(judge, known)
    points["unaware"] = greedy(Target(target.weights).gain_counts(labels, number), base, number, most)[0]
    points["Square"] = square_counts(target.loss_counts(labels), base, number, most, rng, SQUARE)[0]
    points["gradient"] = through_counts(target, cells, number, most, [points["unaware"], *known])
    return {name: of_counts(counts, labels) for name, counts in points.items()}


def through_counts(target: Target, cells: Cells, number: int, most: np.ndarray, starts: list[np.ndarray]) -> np.ndarray:
    """Molecules by the gradient, from the cell and to single classes; the best of these and of `starts`, exchanged."""
    base, labels, judge = whole(cells), cells.labels, target.loss_counts(cells.labels, seed=5, draws=16)
    goals = [entropy, *map(toward, others(target, cells, 2))]
    found = [greedy(target.gain_counts(labels, number, goal), base, number, most)[0] for goal in goals]
    best = _worst(judge, [base, *starts, *found])
    exchanged, _ = exchange(target.gain_counts(labels, number, margin, seed=1), base, best, number, most, EXCHANGES)
    return _worst(judge, [best, exchanged])


def _worst(judge: Loss, points: list[np.ndarray]) -> np.ndarray:
    best: Found = points[0], judge(points[0])
    for x in points[1:]:
        best = better(best, (x, judge(x)))
    return best[0]
