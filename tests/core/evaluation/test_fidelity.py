import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import no_conditions
from scdae.core.evaluation.fidelity import GroupTally, Markers, choose_markers, ratio_interval

SIDES = (0, 1)


def cells(counts, unobserved=None, share=None):
    counts = np.asarray(counts, np.float32)
    share = np.ones(len(counts), np.float32) if share is None else share
    hidden = None if unobserved is None else sp.csr_matrix(unobserved)
    return CellData(sp.csr_matrix(counts), hidden, no_conditions(len(counts)), share)


def two_groups(depth=1.0, n=60, seed=0):
    """Six genes; the first is tenfold higher in the first group, the second in the second."""
    rng = np.random.default_rng(seed)
    mean = np.full((2, 6), 4.0)
    mean[0, 0] = mean[1, 1] = 40.0
    group = np.repeat([0, 1], n // 2)
    return rng.poisson(depth * mean[group]), group


@pytest.mark.parametrize("depth", [0.02, 0.3, 30])
def test_markers_are_found_at_any_depth(depth):
    counts, group = two_groups(depth, n=300)
    found = choose_markers(cells(counts), group, np.arange(2))
    np.testing.assert_array_equal(found.gene, [0, 1])
    np.testing.assert_array_equal(found.group, [0, 1])


def test_one_odd_cell_makes_no_marker():
    counts, group = two_groups()
    counts[3, 4] = 5000
    assert 4 not in choose_markers(cells(counts), group, np.arange(2)).gene


def test_labels_by_lot_have_no_markers():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1, 2, 2000), (120, 2000))
    found = choose_markers(cells(counts), rng.integers(0, 3, 120), np.arange(3))
    assert len(found.gene) == 0


def test_genes_that_a_group_was_not_measured_for_are_no_markers():
    counts, group = two_groups()
    hidden = np.zeros(counts.shape, bool)
    hidden[group == 1, 0] = True
    counts[hidden] = 0
    share = np.where(group == 1, 0.9, 1.0).astype(np.float32)
    assert 0 not in choose_markers(cells(counts, hidden, share), group, np.arange(2)).gene
    assert 1 in choose_markers(cells(counts, hidden, share), group, np.arange(2)).gene


def test_a_gene_measured_in_few_cells_is_compared_by_what_was_measured():
    """Half of the entries of a gene hidden in one group do not make it a marker of the other."""
    counts, group = two_groups(n=200)
    hidden = np.zeros(counts.shape, bool)
    hidden[:60, 3] = True
    counts[hidden] = 0
    share = np.where(hidden.any(axis=1), 1 - 4 / 60, 1.0).astype(np.float32)
    np.testing.assert_array_equal(choose_markers(cells(counts, hidden, share), group, np.arange(2)).gene, [0, 1])


def test_cells_without_a_group_are_neither_inside_nor_outside():
    counts, group = two_groups()
    alone = np.concatenate([group, np.full(30, -1)])
    odd = np.concatenate([counts, np.full((30, 6), 500)])
    both = [
        choose_markers(cells(*part), np.asarray(one), np.arange(2))
        for part, one in (((counts,), group), ((odd,), alone))
    ]
    np.testing.assert_array_equal(both[0].gene, both[1].gene)


@pytest.fixture(params=[False, True], ids=["all observed", "masked"])
def read(request):
    """Counts, predictions and groups, of which one is too small and some cells have none; and what is tallied."""
    rng = np.random.default_rng(4)
    n_obs, n_vars = 50, 12
    counts = rng.poisson(1.0, (n_obs, n_vars)).astype(float)
    rest = rng.poisson(0.3, (n_obs, n_vars)).astype(float)
    hidden = rng.random(counts.shape) < 0.2 if request.param else np.zeros(counts.shape, bool)
    counts[hidden] = rest[hidden] = 0
    counts[:, 0] += 1
    share = np.full(n_obs, 1, np.float32) - (0.5 * hidden.mean(axis=1)).astype(np.float32)
    decoded, restored = rng.gamma(1, 1, (2, n_obs, n_vars))
    group = rng.choice([-1, 0, 1, 2, 3], n_obs, p=[0.1, 0.3, 0.3, 0.05, 0.25])
    judged = np.array([0, 1, 3])
    markers = Markers(np.array([2, 5, 7, 2]), np.array([0, 0, 2, 2]))  # the second has none
    data = cells(counts, hidden if request.param else None, share)
    tally = GroupTally(data, sp.csr_matrix(rest.astype(np.float32)), 0.25, group, judged, markers)
    for rows in (slice(0, 20), slice(20, 50)):
        tally.add(rows, decoded[rows], restored[rows])
    return counts, rest, hidden, share, decoded, restored, group, judged, markers, tally


def test_sums_are_those_over_the_entries(read):
    counts, rest, hidden, _, decoded, restored, group, judged, markers, tally = read
    seen, expected = np.zeros((2, 3, len(group))), np.zeros((2, 3, len(group)))
    for k, (gene, i) in enumerate(zip(markers.gene, markers.group, strict=True)):
        inside = group == judged[i]
        for side, at in enumerate((inside, ~inside & (group >= 0))):
            at = at & ~hidden[:, gene]
            zero = at & (counts[:, gene] == 0)
            found = [part[side, k] for part in tally.sums]
            want = [at.sum(), counts[at, gene].sum(), restored[at, gene].sum(), decoded[at, gene].sum()]
            want += [rest[zero, gene].sum(), 0.25 * restored[zero, gene].sum(), 0.25 * decoded[zero, gene].sum()]
            np.testing.assert_allclose(found, want, rtol=1e-6)
            seen[side, i] += np.where(zero, rest[:, gene], 0)
            expected[side, i] += np.where(zero, 0.25 * restored[:, gene], 0)
    want = np.stack([(seen**2).sum(axis=2), (seen * expected).sum(axis=2), (expected**2).sum(axis=2)])
    np.testing.assert_allclose(tally.moments, want, rtol=1e-6)
    summed = tally.by_group(tally.sums.counted)
    assert summed.shape == (2, 3) and summed[0, 1] == 0
    assert summed[0, 0] == pytest.approx(tally.sums.counted[0, :2].sum())


def test_cells_go_to_the_likeliest_group_without_counting_themselves(read):
    counts, _, hidden, share, _, restored, group, judged, _, tally = read
    exposure = counts.sum(axis=1) / share
    unit = exposure[np.isin(group, judged)].mean()
    observed = np.where(hidden, 0, exposure[:, None])
    members = [group == one for one in judged]
    common = (counts[np.isin(group, judged)].sum(axis=0) + 0.5) / (observed[np.isin(group, judged)].sum(axis=0) + unit)
    own, changed, left = np.zeros((2, 3)), np.zeros(3), np.zeros(3)
    for cell in np.flatnonzero(np.isin(group, judged)):
        others = np.arange(len(group)) != cell
        score = np.zeros((2, 3))
        for i, member in enumerate(members):
            among = member & others
            rate = (counts[among].sum(axis=0) + unit * common) / (observed[among].sum(axis=0) + unit)
            at = ~hidden[cell]
            for k, values in enumerate((counts[cell], restored[cell])):
                score[k, i] = (values * np.log(rate))[at].sum() - (exposure[cell] * rate)[at].sum()
        place = int(np.flatnonzero(judged == group[cell])[0])
        before, after = score.argmax(axis=1)
        own[:, place] += np.array([before, after]) == place
        changed[place] += before != after
        left[place] += before == place and after != place
    np.testing.assert_array_equal(tally.nearest.own, own)
    np.testing.assert_array_equal(tally.nearest.changed, changed)
    np.testing.assert_array_equal(tally.nearest.left, left)
    assert changed.sum() > 0


def test_one_group_alone_is_not_compared():
    counts, group = two_groups()
    tally = GroupTally(
        cells(counts), sp.csr_matrix(counts), 1.0, group, np.array([1]), Markers(np.array([1]), np.array([0]))
    )
    tally.add(slice(0, 60), counts.astype(float), counts.astype(float))
    assert tally.nearest is None
    np.testing.assert_allclose(tally.sums.counted[:, 0], [counts[group == 1, 1].sum(), counts[group == 0, 1].sum()])


def test_groups_without_any_marker_are_tallied():
    counts, group = two_groups()
    none = np.zeros(0, np.int64)
    tally = GroupTally(cells(counts), sp.csr_matrix(counts), 1.0, group, np.arange(2), Markers(none, none))
    tally.add(slice(0, 60), counts.astype(float), counts.astype(float))
    np.testing.assert_array_equal(tally.by_group(tally.sums.counted), np.zeros((2, 2)))
    np.testing.assert_array_equal(tally.nearest.own, [[30, 30]] * 2)


def test_interval_of_poisson_molecules_is_the_exact_one():
    """Garwood's for 10: 5.43 to 16.96."""
    low, high = ratio_interval(np.array([10.0]), np.array([10.0]), np.full((3, 1), 10.0))
    np.testing.assert_allclose([10 / high[0], 10 / low[0]], [5.43, 16.96], atol=0.01)
    low, high = ratio_interval(np.array([6.0, 0.0]), np.array([0.0, 0.0]), np.zeros((3, 2)))
    assert low[0] == pytest.approx(6 / -np.log(0.05)) and np.isinf(high).all() and low[1] == 0


@pytest.mark.parametrize("dispersion", [0, 3])
def test_interval_holds_what_it_promises(dispersion):
    rng = np.random.default_rng(0)
    mean = rng.gamma(1, 0.2, 400)
    hit = 0
    for _ in range(300):
        rate = mean * (rng.gamma(1 / dispersion, dispersion, 400) if dispersion else 1)
        seen = rng.poisson(rate)
        moments = np.array([(seen**2).sum(), (seen * mean).sum(), (mean**2).sum()], float)
        low, high = ratio_interval(np.array(mean.sum()), np.array(float(seen.sum())), moments)
        hit += bool(low < 1 < high)
    assert 0.86 <= hit / 300 <= 0.96
