import numpy as np
import pytest
import scipy.sparse as sp

from scdae.counts import Counts
from scdae.matching import map_genes

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
    assert "4 gene(s) were matched though they are spelt otherwise" in log.text


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
