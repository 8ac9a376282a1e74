"""Tools: what imputation gains, how sure it is, and what follows from it."""

from scdae.tl._evaluate import evaluate
from scdae.tl._rank_genes import rank_genes
from scdae.tl._sample import sample
from scdae.tl._sequences import score_sequences
from scdae.tl._sweep import noise_sweep
from scdae.tl._tune import tune

__all__ = ["evaluate", "noise_sweep", "rank_genes", "sample", "score_sequences", "tune"]
