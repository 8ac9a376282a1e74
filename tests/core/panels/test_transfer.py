import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import cosine_distances

from scdae.core.panels import transfer
from scdae.core.panels.transfer import Transfer, log_shares, standardized


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    spatial, reference = rng.poisson(3, (12, 6)) + 1.0, rng.poisson(5, (30, 6)) + 1.0
    return spatial, reference, sp.csr_matrix(rng.poisson(2, (30, 4)).astype(float))


def test_standardized_columns_have_unit_spread_and_constant_ones_are_zero():
    values = np.column_stack([np.arange(5.0), np.full(5, 0.1)])
    found = standardized(values)
    np.testing.assert_allclose(found[:, 0], (values[:, 0] - 2) / np.sqrt(2))
    assert (found[:, 1] == 0).all()


def test_predicts_what_brute_force_does(sides):
    spatial, reference, targets = sides
    smooth = np.sqrt(spatial), np.sqrt(reference)
    found = Transfer.of(spatial, reference, smooth, 5).logs(targets)
    total = reference.sum(axis=1)
    logs = np.log1p(targets.toarray() * (np.median(total) / total)[:, None])
    cells, points = standardized(log_shares(spatial)), standardized(log_shares(reference))
    near = np.argsort(cosine_distances(cells, points), axis=1)[:, :5]
    np.testing.assert_allclose(found[0], logs[near].mean(axis=1))
    for one, (query, known), noise in (
        (found[1], (cells, points), 10.0),
        (found[2], tuple(map(standardized, smooth)), 1.0),
    ):
        mean = logs.mean(axis=0)
        expected = KernelRidge(alpha=noise, kernel="rbf", gamma=0.5 / 6).fit(known, logs - mean).predict(query)
        np.testing.assert_allclose(one, expected, atol=1e-4)


def test_regression_with_fewer_centers_than_cells_is_near_the_exact_one(monkeypatch):
    rng = np.random.default_rng(1)
    points, cells = rng.normal(size=(400, 3)), rng.normal(size=(50, 3))
    values = np.sin(points) + 0.1 * rng.normal(size=points.shape)

    def predicted():
        left, right = transfer._projection(cells, points, 1.0)
        return left @ (right.T @ values)

    exact = predicted()
    monkeypatch.setattr(transfer, "_MOST_CENTERS", 100)
    assert transfer._projection(cells, points, 1.0)[0].shape == (50, 100)
    np.testing.assert_allclose(predicted(), exact, atol=0.03)
    assert np.corrcoef(exact.ravel(), np.sin(cells).ravel())[0, 1] > 0.98


def test_shares_are_counts_for_each_count_in_the_panel(sides):
    spatial, reference, targets = sides
    found = Transfer.of(spatial, reference, (spatial, reference), len(reference)).shares(targets)
    np.testing.assert_allclose(found, np.tile(targets.toarray().sum(axis=0) / reference.sum(), (len(spatial), 1)))


def test_what_a_platform_does_to_a_gene_drops_out(sides):
    spatial, reference, targets = sides
    one, other = (
        Transfer.of(spatial, reference, (smooth, reference), 5) for smooth in (spatial, 3 * spatial + np.arange(6))
    )
    np.testing.assert_allclose(one.logs(targets), other.logs(targets), atol=1e-9)
