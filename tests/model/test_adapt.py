import functools

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx

import scdae
import small
from scdae.core.network.parameters import total_effects

FACTORS = np.where(np.arange(small.N_VARS) % 3 == 0, 3.0, 1.0)


@functools.cache
def reference():
    """Model of the first 90 cells; not to be changed."""
    return small.fit(small.structured()[:90].copy(), likelihood="nb")


@functools.cache
def moved():
    """The other cells, in which every third gene is counted three times as well, as another platform might."""
    adata = small.structured()[90:].copy()
    counts = np.random.default_rng(0).poisson(small.dense(adata) * FACTORS).astype(np.float32)
    return ad.AnnData(sp.csr_matrix(counts), var=adata.var[[]])


def query():
    return moved().copy()


@functools.cache
def adapted():
    return reference().adapt(query())


def test_adapting_predicts_held_out_molecules_better_than_applying():
    adata = query()
    train, test = scdae.pp.thin(adata, 0.8, seed=1)
    base = scdae.metrics.gene_mean(small.dense(train)) / 4

    def skill(model):
        return scdae.metrics.deviance_skill(small.dense(test), model.impute(train) / 4, base, blend=0.01)

    assert skill(reference().adapt(train)) > skill(reference()) + 0.03


def test_what_moved_is_found():
    effects = total_effects(nnx.to_pure_dict(adapted().outcome.fitted.params))
    assert effects.shape == (1, small.N_VARS) and adapted().covariates.moved
    found = effects[0][FACTORS > 1].mean() - effects[0][FACTORS == 1].mean()
    assert found == pytest.approx(np.log(3), abs=0.25)
    assert np.corrcoef(effects[0], np.log(FACTORS))[0, 1] > 0.9


def test_the_reference_stays_as_it_is():
    adata = small.structured()
    before, latent = reference().impute(adata), reference().latent(adata)
    names = nnx.to_pure_dict(reference().outcome.fitted.params)
    copies = {name: np.array(value) for name, value in names.items()}
    new = reference().adapt(query(), max_epochs=2)
    np.testing.assert_array_equal(reference().impute(adata), before)
    np.testing.assert_array_equal(reference().latent(adata), latent)
    for name, value in nnx.to_pure_dict(reference().outcome.fitted.params).items():
        np.testing.assert_array_equal(value, copies[name])
    assert new is not reference() and new.config.max_epochs == 2


def test_batches_get_effects_of_their_own():
    adata = query()
    adata.obs["lane"] = ["a"] * 30 + ["b"] * 29 + ["c"]  # one of a single cell
    model = reference().adapt(adata, batch_key="lane", max_epochs=2)
    assert model.batch_levels == ["a", "b", "c"] and not model.covariates.moved
    assert total_effects(nnx.to_pure_dict(model.outcome.fitted.params)).shape == (3, small.N_VARS)
    assert np.isfinite(model.impute(adata)).all()
    assert np.isfinite(model.impute(adata, transform_batch="average")).all()


def test_a_reference_with_batches_passes_its_groups_on():
    model = small.fitted(batch_key="batch", likelihood="nb")
    adata = query()
    adata.obs["batch"] = ["x"] * 30 + ["y"] * 30
    new = model.adapt(adata, max_epochs=2)  # its column of batches is there
    assert new.batch_levels == ["x", "y"]
    old, now = (nnx.to_pure_dict(m.outcome.fitted.params) for m in (model, new))
    np.testing.assert_array_equal(now["centroids"], old["centroids"])
    assert now["batch_centroids"].shape == (2, *old["centroids"].shape)
    assert small.fit(adata, max_epochs=2).adapt(adata, max_epochs=2).covariates.moved


@pytest.mark.parametrize("batch_key", [None, "lane"])
def test_an_adapted_model_survives_saving(tmp_path, batch_key):
    adata = query()
    adata.obs["lane"] = ["a"] * 30 + ["b"] * 30
    model = adapted() if batch_key is None else reference().adapt(adata, batch_key=batch_key, max_epochs=2)
    model.save(tmp_path / "new.scdae")
    again = scdae.DAE.load(tmp_path / "new.scdae")
    assert again.covariates == model.covariates
    np.testing.assert_array_equal(again.impute(adata), model.impute(adata))
    again.adapt(adata, max_epochs=2)  # and may go on from there


def test_genes_by_name_and_new_ones():
    adata = query()
    order = np.random.default_rng(0).permutation(small.N_VARS)[:50]
    part = adata[:, order].copy()
    names = list(part.var_names)
    names[:5] = [f"new_{i}" for i in range(5)]
    part.var_names = names
    model = reference().adapt(part)
    values = model.impute(part)
    assert values.shape == part.shape and np.isfinite(values).all()
    np.testing.assert_allclose(values.sum(axis=0), small.dense(part).sum(axis=0), rtol=0.15)
    assert list(model.var_names) == names


def test_one_cell_and_gaps():
    adata = query()
    whole = adapted().impute(adata)
    np.testing.assert_allclose(adapted().impute(adata[3:4].copy()), whole[3:4], rtol=1e-4, atol=1e-5)
    observed = np.ones(adata.shape, bool)
    observed[:20, :4] = False
    model = reference().adapt(adata, mask=observed, max_epochs=2)
    assert np.isfinite(model.impute(adata, mask=observed)).all()


def test_same_seed_same_bits():
    models = [reference().adapt(query(), max_epochs=2, seed=5) for _ in range(2)]
    np.testing.assert_array_equal(*(model.impute(query()) for model in models))


def test_errors_come_before_training(monkeypatch):
    monkeypatch.setattr("scdae.model.dae.fit_counts", lambda *args, **kwargs: pytest.fail("trained"))
    adata = query()
    with pytest.raises(ValueError, match="not fitted"):
        scdae.DAE().adapt(adata)
    other = adata.copy()
    other.var_names = [f"other_{i}" for i in range(small.N_VARS)]
    with pytest.raises(ValueError, match="0 of the 60 genes of the model"):
        reference().adapt(other)
    with pytest.raises(ValueError, match="batch_key='lane' not found in adata.obs"):
        reference().adapt(adata, batch_key="lane")
    adata.X = adata.X * 0.5
    with pytest.raises(ValueError, match="allow_fractional"):
        reference().adapt(adata)


def test_a_poor_fit_is_pointed_out(log):
    genes = np.random.default_rng(0).permutation(small.N_VARS)  # other cells altogether
    adata = ad.AnnData(sp.vstack([moved().X[:, genes]] * 2).tocsr(), var=moved().var)
    scdae.pp.impute(adata, model=reference())
    assert "model.adapt(adata) learns how they differ" in log.text
    log.clear()
    scdae.pp.impute(small.structured(), model=reference(), key_added="own")
    assert "adapt" not in log.text
