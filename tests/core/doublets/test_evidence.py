"""Evidence of doublets from places and sizes."""

import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.doublets.evidence import evidence, place_evidence, probability, size_weight
from scdae.core.doublets.pairs import random_pairs, sums_of_pairs


def test_pairs_are_of_two_different_cells_and_their_sums_are_exact():
    rng = np.random.default_rng(0)
    cells = np.array([2, 3, 7, 8])
    pairs = random_pairs(cells, 500, rng)
    assert (pairs[:, 0] != pairs[:, 1]).all() and set(pairs.ravel()) == set(cells)
    counts = rng.poisson(1.0, (9, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        sums_of_pairs(sp.csr_matrix(counts), pairs).toarray(), counts[pairs[:, 0]] + counts[pairs[:, 1]]
    )
    with pytest.raises(ValueError, match="Pairs need two cells"):
        random_pairs(np.array([1]), 3, rng)


def test_log_odds_of_neighbors_are_those_of_brute_force():
    rng = np.random.default_rng(1)
    cells, simulated = rng.normal(size=(60, 3)), rng.normal(0.5, 1, size=(90, 3))
    both = np.concatenate([cells, simulated])
    apart = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    order = np.argsort(apart, axis=1)
    expected = np.zeros(150)
    for k in (6, 12, 24):
        hits = (order[:, :k] >= 60).sum(axis=1)
        expected += np.log((hits + 1) / (k - hits + 1)) / 3
    np.testing.assert_allclose(place_evidence(cells, simulated), expected)


def test_size_counts_only_where_cells_in_such_places_are_larger():
    rng = np.random.default_rng(2)
    depth = rng.lognormal(8, 0.3, 400)
    place = np.where(np.arange(400) < 40, 3.0, 0.0)
    larger = np.where(place > 0, 2 * depth, depth)
    simulated = depth[:200] + depth[200:]
    assert size_weight(place, larger, simulated) > 0.6
    assert size_weight(place, depth, simulated) == 0
    assert size_weight(place, np.where(place > 0, depth / 2, depth), simulated) == 0


def test_probability_of_one_kind_of_cells_is_the_rate():
    rng = np.random.default_rng(3)
    places = rng.normal(size=(300, 2)), rng.normal(size=(900, 2))
    ones = np.full(300, 100.0), np.full(900, 100.0)
    found = evidence(places, ones, ones)
    chance = probability(np.concatenate([found.cells, found.simulated]), 300, 0.1, seed=0)
    assert found.size_weight == 0 and chance.max() < 0.5
    assert abs(chance.mean() - 0.1) < 0.05
