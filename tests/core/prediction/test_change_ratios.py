import numpy as np
import pytest
from scipy import special

from scdae.core.prediction.change_ratios import log_ratio, trigamma
from scdae.core.prediction.fold_changes import SHAPES, FoldChanges

DELTA = 0.25 * np.log(2)


def changes_of(counted, base, n=300, seed=0):
    """Fold changes of two groups with these counts, and weights from even to one component alone."""
    rng = np.random.default_rng(seed)
    counted, base = (np.broadcast_to(np.array(values, float)[:, None], (2, n)).copy() for values in (counted, base))
    weight = rng.dirichlet(np.full(len(SHAPES), 0.3), (2, n)).transpose(2, 0, 1)
    return FoldChanges(weight, counted * rng.uniform(0.5, 2, (2, n)), base, np.array([[0.1], [-0.05]]))


def below(changes, value):
    """Probability that the log ratio is at most `value`, by sums of incomplete beta functions."""
    shape = SHAPES[:, None, None]
    after, rate = shape + changes.counted, np.log(shape + changes.base) - changes.log_center
    total = np.zeros(changes.counted.shape[1])
    for i in range(len(SHAPES)):
        for j in range(len(SHAPES)):
            chance = special.betainc(after[i, 0], after[j, 1], special.expit(value + rate[i, 0] - rate[j, 1]))
            total += changes.weight[i, 0] * changes.weight[j, 1] * chance
    return total


CASES = [((0, 0), (0.5, 3)), ((0, 60), (9, 55)), ((2, 0), (1, 4)), ((30, 400), (20, 420)), ((9000, 40000), (1e4, 4e4))]


@pytest.mark.parametrize(("counted", "base"), CASES)
def test_probabilities_and_quantiles_are_those_of_incomplete_beta_functions(counted, base):
    changes = changes_of(counted, base)
    for level in (0.5, 0.9, 0.99):
        found = log_ratio(changes, DELTA, (1 - level) / 2, (1 + level) / 2)
        np.testing.assert_allclose(found.within, below(changes, DELTA) - below(changes, -DELTA), atol=0.003)
        np.testing.assert_allclose(below(changes, found.lower), (1 - level) / 2, atol=0.004)
        np.testing.assert_allclose(below(changes, found.upper), (1 + level) / 2, atol=0.004)


@pytest.mark.parametrize(("counted", "base"), CASES)
def test_mean_and_sd_are_those_of_draws(counted, base):
    changes, rng, n_draws = changes_of(counted, base, n=5), np.random.default_rng(1), 40_000
    sides = []
    for k in (0, 1):
        chosen = np.stack([rng.choice(len(SHAPES), n_draws, p=changes.weight[:, k, gene]) for gene in range(5)], axis=1)
        shape = SHAPES[chosen]
        # the log of a small Gamma variable, by that of one of a shape that is larger by one
        drawn = np.log(rng.standard_gamma(shape + changes.counted[k] + 1)) + np.log(rng.random(shape.shape)) / (
            shape + changes.counted[k]
        )
        sides.append(drawn - np.log(shape + changes.base[k]) + changes.log_center[k])
    drawn, found = sides[0] - sides[1], log_ratio(changes, DELTA, 0.05, 0.95)
    np.testing.assert_allclose(found.mean, drawn.mean(axis=0), atol=0.03 * found.sd.max())
    np.testing.assert_allclose(found.sd, drawn.std(axis=0), rtol=0.05)
    np.testing.assert_allclose((np.abs(drawn) <= DELTA).mean(axis=0), found.within, atol=0.015)


def test_groups_the_other_way_round_have_the_opposite_change():
    changes = changes_of((3, 50), (8, 45))
    swapped = FoldChanges(*(part[..., ::-1, :] for part in changes))
    one, other = log_ratio(changes, DELTA, 0.05, 0.95), log_ratio(swapped, DELTA, 0.05, 0.95)
    np.testing.assert_allclose(one.mean, -other.mean, rtol=1e-12)
    np.testing.assert_allclose(one.sd, other.sd, rtol=1e-12)
    np.testing.assert_allclose(one.within, other.within, atol=1e-3)
    np.testing.assert_allclose(below(changes, -other.upper), 0.05, atol=0.003)


def test_a_spike_beside_a_wide_component_is_found():
    weight = np.zeros((len(SHAPES), 2, 3))
    weight[0] = [[0.96, 0.95, 0.9], [1, 1, 1]]
    weight[-1, 0] = [0.04, 0.05, 0.1]
    changes = FoldChanges(weight, np.array([[5.0] * 3, [2e5] * 3]), np.array([[0.1] * 3, [2e5] * 3]), np.zeros((2, 1)))
    found = log_ratio(changes, DELTA, 0.05, 0.95)
    np.testing.assert_allclose(below(changes, found.lower), 0.05, atol=0.003)
    # between the spike and the rest next to nothing lies, so that places far apart are quantiles to this error
    assert (np.abs(below(changes, found.upper) - 0.95) < 0.003).all()
    assert found.upper[0] < 0.1 < 2 < found.upper[2]


def test_many_genes_are_the_same_as_few_and_none_is_nothing():
    changes = changes_of((0, 20), (2, 25), n=5000)
    every, some = log_ratio(changes, DELTA, 0.05, 0.95), log_ratio(changes.pick(slice(4000, 4010)), DELTA, 0.05, 0.95)
    for whole, part in zip(every, some, strict=True):
        np.testing.assert_allclose(whole[4000:4010], part, rtol=1e-6, atol=1e-6)
    assert all(len(values) == 0 for values in log_ratio(changes.pick(slice(0, 0)), DELTA, 0.05, 0.95))


def test_trigamma_is_that_of_scipy():
    value = np.geomspace(1e-2, 1e6, 400)
    np.testing.assert_allclose(trigamma(value), special.polygamma(1, value), rtol=1e-8)
