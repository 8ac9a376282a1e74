"""Does it smooth rare cells away? Published cell types at their markers, restored by scdae and by others.

Splits, markers and ratios are the referee's (bench/fidelity.py in the shared folder). MAGIC is installed where it is
not there; DCA runs when it is asked for: ``python benchmarks/run.py fidelity --methods DCA``.
"""

import importlib.util
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import adapter
import numpy as np
import scipy.sparse as sp
from compared import DECODER, MEANS, OURS, RAW
from compared import TYPE_METHODS as METHODS
from compared import TYPES_RECORD as RECORD
from peers import ON_REQUEST, restore

DATA = (  # data set, column of obs with the types
    ("pbmc3k", "cell_type"),
    ("pbmc_facs", "subpop"),
    ("pbmc_facs", "facs_celltype"),
    ("zeisel_cortex_ercc", "cell_class"),
)
GENES = {  # shown one by one
    ("pbmc3k", "cell_type"): {
        "PPBP": "Megakaryocytes",
        "FCER1A": "Dendritic cells",
        "GNLY": "NK cells",
        "S100A8": "CD14+ Monocytes",
        "MS4A1": "B cells",
    }
}
LEAST = 15  # cells of the types whose level is compared
MUST = {  # zeros inside from, to, outside at most; the last for output="prior"; None where nothing is asked for
    ("pbmc3k", "cell_type"): (0.92, 1.08, 1.10, 1.4),
    ("pbmc_facs", "subpop"): (0.92, 1.08, 1.40, 2.0),
    ("pbmc_facs", "facs_celltype"): (0.92, 1.08, 1.15, None),
}
KEPT = (0.75, 1.33)  # decoder mean over raw, each type


def fidelity(shared: Path, names: list[str], methods: list[str]) -> None:
    """Restore, compare with what was set aside, print, record and render."""
    from render import render_fidelity  # with matplotlib, as in compare.py

    referee = _referee(shared)
    unknown = set(methods) - {*METHODS, *ON_REQUEST}
    if unknown:
        raise SystemExit(
            f"unknown method: {', '.join(sorted(unknown))}; there are {', '.join((*METHODS, *ON_REQUEST))}."
        )
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    restored: dict[str, dict[str, np.ndarray]] = {}
    print(
        "\nMarkers of published cell types: molecules predicted over molecules seen where none was shown (1 is right),"
    )
    print(f"pooled over types; restored over raw of each type's markers, types of at least {LEAST} cells")
    for name, label in DATA:
        if names and name not in names:
            continue
        print(f"\n{name}, {label}\n{'':24s}{'inside':>8s}{'outside':>8s}{'lowest':>8s}{'highest':>8s}", flush=True)
        train, test, labels, genes = referee.load(shared / f"data/{name}.h5ad", label)
        entry = record.setdefault(f"{name}, {label}", {"methods": {}})
        markers = referee.markers(train, labels)
        entry |= {"cells": train.shape[0], "genes": train.shape[1], "types": len(markers)}
        for method in methods or METHODS:
            known = restored.setdefault(name, {})
            try:
                known |= _restore(shared, method, train, np.asarray(genes)) if method not in known else {}
            except (SystemExit, RuntimeError, subprocess.CalledProcessError) as reason:
                print(f"{method:24s}failed: {reason}", flush=True)
                continue
            found = _score(referee, known[method], train, test, labels)
            entry["methods"][method] = found | {"date": f"{date.today()}"}
            print(
                f"{method:24s}{found['zeros_in']:8.2f}{found['zeros_out']:8.2f}{found['lowest']:8.2f}{found['highest']:8.2f}"
                f"  lowest: {found['lowest_type']}{_judged((name, label), method, found)}",
                flush=True,
            )
        if (name, label) in GENES and {OURS, DECODER} <= set(known):
            entry["markers"] = _genes(GENES[name, label], known, train, labels, list(map(str, genes)))
            _print_genes(entry["markers"])
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    render_fidelity(json.loads(RECORD.read_text()))


def _referee(shared: Path):
    """The module of the same name that the referee keeps."""
    sys.path.append(str(shared / "bench"))  # it imports others from there
    spec = importlib.util.spec_from_file_location("referee_fidelity", shared / "bench/fidelity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _restore(shared: Path, method: str, train: sp.csr_matrix, genes: np.ndarray) -> dict[str, np.ndarray]:
    """Restored counts of a method, and of others that come with it."""
    if method in (OURS, DECODER):
        found = adapter.denoise(train, genes, 0)
        return {OURS: found[""], DECODER: found["prior"]}
    if method == RAW:
        return {RAW: train.toarray()}
    if method == MEANS:
        share = np.asarray(train.sum(axis=0)).ravel() / train.sum()
        return {MEANS: np.asarray(train.sum(axis=1)).ravel()[:, None] * share}
    return {method: restore(shared, method, train.astype(np.float64), genes)}


def _score(referee, values: np.ndarray, train: sp.csr_matrix, test: sp.csr_matrix, labels: np.ndarray) -> dict:
    table = referee.fidelity(values, train, test, labels)
    zeros = referee.pooled(table)
    large = table[table["cells"] >= LEAST].set_index("type")["in_ratio"]
    return {
        "zeros_in": round(float(zeros["in"]), 3),
        "zeros_out": round(float(zeros["out"]), 3),
        "lowest": round(float(large.min()), 3),
        "highest": round(float(large.max()), 3),
        "lowest_type": str(large.idxmin()),
    }


def _judged(which: tuple[str, str], method: str, found: dict) -> str:
    """Whether what was to be reached is."""
    if which not in MUST:
        return ""
    low, high, out, decoder_out = MUST[which]
    if method == OURS:
        reached = low <= found["zeros_in"] <= high and found["zeros_out"] <= out
        return f"   inside {low} to {high}, outside at most {out}: {'reached' if reached else 'NOT REACHED'}"
    if method == DECODER:
        reached = KEPT[0] <= found["lowest"] and found["highest"] <= KEPT[1]
        reached &= decoder_out is None or found["zeros_out"] <= decoder_out
        outside = "" if decoder_out is None else f"outside at most {decoder_out}, "
        return f"   {outside}levels {KEPT[0]} to {KEPT[1]}: {'reached' if reached else 'NOT REACHED'}"
    return ""


def _genes(
    wanted: dict[str, str], known: dict[str, np.ndarray], train: sp.csr_matrix, labels: np.ndarray, genes: list[str]
) -> list[dict]:
    """Means of single markers in their type and outside it."""
    rows = []
    for gene, kind in wanted.items():
        column, inside = genes.index(gene), labels == kind
        values = {
            "raw": train[:, column].toarray().ravel(),
            OURS: known[OURS][:, column],
            DECODER: known[DECODER][:, column],
        }
        row = {"gene": gene, "type": kind, "cells": int(inside.sum())}
        for method, part in values.items():
            row[method] = [round(float(part[inside].mean()), 3), round(float(part[~inside].mean()), 3)]
        rows.append(row)
    return rows


def _print_genes(rows: list[dict]) -> None:
    print(f"\n{'':10s}{'type (cells)':26s}{'raw':>16s}{'scdae':>16s}{'decoder':>16s}   mean inside, outside")
    for row in rows:
        parts = "".join(f"{row[m][0]:9.2f},{row[m][1]:6.2f}" for m in ("raw", OURS, DECODER))
        where = f"{row['type']} ({row['cells']})"
        print(f"{row['gene']:10s}{where:26s}{parts}", flush=True)
