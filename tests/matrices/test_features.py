import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scdae.inputs.counts import read_counts
from scdae.matrices.features import keep_genes, other_features

CONTROLS = [
    "NegPrb1", "NegPrb12", "Negative5", "NegControlProbe_00042", "NegControlCodeword_0500", "antisense_LGI3", "Blank-1", "blank-3",
    "BLANK_0006", "SystemControl11", "FalseCode7", "UnassignedCodeword_0001", "DeprecatedCodeword_0321", "Intergenic_Region_2141",
    "NegProbe-WTX", "DEPRECATED_ENSG00000188290", "Unassigned", "Deprecated", "NEGPRB", "negprb3", "Custom-NegPrb-1", "SystemControl-1",
    "Deprecated7", "unassignedcodeword_0007", "BLANK", "Blank",
]  # fmt: skip
COUNTERS = [
    "__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique", "N_unmapped", "N_multimapping",
    "N_noFeature", "N_ambiguous", "Unassigned_NoFeatures", "no_feature", "unmapped",
]  # fmt: skip
GENES = [
    "CD3E", "MALAT1", "MT-CO1", "Negr1", "NEGR1", "Blnk", "BLNK", "ANTXR1", "N4BP1", "NEG1", "Nub1", "NKG7", "Control", "SYSTEM1",
    "ENSG00000188290", "ERCC-00002", "antigen", "HLA-A", "Dep1", "UNC13A", "Una1", "BLK", "Fals1", "N_gene", "BLANKET",
]  # fmt: skip


def _adata(names, **columns):
    x = np.random.default_rng(0).poisson(2.0, (20, len(names))).astype("f4")
    return ad.AnnData(sp.csr_matrix(x), var=pd.DataFrame(columns, index=names))


def test_names_of_controls_and_counters_and_of_genes():
    names = [*GENES, *CONTROLS, *COUNTERS]
    found = other_features(names)
    assert [n for n, here in zip(names, found["control probes or codes"], strict=True) if here] == CONTROLS
    assert [
        n for n, here in zip(names, found["counters of reads that belong to no gene"], strict=True) if here
    ] == COUNTERS
    assert other_features(GENES) == {} and other_features(CONTROLS) == {}


def test_types_of_features():
    var = pd.DataFrame({"feature_types": ["Gene Expression", "Antibody Capture", "Peaks", "NA"]})
    assert list(other_features("abcd", var)) == [f"features of the type {k!r}" for k in ("Antibody Capture", "Peaks")]
    assert other_features("abcd", pd.DataFrame({"feature_types": ["Antibody Capture"] * 4})) == {}
    assert other_features("abcd", var.astype("category"))


@pytest.mark.parametrize(
    ("column", "gene", "other"),
    [("feature_types", "GEX", "ADT"), ("modality", "rna", "prot"), ("feature_biotype", "gene", "spike-in")],
)
def test_types_as_others_call_them(column, gene, other):
    found = other_features("abc", pd.DataFrame({column: [gene, other, gene]}))
    assert [list(which) for which in found.values()] == [[False, True, False]] and other in next(iter(found))
    both = pd.DataFrame({"feature_type": ["protein_coding"] * 3, column: [gene, other, gene]})
    assert list(other_features("abc", both)) == list(found)


def test_a_fit_is_told_with_the_share_of_the_counts(log):
    types = ["Gene Expression"] * 3 + ["Antibody Capture"] * 2
    adata = _adata(["a", "b", "c", "CD3_TotalSeqB", "CD19_TotalSeqB"], feature_types=types)
    read_counts(adata)
    share = adata.X[:, 3:].sum() / adata.X.sum()
    assert f"2 of 5 features are not genes but are taken as such, with {share:.1%} of all counts" in log.text
    assert "2 features of the type 'Antibody Capture' ('CD3_TotalSeqB', 'CD19_TotalSeqB')" in log.text
    assert "scdae.pp.keep_genes(adata)" in log.text and len(log.records) == 1
    log.clear()
    read_counts(adata, for_fit=False)
    kept = keep_genes(adata)
    assert list(kept.var_names) == ["a", "b", "c"] and adata.n_vars == 5
    assert "Left out 2 features of the type" in log.text
    log.clear()
    read_counts(kept)
    assert keep_genes(kept) is kept and not log.records


@pytest.mark.parametrize("name", ["NegPrb", "__x"])
def test_long_lists_are_cut(log, name):
    read_counts(_adata(["a", "b", *(f"{name}{i}" for i in range(40))]))
    assert ", ..." in log.text and f"{name}6" not in log.text


def test_a_path_is_no_adata():
    with pytest.raises(TypeError, match="AnnData"):
        keep_genes("counts.h5ad")
