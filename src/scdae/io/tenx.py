"""HDF5 files of counts as 10x Genomics' Cell Ranger and its kin write them.

An own reader, since scanpy's fails on files that lack the genome or feature type, and takes several genomes together
without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae.matrices.features import choose_genome, genes_only

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData

__all__ = ["is_v2_group", "read_10x_h5"]

_V2_PARTS = {"barcodes", "data", "indices", "indptr", "shape"}
_FEATURE_COLUMNS = {"id": "gene_ids", "name": "name", "feature_type": "feature_types", "genome": "genome"}


def is_v2_group(item: Any) -> bool:
    """Return whether an item of an HDF5 file is the matrix of one genome, as Cell Ranger 1 and 2 write it."""
    return hasattr(item, "keys") and set(item) >= _V2_PARTS


def read_10x_h5(file: h5py.File, genome: str | None = None) -> AnnData:
    """Read the genes of a 10x HDF5 file, of any version.

    Parameters
    ----------
    file
        Opened for reading.
    genome
        Which genome, where the file holds several.

    Returns
    -------
    AnnData
        `X` float32 CSR. Genes are called by symbol, with `var["gene_ids"]` where the file has them.

    Raises
    ------
    ValueError
        Parts are missing or do not fit together; there are several genomes and none was chosen, or not this one; or
        nothing in the file is gene expression.
    """
    if "matrix" in file and "features" in file["matrix"]:
        group = file["matrix"]
        n = len(group["features/id"])
        columns = {
            ours: _text(group["features"][theirs])
            for theirs, ours in _FEATURE_COLUMNS.items()
            if theirs in group["features"] and group["features"][theirs].shape == (n,)
        }
        features = pd.DataFrame(columns)
    else:
        genomes = [key for key in file if is_v2_group(file[key])]
        if not genomes:
            raise ValueError(f"none of its groups has all parts of a count matrix ({', '.join(sorted(_V2_PARTS))})")
        group = file[choose_genome(genomes, genome)]
        genome = None
        parts = {"gene_ids": "genes", "name": "gene_names"}
        features = pd.DataFrame({ours: _text(group[theirs]) for ours, theirs in parts.items() if theirs in group})
    barcodes = _text(group["barcodes"])
    shape = (len(barcodes), len(features))
    if tuple(group["shape"][:]) != shape[::-1]:
        raise ValueError(
            f"the matrix has shape {tuple(int(n) for n in group['shape'][:])}, but there are {shape[1]:,} features and "
            f"{shape[0]:,} barcodes"
        )
    stored, ends = group["data"].shape[0], group["indptr"]
    if group["indices"].shape[0] != stored or ends.shape[0] != shape[0] + 1 or int(ends[-1]) != stored:
        raise ValueError("it is truncated or damaged (values, indices and pointers of the matrix do not fit together)")
    # features x barcodes by columns is cells x genes by rows
    matrix = sp.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=shape)
    matrix.check_format(full_check=True)
    return genes_only(matrix, barcodes, features, genome)


def _text(dataset: h5py.Dataset) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in dataset[:]], dtype=object)
