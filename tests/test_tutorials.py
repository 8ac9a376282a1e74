"""Every notebook runs from top to bottom.

`make docs` runs them in Jupyter, so the plain suite leaves them out: they take a third of its time. Here they run with
``make test PYTEST_ARGS="-m tutorial"``.
"""

import json
import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))

mpl.use("Agg")


def code_cells(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.tutorial
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    try:
        with warnings.catch_warnings():
            # UMAP and its dependencies warn about themselves; what a notebook is tested for is that it runs.
            warnings.simplefilter("default")
            for number, code in enumerate(code_cells(notebook)):
                exec(compile(code, f"{notebook.name}[{number}]", "exec"), names)
    finally:
        plt.close("all")
    assert list(tmp_path.iterdir()) == [], "a notebook leaves no files behind"
