import functools

import anndata as ad
import jax
import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx

import scdae
import small
from scdae.core.config import Config
from scdae.core.data.cells import cell_data
from scdae.core.distributions.laws import components
from scdae.core.training.fit import fit_counts, held_out_share

OF_GENES = (
    "loading",
    "log_profile",
    "log_theta",
    "log_theta_zi",
    "logit_pi",
    "batch_start",
    "batch_effect",
    "turn_loading",
)


def fit(counts, **settings):
    counts = sp.csr_matrix(np.asarray(counts, np.float32))
    config = Config(**{"max_epochs": 40, "batch_size": 64, "likelihood": "nb", **settings})
    return fit_counts(counts, None, None, 0, 0, config)


def values_of(outcome):
    return {name: np.asarray(value) for name, value in nnx.to_pure_dict(outcome.fitted.params).items()}


@pytest.mark.parametrize(("molecules", "share"), [(0, 0.1), (1e4, 0.1), (2e6, 0.05), (1e9, 0.03)])
def test_held_out_share_is_enough_to_judge_by(molecules, share):
    assert held_out_share(molecules) == pytest.approx(share)


def test_the_order_of_cells_and_genes_is_none_of_the_results_business():
    rng = np.random.default_rng(0)
    mean = np.outer(rng.gamma(4, 0.5, 120), rng.gamma(2, 2, 30)) * np.where(rng.random((120, 30)) < 0.3, 0, 1)
    counts, hidden, level = rng.poisson(mean).astype(np.float32), rng.random(mean.shape) < 0.1, rng.integers(0, 2, 120)
    counts[hidden], counts[7] = 0, 0

    def fitted(cells, genes):
        part, mask = (sp.csr_matrix(x[cells][:, genes]) for x in (counts, hidden))
        config = Config(max_epochs=4, batch_size=32, gap_max_iter=0)
        return fit_counts(part, mask, small.of_levels(level[cells]), 2, 2, config)

    cells, genes = rng.permutation(120), rng.permutation(30)
    one, other = fitted(np.arange(120), np.arange(30)), fitted(cells, genes)
    place = np.argsort(genes)[one.genes]
    assert (np.diff(one.genes) > 0).all() and (np.diff(other.genes) > 0).all()
    np.testing.assert_array_equal(np.sort(cells[other.cells]), one.cells)
    for name, value in values_of(one).items():
        again = values_of(other)[name]
        some = again[..., place] if name in OF_GENES else again
        np.testing.assert_array_equal(value, some, err_msg=name)
    np.testing.assert_array_equal(one.fitted.laws.plain.weight, other.fitted.laws.plain.weight[..., place])
    np.testing.assert_array_equal(one.fitted.axes.weight, other.fitted.axes.weight[place])
    np.testing.assert_array_equal(one.report.gene_gain, other.report.gene_gain[place])
    np.testing.assert_array_equal(one.report.cell_gain, other.report.cell_gain[np.argsort(cells[other.cells])])
    assert one.report.efficiency == other.report.efficiency


def test_same_seed_same_bits_other_seed_other_bits():
    settings = {"likelihood": "nb", "max_epochs": 7}
    one, same = small.fitted(**settings).outcome, small.fit(**settings).outcome
    other = small.fit(seed=1, **settings).outcome
    jax.tree.map(np.testing.assert_array_equal, values_of(one), values_of(same))
    np.testing.assert_array_equal(one.gate, same.gate)
    np.testing.assert_array_equal(one.report.gene_deviance, same.report.gene_deviance)
    assert one.history == same.history
    assert not np.array_equal(values_of(one)["hidden_kernel"], values_of(other)["hidden_kernel"])
    assert not np.array_equal(one.report.cell_baseline, other.report.cell_baseline)


def test_noise_stays_noise():
    outcome = small.fitted_to_noise().outcome
    assert outcome.gate.mean() < 0.1
    assert abs(outcome.report.skill) < 0.01
    loading = values_of(outcome)["loading"]
    open_network = values_of(small.fitted(likelihood="nb").outcome)["loading"]
    assert np.abs(loading).mean() < 0.1 * np.abs(open_network).mean()
    assert not outcome.fitted.inflated.any()


def correlation(values):
    """Mean |r| between genes, of log counts per ten thousand."""
    logged = np.log1p(1e4 * values / values.sum(axis=1, keepdims=True))
    logged = logged[:, logged.std(axis=0) > 1e-3]  # what does not vary at all is not correlated either
    if logged.shape[1] < 2:
        return 0.0
    return np.abs(np.corrcoef(logged.T)[np.triu_indices(logged.shape[1], 1)]).mean()


@pytest.mark.parametrize("output", ["mean", "prior"])
def test_no_correlation_is_put_into_noise(output):
    restored = small.fitted_to_noise().impute(small.noise(), output=output)
    assert correlation(restored) <= 1.25 * correlation(small.dense(small.noise()))


def deep():
    """Data of the same kind with enough held-out molecules to be sure of their structure."""
    return scdae.datasets.simulate(
        400, 60, n_types=3, trajectory=False, depth=1600, dropout=0.0, dispersion=0.1, seed=0
    )


def test_structure_is_let_through():
    outcome = fit(small.dense(deep()), likelihood="nb", max_epochs=40)
    assert outcome.gate.mean() > 0.8
    assert 0.02 < outcome.report.skill < outcome.report.skill_restored
    assert np.nanmean(outcome.report.gene_gain) > 0.02 and outcome.report.helped.mean() > 0.3


def test_dispersion_of_noise_is_that_of_poisson():
    theta = np.exp(values_of(small.fitted_to_noise().outcome)["log_theta"])
    means = np.asarray(small.noise().X.mean(axis=0)).ravel()
    assert np.median(theta[means > 3]) > 10


@functools.cache
def fitted_to_zero_inflated(pi):
    return fit(small.zero_inflated(pi)[0], likelihood="zinb", max_epochs=40)


def test_dropout_is_found_where_it_is():
    outcome, (_, lossy) = fitted_to_zero_inflated(0.4), small.zero_inflated(0.4)
    flagged = outcome.fitted.inflated
    assert flagged[lossy].mean() >= 0.8
    assert flagged[~lossy].sum() <= 1


def test_dropout_is_not_found_where_there_is_none():
    outcome = fitted_to_zero_inflated(0.0)
    assert outcome.fitted.inflated.sum() <= 1


def test_probability_of_dropout_is_near_the_truth():
    """Whether a gene is flagged or not, the law with dropout has learned how much there would be."""
    laws = fitted_to_zero_inflated(0.4).fitted.laws
    found = components(laws).dropout / np.maximum(laws.chance, 0.5)
    lossy = small.zero_inflated(0.4)[1]
    assert found[lossy].mean() == pytest.approx(0.4, abs=0.06)
    np.testing.assert_allclose(found[lossy], 0.4, atol=0.15)
    assert found[~lossy].max() < 0.05


def test_totals_of_genes_are_kept():
    data, model = small.structured(), small.fitted(likelihood="nb")
    expected = model.impute(data, output="prior").sum(axis=0)
    counted = small.dense(data).sum(axis=0)
    held_out = 0.1 * counted  # not known to the model: chance by that many
    assert (np.abs(expected - counted) < 0.02 * counted + 4 * np.sqrt(held_out)).all()


def test_empty_genes_and_cells_are_left_out():
    outcome = small.fitted_to_gaps().outcome
    np.testing.assert_array_equal(outcome.genes, np.delete(np.arange(60), 5))
    np.testing.assert_array_equal(outcome.cells, np.delete(np.arange(150), 3))
    assert outcome.gate.shape == (59,) and outcome.report.cell_gain.shape == (149,)
    assert outcome.fitted.profile.sum() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(2, 2), (3, 1)])
def test_tiny_data(shape):
    counts = np.random.default_rng(0).poisson(2, shape) + 1
    outcome = fit(counts, max_epochs=1)
    assert all(np.isfinite(value).all() for value in values_of(outcome).values())
    assert not np.isnan(outcome.report.gene_gain[outcome.report.gene_molecules > 0]).any()
    assert np.isfinite(outcome.report.skill)


def test_a_single_molecule():
    outcome = fit([[1, 0], [0, 0]], max_epochs=1)
    assert all(np.isfinite(value).all() for value in values_of(outcome).values())
    assert np.isfinite(outcome.report.skill)


def test_exposure_is_that_of_the_whole_panel():
    profile = np.array([0.5, 0.3, 0.2])
    hidden = sp.csr_matrix(np.array([[False, True, False], [False, False, False]]))
    counts = sp.csr_matrix(np.array([[7, 0, 0], [5, 3, 2]], np.float32))
    data = cell_data(counts, hidden, None, profile)
    np.testing.assert_allclose(data.share, [0.7, 1.0])
    assert not data.conditions.any and len(data.conditions.levels) == len(data.conditions.values) == 2
    assert data.conditions.levels.dtype == np.int32 and data.share.dtype == np.float32


def test_held_out_share_can_be_chosen():
    outcome = small.fit(likelihood="nb", held_out=0.25, max_epochs=7).outcome
    assert outcome.held_out == 0.25
    assert outcome.report.molecules == pytest.approx(0.25 * small.structured().X.sum(), rel=0.02)


def test_counts_are_not_changed():
    counts = small.structured().X
    before = [part.tobytes() for part in (counts.data, counts.indices, counts.indptr)]
    small.fit(ad.AnnData(counts), likelihood="nb", max_epochs=7)
    assert before == [part.tobytes() for part in (counts.data, counts.indices, counts.indptr)]


CONDITIONS = {
    "two batches": (small.of_levels([0, 1, 0]), 2, 2),
    "a batch for each cell": (small.of_levels([2, 1, 0]), 3, 3),
    "a level that no cell has": (small.of_levels([0, 2, 0]), 4, 4),
    "numbers": (small.of_levels(values=[[0.0, 1.0, -1.0]]), 0, 0),
    "all of it": (small.of_levels([0, 1, 0], [2, 2, 3], values=[[0.0, 1.0, -1.0]]), 4, 2),
}


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_tiny_data_with_conditions(name):
    conditions, n_levels, n_batches = CONDITIONS[name]
    counts = sp.csr_matrix((np.random.default_rng(0).poisson(2, (3, 2)) + 1).astype(np.float32))
    config = Config(max_epochs=1, batch_size=64, likelihood="nb")
    outcome = fit_counts(counts, None, conditions, n_levels, n_batches, config)
    assert all(np.isfinite(value).all() for value in values_of(outcome).values())
    assert not np.isnan(outcome.report.gene_gain[outcome.report.gene_molecules > 0]).any()
    assert np.isfinite(outcome.report.skill)
    assert values_of(outcome)["batch_effect"].shape == (n_levels + conditions.values.shape[1], 2)


def test_conditions_are_those_of_the_cells_that_were_counted():
    """A cell without counts is left out, and takes its batch with it."""
    counts = small.dense(small.structured())
    level = small.structured().obs["batch"].cat.codes.to_numpy()
    config = Config(max_epochs=2, batch_size=64, likelihood="nb")
    with_empty = np.concatenate([np.zeros((1, small.N_VARS), np.float32), counts])
    longer = small.of_levels(np.concatenate([[1 - level[0]], level]))
    one = fit_counts(sp.csr_matrix(counts), None, small.of_levels(level), 2, 2, config)
    other = fit_counts(sp.csr_matrix(with_empty), None, longer, 2, 2, config)
    np.testing.assert_array_equal(other.cells, np.arange(1, small.N_OBS + 1))
    jax.tree.map(np.testing.assert_array_equal, values_of(one), values_of(other))
