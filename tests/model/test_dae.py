import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scdae
import small
from scdae.core.network.parameters import total_effects

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
    centers = np.stack([latent[types == kind].mean(axis=0) for kind in np.unique(types)])
    nearest = np.argmin(((latent[:, None] - centers) ** 2).sum(axis=2), axis=1)
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
    some = np.arange(small.N_OBS) != 7
    assert np.isfinite(prior[some]).all() and np.isnan(prior[7]).all()  # of that cell nothing was observed
    np.testing.assert_allclose(mean[~mask], prior[~mask], rtol=2e-6)  # two programs, which may round differently
    unseen = ~mask & some[:, None]
    truth = np.asarray(adata.layers["truth"])
    assert prior[unseen].sum() == pytest.approx(truth[unseen].sum(), rel=0.05)
    complete = small.fitted(likelihood="nb").impute(adata, output="prior")
    error, reference = (np.mean((np.log1p(x[unseen]) - np.log1p(truth[unseen])) ** 2) for x in (prior, complete))
    assert error < 0.055 and error < 2 * reference
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


def test_batch_effect_is_learned(two_batches):
    adata, second = two_batches
    model = small.fit(adata, batch_key="batch", likelihood="nb")
    assert model.batch_levels == sorted(adata.obs["batch"].unique())
    rate, counts = model.impute(adata, output="prior"), small.dense(adata)
    shares = [counts[part].sum(axis=0) / counts[part].sum() for part in (second, ~second)]
    true = np.log(shares[0] / shares[1])
    effect = total_effects(nnx.to_pure_dict(model.outcome.fitted.params))
    shift = effect[1] - effect[0]
    if model.batch_levels[1] != adata.obs["batch"][second].iloc[0]:
        shift = -shift
    assert np.corrcoef(shift, true)[0, 1] > 0.9
    assert shift[:8].mean() > 0.8 * true[:8].mean()
    # the same cells labeled as of the other batch come out otherwise
    swapped = adata.copy()
    names = model.batch_levels
    swapped.obs["batch"] = np.where(adata.obs["batch"] == names[0], names[1], names[0])
    other = model.impute(swapped, output="prior")
    assert other[second][:, :8].sum() < 0.9 * rate[second][:, :8].sum()
    assert np.abs(model.latent(swapped) - model.latent(adata)).max() > 1e-3  # the encoder takes the batch off


def test_batches_of_a_query():
    model = small.fitted(batch_key="batch", likelihood="nb")
    adata = small.structured()
    one = adata[adata.obs["batch"] == model.batch_levels[1]].copy()  # its codes start at another level
    whole = model.impute(adata)
    rows = np.flatnonzero(adata.obs["batch"] == model.batch_levels[1])
    np.testing.assert_allclose(model.impute(one), whole[rows], rtol=1e-4, atol=1e-5)
    one.obs["batch"] = "new"
    with pytest.raises(ValueError, match=r"obs\['batch'\] has 1 level.*'new'.*It knows"):
        model.impute(one)
    del one.obs["batch"]
    with pytest.raises(ValueError, match="batch_key='batch' not found in adata.obs"):
        model.latent(one)


def test_a_single_batch_is_no_batch():
    adata = small.structured()
    adata.obs["lane"] = "a"
    model = small.fit(adata, batch_key="lane", likelihood="nb")
    np.testing.assert_array_equal(model.impute(adata), small.fitted(likelihood="nb").impute(small.structured()))


def between_batches(latent, adata):
    """Share of the variance of the latent space within cell types that lies between batches."""
    types, second = adata.obs["cell_type"].to_numpy(), (adata.obs["batch"] == "batch_2").to_numpy()
    within = np.concatenate([latent[types == t] - latent[types == t].mean(axis=0) for t in np.unique(types)])
    second = np.concatenate([second[types == t] for t in np.unique(types)])
    gap = within[second].mean(axis=0) - within[~second].mean(axis=0)
    return second.mean() * (1 - second.mean()) * (gap**2).sum() / within.var(axis=0).sum()


def test_latent_space_is_common_to_the_batches(two_batches):
    adata, _ = two_batches
    model = small.fit(adata, batch_key="batch", likelihood="nb")
    latent, apart = model.latent(adata), small.fit(adata, likelihood="nb").latent(adata)
    assert between_batches(latent, adata) < 0.05 < 0.3 < between_batches(apart, adata)
    types = adata.obs["cell_type"].to_numpy()  # and cell types are told apart as before
    centers = np.stack([latent[types == kind].mean(axis=0) for kind in np.unique(types)])
    nearest = np.argmin(((latent[:, None] - centers) ** 2).sum(axis=2), axis=1)
    assert np.mean(np.unique(types)[nearest] == types) > 0.9


@pytest.fixture(scope="module")
def gene_masked():
    """What was measured: not four genes in the second batch, nor some entries anywhere."""
    adata = small.structured()
    mask = np.random.default_rng(3).random(adata.shape) < 0.9
    mask[np.ix_(adata.obs["batch"] == "batch_2", np.arange(4))] = False
    return mask


def test_values_under_the_mask_change_no_bit_with_batches(gene_masked):
    counts, rng = small.dense(small.structured()), np.random.default_rng(0)
    found = []
    for under in (0.0, rng.normal(0, 1e6, counts.shape), np.nan):
        adata = small.wrap(np.where(gene_masked, counts, under).astype(np.float32))
        model = small.fit(adata, mask=gene_masked, batch_key="batch", likelihood="nb", max_epochs=7)
        found.append(
            [
                model.impute(adata, mask=gene_masked),
                model.impute(adata, mask=gene_masked, transform_batch="average"),
                model.latent(adata, mask=gene_masked),
            ]
        )
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    effects = np.asarray(model.outcome.fitted.params["batch_start"][...])
    np.testing.assert_allclose(effects[1, :4], 0, atol=1e-6)
    assert np.abs(effects[:, 4:]).mean() > 0.1


def gap_between_batches(values, adata):
    """Root mean square of the differences of the log gene means between the batches, within cell types."""
    types, second = adata.obs["cell_type"].to_numpy(), (adata.obs["batch"] == "batch_2").to_numpy()
    share = values / values.sum(axis=1, keepdims=True)
    gaps = [
        np.log(share[(types == t) & second].mean(axis=0)) - np.log(share[(types == t) & ~second].mean(axis=0))
        for t in np.unique(types)
    ]
    return float(np.sqrt(np.mean(np.square(gaps))))


@pytest.mark.parametrize("output", ["mean", "prior"])
@pytest.mark.parametrize("batch", ["average", "batch_1", "batch_2"])
def test_corrected_counts_differ_less_between_batches(output, batch):
    adata, model = small.structured(), small.fitted(batch_key="batch", likelihood="nb")
    own = gap_between_batches(model.impute(adata, output=output), adata)
    corrected = gap_between_batches(model.impute(adata, output=output, transform_batch=batch), adata)
    assert own > 0.4  # the simulated effect, on the log scale, is 0.4 in each batch
    assert corrected < (0.15 if output == "prior" else 0.2) * own


def test_cells_stay_what_they_are_in_their_own_batch():
    adata, model = small.structured(), small.fitted(batch_key="batch", likelihood="nb")
    for output in ("mean", "prior", "rate", "sd", "log1p"):
        own = model.impute(adata, output=output)
        for batch in model.batch_levels:
            here = (adata.obs["batch"] == batch).to_numpy()
            there = model.impute(adata, output=output, transform_batch=batch)
            np.testing.assert_allclose(there[here], own[here], rtol=1e-4, atol=1e-6)
            assert not np.allclose(there[~here], own[~here], rtol=0.02)
    np.testing.assert_allclose(  # a cell keeps its depth
        model.impute(adata, output="prior", transform_batch="average").sum(axis=1),
        np.asarray(adata.X.sum(axis=1)).ravel(),
        rtol=1e-4,
    )


def test_corrected_counts_are_near_what_the_batch_would_have_given():
    """What cells of a type look like in the first batch is known in a simulation."""
    adata, model = small.structured(), small.fitted(batch_key="batch", likelihood="nb")
    truth, types = np.asarray(adata.layers["truth"], np.float64), adata.obs["cell_type"].to_numpy()
    share = truth / truth.sum(axis=1, keepdims=True)
    first = (adata.obs["batch"] == "batch_1").to_numpy()
    expected = np.stack([share[first & (types == t)].mean(axis=0) for t in types]) * truth.sum(axis=1, keepdims=True)
    error, own = (
        np.mean((np.log1p(x) - np.log1p(expected))[~first] ** 2)
        for x in (model.impute(adata, output="prior", transform_batch="batch_1"), model.impute(adata, output="prior"))
    )
    assert error < 0.3 * own


def test_batches_that_all_cells_cannot_be_put_into():
    adata, model = small.structured(), small.fitted(batch_key="batch", likelihood="nb")
    with pytest.raises(ValueError, match=r"transform_batch='lane 3' is not a batch of obs\['batch'\]"):
        model.impute(adata, transform_batch="lane 3")
    with pytest.raises(ValueError, match="transform_batch='average' needs batch_key="):
        small.fitted(likelihood="nb").impute(adata, transform_batch="average")


# Covariates ---------------------------------------------------------------------------------------------------------


def test_covariates_are_learned():
    """A factor of three on eight genes in smokers, and one that rises with age on eight others."""
    adata = small.covaried()
    smokes, age = adata.obs["smokes"].to_numpy(), adata.obs["age"].to_numpy(float)
    age = (age - age.mean()) / age.std()
    truth = np.asarray(adata.layers["truth"]).astype(float)
    truth[:, :8] *= np.where(smokes, 3.0, 1.0)[:, None]
    truth[:, 8:16] *= np.exp(0.6 * age)[:, None]
    counts = np.random.default_rng(0).poisson(truth).astype(np.float32)
    adata = small.wrap(sp.csr_matrix(counts), like=adata)
    model = small.fit(adata, batch_key="batch", covariates=["smokes", "age"], likelihood="nb")
    assert model.covariates.levels == {"batch": ["batch_1", "batch_2"], "smokes": ["False", "True"]}
    effects = total_effects(nnx.to_pure_dict(model.outcome.fitted.params))
    of_smoking, of_age = effects[3] - effects[2], effects[4]
    assert of_smoking[:8].mean() - of_smoking[8:].mean() == pytest.approx(np.log(3), rel=0.35)
    assert of_age[8:16].mean() - np.delete(of_age, np.arange(8, 16)).mean() > 0.2
    # who smokes by label alone comes out as a smoker
    swapped = adata.copy()
    swapped.obs["smokes"] = ~smokes
    ratio = model.impute(swapped, output="prior") / model.impute(adata, output="prior")
    assert np.log(ratio[~smokes][:, :8]).mean() > 0.5 and np.log(ratio[smokes][:, :8]).mean() < -0.5


def test_covariates_of_every_kind_survive_save_and_load(tmp_path):
    adata, model = small.covaried(), small.fitted_to_covariates()
    assert model.covariates.others == ["donor", "age"]
    assert model.covariates.levels["donor"] == ["dan", "bob", "ann"]  # what no cell has is left out
    model.save(tmp_path / "model.scdae")
    loaded = scdae.DAE.load(tmp_path / "model.scdae")
    assert loaded.covariates == model.covariates
    for batch in (None, "batch_2", "average"):
        for output in ("mean", "log1p"):
            values = model.impute(adata, output=output, transform_batch=batch)
            assert np.isfinite(values).all() and (values >= 0).all()
            np.testing.assert_array_equal(loaded.impute(adata, output=output, transform_batch=batch), values)
    np.testing.assert_array_equal(loaded.latent(adata), model.latent(adata))
    part = adata[[3, 11, 40]].copy()  # one of each donor, in another order of categories
    part.obs["donor"] = part.obs["donor"].astype(str)
    np.testing.assert_allclose(loaded.impute(part), model.impute(adata)[[3, 11, 40]], rtol=1e-4, atol=1e-5)


def test_covariates_of_a_query_that_do_not_fit():
    model, adata = small.fitted_to_covariates(), small.covaried()[:20].copy()
    adata.obs["donor"] = "eve"
    for use in (model.impute, model.latent, model.posterior):
        with pytest.raises(
            ValueError, match=r"obs\['donor'\] has 1 level\(s\) that the model was not fitted to.*'eve'"
        ):
            use(adata)
    adata.obs["donor"] = "ann"
    adata.obs["age"] = adata.obs["age"].astype(float)
    adata.obs.loc[adata.obs_names[4], "age"] = np.inf
    with pytest.raises(ValueError, match=rf"obs\['age'\] is not finite in 1 of 20 cells.*{adata.obs_names[4]}.*row 4"):
        model.impute(adata)
    del adata.obs["age"]
    with pytest.raises(ValueError, match="covariates='age' not found in adata.obs"):
        model.impute(adata)


def test_covariates_without_batches():
    adata = small.covaried()
    for covariates in ("age", ["smokes"], ["age", "smokes", "donor"]):
        model = small.fit(adata, covariates=covariates, likelihood="nb", max_epochs=2)
        assert model.batch_key is None and model.batch_levels == []
        assert np.isfinite(model.impute(adata)).all() and np.isfinite(model.latent(adata)).all()
        with pytest.raises(ValueError, match="needs batch_key="):
            model.impute(adata, transform_batch="average")


def test_a_batch_of_one_cell_and_a_category_of_none():
    adata = small.covaried()
    model = small.fit(adata, batch_key="donor", likelihood="nb", max_epochs=7)
    assert model.batch_levels == ["dan", "bob", "ann"]
    own = model.impute(adata)
    for batch in (*model.batch_levels, "average"):
        values = model.impute(adata, transform_batch=batch)
        assert np.isfinite(values).all() and (values > 0).all()
        assert 0.5 < values.sum() / own.sum() < 2
    assert np.isfinite(model.latent(adata)).all()
    assert np.abs(np.asarray(model.outcome.fitted.params["batch_start"][...])[1]).max() < 0.05


def fitted_to_an_empty_batch():
    """Two cells without counts in a batch of their own, and the model of the data."""
    adata = small.structured()
    counts = small.dense(adata).copy()
    counts[:2] = 0
    adata.obs["lane"] = np.where(np.arange(small.N_OBS) < 2, "z", adata.obs["batch"].astype(str))
    empty = small.wrap(sp.csr_matrix(counts), like=adata)
    return empty, small.fit(empty, batch_key="lane", likelihood="nb", max_epochs=2)


def test_a_batch_whose_cells_are_empty():
    """Its level is known, but nothing of it: cells of it that are met later come out finite."""
    empty, model = fitted_to_an_empty_batch()
    assert model.batch_levels == ["batch_1", "batch_2", "z"]
    assert np.isfinite(model.latent(empty)).all() and not model.impute(empty)[:2].any()
    other = small.structured()
    other.obs["lane"] = "z"
    assert np.isfinite(model.impute(other)).all() and np.isfinite(model.latent(other)).all()


def test_cells_of_a_batch_that_was_empty_are_not_moved_as_others_are():
    _, model = fitted_to_an_empty_batch()
    assert len(model.outcome.fitted.params["batch_centroids"][...]) == 3


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
