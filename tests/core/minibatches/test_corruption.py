import numpy as np
import pytest
import scipy.sparse as sp

import small
from scdae.core.data.cells import CellData
from scdae.core.data.conditions import effect_of, no_conditions
from scdae.core.minibatches.corruption import corrupt, split, whole
from scdae.core.network.principal_axes import fit_axes

N_OBS, N_VARS = 40, 12


class Scene:
    def __init__(self, masked, batches):
        rng = np.random.default_rng(0)
        self.x = rng.poisson(rng.gamma(2, 2, (N_OBS, N_VARS))).astype(np.float32)
        self.hidden = rng.random(self.x.shape) < 0.2 if masked else np.zeros(self.x.shape, bool)
        self.x[self.hidden] = 0
        share = np.linspace(0.5, 1, N_OBS).astype(np.float32)
        unobserved = sp.csr_matrix(self.hidden) if masked else None
        conditions, effects = no_conditions(N_OBS), None
        self.factor = np.ones(self.x.shape)
        if batches:
            drawn = np.random.default_rng(1)
            conditions = small.of_levels(drawn.integers(0, 2, N_OBS), values=drawn.normal(size=(1, N_OBS)))
            effects = drawn.normal(0, 0.3, (3, N_VARS)).astype(np.float32)
            self.factor = np.exp(effect_of(effects, conditions))
        self.cells = CellData(sp.csr_matrix(self.x), unobserved, conditions, share)
        self.axes = fit_axes(self.cells, 1.0, 3, rng, effects)

    def dense(self, values):
        counts = self.cells.counts
        return sp.csr_matrix((values, counts.indices, counts.indptr), counts.shape).toarray()

    def project(self, shown, share, unseen):
        """Inputs of the encoder, from dense arrays."""
        shown = shown / self.factor
        exposure = np.maximum(shown.sum(axis=1) / share, 1e-12)[:, None]
        values = np.where(unseen, 0, np.log1p(1e4 * shown / exposure) - self.axes.gene_mean)
        return values @ self.axes.weight


@pytest.fixture(params=[(False, False), (True, False), (True, True)], ids=["all", "masked", "batches"])
def scene(request):
    return Scene(*request.param)


def test_whole_shows_everything(scene):
    halves = whole(scene.axes, scene.cells)
    np.testing.assert_array_equal(scene.dense(halves.x_in), scene.x)
    assert not halves.x_out.any() and halves.scored is None
    expected = scene.project(scene.x, scene.cells.share, scene.hidden)
    np.testing.assert_allclose(halves.inputs, expected, rtol=1e-3, atol=1e-3)


def test_split_asks_for_the_rest(scene):
    shown = np.floor(scene.cells.counts.data / 2)
    halves = split(scene.axes, scene.cells, shown)
    np.testing.assert_array_equal(halves.x_in + halves.x_out, scene.cells.counts.data)
    expected = scene.project(scene.dense(shown), scene.cells.share, scene.hidden)
    np.testing.assert_allclose(halves.inputs, expected, rtol=1e-3, atol=1e-3)


def test_thinning_hides_the_share_of_each_cell(scene):
    noise = np.linspace(0, 1, N_OBS).astype(np.float32)
    halves = corrupt(scene.axes, scene.cells, noise, "thinning", np.random.default_rng(1))
    shown, asked = scene.dense(halves.x_in), scene.dense(halves.x_out)
    np.testing.assert_array_equal(shown + asked, scene.x)
    assert not asked[0].any() and not shown[-1].any()
    assert halves.scored is None
    part = asked[10:30].sum() / scene.x[10:30].sum()
    assert part == pytest.approx(noise[10:30].mean(), abs=0.1)
    expected = scene.project(shown, scene.cells.share, scene.hidden)
    np.testing.assert_allclose(halves.inputs, expected, rtol=1e-3, atol=1e-3)


def test_masking_asks_for_whole_entries_that_it_hides(scene):
    noise = np.full(N_OBS, 0.4, np.float32)
    halves = corrupt(scene.axes, scene.cells, noise, "masking", np.random.default_rng(1))
    assert halves.scored.mean() == pytest.approx(0.4 * (1 - scene.hidden.mean()), abs=0.08)
    assert not (halves.scored & scene.hidden).any()
    assert not halves.x_in.any()
    np.testing.assert_array_equal(scene.dense(halves.x_out), np.where(halves.scored, scene.x, 0))
    # What was hidden, and what was not observed, counts as the gene's mean.
    drawn = np.random.default_rng(1).random(scene.x.shape, dtype=np.float32) < 0.4
    shown = np.where(drawn, 0, scene.x)
    expected = scene.project(shown, 0.6 * scene.cells.share, drawn | scene.hidden)
    np.testing.assert_allclose(halves.inputs, expected, rtol=1e-3, atol=1e-3)


def test_gaussian_noise_is_that_of_independent_genes_seen_on_the_axes(scene):
    noise = np.full(N_OBS, 0.3, np.float32)
    rng = np.random.default_rng(1)
    plain = whole(scene.axes, scene.cells).inputs
    draws = np.stack([corrupt(scene.axes, scene.cells, noise, "gaussian", rng).inputs - plain for _ in range(200)])
    length = np.sqrt((scene.axes.weight**2).sum(axis=0))
    np.testing.assert_allclose(draws.std(axis=(0, 1)), 0.3 * length, rtol=0.05)
    halves = corrupt(scene.axes, scene.cells, noise, "gaussian", rng)
    assert not halves.x_in.any()
    np.testing.assert_array_equal(scene.dense(halves.x_out), scene.x)


def test_empty_cells_give_finite_inputs(scene):
    dense = scene.x.copy()
    dense[3] = 0
    cells = CellData(sp.csr_matrix(dense), scene.cells.unobserved, scene.cells.conditions, scene.cells.share)
    for corruption in ("thinning", "masking", "gaussian"):
        halves = corrupt(scene.axes, cells, np.full(N_OBS, 0.5, np.float32), corruption, np.random.default_rng(0))
        assert np.isfinite(halves.inputs).all()
