import io
import logging
import sys
from types import SimpleNamespace

import pytest

from scdae._log import get_logger, on_a_page, progress, rewording, say_result
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


def test_results_are_said_at_the_default_verbosity_unless_a_page_has_them(verbosity, capsys):
    verbosity(1)
    say_result("wrote it")
    with on_a_page():
        say_result("twice")
        get_logger().warning("look out")
    say_result("again")
    verbosity(0)
    say_result("not asked for")
    assert capsys.readouterr().err.splitlines() == ["scdae: wrote it", "look out", "scdae: again"]


def test_messages_are_reworded_within(verbosity, capsys):
    verbosity(1)
    with rewording(lambda text: text.replace("layer=", "--layer ")):
        get_logger().warning("use layer=%s", "raw")
    get_logger().warning("use layer=raw")
    assert capsys.readouterr().err.splitlines() == ["use --layer raw", "use layer=raw"]


def test_the_first_step_is_said_to_compile(verbosity, monkeypatch):
    verbosity(1)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    said = []
    for _ in progress(range(3), total=3, description="scdae: training", first="scdae: compiling"):
        said.append(stream.getvalue())
    assert "compiling" in said[0] and "training" not in said[0]
    assert "training" in said[1]
    assert stream.getvalue().endswith("\r"), "the bar is gone in the end"


class Cell:
    """Output of a cell of a notebook, as its file keeps it."""

    def __init__(self, monkeypatch, allows=True):
        kernel = SimpleNamespace(_allow_stdin=allows)
        self.outputs = []
        find = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=kernel))
        show = SimpleNamespace(display=self.display)
        monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "IPython", find)
        monkeypatch.setitem(sys.modules, "IPython.display", show)

    def display(self, data, raw, display_id):
        self.outputs.append(data["text/plain"])
        at = len(self.outputs) - 1
        return SimpleNamespace(update=lambda data, raw: self.outputs.__setitem__(at, data["text/plain"]))


def test_a_bar_in_a_notebook_ends_as_one_line(verbosity, monkeypatch, capsys):
    verbosity(1)
    cell = Cell(monkeypatch)
    during = []
    for _ in progress(range(2), total=2, description="scdae: noise levels"):
        for _ in progress(range(4), total=9, description="scdae: training"):
            during.append(cell.outputs[-1])
    assert all("noise levels" in text and "training" in text for text in during)
    assert cell.outputs == ["scdae: noise levels: 2, 0 s"]
    for _ in progress(range(4), total=9, description="scdae: training", first="scdae: compiling"):
        pass
    assert cell.outputs[1:] == ["scdae: training: 4 of at most 9, 0 s"]
    steps = iter(progress(range(4), total=4, description="scdae: training"))
    next(steps)
    steps.close()  # as by an error in the loop
    assert len(cell.outputs) == 3 and "|" not in cell.outputs[2]
    written = capsys.readouterr()
    assert written.err == written.out == ""


def test_results_in_a_notebook_are_not_red(verbosity, monkeypatch, capsys):
    verbosity(1)
    Cell(monkeypatch)
    say_result("wrote it")
    get_logger().warning("look out")
    written = capsys.readouterr()
    assert (written.out, written.err) == ("scdae: wrote it\n", "look out\n")
