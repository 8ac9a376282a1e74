"""Exit codes, for whoever starts a job again or not."""

from __future__ import annotations

import errno
import re
import sys
from enum import IntEnum

from scdae.core.runtime.again import Passing

__all__ = ["Again", "ExitCode", "code_of", "of_another"]

# Errors of the system that are over when there is room again, or a file server answers.
_PASSING = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "ENOMEM", "EMFILE", "ENFILE", "EAGAIN", "EBUSY", "EINTR", "EIO"),
        *("ESTALE", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}
_LOST = re.compile(
    r"gloo|closed by peer|reset by peer|broken pipe|heartbeat|coordination service|dispatching computation", re.I
)
_FULL = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.I)


class ExitCode(IntEnum):
    """What a command ends with; 128 and its number where a signal stopped it."""

    DONE = 0  # the result is there, or was (--skip-existing)
    BAD_INPUT = 1  # a second try ends the same way
    USAGE = 2  # the command line itself
    AGAIN = 75  # a second try may do: EX_TEMPFAIL of sysexits.h


class Again(ValueError, Passing):
    """What another try may mend."""


def code_of(error: BaseException) -> ExitCode:
    """Return the code for an error, by what has caused it.

    Examples
    --------
    >>> code_of(MemoryError()).value, code_of(OSError(errno.ENOSPC, "")).value, code_of(ValueError()).value
    (75, 75, 1)
    """
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            break
        if _passes(seen):
            return ExitCode.AGAIN
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return ExitCode.BAD_INPUT


def of_another(error: BaseException) -> bool:
    """Return whether an error says that another process of the same job is gone."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(error, RuntimeError) or not jax.distributed.is_initialized():
        return False
    return _LOST.search(str(error)) is not None


def _passes(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, Passing)) or of_another(error):
        return True
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, RuntimeError) and _FULL.search(str(error)) is not None
