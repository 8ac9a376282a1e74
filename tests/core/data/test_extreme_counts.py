import functools

import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.core.data.extreme_counts import extreme_entries, largest_count, put_back, without_extremes


def csr(rows):
    return sp.csr_matrix(np.array(rows, dtype=np.float32))


def test_a_count_is_too_large_beyond_ten_ordinary_cells():
    counts = csr([[3, 1], [2, 0], [0, 0], [900, 1]])
    assert largest_count(counts) == 10 * 4  # median of the cells that have counts: 2, 4 and 901
    assert largest_count(csr([[0, 0]])) == np.inf


def test_the_gene_that_makes_up_a_cell_is_no_damage():
    """Most of a red blood cell is hemoglobin; a deep cell has large counts of many genes."""
    cells = csr([[1400, 100, 0], [0, 700, 800], [9000, 8000, 7000], [10, 0, 1490]])
    assert not len(extreme_entries(cells, largest_count(cells)))
    assert without_extremes(cells, largest_count(cells), np.full(3, 1 / 3)) is cells


def test_what_the_gene_means_expect_takes_the_place():
    counts = csr([[30, 1e6, 10], [20, 25, 15], [1e9, 1e8, 60]])
    before = counts.copy()
    tamed = without_extremes(counts, 1000, np.array([0.5, 0.2, 0.3]))
    np.testing.assert_array_equal(tamed.toarray(), [[30, 10, 10], [20, 25, 15], [60, 15, 60]])
    assert (counts != before).nnz == 0
    np.testing.assert_array_equal(counts.data[extreme_entries(counts, 1000)], [1e6, 1e9, 1e8])


def test_counts_are_put_back_where_they_were():
    counts = csr([[0, 7e6, 1], [1, 2, 3], [0, 0, 8e6]])
    extreme = extreme_entries(counts, 1000)
    values = np.zeros((2, 3), np.float32)
    found = put_back(values, counts, extreme, slice(1, 3))
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 8e6]])
    assert not values.any() and put_back(values, counts, extreme, slice(1, 2)) is values
    some = put_back(np.zeros((3, 2), np.float32), counts, extreme, slice(0, 3), np.array([2, 1]))
    np.testing.assert_array_equal(some, [[0, 7e6], [0, 0], [8e6, 0]])


SETTINGS = {"max_epochs": 20, "batch_size": 64}


@functools.cache
def restored_by_seed(streamed):
    """Restored counts of data without damage, by two seeds; `streamed` says how they were read, by settings that are in force."""
    adata = small.structured()
    return [scdae.DAE(seed=seed, **SETTINGS).fit(adata).impute(adata) for seed in (0, 1)]


@pytest.mark.parametrize("count", [1e6, 1e9])
@pytest.mark.parametrize("streamed", [False, True])
def test_one_damaged_count_does_not_move_the_other_cells(log, monkeypatch, count, streamed):
    """Restored totals of all other cells fell to .007 of those counted."""
    monkeypatch.setattr(scdae.settings, "max_entries", 3000 if streamed else 10**8)
    adata = small.structured()
    clean, by_seed = restored_by_seed(streamed)
    counts = small.dense(adata).astype(np.float32)
    counts[7, 11] = count
    damaged = small.wrap(sp.csr_matrix(counts))
    model = scdae.DAE(**SETTINGS).fit(damaged)
    restored = model.impute(damaged)
    totals = restored.sum(axis=1, dtype=np.float64) / counts.sum(axis=1, dtype=np.float64)
    assert np.abs(totals - 1).max() < 0.2 and restored[7, 11] == count
    beside = np.delete(restored, 11, axis=1) / np.delete(clean, 11, axis=1)
    moved = np.abs(np.log(np.delete(by_seed, 11, axis=1) / np.delete(clean, 11, axis=1)))
    assert np.abs(np.log(beside)).max() < max(
        1.2 * moved.max(), np.log(2)
    )  # other counts are another order, like another seed
    assert np.abs(np.log(beside)).mean() < 1.2 * moved.mean()
    np.testing.assert_allclose(model.impute(damaged, lazy=True).compute(), restored, rtol=1e-4)
    posterior = model.posterior(damaged, cells=[7], genes=[11, 3])
    np.testing.assert_allclose(posterior.mean[0], restored[7, [11, 3]], rtol=1e-4)
    message = "\n".join(record.getMessage() for record in log.records)
    assert (
        "1 count(s) are larger than ten whole cells" in message
        and adata.var_names[11] in message
        and adata.obs_names[7] in message
    )


def test_a_saved_model_knows_it(tmp_path):
    model, adata = small.fitted(likelihood="nb"), small.structured()
    model.save(tmp_path / "m.scdae")
    counts = small.dense(adata).astype(np.float32)
    counts[7, 11] = 1e8
    damaged = small.wrap(sp.csr_matrix(counts))
    one, other = model.impute(damaged), scdae.DAE.load(tmp_path / "m.scdae").impute(damaged)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.delete(one, 7, 0), np.delete(model.impute(adata), 7, 0), rtol=1e-4)
    assert one[7, 11] == 1e8 and one[7].sum() < 1.01e8
