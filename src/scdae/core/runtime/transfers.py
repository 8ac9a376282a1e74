"""Arrays go to the device where they are used: also where JAX was told to refuse that, as with ``jax.transfer_guard("disallow")``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

from scdae.core.runtime.platforms import check_forked

__all__ = ["transfers"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def transfers(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function of the package move arrays between host and device, whatever `jax_transfer_guard` says.

    The guard finds transfers that somebody did not mean in code of their own; those of the package are meant. It holds
    for the thread that calls. Not for generators, whose callers run between their steps.
    """

    @wraps(function)
    def moving(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        check_forked()  # before anything waits for threads that are not here
        with jax.transfer_guard("allow"):
            return function(*args, **kwargs)

    return moving
