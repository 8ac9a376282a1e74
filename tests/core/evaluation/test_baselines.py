import numpy as np
import pytest
import scipy.sparse as sp

from scdae import metrics
from scdae.core.data.cells import CellData
from scdae.core.data.thinning import thin
from scdae.core.evaluation.baselines import RANKS, GeneMean, LowRank, Raw, _best_rank, _factorize

N_OBS, N_VARS = 300, 80


def cells(counts, hidden=None, share=None):
    share = np.ones(len(counts)) if share is None else share
    hidden = None if hidden is None else sp.csr_matrix(hidden)
    matrix = sp.csr_matrix(np.asarray(counts, np.float32))
    return CellData(matrix, hidden, np.zeros(len(counts), np.int32), share.astype(np.float32))


def of_types(n_types, seed=0):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(1, 5, (n_types, N_VARS))
    return rng.poisson(rate[rng.integers(0, n_types, N_OBS)])


def test_raw_and_gene_mean():
    counts = of_types(3)
    np.testing.assert_array_equal(Raw(cells(counts)).expect(slice(5, 9)), counts[5:9])
    found = GeneMean(cells(counts)).expect(slice(5, 9))
    np.testing.assert_allclose(found, metrics.gene_mean(counts)[5:9], rtol=1e-2)
    share = counts.sum(axis=0) + 0.5  # half a molecule more: a gene without any is rare and not impossible
    np.testing.assert_allclose(found, counts[5:9].sum(axis=1, keepdims=True) * share / share.sum(), rtol=1e-5)


def test_gene_mean_of_masked_data_is_at_the_exposure_of_the_cell():
    counts, hidden = of_types(1), np.zeros((N_OBS, N_VARS), bool)
    hidden[:100, :40] = True
    share = np.where(hidden.any(axis=1), 0.5, 1.0)
    expected = GeneMean(cells(np.where(hidden, 0, counts), hidden, share)).expect(slice(0, N_OBS))
    assert expected[:100].mean() == pytest.approx(counts.mean(), rel=0.1)


def test_low_rank_finds_the_rank_and_beats_the_gene_means():
    counts = sp.csr_matrix(of_types(4).astype(np.float32))
    shown, rest = thin(counts, 0.9, np.random.default_rng(0))
    data = cells(shown.toarray())
    fit = LowRank(data, np.random.default_rng(1))
    assert fit.rank in (3, 4, 6)
    expected = fit.expect(slice(0, N_OBS))
    np.testing.assert_allclose(expected.sum(axis=0), np.asarray(shown.sum(axis=0)).ravel(), rtol=1e-4)
    base = GeneMean(data).expect(slice(0, N_OBS))
    assert metrics.deviance_skill(rest.toarray(), expected / 9, base / 9, blend=0.01) > 0.2


def test_low_rank_of_noise_is_small_and_of_two_cells_works():
    assert LowRank(cells(of_types(1)), np.random.default_rng(0)).rank <= 2
    assert np.isfinite(LowRank(cells(of_types(1)[:2]), np.random.default_rng(0)).expect(slice(0, 2))).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rank_is_the_one_under_which_the_molecules_set_aside_are_likeliest(seed):
    counts = of_types(seed + 2, seed).astype(np.float32)
    counts[:, 5] = 0
    counts = sp.csr_matrix(counts)
    ranks = list(RANKS[:9])
    rng = np.random.default_rng(seed)
    shown, rest = thin(counts, 0.8, rng)
    factors, total = _factorize(shown, ranks[-1], rng), np.asarray(shown.sum(axis=1), float).ravel()
    counted = np.asarray(shown.sum(axis=0), float).ravel()
    base, score = total[:, None] * counted / counted.sum(), []
    for rank in ranks:
        mean = factors.expect(slice(None), rank, total)
        mean *= np.divide(counted, mean.sum(axis=0), out=np.ones_like(counted), where=mean.sum(axis=0) > 0)
        mean = 0.25 * (0.99 * mean + 0.01 * base)
        score.append((rest.toarray() * np.log(np.maximum(mean, 1e-12)) - mean).sum())
    assert _best_rank(counts, ranks, np.random.default_rng(seed)) == ranks[int(np.argmax(score))]
