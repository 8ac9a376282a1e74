"""The package has JAX's switches as it wants them, whatever others have set: single precision, and transfers that are allowed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

from scdae.core.runtime.freed import kept
from scdae.core.runtime.platforms import check_forked

__all__ = ["own_switches"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def own_switches(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function of the package move arrays between host and device in single precision, whatever JAX's switches say.

    `jax_transfer_guard` finds transfers that somebody did not mean in code of their own; those of the package are
    meant. `jax_enable_x64`, which importing scikit-bio turns on, is off within: the same data give the same bits
    whether or not it is on. This holds for the thread that calls. Not for generators, whose callers run between their
    steps.
    """

    @wraps(function)
    def moving(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        check_forked()  # before anything waits for threads that are not here
        with jax.transfer_guard("allow"), jax.enable_x64(False), kept():
            return function(*args, **kwargs)

    return moving
