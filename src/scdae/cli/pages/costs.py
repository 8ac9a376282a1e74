"""What a run would cost: estimates from the measurements in docs/performance.md (20,000 genes, two cores).

Seconds grow with the steps, and with the non-zeros of the cells on which axes and effects are found; memory with the non-zeros.
Seconds are those of one machine: `scdae batch` asks a scheduler for three times as many.
"""

from __future__ import annotations

import numpy as np

__all__ = ["peak_bytes", "seconds_of_restoring", "seconds_of_training"]

_START = 5.0  # seconds: compilation
_STEP = 60e-6 / 20_000  # seconds of a step, for each entry of its dense arrays
_ENTRY_OF_SOME, _SOME = 0.33e-6, 2**24  # seconds for each stored entry of the cells that axes are found on
_ENTRY = 0.06e-6  # seconds for each stored entry of all
_VALUES = 48e6  # values that are restored in a second
# Stored entries, and GiB of the peak beyond the input
_MEMORY = (1.0e4, 1.0e5, 1.0e6, 3.8e6, 15e6, 61e6, 192e6), (0.42, 0.45, 0.63, 0.81, 1.38, 1.58, 1.71)
_BASE = 0.42  # GiB of a process that has done little
_CHUNK, _COPIES = 4 * 2**24, 3  # bytes of a chunk of a lazy layer, and how often they are there while it is worked out
_GIB = 2**30


def seconds_of_training(n_steps: int, batch_size: int, n_vars: int, n_stored: int) -> float:
    """Estimated seconds of a training on two cores.

    Parameters
    ----------
    n_steps, batch_size
        Steps, and cells in each.
    n_vars
        Genes with counts.
    n_stored
        Stored entries of all cells.

    Examples
    --------
    >>> round(seconds_of_training(400, 64, 20_000, 3_800_000))  # measured: 7.9
    8
    """
    dense = _STEP * n_steps * batch_size * n_vars
    return _START + dense + _ENTRY_OF_SOME * min(n_stored, _SOME) + _ENTRY * n_stored


def seconds_of_restoring(n_values: int) -> float:
    """Estimated seconds in which so many values of a layer are worked out."""
    return n_values / _VALUES


def peak_bytes(n_stored: int, n_bytes: int, *, held: int = 0, cores: int = 0, n_obs: int = 0, n_vars: int = 0) -> int:
    """Estimated peak of the memory of a run.

    Parameters
    ----------
    n_stored
        Stored entries of the counts.
    n_bytes
        What is read into memory.
    held
        Bytes of layers that are held.
    cores
        Threads that work out chunks of a lazy layer, of `n_obs` cells and `n_vars` genes; 0 where there is none.

    Examples
    --------
    >>> peak_bytes(3_800_000, 30_000_000) < peak_bytes(3_800_000, 30_000_000, held=10**9)
    True
    """
    training = float(np.interp(np.log(max(n_stored, 1)), np.log(_MEMORY[0]), _MEMORY[1])) * _GIB
    chunks = cores * _COPIES * min(_CHUNK, 4 * n_obs * n_vars)
    return int(n_bytes + max(training, _BASE * _GIB + 8 * n_stored + held + chunks))
