import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_distances

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
    for one, (query, known), penalty in (
        (found[1], (cells, points), 1.0),
        (found[2], tuple(map(standardized, smooth)), 0.1),
    ):
        ridge = Ridge(alpha=penalty * len(known), fit_intercept=False).fit(known, logs)
        np.testing.assert_allclose(one, ridge.predict(query), atol=1e-8)


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
