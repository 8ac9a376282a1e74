"""Genes that a panel did not measure: `scdae.tl.impute_genes` under the referee of ../shared/bench/panels.py.

`impute_genes` has the form that the referee calls. `panels` runs it and prints the recorded peers beside it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ALL = ["osmfish", "osmfish_zeisel", "pbmc_facs", "pbmc4k_ambient", "kang_pbmc_ifnb"]


def impute_genes(
    spatial: np.ndarray, reference, shared: np.ndarray, wanted: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts and their limits, from arrays; see the referee."""
    import anndata
    import pandas as pd

    import scdae

    names = np.array([f"gene {i}" for i in range(reference.shape[1])])
    panel = anndata.AnnData(spatial, var=pd.DataFrame(index=names[shared]))
    cells = anndata.AnnData(reference, var=pd.DataFrame(index=names))
    found = scdae.tl.impute_genes(panel, cells, genes=list(names[wanted]), seed=seed)
    return found.X, found.layers["lower"], found.layers["upper"]


def panels(shared: Path, output: Path, names: list[str]) -> None:
    """Run the referee on each data set (all sizes of a panel), and print its measures beside the best peer."""
    referee, recorded = shared / "bench/panels.py", shared / "bench/panels"
    chosen = [name for name in ALL if not names or name in names]
    command = [sys.executable, referee, "run", f"{HERE / 'panels.py'}:impute_genes", *chosen]
    command += ["--data-dir", shared / "data", "--out", output / "panels"]
    subprocess.run(list(map(str, command)), check=True)
    print("\nGenes that a panel did not measure (spearman_partial, mean over genes; limits for 90 % of the counts)")
    print(
        f"{'panel':28s}{'scdae':>8s}{'best peer':>18s}{'fraction error':>16s}{'coverage, common genes':>24s}"
        f"{'below':>8s}{'above':>8s}{'s':>6s}"
    )
    for path in sorted((output / "panels").glob("*/impute_genes.json")):
        ours = json.loads(path.read_text())
        peers = [json.loads(other.read_text()) for other in (recorded / path.parent.name).glob("*.json")]
        peers = {one["method"]: one["spearman_partial"] for one in peers if not one["method"].startswith("scdae")}
        best = max(peers, key=peers.__getitem__, default=None)
        shown = "" if best is None else f"{best} {peers[best]:.3f}"
        print(
            f"{path.parent.name:28s}{ours['spearman_partial']:8.3f}{shown:>18s}{ours['fraction_error']:16.3f}"
            f"{ours.get('coverage_common', float('nan')):24.3f}{ours['below']:8.3f}{ours['above']:8.3f}{ours['seconds']:6.0f}"
        )
