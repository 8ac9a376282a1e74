"""The cells of a minibatch that a process reads: all, or from a file only those of its own devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scdae.core.minibatches.devices import Devices
from scdae.core.minibatches.loader import Source, Stream

__all__ = ["Share", "deal", "share_for"]

_DEALING, _DRAWING = 3, 4  # streams of random numbers


@dataclass(frozen=True)
class Share:
    """The part of each minibatch that a process reads and corrupts.

    If it is not the whole, random numbers have a seed for each step and process, so that a process need not know the
    cells of others. The network then differs from that of one process, which draws them in sequence, but is as good.
    """

    columns: slice
    whole: bool
    seed: int

    def generator(self, step: int, rng: np.random.Generator) -> np.random.Generator:
        """Return the generator for a step: `rng` if all cells are read."""
        return rng if self.whole else np.random.default_rng([self.seed, _DRAWING, step, self.columns.start])


def share_for(source: Source, order: np.ndarray, devices: Devices, seed: int) -> tuple[np.ndarray, Share]:
    """Reorder the cells so that those of a process are close to each other; also return the share of this process."""
    bounds = devices.bounds(order.shape[1])
    if not isinstance(source, Stream) or len(bounds) == 2 or not np.diff(bounds).all():
        return order, Share(slice(0, order.shape[1]), True, seed)
    window = source.window(order.shape[1]) // order.shape[1]
    order = deal(order, bounds, window, np.random.default_rng([seed, _DEALING]))
    return order, Share(slice(*bounds[devices.process : devices.process + 2]), False, seed)


def deal(order: np.ndarray, bounds: np.ndarray, window: int, rng: np.random.Generator) -> np.ndarray:
    """Assign neighboring cells to each process.

    Parameters
    ----------
    order
        Cells of each step, int64 (n_steps, batch_size).
    bounds
        Columns of `order` at which the cells of each process begin, and the end of the last.
    window
        Number of steps whose cells are assigned together.
    rng
        Source of random numbers.

    Returns
    -------
    numpy.ndarray
        The same cells, reordered within each `window` steps.

    Examples
    --------
    >>> import numpy as np
    >>> order = np.array([[5, 0, 7, 2], [1, 6, 3, 4]])
    >>> np.sort(deal(order, np.array([0, 2, 4]), 2, np.random.default_rng(0)).reshape(4, 2)[::2].ravel()).tolist()
    [0, 1, 2, 3]
    """
    dealt = np.empty_like(order)
    for start in range(0, len(order), window):
        steps = order[start : start + window]
        cells = np.sort(steps, axis=None)
        for low, high in zip(bounds[:-1], bounds[1:], strict=True):
            own = rng.permutation(cells[low * len(steps) : high * len(steps)])
            dealt[start : start + window, low:high] = own.reshape(len(steps), high - low)
    return dealt
