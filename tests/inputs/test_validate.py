import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scdae.inputs.counts import read_counts


def _counts(n=60, g=20, seed=0):
    return np.random.default_rng(seed).poisson(2.0, (n, g)).astype("f4")


def _wrap(x, obs=None, var=None, **parts):
    obs = [f"cell{i}" for i in range(x.shape[0])] if obs is None else obs
    var = [f"gene{i}" for i in range(x.shape[1])] if var is None else var
    return ad.AnnData(x, obs=pd.DataFrame(index=obs), var=pd.DataFrame(index=var), **parts)


def _lognorm(x, total=1e4):
    return np.log1p(x / x.sum(1, keepdims=True) * total).astype("f4")


def _message(adata, kind=ValueError, **options):
    with pytest.raises(kind) as caught:
        read_counts(adata, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("fmt", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize(
    ("value", "word"),
    [(-3.0, "negative"), (np.nan, "NaN"), (np.inf, "infinite"), (1e300, "infinite"), (0.25, "fractional")],
)
def test_each_bad_value_is_counted_and_located(fmt, value, word):
    x = _counts().astype("f8")
    x[50, 7] = x[50, 11] = x[58, 3] = value
    text = _message(_wrap(fmt(x), layers={"other": x}))
    assert word in text
    assert f"3 {'missing (NaN)' if word == 'NaN' else word} value(s) in 2 of 60 cells, rows 50 to 58" in text
    assert "cell 'cell50' (row 50)" in text
    assert "gene 'gene7' (column 7)" in text
    assert text.startswith("X ")
    assert _message(_wrap(_counts(), layers={"other": fmt(x)}), layer="other").startswith("layers['other'] ")


def test_other_kinds_are_told_too():
    x = _counts()
    x[0, 0], x[1, 1], x[2, 2] = -1, np.nan, 0.5
    text = _message(_wrap(x))
    assert "1 negative value(s)" in text
    assert "1 NaN value(s)" in text
    assert "1 fractional value(s)" in text


def test_bad_integers():
    assert "1 negative" in _message(_wrap(np.array([[1, 0], [-2, 3]])))


def test_nan_names_genes_and_both_fixes():
    x = _counts()
    x[30:, 12:] = np.nan
    text = _message(_wrap(x))
    for words in ("Genes concerned: 8 ('gene12', 'gene13'", "allow_nan=True", "join='inner'", "0"):
        assert words in text


def test_lognormalized_points_to_the_layer_and_raw():
    x = _counts()
    adata = _wrap(sp.csr_matrix(_lognorm(x)), layers={"umi": x, "scaled": x - 1, "seen": x > 0})
    adata.raw = _wrap(x)
    text = _message(adata)
    for words in ("log-normalized", "10,000 per cell", "layer='umi'", "adata.raw.to_adata()"):
        assert words in text
    assert "scaled" not in text
    assert "seen" not in text
    assert "allow_fractional" not in text


def test_log1p_mark_and_subset_of_genes():
    adata = _wrap(_lognorm(_counts())[:, :5])
    assert "It may be log-normalized" in _message(adata)
    assert "allow_fractional=True" in _message(adata)
    adata.uns["log1p"] = {}
    assert "uns['log1p'] says so" in _message(adata)


def test_normalized_without_log():
    x = _counts()
    assert "normalized (each cell adds up to 10,000)" in _message(_wrap(x / x.sum(1, keepdims=True) * 1e4))


def test_only_the_last_cells_are_normalized():
    x = _counts()
    x[55:] = _lognorm(x[55:])
    text = _message(_wrap(x))
    assert "in 5 of 60 cells, rows 55 to 59" in text
    assert "log-normalized" in text


def test_layer_is_bad_but_x_is_good():
    x = _counts()
    assert "X (leave layer out)" in _message(_wrap(x, layers={"norm": _lognorm(x)}), layer="norm")


def test_scaled_with_counts_in_raw_that_has_more_genes():
    x = _counts()
    adata = _wrap((x - 2)[:, :6])
    adata.raw = _wrap(x)
    assert ".raw with 20 genes (pass adata.raw.to_adata())" in _message(adata)


def test_fractional_on_request():
    x = _counts() * 0.75
    counts = read_counts(_wrap(x), allow_fractional=True)
    assert counts.fractional
    np.testing.assert_array_equal(counts.matrix.toarray(), x)
    text = _message(_wrap(-x), allow_fractional=True)
    assert "negative" in text
    assert "fractional" not in text
    assert not read_counts(_wrap(_counts()), allow_fractional=True).fractional


@pytest.mark.parametrize(
    ("adata", "words"),
    [
        (_wrap(np.zeros((5, 4))), "all 5 x 4 values are zero"),
        (_wrap(np.zeros((5, 4)), layers={"c": np.ones((5, 4))}), "layer='c'"),
        (_wrap(np.ones((1, 4))), "at least 2 cells"),
        (_wrap(np.ones((4, 1))), "at least 2 genes"),
        (_wrap(np.ones((0, 4))), "empty: 0 cells x 4 genes"),
        (_wrap(np.ones((4, 0))), "empty: 4 cells x 0 genes"),
    ],
)
def test_nothing_to_train_on(adata, words):
    assert words in _message(adata)


def test_missing_layer_and_missing_x():
    adata = _wrap(_counts(), layers={"spliced_counts": _counts()})
    assert "layer='spliced' does not exist. Layers here: 'spliced_counts'" in _message(adata, layer="spliced")
    adata.X = None
    assert "adata.X is None. Pass layer=" in _message(adata)
    assert read_counts(adata, layer="spliced_counts").matrix.nnz > 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.ones((3, 3)), "numpy.ndarray.*anndata.AnnData"),
        (pd.DataFrame(np.ones((3, 3))), "DataFrame"),
        ("file.h5ad", "Read the file first"),
        (type("MuData", (), {"mod": {"rna": 0, "prot": 0}})(), "'rna', 'prot'"),
    ],
)
def test_not_an_anndata(given, words):
    with pytest.raises(TypeError, match=words):
        read_counts(given)


def test_containers_and_dtypes_that_hold_no_counts():
    adata = _wrap(np.ones((3, 3)) * 1j)
    assert "complex128" in _message(adata, TypeError)
    adata = _wrap(_counts(3, 3))
    adata.layers["masked"] = np.ones((3, 3))
    masked = np.ma.masked_array(np.ones((3, 3)), mask=np.eye(3))
    from scdae.matrices.rows import open_rows

    with pytest.raises(TypeError, match="masked array"):
        open_rows(masked, "X")
    with pytest.raises(TypeError, match="builtins.dict"):
        open_rows({}, "X")
    with pytest.raises(ValueError, match="3 dimension"):
        open_rows(np.ones((2, 2, 2)), "X")


def test_damaged_sparse_matrix():
    m = sp.csr_matrix(np.eye(3, dtype="f4"))
    m.indices[1] = 7
    assert "damaged sparse matrix" in _message(_wrap(m))


GENE_IDS = [f"ENSG{i:011d}" for i in range(20)]
BARCODES = ["".join("ACGT"[(i >> 2 * k) & 3] for k in range(12)) + "-1" for i in range(20)]


def test_transposed():
    symbols = ["ACTB", "GAPDH", "MALAT1", "B2M", *(f"LOC{i}" for i in range(16))]
    for obs in (GENE_IDS, [f"{g}.3" for g in GENE_IDS], symbols):
        for var in (
            BARCODES,
            [name.replace("-", ".") for name in BARCODES],
            [f"X1.{name[:-2]}.1.2" for name in BARCODES],
        ):
            text = _message(_wrap(_counts(20, 20), obs=obs, var=var))
            assert "looks transposed" in text
            assert "adata.T" in text


@pytest.mark.parametrize(
    ("obs", "var"),
    [
        (BARCODES, GENE_IDS),
        (BARCODES, BARCODES),
        (GENE_IDS, GENE_IDS),
        (GENE_IDS, [f"c{i}" for i in range(20)]),
        (BARCODES, [f"AC0{i:05d}.1" for i in range(20)]),  # clones that are genes
    ],
)
def test_not_taken_for_transposed(obs, var):
    assert read_counts(_wrap(_counts(20, 20), obs=obs, var=var)).matrix.nnz > 0


def test_repeated_gene_names_warn_once(log):
    names = ["A", "B", "B", "C", "C", "C"]
    with pytest.warns(UserWarning, match="not unique"):
        adata = _wrap(_counts(9, 6), var=names)
    counts = read_counts(adata)
    assert list(counts.var_names) == names
    assert [r.levelname for r in log.records] == ["WARNING"]
    assert "2 name(s) more than once ('B', 'C')" in log.text


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_counts_with_rounding_errors_are_counts(form, dtype):
    x = _counts(60, 20).astype(dtype) * 37
    noisy = (x * (1 + np.random.default_rng(1).choice([-1e-6, 1e-7, 0, 1e-6], x.shape))).astype(dtype)
    noisy[0, :3] = [1e-7, 2.9999995, 1e-6]
    x[0, :3] = [0, 3, 0]
    before = noisy.copy()
    for given in (form(noisy), np.asarray(noisy)):
        counts = read_counts(_wrap(given), allow_fractional=False)
        np.testing.assert_array_equal(counts.matrix.toarray(), x.astype("f4"))
        assert not counts.fractional and counts.matrix.nnz == np.count_nonzero(x)
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.parametrize("value", [1.00001, 0.99999, 1e-4, 1000.01, 2e6 + 0.25])
def test_other_fractions_are_none(value):
    x = _counts().astype("f8")
    x[3, 4] = value
    assert "1 fractional value(s)" in _message(_wrap(x))
    assert read_counts(_wrap(x), allow_fractional=True).fractional


def test_only_layers_that_can_be_the_counts_of_x_are_offered():
    """X of kb: nascent and mature molecules and a share of the ambiguous ones."""
    nascent, ambiguous = _counts(seed=1), _counts(seed=2)
    x = nascent + ambiguous * 0.37
    text = _message(_wrap(x, layers={"nascent": nascent, "ambiguous": ambiguous}))
    assert "allow_fractional=True" in text and "nascent" not in text and "ambiguous'" not in text
    estimated = nascent * 0.37
    text = _message(_wrap(estimated, layers={"umi": nascent, "other": ambiguous}))
    assert "layer='umi'" in text and "other" not in text.replace("otherwise", "")


def test_raw_of_more_genes_is_offered_where_it_fits():
    x = _counts()
    adata = _wrap(x[:, :6] * 0.37)
    adata.raw = _wrap(x)
    assert "pass adata.raw.to_adata()" in _message(adata)
    adata.raw = _wrap(_counts(seed=5))
    assert ".raw" not in _message(adata)
    adata.raw = _wrap(x)
    assert "The counts in .raw have genes of their own: pass adata.raw.to_adata()" in _message(adata, layer="raw")


def test_of_logs_the_counts_of_the_same_entries_are_offered():
    counts = _counts(seed=1)
    half = np.random.default_rng(0).binomial(counts.astype(int), 0.5).astype(counts.dtype)
    log = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    text = _message(_wrap(log, layers={"spliced": half, "counts": counts}))
    assert "layer='counts'" in text and "spliced" not in text
    text = _message(_wrap(log, layers={"spliced": half}))
    assert "layer='spliced'" in text and "not of the same entries: be sure that they are the counts" in text
