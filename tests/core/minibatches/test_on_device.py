import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

import scdae
import small
from scdae.core.data import survey
from scdae.core.data.cells import CellData, cell_data
from scdae.core.data.minibatch import Size
from scdae.core.minibatches.loader import InMemory
from scdae.core.minibatches.on_device import (
    DeviceData,
    Lists,
    fits,
    make_minibatch,
    make_run,
    pick,
    put,
    thin_on_device,
)
from scdae.core.network.encoder_input import Axes, project
from scdae.core.steps import steppers

N_OBS, N_VARS, NOISE = 40, 15, (0.2, 0.6)


def cells(masked=False, batches=False):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (N_OBS, N_VARS)).astype(np.float32)
    counts[7] = 0
    hidden = np.zeros(counts.shape, bool)
    if masked:
        hidden[10:30, :4] = True
        counts[hidden] = 0
    conditions = small.of_levels(np.arange(N_OBS) % 3, values=[np.linspace(-1, 1, N_OBS)]) if batches else None
    profile = counts.sum(axis=0) / counts.sum()
    gaps = sp.csr_matrix(hidden) if masked else None
    return cell_data(sp.csr_matrix(counts), gaps, conditions, profile)


def axes(effects=False):
    rng = np.random.default_rng(1)
    weight, mean = rng.normal(size=(N_VARS, 6)).astype(np.float32), rng.gamma(1, 1, N_VARS).astype(np.float32)
    return Axes(weight, mean, rng.normal(size=(4, N_VARS)).astype(np.float32) if effects else None)


@pytest.mark.parametrize("capacity", [60, 256])
def test_entries_of_some_rows_are_picked(capacity):
    matrix = cells().counts
    data, place = put(InMemory(cells()))
    np.testing.assert_array_equal(place, np.arange(N_OBS))
    chosen = np.array([3, 39, 7, 0, 3])
    rows, at, real = map(np.asarray, pick(data.counts, jnp.asarray(chosen), capacity))
    part = matrix[chosen]
    assert real.sum() == min(part.nnz, capacity) and real[: part.nnz].all()
    if part.nnz <= capacity:
        np.testing.assert_array_equal(rows[real], np.repeat(np.arange(5), np.diff(part.indptr)))
        np.testing.assert_array_equal(np.asarray(data.counts.columns)[at[real]], part.indices)
        np.testing.assert_array_equal(np.asarray(data.counts.values)[at[real]], part.data)
    assert at.max() < matrix.nnz and rows.max() < 5


def thinned(count, keep, n=20000):
    return np.asarray(thin_on_device(jax.random.key(3), jnp.full(n, float(count)), jnp.full(n, keep)))


@pytest.mark.parametrize("count", [1, 3, 12, 32])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.5, 0.9])
def test_thinning_is_binomial(count, keep):
    kept = thinned(count, keep)
    assert kept.min() >= 0 and kept.max() <= count
    expected = 20000 * stats.binom(count, keep).pmf(np.arange(count + 1))
    seen = np.bincount(kept.astype(int), minlength=count + 1)
    few = expected <= 5
    seen, expected = (np.append(part[~few], part[few].sum() + 1) for part in (seen, expected))
    assert stats.chisquare(seen, expected, sum_check=False).pvalue > 1e-4


@pytest.mark.parametrize("count", [33, 40, 70, 700, 20000])
@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.9])
def test_thinning_of_many_molecules_has_the_moments_of_the_binomial_law(count, keep):
    kept, law = thinned(count, keep), stats.binom(count, keep)
    assert kept.min() >= 0 and kept.max() <= count and (kept == np.round(kept)).all()
    assert kept.mean() == pytest.approx(law.mean(), abs=4 * law.std() / 20000**0.5 + 0.02)
    assert kept.std() == pytest.approx(law.std(), rel=0.03)
    assert stats.skew(kept) == pytest.approx(law.stats("s"), abs=0.1)


@pytest.mark.parametrize("count", [0, 5, 32, 33, 5000])
def test_all_or_nothing_is_kept(count):
    assert (thinned(count, 0.0, 500) == 0).all()
    assert (thinned(count, 1.0, 500) == count).all()


def test_a_fraction_is_kept_whole_or_not_at_all():
    kept = np.asarray(thin_on_device(jax.random.key(0), jnp.full(20_000, 0.5), jnp.full(20_000, 0.4)))
    assert set(np.unique(kept)) == {0, 0.5}
    assert kept.mean() == pytest.approx(0.2, abs=0.01)
    assert thin_on_device(jax.random.key(0), jnp.array([2.25]), jnp.array([1.0])).tolist() == [2.25]
    assert thin_on_device(jax.random.key(0), jnp.array([2.25]), jnp.array([0.0])).tolist() == [0]


def test_a_fraction_is_drawn_apart_from_the_molecule():
    kept = np.asarray(thin_on_device(jax.random.key(1), jnp.full(20_000, 1.5), jnp.full(20_000, 0.5)))
    assert np.corrcoef(np.floor(kept), kept - np.floor(kept))[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(("masked", "batches"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_minibatch_is_what_the_host_would_make(masked, batches):
    data, one = cells(masked, batches), axes(batches)
    genes = np.arange(N_VARS) < 5
    source = InMemory(data)
    order = source.order(8, 5, np.random.default_rng(0))
    size = source.size(order, genes)
    there, place = put(source)
    make = jax.jit(make_minibatch(one, NOISE, size, N_VARS))
    for chosen in order:
        batch = jax.tree.map(np.asarray, make(there, jnp.asarray(place[chosen]), jax.random.key(5)))
        part = data.take(chosen)
        stored = part.counts.nnz
        np.testing.assert_array_equal(batch.rows[:stored], np.repeat(np.arange(8), np.diff(part.counts.indptr)))
        np.testing.assert_array_equal(batch.cols[:stored], part.counts.indices)
        np.testing.assert_array_equal((batch.x_in + batch.x_out)[:stored], part.counts.data)
        assert not batch.x_in[stored:].any() and not batch.x_out[stored:].any()
        thinned = sp.csr_matrix((batch.x_in[:stored], part.counts.indices, part.counts.indptr), part.counts.shape)
        shown = CellData(thinned, part.unobserved, part.conditions, part.share)
        np.testing.assert_allclose(batch.inputs, project(one, shown), rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(batch.conditions.levels, part.conditions.levels)
        np.testing.assert_array_equal(batch.share, part.share)
        listed = batch.chosen[batch.chosen < stored]
        np.testing.assert_array_equal(listed, np.flatnonzero(genes[part.counts.indices]))
        assert (batch.chosen[len(listed) :] == size.stored - 1).all()
        if masked:
            dense = np.ones((8, N_VARS + 1), bool)
            dense[batch.hidden_rows, batch.hidden_cols] = False
            np.testing.assert_array_equal(~dense[:, :-1], part.unobserved.toarray())
        else:
            assert batch.hidden_rows.shape == (0,)


def test_levels_of_noise_cover_the_range():
    data = cells()
    source = InMemory(cell_data(sp.csr_matrix(1000 * data.counts), None, None, np.full(N_VARS, 1 / N_VARS)))
    order = source.order(20, 10, np.random.default_rng(0))
    there, _ = put(source)
    make = jax.jit(make_minibatch(axes(), NOISE, source.size(order), N_VARS))
    hidden = []
    for i, chosen in enumerate(order):
        batch = make(there, jnp.asarray(chosen, jnp.int32), jax.random.key(i))
        total_in, total_out = (np.bincount(batch.rows, x, 20) for x in (batch.x_in, batch.x_out))
        hidden.append((total_out / np.maximum(total_in + total_out, 1))[total_in + total_out > 0])
    hidden = np.concatenate(hidden)
    assert 0.19 < hidden.min() < 0.25 and 0.55 < hidden.max() < 0.61 and abs(hidden.mean() - 0.4) < 0.03


def test_many_steps_are_one_call():
    source = InMemory(cells())
    order = source.order(8, 9, np.random.default_rng(0))
    there, place = put(source)

    def update(params, state, batch):
        return params + batch.x_in.sum(), state + 1, batch.x_out.sum()

    minibatch = make_minibatch(axes(), NOISE, source.size(order), N_VARS)
    run = make_run(update, minibatch)
    key, steps = jax.random.key(2), jnp.asarray(place[order])
    whole = run(jnp.float32(0), jnp.int32(0), there, steps, 0, 9, key)
    first = run(jnp.float32(0), jnp.int32(0), there, steps, 0, 4, key)
    second = run(first[0], first[1], there, steps, 4, 9, key)
    assert run._cache_size() == 1 and int(whole[1]) == int(second[1]) == 9
    np.testing.assert_allclose(whole[0], second[0], rtol=1e-6)
    np.testing.assert_allclose(whole[2], (4 * first[2] + 5 * second[2]) / 9, rtol=1e-6)
    np.testing.assert_allclose(whole[0] + 9 * whole[2], source.data.counts[order.ravel()].sum(), rtol=1e-5)


def test_the_host_is_no_accelerator():
    if jax.default_backend() == "cpu":
        assert not fits(InMemory(cells()))


def test_lists_of_no_cells_with_entries_missing():
    """The last row may be empty: places stay within the lists."""
    empty = Lists(jnp.array([0, 2]), jnp.array([2, 0]), jnp.array([1, 4]), jnp.array([1.0, 1.0]))
    rows, at, real = pick(empty, jnp.array([1, 1]), 8)
    assert not np.asarray(real).any() and np.asarray(at).max() == 0
    assert isinstance(DeviceData(empty, None, None, None).counts, Lists) and isinstance(Size(8), Size)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),  # the other has all of it, and the next test fits without batches
        {"likelihood": "zinb", "batch_key": "batch"},
    ],
    ids=["plain", "dropout and batches"],
)
def test_a_fit_near_the_data_is_as_good(monkeypatch, options):
    """Other random numbers, so other bits; the same seed gives the same ones."""
    settings = {"likelihood": "nb", "max_epochs": 40, **options}
    far = small.fitted(**settings)
    monkeypatch.setattr(steppers, "fits", lambda source: True)
    one, same = small.fit(**settings), small.fit(**settings)
    assert one.outcome.report.skill == pytest.approx(far.outcome.report.skill, abs=0.02)
    assert one.outcome.n_epochs == pytest.approx(far.outcome.n_epochs, rel=0.5)
    adata = small.structured()
    np.testing.assert_array_equal(one.impute(adata), same.impute(adata))
    assert not np.array_equal(one.impute(adata), far.impute(adata))


def test_a_fit_near_the_data_with_dropout_gaps_and_blocks(monkeypatch):
    """Dropout is found half-way, and the step is compiled again with the listed entries."""
    counts, lossy = small.zero_inflated(0.3)
    monkeypatch.setattr(steppers, "fits", lambda source: True)
    model = small.fit(small.ad.AnnData(sp.csr_matrix(counts)), likelihood="zinb")
    assert model.outcome.fitted.inflated[lossy].mean() > 0.5 and not model.outcome.fitted.inflated[~lossy].any()
    monkeypatch.setattr(scdae.settings, "_max_entries", 1000)
    monkeypatch.setattr(survey, "_CELLS", (60, 60))
    observed = np.random.default_rng(0).random((small.N_OBS, small.N_VARS)) < 0.9
    assert small.fit(mask=observed, likelihood="nb").outcome.report.skill > 0.02
