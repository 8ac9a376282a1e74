import numpy as np
import pytest

import scdae
import small


def test_there_is_a_sweet_spot():
    adata = small.structured()
    scdae.tl.noise_sweep(adata, [0.01, 0.5, 0.99], max_epochs=40, batch_size=64, likelihood="nb")
    found = adata.uns["scdae_sweep"]
    assert found["skill"][1] > found["skill"][[0, 2]].max()
    assert found["range_skill"] == pytest.approx(found["skill"][1], abs=0.05)
    assert (found["skill_se"] > 0).all() and (found["skill_se"] < 0.1).all()
    np.testing.assert_array_equal(found["level"], [0.01, 0.5, 0.99])
    np.testing.assert_array_equal(found["range"], [0.1, 0.8])


def test_levels_that_are_none():
    adata = small.structured()
    with pytest.raises(ValueError, match="noise="):
        scdae.tl.noise_sweep(adata, [0.5, 1.5])
    with pytest.raises(ValueError, match="fraction=0"):
        scdae.tl.noise_sweep(adata, [0.5], fraction=0)
    assert "scdae_sweep" not in adata.uns
