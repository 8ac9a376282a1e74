import numpy as np
import pytest
import scipy.sparse as sp

import small
from scdae.core.data.cells import cell_data
from scdae.core.data.conditions import no_conditions
from scdae.core.network.encoder_input import project
from scdae.core.prediction.encode import encode, latents


@pytest.fixture(params=[None, "batch"], ids=["plain", "batches"])
def setting(request):
    """A fitted model, and its cells twice over, once in either batch; one of them has no counts."""
    fitted = small.fitted(request.param, likelihood="nb").outcome.fitted
    counts = sp.csr_matrix(small.dense(small.with_gaps()), dtype=np.float32)
    counts = sp.vstack([counts, counts], format="csr")
    conditions = small.of_levels(np.repeat([0, 1], small.N_OBS)) if request.param else no_conditions(2 * small.N_OBS)
    return fitted, cell_data(counts, None, conditions, fitted.profile)


def all_of(parts):
    slices, values = zip(*parts, strict=True)
    assert [part.start for part in slices[1:]] == [part.stop for part in slices[:-1]]
    return np.concatenate(values)


@pytest.mark.parametrize("there", [False, True])
def test_they_are_what_the_encoder_makes_of_the_axes(setting, there, monkeypatch):
    monkeypatch.setattr("scdae.core.prediction.encode._CELLS", (64, 64))  # several parts, of which the last is not full
    fitted, data = setting
    expected = encode(fitted, project(fitted.axes, data), data.conditions)
    found = all_of(latents(fitted, data, on_device=there))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
