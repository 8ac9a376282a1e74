import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scdae
import small

CONTAINERS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "dense": np.asarray,
    "fortran": np.asfortranarray,
}


@pytest.fixture
def adata():
    return small.structured()


def test_fit_returns_the_model_and_leaves_the_data_alone(adata):
    before = adata.copy()
    model = scdae.DAE(max_epochs=7, batch_size=64, n_latent=10, likelihood="nb")
    assert "not fitted" in repr(model)
    assert model.fit(adata) is model
    assert "fitted to 60 genes" in repr(model)
    assert adata.X.data.tobytes() == before.X.data.tobytes()
    assert list(adata.layers) == list(before.layers) and list(adata.obsm) == [] and list(adata.uns) == list(before.uns)


def test_an_unfitted_model_says_so(adata, tmp_path):
    for use in (scdae.DAE().impute, scdae.DAE().latent):
        with pytest.raises(ValueError, match=r"not fitted.*fit\(adata\)"):
            use(adata)
    with pytest.raises(ValueError, match="not fitted"):
        scdae.DAE().save(tmp_path / "model.npz")


def test_settings_are_checked_at_once():
    with pytest.raises(ValueError, match="n_latent=0"):
        scdae.DAE(n_latent=0)
    with pytest.raises(TypeError, match="n_layers"):
        scdae.DAE(n_layers=3)


def test_unknown_output(adata):
    with pytest.raises(ValueError, match="output='median'.*'mean', 'prior', 'rate', 'sd'"):
        small.fitted(likelihood="nb").impute(adata, output="median")


@pytest.mark.parametrize("likelihood", ["nb", "poisson", "zinb"])
def test_restored_counts_are_nearer_to_the_truth(adata, likelihood):
    model, truth = small.fitted(likelihood=likelihood), np.asarray(adata.layers["truth"])
    raw = np.sqrt(np.mean((np.log1p(small.dense(adata)) - np.log1p(truth)) ** 2))
    for output in ("mean", "prior"):
        restored = model.impute(adata, output=output)
        assert restored.shape == adata.shape and restored.dtype == np.float32
        assert np.sqrt(np.mean((np.log1p(restored) - np.log1p(truth)) ** 2)) < 0.8 * raw
    rate = np.asarray(adata.X.sum(axis=1)) / adata.X.sum() * np.asarray(adata.X.sum(axis=0))
    gene_means = np.sqrt(np.mean((np.log1p(rate) - np.log1p(truth)) ** 2))
    assert np.sqrt(np.mean((np.log1p(model.impute(adata)) - np.log1p(truth)) ** 2)) < 0.8 * gene_means


def test_latent_tells_cell_types_apart(adata):
    latent = small.fitted(likelihood="nb").latent(adata)
    assert latent.shape == (small.N_OBS, 10) and latent.dtype == np.float32
    types = adata.obs["cell_type"].to_numpy()
    centres = np.stack([latent[types == kind].mean(axis=0) for kind in np.unique(types)])
    nearest = np.argmin(((latent[:, None] - centres) ** 2).sum(axis=2), axis=1)
    assert np.mean(np.unique(types)[nearest] == types) > 0.9


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    container=st.sampled_from(sorted(CONTAINERS)),
    dtype=st.sampled_from(["int32", "int64", "uint16", "float32", "float64"]),
    with_nan=st.booleans(),
)
def test_every_container_and_dtype_gives_the_same_bits(container, dtype, with_nan):
    expected = small.fitted(likelihood="nb", max_epochs=7)
    matrix = CONTAINERS[container](small.dense(small.structured()).astype(dtype))
    model = small.fit(small.wrap(matrix), likelihood="nb", max_epochs=7, allow_nan=with_nan)
    reference = small.structured()
    np.testing.assert_array_equal(model.impute(small.wrap(matrix)), expected.impute(reference))
    np.testing.assert_array_equal(model.latent(reference), expected.latent(small.wrap(matrix)))


def test_read_only_arrays(adata):
    adata.X.data.flags.writeable = False
    model = small.fit(adata, likelihood="nb", max_epochs=7)
    dense = small.dense(adata)
    dense.flags.writeable = False
    np.testing.assert_array_equal(
        model.impute(small.wrap(dense)), small.fitted(likelihood="nb", max_epochs=7).impute(adata)
    )


# What was observed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mask():
    mask = np.random.default_rng(3).random((small.N_OBS, small.N_VARS)) < 0.85
    mask[7] = False  # a cell of which nothing was observed
    return mask


@pytest.fixture(scope="module")
def masked_model(mask):
    return small.fit(mask=mask, likelihood="nb")


def test_values_under_the_mask_change_no_bit(mask, masked_model):
    counts = small.dense(small.structured())
    rng = np.random.default_rng(0)
    under = {
        "zeros": np.where(mask, counts, 0),
        "garbage": np.where(mask, counts, rng.normal(0, 1e6, mask.shape)),
        "nan": np.where(mask, counts, np.nan),
    }
    expected = {out: masked_model.impute(small.structured(), mask=mask, output=out) for out in ("mean", "prior", "sd")}
    for kind, matrix in under.items():
        adata = small.wrap(matrix.astype(np.float32), layers={"seen": mask})
        model = small.fit(adata, mask="seen", likelihood="nb", max_epochs=40)
        for output, values in expected.items():
            np.testing.assert_array_equal(model.impute(adata, mask="seen", output=output), values, err_msg=kind)
    blank = small.wrap(under["nan"].astype(np.float32))
    model = small.fit(blank, allow_nan=True, likelihood="nb")
    np.testing.assert_array_equal(model.impute(blank, allow_nan=True), expected["mean"])


def test_masked_entries_are_filled_on_the_right_scale(mask, masked_model):
    adata = small.structured()
    prior = masked_model.impute(adata, mask=mask, output="prior")
    mean = masked_model.impute(adata, mask=mask)
    assert np.isfinite(prior).all()
    np.testing.assert_array_equal(mean[~mask], prior[~mask])
    assert not mean[7].any()
    some = np.arange(small.N_OBS) != 7
    unseen = ~mask & some[:, None]
    truth = np.asarray(adata.layers["truth"])
    assert prior[unseen].sum() == pytest.approx(truth[unseen].sum(), rel=0.05)
    complete = small.fitted(likelihood="nb").impute(adata, output="prior")
    error, reference = (np.mean((np.log1p(x[unseen]) - np.log1p(truth[unseen])) ** 2) for x in (prior, complete))
    assert error < 1.7 * reference
    exposure = prior[some].sum(axis=1) / np.asarray(adata.X.sum(axis=1)).ravel()[some]
    assert np.abs(exposure - 1).max() < 0.25 and np.abs(exposure - 1).mean() < 0.06


def test_genes_missing_in_half_of_the_cells():
    """As where two panels are joined: what was measured in one is filled in the other, on its scale."""
    adata = small.structured()
    truth = np.asarray(adata.layers["truth"])
    mask = np.ones(adata.shape, bool)
    order = np.argsort(-small.dense(adata).sum(axis=0))
    missing = order[:10]  # among them the largest genes
    half = np.arange(small.N_OBS) % 2 == 0
    mask[np.ix_(half, missing)] = False
    model = small.fit(adata, mask=mask, likelihood="nb")
    filled = model.impute(adata, mask=mask)
    block = np.ix_(half, missing)
    np.testing.assert_allclose(filled[block].sum(axis=0), truth[block].sum(axis=0), rtol=0.25)
    assert filled[block].sum() == pytest.approx(truth[block].sum(), rel=0.06)
    naive = small.fitted(likelihood="nb").impute(small.wrap(np.where(mask, small.dense(adata), 0)), output="prior")
    assert naive[block].sum() < 0.8 * truth[block].sum()  # zeros that were not measured do pull down


def test_all_true_mask_is_no_mask():
    model = small.fit(mask=np.ones((small.N_OBS, small.N_VARS), bool), likelihood="nb")
    adata = small.structured()
    np.testing.assert_array_equal(model.impute(adata), small.fitted(likelihood="nb").impute(adata))


# Batches ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_batches():
    """The structured data, with eight genes twice as strong in one batch."""
    adata = small.structured()
    counts = small.dense(adata).copy()
    second = (adata.obs["batch"] == adata.obs["batch"].unique()[1]).to_numpy()
    counts[np.ix_(second, np.arange(8))] *= 3
    return small.wrap(sp.csr_matrix(counts)), second


def test_batch_effect_is_learnt(two_batches):
    adata, second = two_batches
    model = small.fit(adata, batch_key="batch", likelihood="nb")
    assert model.batch_levels == sorted(adata.obs["batch"].unique())
    rate, counts = model.impute(adata, output="prior"), small.dense(adata)
    shares = [counts[part].sum(axis=0) / counts[part].sum() for part in (second, ~second)]
    true = np.log(shares[0] / shares[1])
    effect = np.asarray(model.outcome.fitted.params["batch_effect"][...])
    shift = effect[1] - effect[0]
    if model.batch_levels[1] != adata.obs["batch"][second].iloc[0]:
        shift = -shift
    assert np.corrcoef(shift, true)[0, 1] > 0.9
    assert shift[:8].mean() > 0.3 * true[:8].mean()
    # the same cells labelled as of the other batch come out otherwise
    swapped = adata.copy()
    names = model.batch_levels
    swapped.obs["batch"] = np.where(adata.obs["batch"] == names[0], names[1], names[0])
    other = model.impute(swapped, output="prior")
    assert other[second][:, :8].sum() < 0.9 * rate[second][:, :8].sum()
    np.testing.assert_array_equal(model.latent(swapped), model.latent(adata))  # the encoder does not know the batch


def test_batches_of_a_query():
    model = small.fitted(batch_key="batch", likelihood="nb")
    adata = small.structured()
    one = adata[adata.obs["batch"] == model.batch_levels[1]].copy()  # its codes start at another level
    whole = model.impute(adata)
    rows = np.flatnonzero(adata.obs["batch"] == model.batch_levels[1])
    np.testing.assert_allclose(model.impute(one), whole[rows], rtol=1e-4, atol=1e-5)
    one.obs["batch"] = "new"
    with pytest.raises(ValueError, match=r"obs\['batch'\] has 1 batch.*'new'.*It knows"):
        model.impute(one)
    del one.obs["batch"]
    with pytest.raises(ValueError, match="batch_key='batch' is no column of obs"):
        model.latent(one)


def test_a_single_batch_is_no_batch():
    adata = small.structured()
    adata.obs["lane"] = "a"
    model = small.fit(adata, batch_key="lane", likelihood="nb")
    np.testing.assert_array_equal(model.impute(adata), small.fitted(likelihood="nb").impute(small.structured()))


# Genes by name ------------------------------------------------------------------------------------------------------


def test_genes_in_any_order():
    model, adata = small.fitted(likelihood="nb"), small.structured()
    order = np.random.default_rng(0).permutation(small.N_VARS)
    for output in ("mean", "sd"):
        expected = model.impute(adata, output=output)[:, order]
        np.testing.assert_allclose(model.impute(adata[:, order].copy(), output=output), expected, rtol=1e-5)


def test_missing_genes_are_not_observed(log):
    model, adata = small.fitted(likelihood="nb"), small.structured()
    part = adata[:, 10:].copy()
    mask = np.ones(adata.shape, bool)
    mask[:, :10] = False
    expected = model.impute(adata, mask=mask)[:, 10:]
    np.testing.assert_allclose(model.impute(part), expected, rtol=1e-5)
    assert "10 of the 60 genes of the model are missing" in log.text


def test_unknown_genes_are_nan_and_change_nothing(log):
    model, adata = small.fitted(likelihood="nb"), small.structured()
    more = ad.concat(
        [adata, ad.AnnData(np.full((150, 2), 9.0), obs=adata.obs[[]], var=pd.DataFrame(index=["u", "v"]))], axis=1
    )
    values = model.impute(more)
    assert np.isnan(values[:, 60:]).all()
    np.testing.assert_array_equal(values[:, :60], model.impute(adata))
    assert "2 gene(s) unknown to the model, the first being 'u'" in log.text


def test_genes_without_counts_are_known_and_zero():
    adata, model = small.with_gaps(), small.fitted_to_gaps()
    for output in ("mean", "prior", "rate", "sd", "log1p"):
        values = model.impute(adata, output=output)
        assert not values[:, 5].any() and not values[3].any()
        assert (np.delete(np.delete(values, 5, 1), 3, 0) > 0).all()


def test_one_query_cell():
    model, adata = small.fitted(likelihood="nb"), small.structured()
    np.testing.assert_allclose(model.impute(adata[4].copy()), model.impute(adata)[4:5], rtol=1e-4, atol=1e-5)
