"""Training that is told to stop: it ends after a step, in all processes after the same one, and what it has reached is kept."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable

import jax
import numpy as np

from scdae.core.minibatches.devices import Devices
from scdae.core.progress.checkpoints import Checkpoints
from scdae.core.progress.state import Progress
from scdae.core.runtime.stopping import Stopped, call_off, deferring, noted, stop_if_asked

__all__ = ["stopped_well"]

_SECONDS = 1.0  # between two looks of several processes at one another's signals
_MOST = 25  # steps between them: the next ones may take longer


def stopped_well(
    steps: Iterable[int], run: Progress, checkpoints: Checkpoints | None, devices: Devices
) -> Generator[int, None, None]:
    """Yield the same steps, with a look before each at whether the job is to stop: then a last checkpoint is written.

    Parameters
    ----------
    steps
        Numbers of the steps.
    run
        What the loop over the steps changes; it has to be whole whenever the next step is asked for.
    checkpoints
        Where to keep it.
    devices
        Of all processes that train together: each is told when one is.

    Raises
    ------
    Stopped
        The job was told to stop.
    """
    together = _Together(devices) if devices.processes > 1 else None
    with deferring():
        for step in steps:
            number = noted() if together is None else together.noted(run)
            if number is not None:
                call_off()
                if checkpoints is not None:
                    checkpoints.keep_last(run)
                if together is not None:
                    devices.gather(None)  # nobody ends before the first process has kept it
                raise Stopped(number)
            yield step
    if together is None:
        stop_if_asked()


class _Together:
    """Processes that tell one another of signals, about once a second, all after the same steps."""

    def __init__(self, devices: Devices):
        self._devices = devices
        self._left, self._every = 0, 1
        self._since = time.monotonic()

    def noted(self, run: Progress) -> int | None:
        """Return the signal that one of them has got, if all look now and one has."""
        if self._left > 0:
            self._left -= 1
            return None
        jax.block_until_ready(run.params)  # no two exchanges at a time
        now = time.monotonic()
        notes = self._devices.gather((noted() or 0, (now - self._since) / self._every))
        numbers, seconds = zip(*notes, strict=True)
        self._every = int(np.clip(_SECONDS / max(*seconds, 1e-6), 1, min(2 * self._every, _MOST)))
        self._left, self._since = self._every - 1, now
        return max(numbers) or None
