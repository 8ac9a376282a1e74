"""Tools: what imputation gains, how sure it is, and what follows from it."""

from scdae.tl._evaluate import evaluate
from scdae.tl._rank_genes import rank_genes
from scdae.tl._sample import sample

__all__ = ["evaluate", "rank_genes", "sample"]
