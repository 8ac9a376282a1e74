"""Data to begin with: simulated counts whose truth is known, a simulated gene family, and real counts, at hand or fetched."""

from scdae.datasets._download import paul15, pbmc3k, pbmc5k_citeseq
from scdae.datasets._simulate import simulate
from scdae.datasets._simulate_16s import simulate_16s
from scdae.datasets._with_scanpy import pbmc68k_reduced

__all__ = ["paul15", "pbmc3k", "pbmc5k_citeseq", "pbmc68k_reduced", "simulate", "simulate_16s"]
