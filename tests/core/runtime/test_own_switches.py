import inspect

import jax
import numpy as np
import pytest

import scdae
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import open_counts
from scdae.outputs.report import query_report


@pytest.fixture
def guarded():
    """JAX refuses transfers that nobody asked for, in every thread."""
    before = jax.config.jax_transfer_guard
    jax.config.update("jax_transfer_guard", "disallow")
    with jax.transfer_guard("disallow"):
        yield
    jax.config.update("jax_transfer_guard", before)


def test_everything_works_where_transfers_are_refused(guarded):
    adata = scdae.datasets.simulate(n_cells=60, n_genes=30, seed=0)
    model = scdae.DAE(max_epochs=1).fit(adata)
    with pytest.raises(Exception, match="Disallowed"):
        jax.jit(lambda x: x + 1)(np.ones(3))  # in the code of others it is as before
    scdae.pp.impute(adata, model=model, lazy=True)
    layer = np.asarray(adata.layers["scdae"].compute(scheduler="threads"))
    posterior = model.posterior(adata)
    np.testing.assert_array_equal(layer, model.impute(adata))
    assert np.isfinite(posterior.mean).all() and np.isfinite(posterior.sd).all()
    assert np.isfinite(posterior.quantile(0.5)).all() and np.isfinite(next(posterior.sample(1))).all()
    scdae.tl.anomaly_score(adata, model)
    scdae.tl.rank_genes(adata, "cell_type", model)
    scdae.tl.purify(adata, model)
    assert np.isfinite(next(scdae.tl.sample(adata, max_epochs=1))).all()
    report, _ = query_report(model.fitted_model(), open_counts(adata, for_fit=False, seed=0), None, 0)
    assert np.isfinite(report.skill)


def test_signatures_stay():
    assert "batch_key" in inspect.signature(scdae.DAE.fit).parameters
    assert own_switches(max)(1, 2) == 2 and scdae.DAE.fit.__doc__
