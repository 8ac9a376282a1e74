"""Attacks on a classifier of cells, in NumPy: the caller says what a change is worth, and gives the slope if there is one.

`slope` is a function from the values of all cells, (n, n_genes), to the loss of each, (n,), and its gradient in the log
counts, (n, n_genes); `loss` gives the loss alone. Both may draw at random: an expectation over transformations is a mean
over draws in there. Every attack returns the best point that it has seen of each cell, and its loss.

Two sets of changes are allowed. A box: each value between `low` and `high`. A budget of molecules: whole counts, zero or
more, that differ by at most `number` molecules in all, none above `most`, the largest number in a real cell, so that no
gene appears that was never seen.
"""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

TARGET = 1e4  # logs are those of counts per 10,000
Values = np.ndarray
Loss = Callable[[Values], np.ndarray]
Slope = Callable[[Values], tuple[np.ndarray, np.ndarray]]
Found = tuple[Values, np.ndarray]
Gain = Callable[[Values], tuple[np.ndarray, Values, Values]]  # loss, and what a molecule more and one less add to it


def better(found: Found, other: Found) -> Found:
    """Cell by cell, the point with the larger loss."""
    up = other[1] > found[1]
    return np.where(up[:, None], other[0], found[0]), np.where(up, other[1], found[1])


# in a box


def checkpoints(steps: int) -> list[int]:
    """Steps after which APGD looks at its step size: gaps of 22 % of all steps at first, then shorter, down to 6 %."""
    marks, at, gap = [], 0.22, 0.22
    while at <= 1:
        marks.append(ceil(round(at * steps, 6)))
        gap = max(gap - 0.03, 0.06)
        at += gap
    return marks


def apgd(slope: Slope, x: Values, low: Values, high: Values, steps: int = 50) -> Found:
    """Auto-PGD (Croce and Hein, 2020) in a box, from `x`: signed steps with momentum, of a size that each cell adapts.

    A step starts as wide as the box. It is halved, and the search goes back to the best point, if the loss rose in
    fewer than three quarters of the steps since the last checkpoint, or if neither size nor best loss changed.
    """
    half = (high - low) / 2
    now = before = np.clip(x, low, high)
    value, gradient = slope(now)
    best, top, uphill = now.copy(), value.copy(), gradient.copy()
    size = np.full((len(x), 1), 2.0, np.float32)
    rises, halved, seen, last = np.zeros(len(x)), np.zeros(len(x), bool), top.copy(), 0
    marks = set(checkpoints(steps))
    for step in range(1, steps + 1):
        ahead = np.clip(now + size * half * np.sign(gradient), low, high)
        weight = 1.0 if step == 1 else 0.75
        moved = np.clip(now + weight * (ahead - now) + (1 - weight) * (now - before), low, high)
        before, now, earlier = now, moved.astype(x.dtype), value
        value, gradient = slope(now)
        rises += value > earlier
        up = value > top
        best[up], top[up], uphill[up] = now[up], value[up], gradient[up]
        if step in marks:
            halved = (rises < 0.75 * (step - last)) | (~halved & (top <= seen))
            size[halved] /= 2
            back = halved[:, None]
            now, gradient = np.where(back, best, now), np.where(back, uphill, gradient)
            before, value = np.where(back, best, before), np.where(halved, top, value)
            rises[:], seen, last = 0, top.copy(), step
    return best, top


def share_changed(step: int, steps: int, first: float = 0.8) -> float:
    """The part of the values that Square changes: halved eight times, as in the paper, whose run has 10,000 steps."""
    return first / 2 ** sum(step * 10_000 > mark * steps for mark in (10, 50, 200, 1000, 2000, 4000, 6000, 8000))


def square(
    loss: Loss, low: Values, high: Values, rng: np.random.Generator, steps: int = 300, start: Found | None = None
) -> Found:
    """Square attack (Andriushchenko and others, 2020), for genes: corners of the box at random, kept if the loss rises.

    Genes have no neighbors, so that a random set of them is redrawn where images have a square.
    """
    if start is None:
        corner = np.where(rng.random(low.shape) < 0.5, low, high)
        start = corner, loss(corner)
    best = start
    for step in range(steps):
        changed = rng.random(low.shape) < share_changed(step, steps)
        changed[np.arange(len(low)), rng.integers(low.shape[1], size=len(low))] = True
        trial = np.where(changed, np.where(rng.random(low.shape) < 0.5, low, high), best[0])
        best = better(best, (trial, loss(trial)))
    return best


def noise(loss: Loss, low: Values, high: Values, rng: np.random.Generator, tries: int = 20) -> Found:
    """The worst of some random corners: what no attack may be weaker than."""
    corners = (np.where(rng.random(low.shape) < 0.5, low, high) for _ in range(tries))
    best = next(corners)
    found = best, loss(best)
    for corner in corners:
        found = better(found, (corner, loss(corner)))
    return found


# with a budget of molecules


def by_logs(slope: Slope, number: int) -> Gain:
    """What single molecules are worth by the gradient in the logs.

    The last molecule of a gene counts for more in logs than the first that is taken away, so that one less is an average
    over all that the budget can take.
    """

    def gain(counts: Values) -> tuple[np.ndarray, Values, Values]:
        value, gradient = slope(counts)
        scale = (TARGET / np.maximum(counts.sum(axis=1), 1))[:, None]
        logs, taken = np.log1p(counts * scale), np.clip(counts, 1, number)
        more = gradient * (np.log1p((counts + 1) * scale) - logs)
        return value, more, gradient * (np.log1p(np.maximum(counts - taken, 0) * scale) - logs) / taken

    return gain


def greedy(gain: Gain, base: Values, number: int, most: Values, rounds: int = 20) -> Found:
    """Molecules one by one, where the loss rises most by its gradient, which is worked out anew in each round."""
    counts, most = base.copy(), np.maximum(most, base)
    value, *gains = gain(counts)
    best = counts, value
    for some in np.array_split(np.arange(number), min(rounds, number)):
        counts = _taken(counts, _allowed(counts, gains, most), np.full(len(base), len(some)))
        value, *gains = gain(counts)
        best = better(best, (counts, value))
    return best


def exchange(gain: Gain, base: Values, start: Values, number: int, most: Values, steps: int = 20) -> Found:
    """Improve a change: take the least useful molecules of it back, spend them elsewhere, and keep that if the loss rises."""
    counts, most = start, np.maximum(most, base)
    value, more, less = gain(counts)
    size = np.full(len(base), max(number // 4, 1))
    for _ in range(steps):
        change, (more_now, less_now) = counts - base, _allowed(counts, (more, less), most)
        undo = np.where(change < 0, more_now, -np.inf), np.where(change > 0, less_now, -np.inf)
        fresh = np.where(change >= 0, more_now, -np.inf), np.where(change <= 0, less_now, -np.inf)
        trial = _taken(counts, undo, size, least=-np.inf)
        room = number - np.abs(trial - base).sum(axis=1)
        trial = np.clip(_taken(trial, fresh, room.astype(int)), 0, most)
        found = gain(trial)
        up = found[0] > value
        counts = np.where(up[:, None], trial, counts)
        more, less = (np.where(up[:, None], new, old) for new, old in zip(found[1:], (more, less), strict=True))
        value, size = np.where(up, found[0], value), np.where(up, size, np.maximum(size // 2, 1))
    return counts, value


def _allowed(counts: Values, gains: Sequence[Values], most: Values) -> tuple[Values, Values]:
    """What a molecule more and one less gain, and -inf where there may be none."""
    return np.where(counts < most, gains[0], -np.inf), np.where(counts > 0, gains[1], -np.inf)


def _taken(counts: Values, gains: tuple[Values, Values], number: np.ndarray, least: float = 0.0) -> Values:
    """Counts after the best `number` of each cell's single molecules, of those that gain more than `least`."""
    both = np.concatenate(gains, axis=1)
    order = np.argsort(-both, axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(both.shape[1])[None], axis=1)
    take = ((rank < number[:, None]) & (both > least)).astype(counts.dtype)
    n_genes = counts.shape[1]
    return counts + take[:, :n_genes] - take[:, n_genes:]


def square_counts(
    loss: Loss,
    base: Values,
    number: int,
    most: Values,
    rng: np.random.Generator,
    steps: int = 300,
    start: Found | None = None,
) -> Found:
    """Square attack on counts: a part of the molecules goes to other genes at random, all to one of them or each to its own."""
    most = np.maximum(most, base)
    moves = _drawn(base, most, rng, number) if start is None else _moves(start[0] - base, number)
    counts = _moved(base, most, moves)
    best, value = counts, loss(counts)
    for step in range(steps):
        size = max(round(share_changed(step, steps) * number), 1)
        new = _drawn(base, most, rng, size)
        new = np.where(rng.random((len(base), 1)) < 0.5, new, new[:, :1])
        where = np.argsort(rng.random(moves.shape), axis=1)[:, :size]
        other = moves.copy()
        np.put_along_axis(other, where, new, axis=1)
        trial = _moved(base, most, other)
        found = loss(trial)
        up = found > value
        moves[up], best[up], value[up] = other[up], trial[up], found[up]
    return best, value


def random_molecules(
    loss: Loss, base: Values, number: int, most: Values, rng: np.random.Generator, tries: int = 20
) -> Found:
    """The worst of some random changes by that many molecules."""
    most, found = np.maximum(most, base), (base, loss(base))
    for _ in range(tries):
        counts = _moved(base, most, _drawn(base, most, rng, number))
        found = better(found, (counts, loss(counts)))
    return found


def _drawn(base: Values, most: Values, rng: np.random.Generator, size: int) -> np.ndarray:
    """Random molecules of each cell: gene for one more, gene + n_genes for one less, half of each."""
    n, n_genes = base.shape
    picked = []
    for allowed in (most > base, base > 0):
        order = np.argsort(~allowed, axis=1, kind="stable")
        number = np.maximum(allowed.sum(axis=1), 1)[:, None]
        place = (rng.random((n, size)) * number).astype(int)
        picked.append(np.take_along_axis(order, place, axis=1))
    return np.where(rng.random((n, size)) < 0.5, picked[0], picked[1] + n_genes)


def _moves(change: Values, number: int) -> np.ndarray:
    """A change of counts as molecules, as :func:`_drawn` gives them; -1 for those that are not spent."""
    n, n_genes = change.shape
    moves = np.full((n, number), -1)
    for row, values in zip(moves, change.astype(int), strict=True):
        spent = np.concatenate(
            [
                np.repeat(np.arange(n_genes), np.maximum(values, 0)),
                np.repeat(np.arange(n_genes), np.maximum(-values, 0)) + n_genes,
            ]
        )
        row[: len(spent)] = spent
    return moves


def _moved(base: Values, most: Values, moves: np.ndarray) -> Values:
    """Counts after molecules were added and taken away; what goes below zero or above the most is not spent."""
    change = np.zeros((len(base), 2 * base.shape[1] + 1), base.dtype)
    np.add.at(change, (np.arange(len(base))[:, None], moves), 1)
    n_genes = base.shape[1]
    return np.clip(base + change[:, :n_genes] - change[:, n_genes : 2 * n_genes], 0, most)
