"""Signals that tell a job to stop: noted, so that none is lost, and looked at before each step and before a file is in its place.

An exception from a signal handler can be swallowed: by callbacks of the garbage collector, by ``__del__``, by libraries in C. So
the handler raises, which ends most things at once, and notes the signal as well. After the first, others are noted and no more:
what is being tidied up is tidied up.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, ClassVar

__all__ = [
    "Shield",
    "Stopped",
    "before_stop",
    "call_off",
    "deferring",
    "is_noting",
    "keeping",
    "leaving",
    "note_signals",
    "noted",
    "stop_if_asked",
    "stop_words",
]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # on a cluster some of these announce the end
_NUMBERS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_SOON = 0.05  # seconds
_LATEST = 7.0  # seconds that a step may take before it is given up


class Stopped(SystemExit):
    """The job was told to stop; as an exit code, 128 and the number of the signal."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number


class _State:
    """Of this process."""

    first: int | None = None  # signal that came first
    raising: bool = True
    registered: bool = False
    deferred: bool = False
    kept: ClassVar[dict[str, str]] = {}
    tasks: ClassVar[list[Callable[[], Any]]] = []


def noted() -> int | None:
    """The signal that told this process to stop, if one did."""
    return _State.first


def keeping(what: str, words: str) -> None:
    """Note what outlives this process, for the line that says so when it is stopped.

    Parameters
    ----------
    what
        Of which things there is one: what was noted of it before no longer holds.
    words
        As a sentence without its full stop.
    """
    _State.kept[what] = words


def stop_words(number: int) -> str:
    """One line: by what the process was stopped, and what is left of its work."""
    by = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return "; ".join([by, *(_State.kept.values() or ["nothing was kept"])])


@contextmanager
def deferring() -> Iterator[None]:
    """Have signals noted alone within, so that a step ends and can be kept; after some seconds they raise all the same."""
    former, _State.deferred = _State.deferred, True
    try:
        yield
    finally:
        _State.deferred = former


def call_off() -> None:
    """A noted signal raises no more by itself: what it asks for is being done."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def stop_if_asked() -> None:
    """Raise :class:`Stopped` if a signal was noted."""
    if _State.first is not None:
        call_off()
        raise Stopped(_State.first)


def note_signals() -> None:
    """Let signals that tell a job to stop be noted and raise :class:`Stopped`; those that are ignored stay so (``nohup``)."""
    if threading.current_thread() is not threading.main_thread():
        return
    if not _State.registered:
        _State.registered = True
        atexit.register(_at_exit)
        sys.unraisablehook = _quiet(sys.unraisablehook)
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def is_noting() -> bool:
    """Whether this process is a command that notes signals."""
    return _State.registered


def leaving() -> None:
    """From here on a signal is noted alone: there is nothing left to be stopped but exit handlers."""
    _State.raising = False
    atexit.register(_end_if_asked)  # the first of the exit handlers


def before_stop(task: Callable[[], Any]) -> Callable[[], Any]:
    """Have something done before a process that was told to stop ends, which it does without its other exit handlers."""
    _State.tasks.append(task)
    return task


def _note(number: int, frame: FrameType | None) -> None:
    if _State.first is not None:
        return
    _State.first = number
    if not _State.deferred:
        _raise(number, frame)
    elif hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _raise)
        signal.setitimer(signal.ITIMER_REAL, _LATEST)


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise, but not into an import: libraries in C that are left half made take the process down. Then a little later."""
    if not _State.raising or _State.first is None:
        return
    if not _is_importing(frame):
        raise Stopped(_State.first)
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, _SOON)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _quiet(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A hook for exceptions that nobody can catch, which says nothing of a stop: it is noted."""

    def quiet(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Stopped):
            hook(unraisable)

    return quiet


def _at_exit() -> None:
    """The last of the exit handlers, for it is the first that is registered: no signal changes the end any more."""
    for number in _NUMBERS:
        if signal.getsignal(number) is _note:
            signal.signal(number, signal.SIG_IGN)
    _end_if_asked()


def _end_if_asked() -> None:
    """End without taking libraries down: their threads may not have ended, and a thread that compiles takes its time."""
    if _State.first is None:
        return
    for task in _State.tasks:
        with suppress(OSError):
            task()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it
            stream.flush()
    os._exit(128 + _State.first)


class Shield:
    """Hold back signals, whoever handles them, while files are moved or removed; they are handled when it ends.

    Only signals with a handler written in Python, and only in the main thread: others never interrupt Python code.

    Examples
    --------
    >>> with Shield() as shield:
    ...     with shield.open():
    ...         done = True  # a signal may interrupt this
    ...     shield.look()  # or this
    """

    def __init__(self) -> None:
        self._open = False
        self._came: list[int] = []
        self._former: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Shield:
        if threading.current_thread() is threading.main_thread():
            try:
                for number in _NUMBERS:
                    handler = signal.getsignal(number)
                    if callable(handler):
                        self._former[number] = handler
                        signal.signal(number, self._hold)
            except BaseException:
                self._back()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._back()
        if kind is None or issubclass(kind, Exception):  # else it is a signal that ends this
            for number in self._came:
                signal.raise_signal(number)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let one signal through; whatever comes after it is held back again."""
        self.look()
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def look(self) -> None:
        """Let signals through that have come."""
        while self._came:
            number = self._came.pop(0)
            self._former[number](number, None)
        stop_if_asked()

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if not self._open:
            self._came.append(number)
            return
        self._open = False
        self._former[number](number, frame)  # raises, as a rule
        self._open = True

    def _back(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
