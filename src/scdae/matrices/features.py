"""Kinds of features: genes, and what is counted beside them. Proteins, control probes, reads that belong to no gene."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scdae._log import get_logger
from scdae.arguments.objects import check_adata

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData

__all__ = ["GENES", "genes_only", "is_gene", "keep_genes", "other_features", "warn_other_features"]

GENES = "Gene Expression"
_PLACEHOLDERS = frozenset(("", "na", "nan", "none", "n/a", "null", "unknown"))
_GENE_TYPES = frozenset((GENES.lower(), "gex", "rna", "gene", "genes"))  # of 10x, of multimodal sets, of CELLxGENE
_TYPE_COLUMNS = ("feature_types", "feature_type", "modality", "feature_biotype")
_FEW = 5  # names shown before "..."
_CONTROLS = re.compile(
    r"NegPrb|NegProbe|NegControl(Probe|Codeword)_|Negative\d+$|antisense_|[Bb](lank|LANK)[-_]?\d+$|BLANK[-_]|Blank-"
    r"|((Custom[-_])?NegPrb|SystemControl|FalseCode|(Unassigned|Deprecated)(Codeword)?)([-_]?\d.*)?$"
    r"|(Unassigned|Deprecated)Codeword_|DEPRECATED_|Intergenic_Region_|(Neg(ative)?|Genomic)_?Control",
)
_CONTROLS_IN_ANY_CASE = re.compile(
    r"(NegPrb|NegProbe|NegControl(Probe|Codeword)|SystemControl|FalseCode|(Unassigned|Deprecated)Codeword)([-_ ]?\d.*)?$"
    r"|(Unassigned|Deprecated)$|Blank([-_ ]\d+)?$",
    re.IGNORECASE,
)
_COUNTERS = re.compile(
    r"__\w|N_(unmapped|multimapping|noFeature|ambiguous)$|Unassigned_[A-Z]"
    r"|(no_feature|ambiguous|too_low_aQual|not_aligned|alignment_not_unique|unmapped)$"
)
_KINDS = (
    ("control probes or codes", (_CONTROLS, _CONTROLS_IN_ANY_CASE)),
    ("counters of reads that belong to no gene", (_COUNTERS,)),
)


def other_features(var_names: Any, var: pd.DataFrame | None = None) -> dict[str, np.ndarray]:
    """Features that are certainly no genes, by kind.

    By ``var["feature_types"]`` (or `feature_type`, `modality`, `feature_biotype`) where some are genes ("Gene
    Expression", "GEX", "RNA", "gene"), and by the names of control probes and codes of in situ panels (Xenium, CosMx,
    MERSCOPE) and of the counters of HTSeq, STAR and featureCounts.

    Parameters
    ----------
    var_names
        Names, (n_vars,).
    var
        Columns about them.

    Returns
    -------
    dict
        Kind, and boolean (n_vars,); empty where all may be genes, or none is.

    Examples
    --------
    >>> other_features(["CD3E", "NegPrb1", "__no_feature"])["control probes or codes"]
    array([False,  True, False])
    """
    names = [str(name) for name in var_names]
    features: dict[str, np.ndarray] = {}
    rest = np.ones(len(names), bool)
    columns = [] if var is None else [var[key] for key in _TYPE_COLUMNS if key in var]
    for column in columns:
        types = np.array([str(value) for value in column], dtype=object)
        if is_gene(types).any():
            for kind in dict.fromkeys(types[~is_gene(types)]):
                if kind.strip().lower() not in _PLACEHOLDERS:
                    features[f"features of the type {kind!r}"] = types == kind
                    rest &= types != kind
            break
    for kind, patterns in _KINDS:
        here = np.fromiter((any(p.match(name) for p in patterns) for name in names), bool, len(names)) & rest
        rest &= ~here
        if here.any():
            features[kind] = here
    left = np.logical_or.reduce(list(features.values())) if features else np.zeros(len(names), bool)
    return {} if left.all() else features


def is_gene(types: np.ndarray) -> np.ndarray:
    """Return which feature types are those of genes, boolean."""
    return np.fromiter((str(value).strip().lower() in _GENE_TYPES for value in types), bool, len(types))


def warn_other_features(var_names: np.ndarray, var: pd.DataFrame, totals: np.ndarray) -> None:
    """Say what is counted beside genes, how much of the molecules it has, and how to leave it out.

    Parameters
    ----------
    var_names, var
        Names and columns of the features.
    totals
        Molecules of each, float (n_vars,).
    """
    features = other_features(var_names, var)
    if not features:
        return
    names = np.asarray(var_names)
    out = np.logical_or.reduce(list(features.values()))
    shown = "; ".join(f"{int(which.sum()):,} {kind} ({_several(names[which])})" for kind, which in features.items())
    share = float(totals[out].sum()) / max(float(totals.sum()), 1.0)
    _warn(
        f"{int(out.sum()):,} of {len(names):,} features are not genes but are taken as such, with {share:.1%} of all counts: {shown}. "
        "Leave them out: adata = scdae.pp.keep_genes(adata), or --genes-only on the command line."
    )


def keep_genes(adata: AnnData) -> AnnData:
    """Leave out features that are certainly no genes.

    Proteins, guides and peaks by ``var["feature_types"]``, where some are "Gene Expression"; control probes and codes
    of in situ panels (`NegPrb`, `NegControlProbe_`, `Blank-`, `SystemControl` and their kin) and counters of reads
    without a gene (`__no_feature`, `N_unmapped`, `Unassigned_`) by their names. The log says what was left out.

    Parameters
    ----------
    adata
        Cells in rows, features in columns; not changed.

    Returns
    -------
    anndata.AnnData
        A copy without them; `adata` itself where there are none.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, scdae
    >>> var = pd.DataFrame(index=["CD3E", "NKG7", "NegPrb1"])
    >>> list(scdae.pp.keep_genes(anndata.AnnData(np.ones((2, 3)), var=var)).var_names)
    ['CD3E', 'NKG7']
    """
    check_adata(adata)
    features = other_features(adata.var_names, adata.var)
    if not features:
        return adata
    names = adata.var_names.to_numpy()
    shown = "; ".join(f"{int(which.sum()):,} {kind} ({_several(names[which])})" for kind, which in features.items())
    _info(f"Left out {shown}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that repeat: said elsewhere
        return adata[:, ~np.logical_or.reduce(list(features.values()))].copy()


def genes_only(matrix: sp.csr_matrix, cells: Any, features: pd.DataFrame, genome: str | None) -> AnnData:
    """Return an AnnData of the genes of one genome, from what 10x files hold.

    Parameters
    ----------
    matrix
        CSR (n_obs, n_features).
    cells
        Their names, or a data frame with them as its index.
    features
        Columns `gene_ids`, and where they are there `name`, `feature_types` and `genome`.
    genome
        Which genome, where there are several.

    Raises
    ------
    ValueError
        Nothing is gene expression, or there are several genomes and none was chosen.
    """
    if "feature_types" in features:
        types = features["feature_types"].to_numpy()
        gene = is_gene(types)
        if not gene.any():
            gene = np.array([str(kind).strip().lower() in _PLACEHOLDERS for kind in types], dtype=bool)
        if not gene.any():
            raise ValueError(
                f"it holds no gene expression, only features of the type {_several(sorted(set(types)), quoted=False)}. If they are "
                "what you want, read it with scanpy.read_10x_h5(path, gex_only=False), or scanpy.read_10x_mtx, and save it with "
                ".write_h5ad"
            )
        if not gene.all():
            out = features.loc[~gene, "feature_types"].value_counts()
            shown = [f"{number:,} {kind}" for kind, number in out.items()]
            _info(f"Reading genes only; left out {_several(shown, quoted=False)} feature(s).")
        matrix, features = matrix[:, gene], features[gene]
    if "genome" in features or genome is not None:
        of = features["genome"].to_numpy() if "genome" in features else np.zeros(0, dtype=str)
        chosen = choose_genome(sorted({str(name) for name in of}), genome)
        if not (of == chosen).all():
            matrix, features = matrix[:, of == chosen], features[of == chosen]
    names = features["name"] if "name" in features else features["gene_ids"]
    var = features.drop(columns="name", errors="ignore").set_axis(pd.Index(names.to_numpy(), name=None))
    obs = cells if isinstance(cells, pd.DataFrame) else pd.DataFrame(index=cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that repeat: said when the counts are read, in the package's own words
        return AnnData(matrix.astype(np.float32), obs=obs, var=var)


def choose_genome(genomes: list[str], genome: str | None) -> str:
    """Return the genome that was asked for, or the only one."""
    shown = _several(genomes) or "none named"
    if genome is None:
        if len(genomes) > 1:
            raise ValueError(f"it holds several genomes ({shown}); choose one, for example genome={genomes[0]!r}")
        return genomes[0]
    if genome not in genomes:
        raise ValueError(f"genome={genome!r} is not in it; genomes there: {shown}")
    return genome


def _several(names: Any, *, quoted: bool = True) -> str:
    few = [repr(str(name)) if quoted else str(name) for name in list(names)[:_FEW]]
    return ", ".join(few) + (", ..." if len(names) > _FEW else "")


def _info(text: str) -> None:
    get_logger().info(text)


def _warn(text: str) -> None:
    get_logger().warning(text)
