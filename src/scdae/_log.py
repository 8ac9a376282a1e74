"""Messages and progress bars: a standard logger at the user's verbosity, a bar only where somebody watches."""

from __future__ import annotations

import functools
import io
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from scdae._settings import settings

__all__ = ["RESULT", "get_logger", "is_watched", "on_a_page", "progress", "rewording", "say_result", "warnings_said"]

T = TypeVar("T")
RESULT = 25  # what came of a call: said from verbosity 1 on, as warnings are
_LEVELS = (logging.ERROR, RESULT, logging.INFO, logging.DEBUG)
logging.addLevelName(RESULT, "RESULT")


class _Stderr(logging.StreamHandler):
    """Writes to whatever `sys.stderr` is at the time, so that redirection works; in a notebook, where that is red, only warnings."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self._is_warning = True

    def emit(self, record: logging.LogRecord) -> None:
        self._is_warning = record.levelno >= logging.WARNING
        super().emit(record)

    @property
    def stream(self) -> Any:
        return sys.stderr if self._is_warning or _kernel() is None else sys.stdout


class _Verbosity(logging.Filter):
    page: ClassVar[bool] = False  # a page has the results

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= _LEVELS[settings.verbosity] and not (record.levelno == RESULT and self.page)


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


def say_result(text: str) -> None:
    """Say what came of a call, in a line or two that are seen at the default verbosity."""
    get_logger().log(RESULT, f"scdae: {text}")


@contextmanager
def on_a_page() -> Iterator[None]:
    """Results are printed as a page: within, they are not said as lines as well."""
    before, _Verbosity.page = _Verbosity.page, True
    try:
        yield
    finally:
        _Verbosity.page = before


@contextmanager
def rewording(change: Callable[[str], str]) -> Iterator[None]:
    """Change what messages say within, such as arguments into options of the command line."""

    def reword(record: logging.LogRecord) -> bool:
        record.msg, record.args = change(record.getMessage()), None
        return True

    handlers = get_logger().handlers
    for handler in handlers:
        handler.addFilter(reword)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(reword)


@contextmanager
def warnings_said() -> Iterator[list[str]]:
    """Collect the warnings that are said within, each once."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage().removeprefix("scdae: ")
            if text not in said:
                said.append(text)

    handler = Collector(logging.WARNING)
    get_logger().addHandler(handler)
    try:
        yield said
    finally:
        get_logger().removeHandler(handler)


def is_watched() -> bool:
    """Return whether a bar would be seen: on a terminal or in a notebook, and not below verbosity 1."""
    if settings.verbosity < 1:
        return False
    kernel = _kernel()
    if kernel is None:
        return bool(sys.stderr and sys.stderr.isatty())
    return bool(
        getattr(kernel, "_allow_stdin", True)
    )  # a notebook that is executed as a job (papermill, nbconvert) forbids it


def _kernel() -> Any:
    """Return the kernel of the notebook that this runs in; None elsewhere."""
    if "ipykernel" not in sys.modules:
        return None
    find = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(find(), "kernel", None)


def progress(
    steps: Iterable[T], *, total: int | None = None, description: str = "", first: str | None = None
) -> Iterable[T]:
    """Show a bar where it is seen, and nothing elsewhere.

    Parameters
    ----------
    steps
        What is counted.
    total
        How many there are.
    description
        What they are, such as ``"scdae: training"``.
    first
        What is said until the first one is done, where that takes longer than the others (it is compiled); what it took is
        left out of the time that is estimated.
    """
    return _watched(steps, total, description, first) if is_watched() else steps


def _watched(steps: Iterable[T], total: int | None, description: str, first: str | None) -> Iterator[T]:
    notebook = _kernel() is not None
    options: dict[str, Any] = {"file": io.StringIO()} if notebook else {}
    bar = _bar_class(notebook)(total=total, desc=first or description, leave=False, **options)
    try:
        for number, step in enumerate(steps):
            if number == 1 and first is not None:
                bar.set_description_str(f"{description}: ", refresh=False)
                bar.reset()
                bar.n = bar.last_print_n = bar.initial = 1
            yield step
            bar.update()
    finally:
        bar.close()


@functools.cache
def _bar_class(notebook: bool) -> Any:
    """Return tqdm's bar of text, or one that a notebook shows as text, which its file keeps as it was last: no widget is needed."""
    from tqdm.std import tqdm

    if not notebook:
        return tqdm

    class NotebookBar(tqdm):
        """A line in the output of the cell. Bars within a bar share its output; in the end one line says what was done."""

        shown: ClassVar[list[Any]] = []
        output: ClassVar[Any] = None

        def __init__(self, *args: Any, **options: Any) -> None:
            self.shown.append(self)
            super().__init__(*args, ncols=80, **options)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if self in self.shown:
                self.show([str(bar) for bar in self.shown])

        def close(self) -> None:
            if self not in self.shown:
                return
            self.shown.remove(self)
            self.show(
                [str(bar) for bar in self.shown] or [_done(self.desc, self.n, self.total, self.format_dict["elapsed"])]
            )
            if not self.shown:
                type(self).output = None
            super().close()

        @classmethod
        def show(cls, lines: list[str]) -> None:
            from IPython.display import display

            data = {"text/plain": "\n".join(lines)}
            if cls.output is None:
                cls.output = display(data, raw=True, display_id=True)
            else:
                cls.output.update(data, raw=True)

    return NotebookBar


def _done(description: str, number: int, total: int | None, seconds: float) -> str:
    """Say what a bar showed, when it is over."""
    of = "" if total is None or number >= total else f" of at most {total:,}"
    return f"{description.removesuffix(': ')}: {number:,}{of}, {seconds:.0f} s"
