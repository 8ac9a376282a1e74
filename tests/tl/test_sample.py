import numpy as np
import pytest

import scdae
import small


def test_draws_are_those_of_the_posterior():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    draws = scdae.tl.sample(adata, model, n=3, genes=slice(0, 4), cells=[1, 2], seed=5)
    assert iter(draws) is draws and not set(adata.layers) - {"truth", None}
    expected = model.posterior(adata, genes=slice(0, 4), cells=[1, 2]).sample(3, seed=5)
    for one, other in zip(draws, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_draws_as_layers():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    assert scdae.tl.sample(adata, model, n=2, key_added="draw") is None
    assert {"draw_0", "draw_1"} <= set(adata.layers) and adata.layers["draw_0"].dtype == np.float32
    assert not np.array_equal(adata.layers["draw_0"], adata.layers["draw_1"])
    assert adata.uns["draw"]["n"] == 2 and "one draw" in adata.uns["draw"]["unit"]
    scdae.tl.sample(adata, model, n=1, key_added="draw")  # its own results are replaced
    adata.layers["truth_0"] = adata.layers["truth"]
    with pytest.raises(ValueError, match=r"layers\['truth_0'\] is there already"):
        scdae.tl.sample(adata, model, key_added="truth")


def test_a_model_is_fitted_where_none_is_given():
    draws = scdae.tl.sample(small.structured(), genes=[0], max_epochs=2, batch_size=64)
    assert next(draws).shape == (small.N_OBS, 1)
    columns = {"batch_key": "batch", "covariates": ["donor", "age"]}
    draws = scdae.tl.sample(small.covaried(), max_epochs=7, batch_size=64, n_latent=10, likelihood="nb", **columns)
    expected = small.fitted_to_covariates().posterior(small.covaried()).sample()
    np.testing.assert_array_equal(next(draws), next(expected))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n=0"),
        ({"key_added": "a/b"}, "key_added='a/b'"),
        ({"key_added": "a", "genes": [0]}, "genes= and cells= are for draws that are returned"),
        ({"batch_key": "batch"}, "batch_key=... belongs to the fit"),
        ({"covariates": ["cell_type"]}, "covariates=... belongs to the fit"),
    ],
)
def test_arguments_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        scdae.tl.sample(small.structured(), small.fitted(likelihood="nb"), **options)
    with pytest.raises(TypeError, match=r"must be a fitted scdae\.DAE"):
        scdae.tl.sample(small.structured(), "model")
    with pytest.raises(ValueError, match="is not fitted"):
        scdae.tl.sample(small.structured(), scdae.DAE())
