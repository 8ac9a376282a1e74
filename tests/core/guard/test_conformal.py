import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scdae.core.guard.conformal import conformal_pvalue, least_called

numbers = st.integers(-3, 3).map(float)


@given(score=st.lists(numbers, min_size=1, max_size=5), normal=st.lists(numbers, min_size=1, max_size=8))
def test_counts_what_is_at_least_as_high(score, normal):
    expected = [(1 + sum(other >= value for other in normal)) / (1 + len(normal)) for value in score]
    np.testing.assert_allclose(conformal_pvalue(np.array(score), np.array(normal)), expected)


def test_is_uniform_on_normal_data():
    rng = np.random.default_rng(0)
    found = conformal_pvalue(rng.gamma(2, size=3000), rng.gamma(2, size=3000))
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert (conformal_pvalue(rng.gamma(2, size=3000) + 2, rng.gamma(2, size=3000)) < 0.05).mean() > 0.15


def test_a_score_that_is_not_there_has_no_p_value():
    assert np.isnan(conformal_pvalue(np.array([np.nan]), np.ones(3)))[0]


@pytest.mark.parametrize(("normal", "words"), [([], "there are none"), ([1.0, np.nan], "1 of 2 scores")])
def test_needs_normal_scores(normal, words):
    with pytest.raises(ValueError, match=words):
        conformal_pvalue(np.ones(2), np.array(normal))


@given(n_calibrating=st.integers(20, 60), n_tested=st.integers(1, 80))
def test_least_that_is_called_is_that_of_benjamini_and_hochberg(n_calibrating, n_tested):
    level = 0.0501  # no adjusted p-value is exactly that
    smallest = 1 / (n_calibrating + 1)
    called = [
        k
        for k in range(1, n_tested + 1)
        if (stats.false_discovery_control([smallest] * k + [1.0] * (n_tested - k)) < level).any()
    ]
    assert least_called(n_calibrating, n_tested, level) == min(called)
