"""What a fit works on, in an order of its own; and what a fit compiles."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.training.counted import counted, profile_of
from scdae.core.training.fit import fit_counts

N_OBS = 90


def made(n_vars, rng):
    """Two kinds of cells; every gene has counts."""
    mean = rng.gamma(2, 0.7, n_vars) * np.where(np.arange(N_OBS)[:, None] % 2, np.exp(rng.normal(0, 0.5, n_vars)), 1)
    counts = rng.poisson(mean)
    counts[0] += counts.sum(axis=0) == 0
    return sp.csr_matrix(counts.astype(np.float32))


def test_cells_and_genes_without_counts_are_left_out_and_the_way_back_is_known():
    dense = made(30, np.random.default_rng(0)).toarray()
    dense[5], dense[:, 7] = 0, 0
    found = counted(sp.csr_matrix(dense), None, None, None)
    kept = np.delete(np.delete(dense, 5, axis=0), 7, axis=1)
    assert found.counts.shape == kept.shape
    cells, columns = found.back
    np.testing.assert_array_equal(found.counts.toarray()[cells][:, columns], kept)
    np.testing.assert_array_equal(found.rows[cells], np.delete(np.arange(N_OBS), 5))
    np.testing.assert_array_equal(found.genes[columns], np.delete(np.arange(30), 7))
    np.testing.assert_allclose(profile_of(found, None)[columns], kept.sum(axis=0) / kept.sum())


@pytest.mark.parametrize("depth", [1.0, 0.01])
def test_what_judges_a_fit_is_compiled_once(depth):
    """Also where some cells have few molecules, and are placed in another way."""
    compiled = []

    def listen(event, _, **of):
        if event.endswith("backend_compile_duration"):
            compiled.append(of["fun_name"])

    counts = made(int(330 + 10 * depth), np.random.default_rng(1)).toarray()
    counts[:4] = np.floor(counts[:4] * depth)
    config = Config(max_epochs=3, batch_size=32, n_latent=4, n_hidden=8, n_components=6)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fit_counts(sp.csr_matrix(counts), None, None, 0, 0, config)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sum("_deviance" in name for name in compiled) == 1
