"""What a fit works on, and columns without counts that make up the number of genes."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.training import counted as module
from scdae.core.training.counted import counted, profile_of
from scdae.core.training.fit import fit_counts

N_OBS = 90


def made(n_vars, rng):
    """Two kinds of cells; every gene has counts."""
    mean = rng.gamma(2, 0.7, n_vars) * np.where(np.arange(N_OBS)[:, None] % 2, np.exp(rng.normal(0, 0.5, n_vars)), 1)
    counts = rng.poisson(mean)
    counts[0] += counts.sum(axis=0) == 0
    return sp.csr_matrix(counts.astype(np.float32))


@pytest.mark.parametrize(("n_vars", "n_columns"), [(30, 30), (1024, 1024), (1025, 1056), (1090, 1120), (1120, 1120)])
def test_the_number_of_genes_is_rounded_up_with_columns_without_counts(n_vars, n_columns):
    counts = made(n_vars, np.random.default_rng(0))
    found = counted(counts, None, None, None)
    assert found.counts.shape == (N_OBS, n_columns)
    assert len(found.genes) == n_vars
    cells, columns = found.back
    np.testing.assert_array_equal(found.counts.toarray()[cells][:, columns], counts.toarray())
    profile = profile_of(found, None)
    assert profile.shape == (n_columns,)
    assert profile[:n_vars].sum() == pytest.approx(1, abs=1e-12)
    assert (profile > 0).all() and profile[n_vars:].sum() < 1e-9


def test_columns_without_counts_change_nothing_but_the_draws(monkeypatch):
    """They are no genes: what is fitted has none of them, and the same fractions as without them."""
    counts = sp.csr_matrix(made(60, np.random.default_rng(1)).toarray() * (np.arange(60) != 7))
    config = Config(max_epochs=200, batch_size=64, n_latent=4, learning_rate=0.01)
    plain = fit_counts(counts, None, None, 0, 0, config)
    monkeypatch.setattr(module, "_FEW", 32)
    monkeypatch.setattr(module, "_STEPS", 2)
    more = fit_counts(counts, None, None, 0, 0, config)
    for one in (plain, more):
        np.testing.assert_array_equal(one.genes, np.delete(np.arange(60), 7))
        assert one.fitted.axes.weight.shape[0] == one.fitted.profile.shape[0] == 59
        assert one.fitted.laws.plain.weight.shape[2] == one.gate.shape[0] == one.report.expected.shape[0] == 59
        np.testing.assert_allclose(one.report.expected.sum(), one.report.molecules * (1 / one.held_out - 1), rtol=0.1)
    assert more.report.skill == pytest.approx(plain.report.skill, abs=0.01)
    np.testing.assert_allclose(more.report.expected, plain.report.expected, rtol=0.02)


def test_what_was_compiled_serves_about_as_many_genes():
    compiled = []

    def listen(event, _, **of):
        if event.endswith("backend_compile_duration"):
            compiled.append(of["fun_name"])

    config = Config(max_epochs=3, batch_size=32, n_latent=4, n_hidden=8, n_components=6)
    fit_counts(made(1_100, np.random.default_rng(2)), None, None, 0, 0, config)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fit_counts(made(1_090, np.random.default_rng(2)), None, None, 0, 0, config)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not {name for name in compiled if "update" in name or "_deviance" in name or "_log_likelihoods" in name}
