"""Tools: what imputation gains, how sure it is, and what follows from it."""

from typing import Any

from scdae.arguments.functions import unknown_function
from scdae.tl._anomaly import anomaly_score
from scdae.tl._anomaly_genes import anomaly_genes
from scdae.tl._doublets import doublet_score
from scdae.tl._evaluate import evaluate
from scdae.tl._impute_genes import impute_genes
from scdae.tl._purify import purify
from scdae.tl._rank_genes import rank_genes
from scdae.tl._report import report
from scdae.tl._sample import sample
from scdae.tl._sequences import score_sequences
from scdae.tl._sweep import noise_sweep
from scdae.tl._tune import tune

__all__ = [
    "anomaly_genes",
    "anomaly_score",
    "doublet_score",
    "evaluate",
    "impute_genes",
    "noise_sweep",
    "purify",
    "rank_genes",
    "report",
    "sample",
    "score_sequences",
    "tune",
]


def __getattr__(name: str) -> Any:
    raise unknown_function(__name__, name)
