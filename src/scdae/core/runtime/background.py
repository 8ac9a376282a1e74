"""Work that a function has done beside it, which has ended before the function returns or raises.

A thread that is left compiling while the interpreter ends takes the process down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from scdae.core.runtime.own_switches import own_switches
from scdae.core.runtime.stopping import noted

__all__ = ["closed_at_end", "finishing", "in_background", "one_behind"]

P = ParamSpec("P")
T = TypeVar("T")
_here = threading.local()


def finishing(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function wait for what it has started with :func:`in_background`, however it ends."""

    @wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        outer = getattr(_here, "ends", None)
        with ExitStack() as ends:
            _here.ends = ends
            try:
                return function(*args, **kwargs)
            finally:
                _here.ends = outer

    return whole


def in_background(task: Callable[..., T], *args: Any) -> Future[T]:
    """Run a task in a thread of its own, within a function that is :func:`finishing`."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(own_switches(task)(*args))
        except BaseException as error:  # noqa: BLE001 (raised where the result is asked for)
            future.set_exception(error)

    thread = threading.Thread(target=run, name="scdae-ready", daemon=True)
    _here.ends.callback(_join, thread)
    thread.start()
    return future


def closed_at_end(generator: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same generator, which is closed, with the threads that it holds, when the function that is :func:`finishing` ends."""
    _here.ends.callback(generator.close)
    return generator


def _join(thread: threading.Thread) -> None:
    """A command that was told to stop does not wait: it ends without taking down what the thread works with."""
    if noted() is None:
        thread.join()


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Yield the same, each when the next has been made.

    JAX computes in the background, so what an item waits for goes on while the next is prepared.
    """
    before: list[T] = []
    for item in items:
        yield from before
        before = [item]
    yield from before
