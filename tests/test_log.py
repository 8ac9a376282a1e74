import io
import logging
import sys
from types import SimpleNamespace

import pytest

from scdae._log import get_logger, progress
from scdae._settings import Settings, settings


@pytest.fixture
def verbosity(monkeypatch):
    def set_to(value):
        monkeypatch.setattr(settings, "_verbosity", value)

    set_to(None)
    return set_to


def scanpy_at(monkeypatch, level):
    monkeypatch.setitem(sys.modules, "scanpy", SimpleNamespace(settings=SimpleNamespace(verbosity=level)))


def test_verbosity_starts_at_warnings_without_scanpy(monkeypatch):
    monkeypatch.delitem(sys.modules, "scanpy", raising=False)
    assert Settings().verbosity == 1


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (3, 3), (SimpleNamespace(value=2), 2), (4, 3)])
def test_verbosity_follows_scanpy(monkeypatch, level, expected):
    """Scanpy has a level 4, debug."""
    scanpy_at(monkeypatch, level)
    assert Settings().verbosity == expected


def test_verbosity_set_here_wins_until_taken_back(monkeypatch):
    scanpy_at(monkeypatch, 3)
    own = Settings()
    own.verbosity = 0
    assert own.verbosity == 0
    own.verbosity = None
    assert own.verbosity == 3
    own.verbosity = 2.0
    assert own.verbosity == 2 and isinstance(own.verbosity, int)


@pytest.mark.parametrize("value", [4, -1, "info", True, 1.5])
def test_verbosity_that_does_not_exist(value):
    with pytest.raises(ValueError, match=r"settings\.verbosity = .*3 \(hints\)"):
        Settings().verbosity = value


@pytest.mark.parametrize(("level", "seen"), [(0, "e"), (1, "ew"), (2, "ewi"), (3, "ewid")])
def test_messages_go_to_stderr_at_the_level_set(verbosity, capsys, level, seen):
    verbosity(level)
    log = get_logger()
    log.error("e"), log.warning("w"), log.info("i"), log.debug("d")
    output = capsys.readouterr()
    assert output.err.split() == list(seen) and output.out == ""


def test_level_of_scanpy_that_is_not_ours_does_not_break_logging(verbosity, monkeypatch, capsys):
    scanpy_at(monkeypatch, 4)
    get_logger().info("said")
    assert capsys.readouterr().err == "said\n"


def test_one_handler_however_often_it_is_asked_for(capsys):
    for _ in range(3):
        get_logger()
    get_logger().error("once")
    assert capsys.readouterr().err == "once\n"
    assert logging.getLogger("scdae") is get_logger()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("level", "terminal", "shown"), [(1, True, True), (1, False, False), (0, True, False), (3, False, False)]
)
def test_bar_only_where_somebody_watches(verbosity, monkeypatch, level, terminal, shown):
    verbosity(level)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), total=3, description="training")) == [0, 1, 2]
    assert ("training" in stream.getvalue()) == shown


def test_no_bar_without_stderr(verbosity, monkeypatch):
    """As with pythonw."""
    verbosity(1)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress(range(2))) == [0, 1]


def test_no_bar_in_a_notebook_that_is_executed_as_a_job(verbosity, monkeypatch):
    from scdae._log import is_watched

    verbosity(1)
    kernel = SimpleNamespace(_allow_stdin=True)
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=kernel)))
    assert is_watched()
    kernel._allow_stdin = False
    assert not is_watched()
