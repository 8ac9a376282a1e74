import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.special import softmax

import scdae
import small
from scdae.core.config import FixedPoint
from scdae.core.data.conditions import effect_of
from scdae.core.distributions.expected_log1p import expected_log1p
from scdae.core.minibatches.build import slice_batches
from scdae.core.prediction.missing import Gaps, complete
from scdae.inputs.counts import read_counts
from scdae.model.restore import query_cells

BATCH_KEY = {"plain": None, "batches": "batch"}


def hide(adata, seed=0):
    """Ten genes hidden in half of the cells."""
    rng = np.random.default_rng(seed)
    observed = np.ones(adata.shape, bool)
    cells, genes = rng.choice(adata.n_obs, adata.n_obs // 2, False), rng.choice(adata.n_vars, 10, False)
    observed[np.ix_(cells, genes)] = False
    return observed


@pytest.fixture(scope="module", params=["plain", "batches"])
def case(request):
    """Genes hidden in half of the cells, for a network that knows of no batches, and for one that takes them off."""
    model, adata = small.fitted(BATCH_KEY[request.param], likelihood="nb"), small.structured()
    observed = hide(adata)
    counts = read_counts(adata, mask=observed)
    data, _ = query_cells(model.fitted_model(), counts, model.fitted_model().conditions(adata))
    fitted = model.outcome.fitted
    (_, batch), *_ = slice_batches(data, fitted.axes, small.N_OBS)
    return fitted, batch, observed


def run(case, **how):
    fitted, batch, _ = case
    axes = fitted.axes
    known = axes.weight, axes.center, axes.effects
    return complete(fitted.network, batch, *known, "nb", FixedPoint(**how))


def test_what_is_put_in_comes_out(case):
    found = run(case, tolerance=1e-5)
    assert np.abs(found.change).max() <= 1e-5 and 1 < found.n_iter < 50
    assert 0 <= found.contraction < 1
    fitted, batch, _ = case
    again = run((fitted, batch._replace(inputs=found.inputs), None), tolerance=1e-5)
    np.testing.assert_allclose(again.inputs, found.inputs, atol=1e-3)
    assert not np.allclose(found.inputs, batch.inputs, atol=1e-2)


def test_the_fixed_point_is_that_of_the_profile_with_the_effects_taken_off(case):
    """One more round, cell by cell: what the network expects, at the exposure of the profile that it was shown."""
    fitted, batch, observed = case
    inputs = np.asarray(run(case, tolerance=1e-5).inputs)
    model, axes, conditions = nnx.merge(fitted.graph, fitted.params), fitted.axes, batch.conditions
    factor = np.ones(observed.shape)
    if axes.effects is not None:
        factor = np.exp(effect_of(axes.effects, conditions).astype(float))
        assert np.abs(np.log(factor)).max() > 0.3
    counts = np.where(observed, small.dense(small.structured()), 0) / factor
    logits = np.asarray(model.decode(model.encode(inputs, conditions), conditions), np.float64)
    share = softmax(logits - np.log(factor), axis=1)
    exposure = (counts.sum(axis=1) / np.where(observed, share, 0).sum(axis=1))[:, None]
    theta = np.broadcast_to(np.asarray(model.theta()), share.shape)
    filled = np.asarray(expected_log1p((exposure * share).astype(np.float32), theta, (1e4 / exposure).astype("f4")))
    values = np.where(observed, np.log1p(1e4 * counts / exposure), filled)
    np.testing.assert_allclose((values - axes.gene_mean) @ axes.weight, inputs, atol=2e-3)


@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_the_fixed_point_does_not_depend_on_the_start(case, start):
    fitted, batch, _ = case
    moved = batch._replace(inputs=batch.inputs + start)
    np.testing.assert_allclose(
        run((fitted, moved, None), tolerance=1e-5).inputs, run(case, tolerance=1e-5).inputs, atol=1e-3
    )


def test_damping_takes_longer_to_the_same_place(case):
    quick, slow = run(case, tolerance=1e-4), run(case, tolerance=1e-4, damping=0.5)
    assert slow.n_iter > quick.n_iter
    np.testing.assert_allclose(slow.inputs, quick.inputs, atol=5e-3)


def test_what_did_not_converge_is_counted(case):
    _, batch, observed = case
    how = FixedPoint(tolerance=1e-7, max_iter=1)
    found, gaps = run(case, tolerance=1e-7, max_iter=1), Gaps()
    gaps.add(found, batch, small.N_OBS, how)
    assert found.n_iter == 1 and gaps.n_unconverged > 0.5 * (~observed).sum()
    some = Gaps()
    some.add(found, batch, 10, how)
    assert some.n_unconverged <= (~observed[:10]).sum()
    assert set(some.report()) == {"n_unobserved", "n_unconverged", "n_iter", "contraction"}


def test_a_cell_in_which_nothing_was_observed_stays_as_it_was():
    model, adata = small.fitted(likelihood="nb"), small.structured()
    observed = np.ones(adata.shape, bool)
    observed[3] = False
    one_pass = scdae.DAE()
    network = dataclasses.replace(model.outcome.fitted, gaps=FixedPoint(max_iter=0))
    outcome = dataclasses.replace(model.outcome, fitted=network)
    one_pass._fitted = dataclasses.replace(model.fitted_model(), outcome=outcome)
    np.testing.assert_allclose(
        model.latent(adata, mask=observed)[3], one_pass.latent(adata, mask=observed)[3], atol=1e-5
    )
    restored = model.impute(adata, mask=observed)
    assert np.isnan(restored[3]).all() and np.isfinite(np.delete(restored, 3, axis=0)).all()  # its depth is not known


def test_gaps_filled_by_self_consistency_are_nearer_the_truth():
    adata = small.structured()
    observed = hide(adata, seed=2)
    truth, gap = np.asarray(adata.layers["truth"]), ~observed
    settings = {"max_epochs": 40, "batch_size": 64, "n_latent": 10, "likelihood": "nb"}
    one, fixed = (
        scdae.DAE(gap_max_iter=n, **settings).fit(adata, mask=observed).impute(adata, mask=observed) for n in (0, 50)
    )
    counts = np.where(observed, small.dense(adata), 0)
    share = counts.sum(axis=0) / observed.sum(axis=0)
    base = np.broadcast_to(share, adata.shape)
    error = {
        name: np.mean((np.log1p(x) - np.log1p(truth))[gap] ** 2)
        for name, x in zip("1fb", (one, fixed, base), strict=True)
    }
    assert error["f"] < 0.8 * error["b"] and error["f"] < 1.1 * error["1"]


def test_run_reports_its_gaps():
    adata = small.structured()
    adata.layers["seen"] = hide(adata)
    scdae.pp.impute(
        adata, mask="seen", max_epochs=6, batch_size=64
    )  # after three the others may say nothing of a gap yet
    report = adata.uns["scdae"]["missing"]
    assert report["n_unobserved"] == (~adata.layers["seen"]).sum()
    assert report["n_unconverged"] == 0 and report["n_iter"] >= 1
    scdae.pp.impute(adata, max_epochs=3, batch_size=64)
    assert "missing" not in adata.uns["scdae"]


def test_values_under_the_mask_do_not_matter():
    """Zeros, garbage or NaN where nothing was measured: the same bits."""
    adata = small.structured()
    observed = hide(adata)
    dense = small.dense(adata).astype(float)
    found = []
    for filling in (0.0, 7.0, -3.5, np.nan, np.inf):
        copy = small.wrap(np.where(observed, dense, filling))
        model = scdae.DAE(max_epochs=3, batch_size=64).fit(copy, mask=observed)
        params = jax.tree.leaves(model.outcome.fitted.params)
        found.append([np.asarray(part) for part in params] + [model.impute(copy, mask=observed)])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
