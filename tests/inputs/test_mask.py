import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scdae.inputs.counts import read_counts

X = np.array([[1.0, 2.0, 0.0], [0.0, 4.0, 5.0], [6.0, 0.0, 7.0]], dtype="f4")
SEEN = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=bool)


def _adata(x=X, **parts):
    return ad.AnnData(x, obs=pd.DataFrame(index=list("abc")), var=pd.DataFrame(index=["g1", "g2", "g3"]), **parts)


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, sp.csr_matrix, sp.csc_array, sp.coo_matrix, "seen"])
def test_every_form_of_mask(form):
    layers = {"seen": SEEN} if isinstance(form, str) else {}
    counts = read_counts(_adata(layers=layers), mask=form if isinstance(form, str) else form(SEEN))
    np.testing.assert_array_equal(counts.matrix.toarray(), X * SEEN)
    assert counts.unobserved.dtype == np.bool_
    np.testing.assert_array_equal(counts.unobserved.toarray(), ~SEEN)


def test_all_observed_is_none():
    assert read_counts(_adata(), mask=np.ones((3, 3), bool)).unobserved is None
    assert read_counts(_adata()).unobserved is None
    assert read_counts(_adata(), allow_nan=True).unobserved is None


@pytest.mark.parametrize("fmt", [np.asarray, sp.csr_matrix])
def test_nan_are_unobserved_on_request_and_where_masked(fmt):
    x = np.where(SEEN, X, np.nan).astype("f4")
    for options in ({"allow_nan": True}, {"mask": SEEN}, {"mask": SEEN, "allow_nan": True}):
        counts = read_counts(_adata(fmt(x)), **options)
        np.testing.assert_array_equal(counts.matrix.toarray(), X * SEEN)
        np.testing.assert_array_equal(counts.unobserved.toarray(), ~SEEN)


def test_mask_and_nan_add_up_and_the_mask_is_left_alone():
    x, mask = X.copy(), SEEN.copy()
    x[2, 0] = np.nan
    counts = read_counts(_adata(x), mask=mask, allow_nan=True)
    hidden = ~SEEN
    hidden[2, 0] = True
    np.testing.assert_array_equal(counts.unobserved.toarray(), hidden)
    np.testing.assert_array_equal(mask, SEEN)


def test_values_behind_the_mask_are_not_looked_at():
    x = np.where(SEEN, X, -0.5).astype("f4")
    assert read_counts(_adata(x), mask=SEEN).fractional is False


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (SEEN[:, :2], ValueError, r"shape \(3, 2\).*\(3, 3\)"),
        (SEEN[0], ValueError, r"shape \(3,\)"),
        (SEEN.astype(int), TypeError, "int64.*boolean"),
        ("nowhere", ValueError, "mask='nowhere' does not exist. Layers here: 'weights'"),
        ("weights", TypeError, r"mask \(layers\['weights'\]\) is of dtype float32"),
        (pd.DataFrame(SEEN), ValueError, "mask is taken by name, but 3 of the 3 names in adata.obs_names"),
        (object(), TypeError, "boolean"),
        (np.zeros((3, 3), bool), ValueError, "among the observed entries"),
    ],
)
def test_mask_errors(mask, error, words):
    with pytest.raises(error, match=words):
        read_counts(_adata(layers={"weights": X}), mask=mask)
