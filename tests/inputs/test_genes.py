import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.inputs.counts import Counts
from scdae.inputs.genes import map_genes

GENES = np.array(["a", "b", "c", "d", "e"])
KEPT = np.array([0, 1, 3, 4])  # "c" was never counted


def match_genes(counts, var_names, genes):
    """Known genes, counts, gaps and columns."""
    found = map_genes(counts.var_names, var_names, genes)
    return found.known, *found.take(counts.matrix, counts.unobserved), found.columns


def query(names, hidden=None):
    names = np.array(names)
    rng = np.random.default_rng(0)
    matrix = sp.csr_matrix(rng.poisson(2.0, (6, len(names))).astype(np.float32))
    unobserved = None if hidden is None else sp.csr_matrix(np.broadcast_to(np.isin(names, hidden), matrix.shape))
    return Counts(matrix, unobserved, np.arange(6).astype(str), names, False)


def test_same_genes_in_the_same_order():
    counts = query(GENES)
    known, matrix, unobserved, columns = match_genes(counts, GENES, KEPT)
    assert known.all() and unobserved is None
    np.testing.assert_array_equal(columns, KEPT)
    np.testing.assert_array_equal(matrix.toarray(), counts.matrix.toarray()[:, KEPT])


def test_other_order_with_a_mask():
    counts = query(list("edcba"), hidden=["d"])
    known, matrix, unobserved, columns = match_genes(counts, GENES, KEPT)
    assert known.all()
    np.testing.assert_array_equal(counts.var_names[columns], GENES[KEPT])
    np.testing.assert_array_equal(matrix.toarray(), counts.matrix.toarray()[:, columns])
    assert matrix.has_sorted_indices and (np.diff(matrix.indices[: matrix.indptr[1]]) > 0).all()
    np.testing.assert_array_equal(unobserved.toarray(), np.broadcast_to([False, False, True, False], (6, 4)))


@pytest.mark.parametrize("hidden", [None, ["e"]])
def test_missing_genes_count_as_not_observed(log, hidden):
    counts = query(["x", "e", "a", "d"], hidden)
    known, matrix, unobserved, columns = match_genes(counts, GENES, KEPT)
    np.testing.assert_array_equal(known, [False, True, True, True])
    np.testing.assert_array_equal(columns, [2, -1, 3, 1])
    np.testing.assert_array_equal(matrix.toarray()[:, [0, 2, 3]], counts.matrix.toarray()[:, [2, 3, 1]])
    assert matrix.dtype == np.float32 and unobserved.dtype == bool
    expected = [False, True, False, hidden is not None]
    np.testing.assert_array_equal(unobserved.toarray(), np.broadcast_to(expected, (6, 4)))
    assert "1 of the 4 genes of the model are missing" in log.text and "'x'" in log.text


def test_genes_the_model_saw_without_counts_are_known_and_not_missed(log):
    known, *_ = match_genes(query(list("abde") + ["c"]), GENES, KEPT)
    assert known.all()
    match_genes(query(list("baed")), GENES, KEPT)
    assert not log.records


def test_versions_and_case_are_overlooked_where_that_leaves_no_doubt(log):
    model = np.array(["ENSG00000000003.14", "ENSG00000000005", "Actb", "GAPDH", "Xist"])
    names = ["ENSG00000000005.2", "gapdh", "ACTB", "XIST", "Xist", "ENSG00000000003.15"]
    known, _, _, columns = match_genes(query(names), model, np.arange(5))
    np.testing.assert_array_equal(columns, [5, 0, 2, 1, 4])  # the same spelling first
    np.testing.assert_array_equal(known, [True, True, True, False, True, True])
    assert "4 gene(s) were matched though they are spelled otherwise" in log.text


def test_dashes_of_seurat_stand_for_underscores(log):
    model = np.array(["PF3D7_0100100", "GRCh38_CD3D", "HLA-A", "a_b", "a-b", "x|y_z"])
    names = ["x-y-z", "a-b", "HLA-A", "pf3d7-0100100", "GRCh38-CD3D"]
    known, _, _, columns = match_genes(query(names), model, np.arange(6))
    np.testing.assert_array_equal(columns, [3, 4, 2, -1, 1, 0])  # "a-b" is itself and not "a_b"
    assert known.all()
    assert "3 gene(s) were matched though they are spelled otherwise" in log.text
    wanted = np.array(["a_b", "a|b", "c", "d"])
    _, _, _, columns = match_genes(query(["a-b", "c", "d"]), wanted, np.arange(4))
    np.testing.assert_array_equal(columns, [-1, -1, 1, 2])  # it may be either
    _, _, _, columns = match_genes(query(["a_b", "c", "a-b", "d"]), wanted, np.arange(4))
    np.testing.assert_array_equal(columns, [0, 2, 1, 3])


def test_doubtful_names_are_not_matched():
    model = np.array(["GENE1", "b", "c"])
    _, _, _, columns = match_genes(query(["gene1", "Gene1", "b", "c"]), model, np.arange(3))
    np.testing.assert_array_equal(columns, [-1, 2, 3])
    _, _, _, columns = match_genes(query(["b.1", "ENSG00000000003.1", "c"]), np.array(["b", "c"]), np.arange(2))
    np.testing.assert_array_equal(columns, [-1, 2])  # a point in a symbol is part of it


def test_too_few_genes():
    with pytest.raises(
        ValueError, match=r"1 of the 4 genes of the model are in var_names.*'a', the query such as 'ENSG1'"
    ):
        match_genes(query(["ENSG1", "a"]), GENES, KEPT)
    match_genes(query(["a", "b"]), GENES, KEPT)  # half of them will do


def test_repeated_names_are_told_apart_by_position_only():
    twice = np.array(["a", "a", "b"])
    counts = query(twice)
    _, matrix, _, columns = match_genes(counts, twice, np.arange(3))
    np.testing.assert_array_equal(columns, [0, 1, 2])
    np.testing.assert_array_equal(matrix.toarray(), counts.matrix.toarray())
    with pytest.raises(ValueError, match="var_names of the query repeat 1 name.*'a'.*var_names_make_unique"):
        match_genes(query(["a", "b", "a"]), GENES, KEPT)
    with pytest.raises(ValueError, match="the genes of the model repeat 1 name.*'a'"):
        match_genes(query(["b", "a", "c"]), twice, np.arange(3))


@pytest.mark.parametrize(
    ("names", "model", "words"),
    [
        ([f"ENSG{i:011d}" for i in range(50)], [f"GENE{i}" for i in range(50)], "The model has symbols in capitals.*the query Ensembl ids.*Put symbols in capitals into adata.var_names"),
        ([f"Gene{i}" for i in range(50)], [f"GENX{i}" for i in range(50)], "the query symbols with a capital first"),
        ([str(i) for i in range(50)], [f"ENSMUSG{i:011d}.2" for i in range(50)], "model has Ensembl ids.*the query numbers such as '0'"),
        ([f"GRCh38_{i}G" for i in range(50)], [f"GENE{i}" for i in range(50)], "the query names with a genome before them"),
        ([f"OTHER{i}" for i in range(50)], [f"GENE{i}" for i in range(50)], "another species, annotation or assay"),
        ([f"GENE{i}" for i in range(17)], [f"GENE{i}" for i in range(50)], r"17 of the 50 genes.*a panel of 17 genes.*Fit a model on the panel.*scdae\.pp\.align.*mask='observed'"),
    ],
)  # fmt: skip
def test_why_genes_do_not_match_and_what_to_do(names, model, words):
    with pytest.raises(ValueError, match=words):
        map_genes(np.array(names), np.array(model), np.arange(50))


def test_genes_the_fit_never_counted_are_found_and_chosen():
    found = map_genes(np.array(list("cxedba")), GENES, KEPT, unknown=np.array([2]))
    assert found.silent.tolist() == found.silent_source.tolist() == [0] and found.silent_unknown.tolist() == [True]
    _, some = found.choose(np.array([2, 0, 1, 0]))
    assert some.silent.tolist() == [1, 3] and some.silent_source.tolist() == [0, 0]
    assert some.silent_unknown.all() and some.known.tolist() == [True, True, False, True]
    same = map_genes(GENES, GENES, KEPT)
    assert same.silent.tolist() == [2] and not same.silent_unknown.any()


def test_the_remedy_for_a_panel_works():
    reference, panel = small.structured()[:100].copy(), small.structured()[100:, :20].copy()
    model = small.fit(reference, max_epochs=2)
    with pytest.raises(ValueError, match="a panel of 20 genes"):
        model.impute(panel)
    joint = scdae.pp.align([reference, panel])
    values = model.impute(joint, mask="observed")
    assert values.shape == (150, 60) and np.isfinite(values).all() and (values[100:, 20:] > 0).all()
