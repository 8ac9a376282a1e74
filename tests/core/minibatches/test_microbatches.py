import jax
import numpy as np
import pytest
from flax import nnx

import small
from scdae.core.minibatches import microbatches as cutting
from scdae.core.minibatches.microbatches import groups_of, parts_for


def test_parts_are_as_many_as_keep_each_small(monkeypatch):
    monkeypatch.setattr(cutting, "_VALUES", 1000)
    assert [parts_for(*size) for size in ((10, 100), (11, 100), (50, 100), (3, 5000))] == [1, 2, 5, 3]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert parts_for(50, 100) == 1


def test_cells_of_the_parts_are_those_of_the_steps():
    order = np.arange(10).reshape(2, 5)
    np.testing.assert_array_equal(groups_of(order, 2), [[0, 1, 2], [3, 4, 4], [5, 6, 7], [8, 9, 9]])
    np.testing.assert_array_equal(groups_of(order, 1), order)


@pytest.mark.parametrize(
    "settings", [{}, {"likelihood": "nb", "corruption": "masking", "gaps": True}], ids=["dropout", "gaps"]
)
def test_a_step_in_parts_trains_the_same_network(settings, monkeypatch):
    """Fifty cells in four parts, of which the last is not full."""
    settings, adata = dict(settings), small.structured()
    seen = np.random.default_rng(0).random(adata.shape) < 0.9 if settings.pop("gaps", False) else None
    found = []
    for values in (1e9, 14 * adata.n_vars):
        monkeypatch.setattr(cutting, "_VALUES", values)
        model = small.fit(adata, mask=seen, batch_size=50, **settings)
        params = nnx.to_pure_dict(model.outcome.fitted.params)
        decoded, restored = (np.log1p(model.impute(adata, mask=seen, output=output)) for output in ("prior", "mean"))
        found.append((np.asarray(params["loading"]), decoded, restored, model.outcome.history))
    (loading, decoded, restored, history), (other_loading, other_decoded, other_restored, other_history) = found
    assert np.abs(loading).max() > 0
    np.testing.assert_allclose(loading, other_loading, atol=1e-4)
    np.testing.assert_allclose(history["loss"], other_history["loss"], rtol=1e-5)
    apart, before = np.abs(restored - other_restored), np.abs(decoded - other_decoded)
    assert np.median(apart) < 5e-5
    if seen is None:
        assert before.max() < 3e-4 and apart.max() < 3e-4  # of rounding, which differs by processor
    else:  # entries that were not observed are filled by iteration until they move by less than .001
        assert before[seen].max() < 3e-4 and apart.max() < 1e-3
