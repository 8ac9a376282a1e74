"""A report to file: what an evaluation found, as one HTML page."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import get
from scdae._log import say_result
from scdae.arguments.objects import check_adata, spelled
from scdae.files.targets import check_target, write_text
from scdae.outputs.html import paragraph, section, table, whole_page
from scdae.pl._report_figures import figures_of, helped_genes, table_of_genes
from scdae.tools.checks import checks_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ENDINGS", "report", "report_page"]

ENDINGS = (".html", ".htm")
_PACKAGES = ("scdae", "jax", "flax", "optax", "anndata", "scanpy", "numpy", "scipy", "pandas")
_GENES = 20  # shown in a list


@spelled
def report(
    adata: AnnData,
    path: str | PathLike[str],
    *,
    key: str = "scdae",
    genes: Sequence[str] | None = None,
    groupby: str | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write what an evaluation found as one HTML file that needs no network: a page to file with an analysis.

    It has the verdict, a table of checks that are fine or to be looked at, plots, the genes that are helped and those that
    are better left alone, settings and versions. Cells are not named in it; genes are.

    Parameters
    ----------
    adata
        Object that :func:`scdae.tl.evaluate` has been called on. What else is there is shown as well: groups of cells
        (`groupby` of that call), a run of :func:`scdae.pp.impute` under the same key, a
        :func:`scdae.tl.noise_sweep`.
    path
        File to write, ``.html``.
    key
        The `key` of the evaluation.
    genes
        Genes of the heat map before and after, where there is a run; those that gain most when left out.
    groupby
        Column of `obs` that the cells of the heat map are sorted by.
    title
        Heading of the page.
    overwrite
        Replace a file that is there.

    Raises
    ------
    KeyError
        There is no evaluation under that key, or a gene or column is not there.
    FileExistsError, OSError
        The file is there already, or cannot be written.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=120, n_genes=50, seed=0)
    >>> scdae.tl.evaluate(adata, max_epochs=2)
    >>> scdae.tl.report(adata, "report.html")
    """
    check_adata(adata)
    check_target(path, overwrite=overwrite, endings=ENDINGS)
    page = report_page(adata, key=key, genes=genes, groupby=groupby, title=title)
    write_text(Path(path), page, overwrite=overwrite)
    say_result(f"wrote {path}")


def report_page(
    adata: AnnData,
    *,
    key: str,
    genes: Sequence[str] | None = None,
    groupby: str | None = None,
    title: str | None = None,
    warned: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> str:
    """Return the page.

    Parameters
    ----------
    adata, key, genes, groupby, title
        As for :func:`report`.
    warned
        Warnings of the run.
    about
        More to be said of the data, by name.
    """
    methods = get.evaluation(adata, key)
    entry = adata.uns[f"{key}_evaluation"]
    checks = checks_of(adata, key)
    look = [check for check in checks if not check.fine]
    state = f"{len(look)} of {len(checks)} checks to be looked at." if look else f"All {len(checks)} checks are fine."
    data = {
        **(about or {}),
        "cells": f"{adata.n_obs:,}",
        "genes": f"{adata.n_vars:,}",
        "counts": "X" if str(entry["layer"]) == "X" else f"layers[{str(entry['layer'])!r}]",
        "molecules set aside": f"{float(entry['molecules']):,.0f} ({1 - float(entry['fraction']):.0%})",
        "made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by scdae {entry['version']}",
    }
    return whole_page(
        title or "Does imputation help on these data?",
        paragraph(f"{adata.n_obs:,} cells x {adata.n_vars:,} genes", "muted"),
        paragraph(str(entry["verdict"]), "lead"),
        section(
            "Checks",
            paragraph(state),
            table(
                [(c.name, "fine" if c.fine else "look", c.words) for c in checks], kinds=[_kind(c.fine) for c in checks]
            ),
        ),
        section("Warnings", table([(words,) for words in warned], kinds=["look"] * len(warned))) if warned else "",
        section(
            "How well molecules set aside are predicted",
            paragraph(
                "A model was shown the other molecules and predicted these. The skill is what a method adds to the average of each "
                "gene, in nats per molecule: 0.1 is about 10 % more likely."
            ),
            table(
                [(name, float(row["skill"]), float(row["log_likelihood"])) for name, row in methods.iterrows()],
                head=("method", "skill", "log likelihood"),
            ),
        ),
        section("Plots", f'<div class="figures">{"".join(figures_of(adata, key, genes, groupby))}</div>'),
        section("Genes", *_genes(adata, key)),
        section("Groups of cells", _groups(adata, key)),
        section("Data", table(data.items())),
        section("Settings", table(_settings(entry["settings"], seed=entry["seed"]))),
        section("Versions", table(_versions())),
        paragraph(
            "Restored counts are for looking at, for gene-gene views and for embeddings. Test differential expression on the raw "
            "counts.",
            "muted",
        ),
    )


def _kind(fine: bool) -> str:
    return "fine" if fine else "look"


def _genes(adata: AnnData, key: str) -> list[str]:
    found, helped = table_of_genes(adata, key), helped_genes(adata, key)
    numbers = found["verdict"].astype(str).value_counts()
    parts = [table([(name, int(count)) for name, count in numbers.items()], head=("verdict", "genes"))]
    if len(helped):
        top = helped.head(_GENES)
        parts.append(paragraph(f"The {len(top)} genes that gain most, in nats per molecule:"))
        rows = [(str(name), float(row["skill"]), float(row["skill_se"])) for name, row in top.iterrows()]
        parts.append(table(rows, head=("gene", "skill", "standard error")))
    for verdict in ("gene mean is better", "raw is better"):
        names = [str(name) for name in found.index[found["verdict"] == verdict]]
        if names:
            more = f" and {len(names) - _GENES:,} more" if len(names) > _GENES else ""
            parts.append(paragraph(f"{verdict.capitalize()}: {', '.join(names[:_GENES])}{more}."))
    return parts


def _groups(adata: AnnData, key: str) -> str:
    if "fidelity" not in adata.uns[f"{key}_evaluation"]:
        return ""
    found = get.fidelity(adata, key)
    rows = [(str(name), int(row["cells"]), str(row["verdict"]), str(row["words"])) for name, row in found.iterrows()]
    return table(rows, head=("group", "cells", "verdict", ""))


def _settings(settings: Mapping[str, Any], **others: Any) -> list[tuple[str, str]]:
    shown = {**settings, **others}
    return [(name, " to ".join(map(str, value)) if np.ndim(value) else str(value)) for name, value in shown.items()]


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version()), ("system", platform.platform())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # part of an application that was packed
            continue
    return found
