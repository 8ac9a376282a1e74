import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx
from scipy.special import softmax

import scdae
import small
from scdae.core.network.parameters import total_effects
from scdae.core.prediction.fold_changes import (
    _CENTRES,
    SHAPES,
    GroupSums,
    _of_counts,
    _scaled,
    fit_fold_changes,
    sum_groups,
)
from scdae.inputs.counts import read_counts
from scdae.model.restore import query_cells


def sums_of(model, adata, group, mask=None):
    counts = read_counts(adata, mask=mask)
    data, _ = query_cells(model.fitted_model(), counts, model.fitted_model().conditions(adata))
    return sum_groups(model.outcome.fitted, data, group, 2)


def draw_log_change(changes, group, n, rng):
    """Draw the natural logarithm of a group's fold changes: float64 (n, n_vars)."""
    chance = changes.weight[:, group].cumsum(axis=0)
    shape = SHAPES[(rng.random((n, 1, chance.shape[1])) > chance[:-1]).sum(axis=1)]
    drawn = np.maximum(rng.standard_gamma(shape + changes.counted[group]), 1e-300)
    return changes.log_center[group] + np.log(drawn) - np.log(shape + changes.base[group])


@pytest.fixture(scope="module")
def group():
    return np.where(small.structured().obs["cell_type"] == "type_1", 0, 1)


def test_sums_are_those_of_the_cells(group):
    model, adata = small.fitted(likelihood="nb"), small.structured()
    group = np.where(np.arange(small.N_OBS) < 10, -1, group)  # some cells belong nowhere
    found = sums_of(model, adata, group)
    counts, prior = small.dense(adata).astype(float), model.impute(adata, output="prior").astype(float)
    posterior = model.posterior(adata)
    laws = posterior.laws.over_cells(posterior.level)
    spread = (laws.weight * laws.scale**2 * (1 + 1 / laws.theta)).sum(axis=0) - 1
    size = counts.sum(axis=1, keepdims=True)
    for k in (0, 1):
        at = group == k
        np.testing.assert_allclose(found.counted[k], counts[at].sum(axis=0))
        np.testing.assert_allclose(found.expected[k], prior[at].sum(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.dispersed[k], (prior**2 * spread)[at].sum(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.square[k], (prior[at] ** 2).sum(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.cross[k], (prior * size)[at].sum(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.exposure_square[k], (size[at] ** 2).sum(), rtol=1e-4)
    np.testing.assert_allclose(found.base.sum(axis=0), found.counted.sum(axis=0), rtol=0.02)


def test_sums_leave_out_what_was_not_observed(group):
    model, adata = small.fitted(likelihood="nb"), small.structured()
    mask = np.ones(adata.shape, bool)
    mask[group == 0, 3] = False
    found = sums_of(model, adata, group, mask)
    assert found.counted[0, 3] == found.base[0, 3] == found.expected[0, 3] == found.exposure_square[0, 3] == 0
    assert found.base[1, 3] > 0


def test_base_of_a_model_with_batches_follows_them():
    model, adata = small.fitted(batch_key="batch", likelihood="nb"), small.structured()
    batch = (adata.obs["batch"] == adata.obs["batch"].iloc[0]).to_numpy().astype(int)
    found = sums_of(model, adata, batch)
    plain = sums_of(small.fitted(likelihood="nb"), adata, batch)
    error, without = (np.abs(np.log(s.counted + 1) - np.log(s.base + 1)).mean() for s in (found, plain))
    assert error < 0.5 * without
    # it is what the genes' means in the batches make one expect of the cells, over both groups as much as was counted
    values = nnx.to_pure_dict(model.outcome.fitted.params)
    level = adata.obs["batch"].cat.codes.to_numpy()
    share = softmax((np.asarray(values["log_profile"]) + total_effects(values))[level], axis=1)
    expected = share * small.dense(adata).sum(axis=1, keepdims=True)
    expected = np.stack([expected[batch == k].sum(axis=0) for k in (0, 1)])
    expected *= (found.counted.sum(axis=0) + 1) / (expected.sum(axis=0) + 1)
    np.testing.assert_allclose(found.base, expected, rtol=1e-3)


def _poisson(fold, base=200.0, inflation=0.0, n_vars=4000, seed=0):
    """Sums of two groups whose genes change by `fold` against their base."""
    rng = np.random.default_rng(seed)
    base = np.full((2, n_vars), base)
    rate = base * fold
    if inflation:
        rate = rng.gamma(rate / inflation, inflation)
    zero = np.zeros_like(base)
    return GroupSums(rng.poisson(rate).astype(float), base, base * fold, inflation * base * fold, zero, zero, zero)


@pytest.mark.parametrize("inflation", [0.0, 4.0])
def test_draws_cover_the_truth(inflation):
    rng = np.random.default_rng(1)
    fold = np.where(rng.random((2, 4000)) < 0.3, rng.gamma(6.25, 1 / 6.25, (2, 4000)), 1.0)
    changes = fit_fold_changes(_poisson(fold, inflation=inflation))
    for side in (0, 1):
        draws = draw_log_change(changes, side, 400, rng)
        lower, upper = np.quantile(draws, [0.05, 0.95], axis=0)
        inside = (np.log(fold[side]) >= lower) & (np.log(fold[side]) <= upper)
        assert 0.87 < inside.mean() < 0.97
        assert inside[fold[side] != 1].mean() > 0.75


def test_change_common_to_all_genes_is_the_center():
    fold = np.stack([np.full(4000, 0.8), np.full(4000, 1.1)])
    changes = fit_fold_changes(_poisson(fold))
    np.testing.assert_allclose(np.exp(changes.log_center[:, 0]), [0.8, 1.1], rtol=0.04)
    draws = draw_log_change(changes, 0, 100, np.random.default_rng(0))
    assert np.abs(np.exp(draws.mean(axis=0)) / 0.8 - 1).mean() < 0.03


def test_center_and_prior_are_the_likeliest_of_all():
    rng = np.random.default_rng(2)
    sums = _poisson(rng.gamma(25, 1 / 25, (2, 4000)) * np.array([[0.7], [1.2]]), base=20.0)
    changes = fit_fold_changes(sums)
    # the prior, from the posterior weights and the likelihoods of a gene
    likelihood, _ = _scaled(_of_counts(changes.counted), changes.counted, changes.base)
    prior = (changes.weight / likelihood)[:, 0, 0]
    prior /= prior.sum()
    np.testing.assert_allclose(
        changes.weight, prior[:, None, None] * likelihood / np.einsum("k,kij->ij", prior, likelihood), rtol=1e-9
    )
    for k, center in enumerate(np.exp(changes.log_center[:, 0])):
        plain = changes.base[k] / center

        def score(at, plain=plain, k=k):
            likelihood, top = _scaled(_of_counts(changes.counted[k]), changes.counted[k], plain * at)
            return (np.log(prior @ likelihood) + top).sum()

        every = [score(at) for at in _CENTRES]
        # learned in turn with the prior, which has moved a little since
        assert abs(int(np.argmax(every)) - int(np.argmin(np.abs(_CENTRES - center)))) <= 1


def test_gene_without_counts_is_uncertain_and_finite():
    sums = _poisson(1.0)
    none = GroupSums(*(np.where(np.arange(4000) == 7, 0, part) for part in sums))
    draws = draw_log_change(fit_fold_changes(none), 0, 100, np.random.default_rng(0))
    assert np.isfinite(draws).all()


def test_nothing_expected_anywhere():
    zero = GroupSums(*np.zeros((7, 2, 3)))
    assert np.isfinite(draw_log_change(fit_fold_changes(zero), 1, 10, np.random.default_rng(0))).all()


def test_dropout_is_in_the_base():
    adata = scdae.datasets.simulate(400, 60, n_types=2, trajectory=False, depth=900, dropout=0.6, seed=0)
    model = small.fit(adata, likelihood="zinb")
    assert model.outcome.fitted.inflated.any()
    group = (adata.obs["cell_type"] == "type_1").to_numpy().astype(int)
    found = sums_of(model, adata, group)
    assert sp.issparse(adata.X) and isinstance(adata, ad.AnnData)
    np.testing.assert_allclose(found.expected.sum(axis=0), found.counted.sum(axis=0), rtol=0.25, atol=30)
