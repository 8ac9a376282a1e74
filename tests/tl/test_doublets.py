"""`scdae.tl.doublet_score`."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import average_precision_score, roc_auc_score

import scdae
import small

MODEL = {"likelihood": "nb", "max_epochs": 7}


def test_doublets_of_two_kinds_are_found():
    adata = scdae.datasets.simulate(
        500, 200, n_types=3, trajectory=False, depth=2500, dropout=0.0, batch_effect=0.0, seed=3
    )
    kind, rng = adata.obs["cell_type"].astype(str).to_numpy(), np.random.default_rng(0)
    pairs = np.array([pair for pair in rng.choice(500, (300, 2)) if kind[pair[0]] != kind[pair[1]]][:30])
    whole = ad.AnnData(sp.vstack([adata.X, adata.X[pairs[:, 0]] + adata.X[pairs[:, 1]]]).tocsr())
    odd = np.arange(whole.n_obs) >= 500
    scdae.tl.doublet_score(whole, likelihood="nb", max_epochs=20)
    assert roc_auc_score(odd, whole.obs["doublet"]) > 0.95
    assert average_precision_score(odd, whole.obs["doublet"]) > 0.7


def test_one_kind_of_cells_gives_no_confident_calls():
    adata = scdae.datasets.simulate(
        300, 100, n_types=1, trajectory=False, depth=1500, dropout=0.0, batch_effect=0.0, seed=1
    )
    scdae.tl.doublet_score(adata, likelihood="nb", max_epochs=10)
    assert adata.uns["doublet"]["n_above_half"] == 0


def test_seeds_formats_and_copies():
    adata, model = small.structured(), small.fitted(**MODEL)
    forms = [adata.X, adata.X.tocsc(), adata.X.toarray(), adata.X.astype(np.float64)]
    found = [scdae.tl.doublet_score(small.wrap(form), model, copy=True).obs["doublet"].to_numpy() for form in forms]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    assert (scdae.tl.doublet_score(adata, model, seed=1, copy=True).obs["doublet"] != found[0]).any()
    assert "doublet" not in adata.obs and found[0].dtype == np.float32


def test_each_batch_by_itself_and_empty_cells():
    adata, model = small.structured(), small.fitted(**MODEL)
    counts = small.dense(adata).copy()
    counts[4] = 0
    adata = small.wrap(sp.csr_matrix(counts))
    scdae.tl.doublet_score(adata, model, batch_key="batch")
    assert list(adata.uns["doublet"]["batches"]) == sorted(adata.obs["batch"].astype(str).unique())
    assert np.flatnonzero(adata.obs["doublet"].isna()).tolist() == [4]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"expected_doublet_rate": 1.5}, "use a number above 0 and below 1"),
        ({"sim_doublet_ratio": 0}, "use a number above 0"),
        ({"batch_key": "batsh"}, "not found in adata.obs"),
        ({"layer": "nowhere"}, "does not exist"),
        ({"max_epochs": 3}, "belongs to the fit"),
    ],
)
def test_what_cannot_be_is_said(given, words):
    adata = small.structured()
    with pytest.raises(ValueError, match=words):
        scdae.tl.doublet_score(adata, small.fitted(**MODEL), **given)
    assert "doublet" not in adata.obs


def test_too_few_cells_and_values_that_are_no_counts_fail_before_training():
    with pytest.raises(ValueError, match="adata has 30 cells with counts"):
        scdae.tl.doublet_score(small.structured()[:30].copy())
    with pytest.raises(ValueError, match="whole numbers|fraction"):
        scdae.tl.doublet_score(small.wrap(small.structured().X * 0.37))
