"""Count matrices as 10x Genomics' Cell Ranger and its kin write them: HDF5 files and Matrix Market folders.

Our own readers, since scanpy's fail on files that lack the genome or feature type, on gzipped folders of version 2
and on plain ones of version 3, and take several genomes together without a word.
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    from anndata import AnnData

__all__ = ["find_mtx", "is_v2_group", "read_10x_h5", "read_mtx"]

GENES = "Gene Expression"
_V2_PARTS = {"barcodes", "data", "indices", "indptr", "shape"}
_FEATURE_COLUMNS = {"id": "gene_ids", "name": "name", "feature_type": "feature_types", "genome": "genome"}


def is_v2_group(item: Any) -> bool:
    """Whether an item of an HDF5 file is the matrix of one genome, as Cell Ranger 1 and 2 write it."""
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
    import pandas as pd

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
        group = file[_choose_genome(genomes, genome)]
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
    # features x barcodes by columns is cells x genes by rows
    matrix = sp.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=shape)
    matrix.check_format(full_check=True)
    return _genes_only(matrix, barcodes, features, genome)


def find_mtx(folder: Path) -> dict[str, Path]:
    """Paths of the matrix, barcodes and features of a Matrix Market folder; empty where it is none.

    File names may begin with a prefix common to all three, as those in GEO do.

    Raises
    ------
    ValueError
        There is more than one matrix, or one of its companions is missing.
    """
    matrices = sorted(p for p in folder.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz")))
    if not matrices:
        return {}
    if len(matrices) > 1:
        names = ", ".join(p.name for p in matrices)
        raise ValueError(f"{folder} holds several matrices ({names}). Give each its own folder.")
    prefix = matrices[0].name.partition("matrix.mtx")[0]
    found = {"matrix": matrices[0]}
    for part, stems in {"barcodes": ("barcodes",), "features": ("features", "genes")}.items():
        paths = [folder / f"{prefix}{stem}.tsv{end}" for stem in stems for end in (".gz", "")]
        present = [p for p in paths if p.exists()]
        if not present:
            raise ValueError(
                f"{folder} holds {matrices[0].name}, but neither of {', '.join(path.name for path in paths)}."
            )
        found[part] = present[0]
    return found


def read_mtx(parts: dict[str, Path], genome: str | None = None) -> AnnData:
    """Read the genes of a 10x folder, of any version, gzipped or not.

    Parameters
    ----------
    parts
        What `find_mtx` found.
    genome
        Such folders do not say which genome a gene is of, so anything but None is an error.

    Returns
    -------
    AnnData
        As from `read_10x_h5`.

    Raises
    ------
    ValueError
        A file is cut short or not what its name says, or the three do not fit together.
    """
    import pandas as pd
    from scipy.io import mmread

    tables = {}
    for part in ("barcodes", "features"):
        try:
            tables[part] = pd.read_csv(
                parts[part], sep="\t", header=None, dtype=str, quoting=csv.QUOTE_NONE, keep_default_na=False
            )
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{parts[part].name} is truncated or damaged ({error})") from error
    try:
        matrix = sp.csr_matrix(mmread(parts["matrix"], spmatrix=False).T)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{parts['matrix'].name} is truncated or damaged ({error})") from error
    features = tables["features"].iloc[:, :3]
    features.columns = ["gene_ids", "name", "feature_types"][: features.shape[1]]
    if matrix.shape != (len(tables["barcodes"]), len(features)):
        raise ValueError(
            f"{parts['matrix'].name} has {matrix.shape[1]:,} rows and {matrix.shape[0]:,} columns, but "
            f"{parts['features'].name} names {len(features):,} features and {parts['barcodes'].name} "
            f"{len(tables['barcodes']):,} cells"
        )
    return _genes_only(matrix, tables["barcodes"][0].to_numpy(), features, genome)


def _genes_only(matrix: sp.csr_matrix, barcodes: np.ndarray, features: pd.DataFrame, genome: str | None) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    if "feature_types" in features:
        is_gene = (features["feature_types"] == GENES).to_numpy()
        if not is_gene.any():
            kinds = ", ".join(sorted(set(features["feature_types"])))
            raise ValueError(f"it holds no gene expression, only features of the type {kinds}")
        if not is_gene.all():
            out = features.loc[~is_gene, "feature_types"].value_counts()
            shown = ", ".join(f"{number:,} {kind}" for kind, number in out.items())
            from scdae._log import get_logger

            get_logger().info(f"Reading genes only; left out {shown} feature(s).")
        matrix, features = matrix[:, is_gene], features[is_gene]
    if "genome" in features or genome is not None:
        of = features["genome"].to_numpy() if "genome" in features else np.zeros(0, dtype=str)
        chosen = _choose_genome(sorted({str(name) for name in of}), genome)
        if not (of == chosen).all():
            matrix, features = matrix[:, of == chosen], features[of == chosen]
    names = features["name"] if "name" in features else features["gene_ids"]
    var = features.drop(columns="name", errors="ignore").set_axis(pd.Index(names.to_numpy(), name=None))
    return AnnData(matrix.astype(np.float32), obs=pd.DataFrame(index=barcodes), var=var)


def _choose_genome(genomes: list[str], genome: str | None) -> str:
    shown = ", ".join(repr(name) for name in genomes) or "none named"
    if genome is None:
        if len(genomes) > 1:
            raise ValueError(f"it holds several genomes ({shown}); choose one, for example genome={genomes[0]!r}")
        return genomes[0]
    if genome not in genomes:
        raise ValueError(f"genome={genome!r} is not in it; genomes there: {shown}")
    return genome


def _text(dataset: h5py.Dataset) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in dataset[:]], dtype=object)
