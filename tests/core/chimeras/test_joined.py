import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.chimeras.joined import join
from scdae.core.chimeras.letters import words
from scdae.core.chimeras.parents import find_parents
from scdae.core.chimeras.placement import Windows
from scdae.core.chimeras.verdict import features, verdicts, with_variants

N, COLUMNS, WINDOWS, K = 80, 400, 4, 2
STARTS = np.linspace(0, COLUMNS, WINDOWS + 1).astype(int)


def counted(row):
    """Words of each window of a row without gaps."""
    found = np.append(words(row, K), [-1] * (K - 1))
    of_window = [np.bincount(one[one >= 0], minlength=4**K) for one in np.split(found, STARTS[1:-1])]
    return np.concatenate(of_window)


@pytest.fixture(scope="module")
def made():
    """Eighty rows, two of each group, and what is joined of them."""
    rng = np.random.default_rng(0)
    rows = np.tile(rng.integers(0, 4, COLUMNS), (N, 1))
    changed = rng.random(rows.shape) < 0.1
    rows[changed] = (rows[changed] + rng.integers(1, 4, changed.sum())) % 4
    rows, group = rows.astype(np.int8), np.arange(N) // 2
    windows = Windows(
        sp.csr_matrix(np.stack([counted(row) for row in rows]), dtype=np.float32), np.ones((N, WINDOWS), bool)
    )
    return rows, group, join(windows, rows, STARTS, group, (WINDOWS, 4**K), (30, 20), np.random.default_rng(1))


def test_each_chimera_is_of_two_and_has_the_words_of_its_letters(made):
    rows, _, joined = made
    assert len(joined.rows) == 50 and joined.windows.observed.all()
    found = find_parents(joined.rows, rows)
    assert (found.two == 0).all() and (found.one > 0).all()
    (left, right), at = joined.parents.T, joined.column[:, None]
    assert np.array_equal(joined.rows, np.where(np.arange(COLUMNS) < at, rows[left], rows[right]))
    apart = np.abs(joined.windows.counts.toarray() - [counted(row) for row in joined.rows]).sum(axis=1)
    assert (apart == 0).mean() > 0.9 and apart.max() <= 2 * (K - 1), "words over the edge of a window at the breakpoint"


def test_groups_of_the_parents_of_the_last_ones_are_not_looked_at(made):
    rows, group, joined = made
    assert not joined.excluded[:30].any()
    apart = (joined.rows[:, None] != rows).sum(axis=2)
    for hidden, distances in zip(joined.excluded[30:], apart[30:], strict=True):
        assert hidden.sum() in (2, 4) and hidden[distances.argmin()], "one group or two, of two sequences each"
        assert np.array_equal(hidden, np.isin(group, group[hidden]))


def test_nothing_is_joined_of_copies():
    rows = np.zeros((6, 40), np.int8)
    windows = Windows(sp.csr_matrix(np.ones((6, 64), np.float32)), np.ones((6, 4), bool))
    assert join(windows, rows, np.arange(0, 41, 10), np.arange(6), (4, 16), (5, 5), np.random.default_rng(0)) is None


def test_the_verdict_rises_with_the_evidence_and_copies_of_labels_do_not_matter(made):
    rows, group, joined = made
    rng = np.random.default_rng(2)
    same = group[:, None] == group

    def judged(some, hidden, mean):
        ratios = rng.normal(mean, 1, (len(some), WINDOWS - 1))
        ratios[0] = -np.inf
        return features(ratios, np.full(len(some), np.nan), find_parents(some, rows, hidden), STARTS)

    normal, chimeric = judged(rows, same, 0), judged(joined.rows, joined.excluded, 2)
    assert np.isfinite(normal).all() and normal.shape == (N, 10)
    learned = with_variants(chimeric, 30, normal, rng)
    assert len(learned) == 50 + 30 and np.array_equal(learned[:50], chimeric)
    own, others = verdicts(normal, group, learned, {"chimeric": chimeric, "none": chimeric[:0]}, 0)
    assert np.mean(others["chimeric"][:, None] > own) > 0.9 and len(others["none"]) == 0
    more = chimeric.copy()
    more[:, :2] += 1
    assert (verdicts(normal, group, learned, {"more": more}, 0)[1]["more"] >= others["chimeric"]).all()
    np.testing.assert_array_equal(verdicts(normal, 1000 - group, learned, {}, 0)[0], own)
