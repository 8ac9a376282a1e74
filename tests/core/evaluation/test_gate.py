import numpy as np
import pytest
import scipy.sparse as sp
from flax import nnx

import small
from scdae.core.data.cells import cell_data
from scdae.core.data.conditions import effect_of
from scdae.core.evaluation.gate import GRID, apply_gate, gate_from_evidence, match_totals, reliability
from scdae.core.network.autoencoder import Autoencoder, with_values
from scdae.core.network.dispersion import flat_theta, moment_theta

CHANGED = ("loading", "batch_effect", "batch_turn", "turn_loading")
EFFECTS = np.array([[0.3, -0.2, 0.1], [-0.4, 0.5, 0.2], [0.2, 0.1, -0.6]], np.float32)  # two batches and a number


def evidence(best, strength, n_genes, seed=0):
    """Log likelihoods that are parabolas in the factor, peaked around `best`, known to `strength` ** -0.5."""
    rng = np.random.default_rng(seed)
    peak = np.broadcast_to(best, n_genes) + rng.normal(0, strength**-0.5, n_genes)
    return -0.5 * strength * (GRID[:, None] - peak) ** 2


def test_noise_is_closed_and_signal_is_open():
    assert gate_from_evidence(evidence(0.0, 20.0, 500)).mean() < 0.05
    assert gate_from_evidence(evidence(1.0, 20.0, 500)).mean() > 0.95


def test_weak_evidence_follows_the_majority():
    """One gene alone could not tell; a thousand of them can."""
    alone = evidence(0.0, 2.0, 1000)
    assert gate_from_evidence(alone).mean() < 0.1
    genes = np.concatenate([evidence(1.0, 50.0, 200), np.zeros((len(GRID), 1))], axis=1)
    assert gate_from_evidence(genes)[-1] > 0.9


def test_genes_of_both_kinds_are_told_apart():
    both = np.concatenate([evidence(0.0, 100.0, 100), evidence(1.0, 100.0, 100)], axis=1)
    gate = gate_from_evidence(both)
    assert gate[:100].mean() < 0.1 and gate[100:].mean() > 0.9
    assert gate.dtype == np.float32 and ((gate >= 0) & (gate <= 1)).all()


def test_overwhelming_evidence_does_not_overflow():
    gate = gate_from_evidence(evidence(0.5, 1e6, 20))
    assert np.isfinite(gate).all()
    np.testing.assert_allclose(gate, 0.5, atol=1e-3)


def test_constants_do_not_matter():
    values = evidence(0.7, 10.0, 30)
    shift = np.random.default_rng(1).normal(0, 1e4, 30)
    np.testing.assert_allclose(gate_from_evidence(values + shift), gate_from_evidence(values), atol=1e-4)


@pytest.mark.parametrize(("molecules", "often"), [(100, 0.05), (10**7, 0.01)])
def test_gains_of_chance_leave_nothing(molecules, often):
    rng = np.random.default_rng(0)
    opened = [reliability(rng.normal(0, 1, 300), molecules) for _ in range(500)]
    assert np.mean(np.array(opened) > 0) < often and np.mean(opened) < 0.02
    assert reliability(rng.normal(-5, 1, 300), molecules) == 0
    assert reliability(np.zeros(300), molecules) == 0


@pytest.mark.parametrize(("molecules", "errors"), [(1000, 2.5), (10**7, 4)])
def test_gains_beyond_chance_leave_everything(molecules, errors):
    """Of a slight gain a molecule more standard errors are asked for."""
    rng = np.random.default_rng(0)
    assert reliability(rng.normal(1, 1, 300), molecules) == 1
    assert reliability(np.full(5, 0.1), molecules) == 1
    cells = rng.normal(0, 1, 10000)
    cells = (cells - cells.mean()) / cells.std()  # a mean gain of m is m * 100 standard errors
    assert reliability(cells + errors / 100, molecules) == pytest.approx(0.5)
    less, more = (reliability(cells + errors * factor / 100, molecules) for factor in (0.95, 1.05))
    assert 0 < less < more < 1


def params_and_graph():
    profile = np.array([0.5, 0.3, 0.2])
    model = Autoencoder(profile, n_inputs=2, n_hidden=4, n_latent=2, effects=EFFECTS)
    graph, params = nnx.split(model, nnx.Param)
    return graph, params


def test_closed_gate_leaves_the_gene_means_and_their_dispersion():
    graph, params = params_and_graph()
    values = nnx.to_pure_dict(params)
    changed = {name: np.random.default_rng(1).normal(size=values[name].shape) for name in CHANGED}
    params = with_values(params, values | changed)
    latent, conditions = np.ones((4, 2), np.float32), small.of_levels([0, 1, 0, 1], values=[[0.5, 0, -1, 1]])
    gated = nnx.merge(graph, apply_gate(params, np.array([0.0, 1.0, 0.5]), np.array([0.7, 0.7, 0.7])))
    before = nnx.merge(graph, params)
    base = np.asarray(before.log_profile[...]) + effect_of(EFFECTS, conditions)  # the gene's mean in these batches
    logits, open_logits = np.asarray(gated.decode(latent, conditions)), np.asarray(before.decode(latent, conditions))
    assert (np.abs(open_logits - base) > 0.01).all()
    np.testing.assert_allclose(logits[:, 0], base[:, 0], rtol=1e-5)
    np.testing.assert_allclose(logits[:, 1], open_logits[:, 1], rtol=1e-6)
    np.testing.assert_allclose((logits - base)[:, 2], (open_logits - base)[:, 2] / 2, rtol=1e-4)
    np.testing.assert_allclose(gated.theta(), [0.7, 5.0, np.sqrt(0.7 * 5)], rtol=1e-5)


def test_totals_are_matched():
    graph, params = params_and_graph()
    counted, expected = np.array([99.0, 0.0, 9.0]), np.array([49.0, 0.0, 19.0])
    moved = nnx.merge(graph, match_totals(params, counted, expected)).log_profile[...]
    np.testing.assert_allclose(moved - params["log_profile"][...], np.log([2, 1, 0.5]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("theta", [0.5, 4.0])
def test_moment_theta(theta):
    rng = np.random.default_rng(0)
    depth, profile = rng.uniform(500, 1500, (4000, 1)), np.array([0.2, 0.3, 0.5]) / 20
    rate = depth * profile * rng.gamma(theta, 1 / theta, (4000, 3))
    counts = rng.poisson(rate).astype(np.float32)
    depth_gene = rng.poisson(depth * 0.95).astype(np.float32)  # the rest of the panel fixes the library size
    whole = np.concatenate([counts, depth_gene], axis=1)
    found = moment_theta(sp.csr_matrix(whole), whole.sum(axis=0) / whole.sum(), np.ones(4000))
    np.testing.assert_allclose(found[:3], theta, rtol=0.15)


def test_moment_theta_of_poisson_counts_is_large_and_of_empty_genes_finite():
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.array([3.0, 5.0, 0.0, 400.0]), (3000, 4)).astype(np.float32)
    theta = moment_theta(sp.csr_matrix(counts), counts.sum(axis=0) / counts.sum(), np.ones(3000))
    assert np.isfinite(theta).all()
    assert (theta[:2] > 20).all()


def overdispersed(theta, profile, n_obs=4000):
    """Counts around the profile of each cell, and a last gene without dispersion that fixes the library size."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(500, 1500, (n_obs, 1))
    counts = rng.poisson(depth * profile * rng.gamma(theta, 1 / theta, profile.shape))
    return np.concatenate([counts, rng.poisson(depth)], axis=1).astype(np.float32)


def test_moment_theta_around_the_mean_of_each_row():
    """Two groups whose genes differ: around the mean of all, that difference would be dispersion."""
    row = (np.arange(4000) % 4 == 0).astype(int)
    whole = overdispersed(10.0, np.array([[0.01, 0.02, 0.03], [0.04, 0.005, 0.03]])[row])
    profiles = np.stack([whole[row == k].sum(axis=0) / whole[row == k].sum() for k in (0, 1)])
    found = moment_theta(sp.csr_matrix(whole), profiles, np.ones(4000), row)
    np.testing.assert_allclose(found[:3], 10, rtol=0.15)
    around_all = moment_theta(sp.csr_matrix(whole), whole.sum(axis=0) / whole.sum(), np.ones(4000))
    assert (around_all[:2] < 6).all()
    same = moment_theta(sp.csr_matrix(whole), profiles[[0, 0]], np.ones(4000), row)
    np.testing.assert_allclose(same, moment_theta(sp.csr_matrix(whole), profiles[0], np.ones(4000)), rtol=1e-6)


def test_flat_theta_is_that_around_the_means_of_the_batches():
    level = (np.arange(4000) % 4 == 0).astype(int)
    whole = overdispersed(10.0, np.array([[0.01, 0.02, 0.03], [0.04, 0.005, 0.03]])[level])
    profile = whole.sum(axis=0) / whole.sum()
    start = np.log([whole[level == k].sum(axis=0) / whole[level == k].sum() for k in (0, 1)]) - np.log(profile)
    data = cell_data(sp.csr_matrix(whole), None, small.of_levels(level), profile)
    found = {}
    for name, effects in (("known", start), ("unknown", None)):
        model = Autoencoder(profile, n_inputs=2, n_hidden=4, n_latent=2, effects=effects)
        found[name] = flat_theta(profile, nnx.split(model, nnx.Param)[1], data)
    np.testing.assert_allclose(found["known"][:3], 10, rtol=0.15)
    assert (found["unknown"][:2] < 6).all()
