"""Preprocessing: restore counts, split them into two independent halves, and join data sets of different genes."""

from typing import Any

from scdae.arguments.functions import unknown_function
from scdae.io.on_disk import join_files
from scdae.matrices.features import keep_genes
from scdae.pp._align import align
from scdae.pp._impute import impute
from scdae.pp._thin import thin
from scdae.sequences.fasta import read_fasta
from scdae.sequences.kmers import kmers

__all__ = ["align", "impute", "join_files", "keep_genes", "kmers", "read_fasta", "thin"]


def __getattr__(name: str) -> Any:
    raise unknown_function(__name__, name)
