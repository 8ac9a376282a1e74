"""Plots: axes in, axes out; Matplotlib is imported when one is drawn."""

from scdae.pl._cells import embedding, gene_gene
from scdae.pl._evaluation import calibration, gain, noise_sweep
from scdae.pl._fidelity import fidelity
from scdae.pl._heatmap import before_after
from scdae.pl._history import history

__all__ = ["before_after", "calibration", "embedding", "fidelity", "gain", "gene_gene", "history", "noise_sweep"]
