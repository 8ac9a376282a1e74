"""Plots: axes in, axes out; Matplotlib is imported when one is drawn."""

from typing import Any

from scdae.arguments.functions import unknown_function
from scdae.pl._cells import embedding
from scdae.pl._dotplot import dotplot
from scdae.pl._evaluation import calibration, gain, noise_sweep
from scdae.pl._fidelity import fidelity
from scdae.pl._gene_gene import gene_gene
from scdae.pl._heatmap import before_after
from scdae.pl._history import history

__all__ = [
    "before_after",
    "calibration",
    "dotplot",
    "embedding",
    "fidelity",
    "gain",
    "gene_gene",
    "history",
    "noise_sweep",
]


def __getattr__(name: str) -> Any:
    raise unknown_function(__name__, name)
