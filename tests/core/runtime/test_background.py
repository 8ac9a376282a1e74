import threading
import time

import pytest

from scdae.core.runtime import background
from scdae.core.runtime.background import closed_at_end, finishing, in_background


def test_threads_and_readers_end_before_the_function_does():
    said = []

    def task(word):
        time.sleep(0.1)
        said.append(word)
        return word

    def numbers():
        try:
            yield from range(3)
        finally:
            said.append("closed")

    @finishing
    def works(fails):
        reader = closed_at_end(numbers())
        future = in_background(task, "done")
        assert next(reader) == 0
        if fails:
            raise KeyboardInterrupt
        return future.result()

    assert works(False) == "done" and said == ["done", "closed"]
    said.clear()
    with pytest.raises(KeyboardInterrupt):
        works(True)
    assert said == ["done", "closed"] and not [t for t in threading.enumerate() if t.name == "scdae-ready"]


def test_errors_come_out_where_the_result_is_asked_for():
    def task():
        raise ValueError("odd")

    @finishing
    def works():
        return in_background(task).exception()

    assert isinstance(works(), ValueError)


def test_a_command_that_was_told_to_stop_does_not_wait(monkeypatch):
    monkeypatch.setattr(background, "noted", lambda: 15)
    release = threading.Event()

    @finishing
    def works():
        in_background(release.wait, 20)

    works()
    assert [t for t in threading.enumerate() if t.name == "scdae-ready"]
    release.set()
