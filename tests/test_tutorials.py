"""Every notebook runs from top to bottom.

`make docs` runs them in Jupyter, so the plain suite leaves them out: they take a third of its time. Here they run with
``make test PYTEST_ARGS="-m tutorial"``.
"""

import json
import re
import warnings
from pathlib import Path

import jax
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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_has_an_alternative_text(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    draws = re.compile(r"subplots\(|\bpl\.\w+\(")
    drawing = [cell for cell in cells if cell["cell_type"] == "code" and draws.search("".join(cell["source"]))]
    texts = [cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "") for cell in drawing]
    assert [cell["id"] for cell, said in zip(drawing, texts, strict=True) if len(said) < 20] == []


# What the text of a notebook says of its numbers, as expressions of its names that have to be true at its end.
CLAIMS = {
    "quickstart": [
        "list(adata.uns['scdae']['outputs']) == ['mean', 'log1p']",  # one call, two layers
        "adata.uns['scdae']['report']['skill'] > 0.2",
        "shares['restored']['B cells'] > shares['raw']['B cells'] + 0.05",  # a marker is seen in more of its own cells
        "shares['restored']['T cells'] < 0.1",  # and in hardly any others
        "together['restored'] > together['raw'] + 0.05",  # two genes go together more clearly
        "mixed['with batch_key'] < 0.6 < mixed['without batch_key']",
        "error['restored'] < 0.5 * error['raw']",
    ],
    "spatial_panel": [
        "abs(groups['predicted, genes at random'].mean()) < 0.1 < 0.4 < groups['predicted, markers'].mean()",
        "groups['predicted, other genes'].mean() < groups['hidden genes of the panel'].mean()",
        "groups['hidden genes of the panel'].mean() < groups['predicted, markers'].mean() + 0.05",
        "0.85 < held < 0.97",
        "abs(moran['would be counted'].mean()) < 0.02 and moran['predicted'].mean() > 0.04",
    ],
    "guard_cells": [
        "min(share[UNKNOWN]) > 0.8 and share['normal'] < 0.1",  # the types that the reference lacks are found
        "0.15 < share['doublet'] < 0.6 and 0.15 < share['half soup'] < 0.6",  # of the others about a third
        "(p <= 0.05).mean() < 0.15",
        "query.obs.loc[oddest, 'what'] == 'CD19+ B' and {'CD79B', 'MS4A1', 'LYZ'} <= set(responsible['gene'])",
    ],
    "evidence": [
        "abs(np.mean(r) - in_truth['with overdispersion']) < 0.06",  # what draws say of two genes is what cells express
        "in_truth['before overdispersion'] - np.mean(r) > 0.08",
    ],
    "shield": [
        "right(attacked[0.5]) < right(attacked[0.2]) < right(attacked[0.0])",  # a classifier can be fooled
        "right(washed[0.5]) > right(attacked[0.5]) + 0.2",  # purified, most are back on their side
        "all(right(adaptive[e]) <= right(washed[e]) + 0.02 for e in budgets[1:])",  # judge it by the attack that knows
        "gains[0] > 0.5 and np.mean(gains[10:]) < 0.3 * gains[0]",  # what comes through, by axis
        "shielded.score(counts[test], labels[test]) > 0.9",
    ],
    "idea": [
        "angle < 2",  # the trained linear map keeps PCA's plane
        "np.abs(measured - expected).max() < 0.05",  # and shrinks each axis as the formula says
        "0 < best < len(levels) - 1 and skill[best] > 1.03 * max(skill[0], skill[-1])",  # the noise level has a sweet spot
        "gained[0] < gained[1] < gained[2] and abs(gained[3] - gained[2]) < 0.01",  # so has the bottleneck a width
    ],
}


@pytest.mark.tutorial
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    try:
        # As users run them: what the suite asks of our own code beyond JAX's defaults is not asked of theirs.
        with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            # UMAP and its dependencies warn about themselves; what a notebook is tested for is that it runs.
            warnings.simplefilter("default")
            for number, code in enumerate(code_cells(notebook)):
                exec(compile(code, f"{notebook.name}[{number}]", "exec"), names)
    finally:
        plt.close("all")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for claim in CLAIMS.get(notebook.stem, ()):
            assert eval(claim, names), claim
    assert list(tmp_path.iterdir()) == [], "a notebook leaves no files behind"
