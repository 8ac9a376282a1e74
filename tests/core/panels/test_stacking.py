import numpy as np
from scipy import stats

from scdae.core.panels.stacking import partial_ranks, rank_into, stacked, stacking_weights


def test_partial_ranks_give_the_partial_rank_correlation():
    rng = np.random.default_rng(0)
    total = rng.random(200)
    a, b = total + rng.random(200), total + rng.random(200)
    ab, at, bt = (stats.spearmanr(*pair).statistic for pair in ((a, b), (a, total), (b, total)))
    expected = (ab - at * bt) / np.sqrt((1 - at**2) * (1 - bt**2))
    found = partial_ranks(np.column_stack([a, b, total]), total)
    np.testing.assert_allclose(found[:, 0] @ found[:, 1], expected)
    assert (found[:, 2] == 0).all()


def test_weights_favor_what_has_skill_and_are_equal_without_any():
    agreement = np.full((3, 3), 0.3) + 0.7 * np.eye(3)
    weights = stacking_weights(agreement, np.array([0.5, 0.2, 0.2]))
    np.testing.assert_allclose(weights.sum(), 1)
    assert weights[0] > 2 * weights[1] > 0
    np.testing.assert_allclose(weights[1], weights[2])
    np.testing.assert_allclose(stacking_weights(agreement, np.zeros(3)), 1 / 3)


def test_weights_are_least_squares_but_for_the_penalty():
    rng = np.random.default_rng(1)
    parts = rng.normal(size=(50_000, 2))
    parts /= parts.std(axis=0)
    measured = 3 * parts[:, 0] + parts[:, 1]
    skill = parts.T @ measured / len(parts) / measured.std()
    found = stacking_weights(parts.T @ parts / len(parts), skill)
    # the minimum of |w - skill|^2 + 0.02 |w|^2 + 0.1 |w - mean(skill)|^2, as the two are uncorrelated
    expected = (skill + 0.1 * skill.mean()) / 1.12
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.01)


def test_stacked_does_not_depend_on_the_scale_of_a_prediction():
    logs = np.random.default_rng(0).normal(size=(2, 9, 3))
    weights, total = np.array([0.3, 0.7]), np.arange(1.0, 10.0)
    changed = logs * np.array([5, 0.1])[:, None, None] + 2
    np.testing.assert_allclose(stacked(logs, weights, total), stacked(changed, weights, total), atol=1e-9)


def test_stacked_is_nearer_to_the_mean_in_shallow_cells():
    rng = np.random.default_rng(0)
    logs, total = rng.normal(size=(1, 50, 2)), np.exp(rng.normal(size=50))
    z, depth = stats.zscore(logs[0], axis=0), stats.zscore(np.log(total))
    np.testing.assert_allclose(stacked(logs, np.ones(1), total), z * np.maximum(1 + 0.2 * depth, 0)[:, None], atol=1e-9)
    np.testing.assert_allclose(stacked(logs, np.ones(1), np.full(50, 7.0)), z, atol=1e-9)


def test_rank_into_keeps_values_and_takes_the_order():
    rng = np.random.default_rng(0)
    order, values = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    found = rank_into(order, values)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(values, axis=0))
    np.testing.assert_array_equal(np.argsort(found, axis=0), np.argsort(order, axis=0))
