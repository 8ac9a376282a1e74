"""Messages and progress bars: a standard logger at the user's verbosity, a bar only where somebody watches."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from scdae._settings import settings

__all__ = ["get_logger", "is_watched", "progress"]

T = TypeVar("T")
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


class _Stderr(logging.StreamHandler):
    """Writes to whatever `sys.stderr` is at the time, so that redirection works."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _Verbosity(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= _LEVELS[settings.verbosity]


def get_logger() -> logging.Logger:
    """Return the package's logger; messages go to stderr at ``scdae.settings.verbosity``."""
    logger = logging.getLogger("scdae")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.addFilter(_Verbosity())
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    return logger


def is_watched() -> bool:
    """Return whether a bar would be seen: on a terminal or in a notebook, and not below verbosity 1."""
    if settings.verbosity < 1:
        return False
    return _is_notebook_watched() if "ipykernel" in sys.modules else bool(sys.stderr and sys.stderr.isatty())


def _is_notebook_watched() -> bool:
    """Return whether somebody could answer a question: a notebook that is executed as a job (papermill, nbconvert) forbids them."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return bool(getattr(getattr(find(), "kernel", None), "_allow_stdin", True))


def progress(steps: Iterable[T], *, total: int | None = None, description: str = "") -> Iterable[T]:
    """Show a tqdm bar where it is seen, and nothing elsewhere."""
    if not is_watched():
        return steps
    if importlib.util.find_spec("ipywidgets") is None:  # with which tqdm.auto would draw, and warns that it cannot
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm

    return tqdm(steps, total=total, desc=description, leave=False)
