"""How many steps of how many cells a training takes, how strongly its weights decay, and when it is looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scdae.core.config import Config
from scdae.core.minibatches.loader import Source
from scdae.core.training.sizes import most_steps

__all__ = ["Schedule", "batch_size_for", "n_steps_for", "weight_decay_for"]

_MOLECULES = 800.0  # of a gene, at which the weight decay is 1
_STEPS = (150, 400)  # fewest and most that are chosen
_LARGEST = 512  # cells in a step that are chosen
_SCREEN_AT = 0.5  # fraction of the steps after which genes are screened for zero inflation
_CHECKS = (0.4, 0.6, 0.8, 1.0)  # fractions of the steps at which the held-out molecules are looked at
_CALLS = 50  # on an accelerator, over all steps


class Schedule(NamedTuple):
    """Steps of a training, and after which of them something else happens."""

    batch_size: int
    n_steps: int
    checks: frozenset[int]  # steps after which held-out molecules are scored
    screen: int  # step after which genes are screened for zero inflation

    @classmethod
    def of(cls, config: Config, n_obs: int, n_vars: int) -> Schedule:
        """Make the schedule for so many cells and genes."""
        batch_size = batch_size_for(config, n_obs, n_vars)
        n_steps = n_steps_for(config, n_obs, batch_size)
        checks = frozenset(int(np.ceil(fraction * n_steps)) for fraction in _CHECKS)
        return cls(batch_size, n_steps, checks, int(np.ceil(_SCREEN_AT * n_steps)))

    @property
    def stops(self) -> frozenset[int]:
        """Steps after which a call on an accelerator ends."""
        return self.checks | {self.screen} | frozenset(range(0, self.n_steps, max(1, self.n_steps // _CALLS)))


def batch_size_for(config: Config, n_obs: int, n_vars: int) -> int:
    """Choose the cells in a step: as set, or more where there are few genes or many cells.

    With few genes a larger step costs about the same. With many cells, one epoch of some hundred larger steps is quicker than
    one of thousands, and learns about as much.
    """
    if config.batch_size is not None:
        return min(config.batch_size, n_obs)
    size = max(np.clip(8e5 / n_vars, 64, 96), min(n_obs / _STEPS[1], _LARGEST))
    return min(int(size) // 8 * 8, n_obs)


def weight_decay_for(config: Config, source: Source, n_steps: int) -> float:
    """Choose the weight decay: as set, or more where genes have fewer molecules to learn their loadings from.

    It is scaled so that a short training shrinks as much, in all, as one of full length.
    """
    if config.weight_decay is not None:
        return config.weight_decay
    per_gene = source.molecules / source.n_vars
    shortness = np.clip(_STEPS[1] / n_steps, 1, _STEPS[1] / _STEPS[0])
    return float(shortness * np.clip(np.sqrt(_MOLECULES / per_gene), 0.5, 2))


def n_steps_for(config: Config, n_obs: int, batch_size: int) -> int:
    """Choose the number of steps: the epochs set; or 40 or, for the best effort, 120, within bounds; at least one."""
    per_epoch = -(-n_obs // batch_size)
    if config.max_epochs is not None:
        return per_epoch * config.max_epochs
    epochs = 120 if config.effort == "best" else 40
    most = most_steps(config, n_obs)
    return max(int(np.clip(epochs * n_obs / batch_size, min(_STEPS[0], most), most)), per_epoch)
