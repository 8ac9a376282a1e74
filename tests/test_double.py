"""JAX in double precision, which importing scikit-bio turns on: the package computes in single precision, bit by bit the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scdae
import scdae.core.steps.steppers
import small
from scdae.core.guard.purification import Purification, project_profiles

pytestmark = pytest.mark.trains


@pytest.fixture
def gaps():
    adata = small.structured()
    adata.layers["observed"] = np.ones(adata.shape, bool)
    adata.layers["observed"][:50, :5] = False
    return adata


def _twice(call):
    """Result of a call in single and in double precision."""
    single = call()
    with jax.enable_x64(True):
        return single, call()


@pytest.mark.parametrize(
    ("options", "near"), [({"likelihood": "poisson"}, True), ({"batch_key": "batch", "output": "log1p"}, False)]
)
def test_masks(gaps, options, near, monkeypatch):
    if near:  # counts on the device, as on an accelerator
        monkeypatch.setattr(scdae.core.steps.steppers, "fits", lambda *_: True)

    def impute():
        adata = gaps.copy()
        scdae.pp.impute(adata, mask="observed", max_epochs=2, batch_size=64, **options)
        assert adata.obsm["X_scdae"].dtype == np.float32 and adata.layers["scdae"].dtype == np.float32
        return adata.layers["scdae"]

    np.testing.assert_array_equal(*_twice(impute))


def test_a_model_in_use(gaps):
    model = small.fitted(likelihood="nb", max_epochs=7)
    part = small.structured()[:, 5:].copy()

    def use():
        anomalous = part.copy()
        scdae.tl.anomaly_score(anomalous, model, normal=part.obs["batch"].to_numpy() == part.obs["batch"].iloc[0])
        posterior = model.posterior(gaps, mask="observed")
        lazy = model.impute(part, lazy=True, threshold=0.5).compute().toarray()
        assert model.latent(part).dtype == lazy.dtype == np.float32
        return np.concatenate([model.impute(part), lazy, model.latent(part), np.asarray(posterior.mean)[:, 5:]], axis=1)

    np.testing.assert_array_equal(*_twice(use))


@pytest.mark.calls_core
def test_double_precision_stays_on_in_the_code_around(gaps):
    with jax.enable_x64(True):
        small.fitted(likelihood="nb", max_epochs=7).impute(gaps)
        assert jnp.zeros(1).dtype == np.float64


@pytest.mark.calls_core
def test_gradients_of_profiles_in_double_precision():
    model = small.fitted(likelihood="nb", max_epochs=7)
    fitted, counts = model.fitted_outcome().fitted, small.dense(small.structured())[:4]

    def gradient():
        x = jnp.asarray(counts, jnp.float64 if jax.config.jax_enable_x64 else jnp.float32)
        depth = x.sum(axis=1)
        return jax.grad(lambda x: (project_profiles(fitted, x, depth, Purification(n_passes=2)) ** 2).sum())(x)

    with jax.numpy_dtype_promotion("standard"):  # the profiles are in double precision, the network is not
        single, double = _twice(gradient)
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=2e-3, atol=2e-3)
