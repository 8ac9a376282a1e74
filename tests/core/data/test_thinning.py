import time

import numpy as np
import pytest
from scipy import sparse

from scdae.core.data.thinning import thin, thin_values


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return sparse.csr_matrix(rng.poisson(0.4, (60, 50)).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("fraction", [0.0, 0.37, 1.0])
def test_parts_add_up_and_stay_in_range(dtype, fraction):
    values = np.random.default_rng(1).poisson(3, 5000).astype(dtype)
    kept = thin_values(values, fraction, np.random.default_rng(2))
    assert kept.dtype == dtype
    assert ((kept >= 0) & (kept <= values)).all()
    assert (kept == np.floor(kept)).all()
    if fraction in (0.0, 1.0):
        np.testing.assert_array_equal(kept, values * dtype(fraction))


@pytest.mark.parametrize("count", [1, 2, 9, 1000])
@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_mean_and_variance_are_binomial(count, fraction):
    size = 200_000
    kept = thin_values(np.full(size, float(count)), fraction, np.random.default_rng(3))
    variance = count * fraction * (1 - fraction)
    assert abs(kept.mean() - count * fraction) < 5 * (variance / size) ** 0.5
    assert kept.var() == pytest.approx(variance, rel=0.03)


def test_halves_of_poisson_counts_are_uncorrelated_poisson_counts():
    size = 400_000
    values = np.random.default_rng(4).poisson(1.7, size)
    kept = thin_values(values, 0.3, np.random.default_rng(5))
    rest = values - kept
    assert abs(np.corrcoef(kept, rest)[0, 1]) < 4 / size**0.5
    assert kept.var() / kept.mean() == pytest.approx(1, abs=0.01)
    # Counts that vary beyond Poisson do correlate, so the test could fail.
    overdispersed = np.random.default_rng(6).negative_binomial(1, 0.4, size)
    kept = thin_values(overdispersed, 0.3, np.random.default_rng(7))
    assert np.corrcoef(kept, overdispersed - kept)[0, 1] > 0.2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fractional_counts_keep_their_sum(dtype):
    values = (np.random.default_rng(8).gamma(0.7, 5, 20_000)).astype(dtype)
    kept = thin_values(values, 0.3, np.random.default_rng(9))
    rest = values - kept
    np.testing.assert_array_equal(kept + rest, values)
    assert ((kept >= 0) & (rest >= 0)).all()
    assert kept.sum() == pytest.approx(0.3 * values.sum(), rel=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fraction_goes_to_one_part_by_lot(dtype):
    values = np.full(20_000, 3.25, dtype)
    kept = thin_values(values, 0.3, np.random.default_rng(0))
    fraction = kept - np.floor(kept)
    assert set(fraction.tolist()) == {0, 0.25}
    assert (fraction > 0).mean() == pytest.approx(0.3, abs=0.02)
    assert np.corrcoef(fraction, np.floor(kept))[0, 1] == pytest.approx(0, abs=0.03)


def test_fractions_do_not_move_the_draws_of_whole_counts():
    whole = np.random.default_rng(1).poisson(2, 1000).astype(np.float32)
    mixed = whole + np.where(np.arange(1000) % 2, 0.3, 0).astype(np.float32)
    kept = thin_values(whole, 0.4, np.random.default_rng(2))
    np.testing.assert_array_equal(np.floor(thin_values(mixed, 0.4, np.random.default_rng(2))), kept)


@pytest.mark.parametrize("mean", [0.1, 0.3, 1, 3])
def test_halves_of_estimated_counts_do_not_know_of_each_other(mean):
    """Unique reads and as many that weigh 0.3: with shares of the fraction in both halves they correlate by up to 0.13."""
    rng = np.random.default_rng(3)
    values = rng.poisson(mean / 2, 200_000) + 0.3 * rng.poisson(mean / 2, 200_000)
    kept = thin_values(values, 0.5, rng)
    assert np.corrcoef(kept, values - kept)[0, 1] < 0.01


def test_matrix_parts_add_up_and_are_canonical(counts):
    kept, rest = thin(counts, 0.5, np.random.default_rng(0))
    assert ((kept + rest) != counts).nnz == 0
    for part in (kept, rest):
        assert type(part) is type(counts)
        assert part.dtype == counts.dtype
        assert part.has_canonical_format
        assert (part.data > 0).all()


def test_users_matrix_is_unchanged_even_if_it_is_not_canonical():
    data, indices, indptr = np.array([2.0, 3.0, 0.0, 4.0, 1.0]), np.array([2, 0, 1, 1, 1]), np.array([0, 3, 5])
    matrix = sparse.csr_array((data.copy(), indices.copy(), indptr.copy()), shape=(2, 3))
    kept, rest = thin(matrix, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(matrix.data, data)
    np.testing.assert_array_equal(matrix.indices, indices)
    np.testing.assert_array_equal(matrix.indptr, indptr)
    np.testing.assert_array_equal((kept + rest).toarray(), [[3, 0, 2], [0, 5, 0]])
    assert kept.has_canonical_format
    assert isinstance(kept, sparse.csr_array)
    kept.data[:] = -1
    np.testing.assert_array_equal(matrix.data, data)


def test_one_fraction_for_each_row(counts):
    fractions = np.linspace(0, 1, counts.shape[0])
    many = sparse.csr_matrix(counts * np.float32(1000))
    kept, rest = thin(many, fractions, np.random.default_rng(0))
    totals = many.sum(axis=1).A1
    np.testing.assert_allclose(kept.sum(axis=1).A1 / totals, fractions, atol=0.03)
    assert kept[0].nnz == 0
    assert rest[-1].nnz == 0


def test_reproducible_by_seed(counts):
    first, second, other = (thin(counts, 0.5, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert (first != second).nnz == 0
    assert (first != other).nnz > 0


def test_empty_matrices_pass_through():
    for shape in ((0, 4), (3, 0), (3, 4)):
        kept, rest = thin(sparse.csr_matrix(shape, dtype=np.float32), 0.5, np.random.default_rng(0))
        assert kept.shape == rest.shape == shape


def test_speed_on_mostly_ones():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(2_000_000) < 0.8, 1, 2 + rng.poisson(1, 2_000_000)).astype(np.float32)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        thin_values(values, 0.9, rng)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1


def test_wrong_input_is_named(counts):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"`fraction` must lie between 0 and 1, but 1 of its 1 values do not"):
        thin_values(np.ones(3), 1.2, rng)
    with pytest.raises(ValueError, match=r"`fraction` has shape \(7,\), which does not fit \(60,\)"):
        thin(counts, np.full(7, 0.5), rng)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"1 of 3 are not \(the first: .* at \(1,\)\)"):
            thin_values(np.array([1.0, wrong, 2.0]), 0.5, rng)
    with pytest.raises(TypeError, match="csc matrix"):
        thin(counts.tocsc(), 0.5, rng)
    with pytest.raises(TypeError, match="ndarray"):
        thin(counts.toarray(), 0.5, rng)
