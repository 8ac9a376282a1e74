import numpy as np
import pytest
import scipy.sparse as sp

from scdae.inputs.logs import check_logs, one_molecule


def counts(n_obs=60, n_vars=400, depth=1500, seed=3):
    rng = np.random.default_rng(seed)
    mean = rng.gamma(0.5, 1.0, n_vars)
    mean = depth * mean / mean.sum() * np.exp(rng.normal(0, 0.3, (n_obs, 1)))
    found = rng.poisson(mean).astype(float)
    found[:, 0] += 1
    return found


def logs(found, target=1e4):
    return np.log1p(found * (target / found.sum(axis=1))[:, None])


@pytest.mark.parametrize("depth", [100, 1500, 50_000])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, np.float32, lambda x: np.round(x, 4)])
def test_logs_of_counts_are_clean(depth, form):
    values = logs(counts(depth=depth))
    found = check_logs(form(values), "X", clean=True)
    assert found.dtype == np.float32 and np.allclose(found.toarray(), values, atol=1e-4)


def test_some_of_the_genes_and_cells_without_counts_are_clean():
    found = counts()
    values = logs(found)[:, found.mean(axis=0) > 3]  # most cells have no gene with one molecule there
    values[3] = 0
    check_logs(values, "X", clean=True)
    check_logs(values[:1], "X", clean=True)
    check_logs(np.zeros((3, 4)), "X", clean=True)


def scaled(values):
    return values / np.maximum(values.std(axis=0), 1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, log: log / np.log(2), "look like log2 of one plus"),
        (lambda x, log: log / np.log(10), "look like log10 of one plus"),
        (lambda x, log: np.sqrt(x), "look like square roots"),
        (lambda x, log: x / x.sum(axis=1, keepdims=True), "look like normalized counts without a logarithm"),
        (lambda x, log: logs(x, 2000), "each cell add up to 2,000"),
        (lambda x, log: logs(x, 1e6), "each cell add up to 1e.06"),
        (lambda x, log: np.log1p(x), "all values are whole numbers, so the counts were not normalized"),
        (lambda x, log: np.minimum(x, 9), "all values are whole numbers, so they are counts"),
        (lambda x, log: x / x.sum(axis=1, keepdims=True) * 1e4, "above 20"),
        (lambda x, log: scaled(log - log.mean(axis=0)), "are negative, as in z-scores"),
        (lambda x, log: np.clip(scaled(log - log.mean(axis=0)), -10, 10)[::2], "are negative, as in z-scores"),
        (lambda x, log: log - log.mean(axis=0), "are negative, as in z-scores"),
        (lambda x, log: np.log(np.maximum(x / x.sum(axis=1, keepdims=True), 1e-5)), "are negative, as in z-scores"),
    ],
    ids=[
        *(
            "log2",
            "log10",
            "roots",
            "shares",
            "other target",
            "per million",
            "not normalized",
            "counts",
            "no logarithm",
        ),
        *("z-scores", "z-scores of some cells", "centered", "logs of shares"),
    ],
)
def test_other_scales_are_told_whether_they_may_be_perturbed_or_not(change, words):
    found = counts()
    values = change(found, logs(found)).astype(np.float32)
    for clean in (True, False):
        with pytest.raises(ValueError, match=words) as raised:
            check_logs(values, "layers['logs']", clean=clean)
        assert str(raised.value).startswith("layers['logs'] is not log")


@pytest.mark.parametrize(
    "change",
    [
        lambda log, rng: np.maximum(log + rng.normal(0, 0.2, log.shape), 0) * (log > 0),
        lambda log, rng: log * rng.uniform(0.7, 1.3, log.shape[1]),
        lambda log, rng: logs(np.expm1(log) * rng.gamma(4, 0.25, log.shape)),
    ],
    ids=["noise", "scaled genes", "estimated counts"],
)
def test_what_was_changed_is_not_clean_but_may_be_perturbed(change):
    values = change(logs(counts()), np.random.default_rng(0))
    check_logs(values, "X")
    with pytest.raises(ValueError, match="are not multiples of one molecule .* allow_fractional=True"):
        check_logs(values, "X", clean=True)


@pytest.mark.parametrize("depth", [100, 1500, 50_000])
@pytest.mark.parametrize("size", [0.01, 0.1, 0.3, 0.5])
def test_small_perturbations_pass(depth, size):
    log, rng = logs(counts(depth=depth)), np.random.default_rng(1)
    for change in (
        rng.choice([-1, 1], log.shape),
        -np.ones(log.shape),
        rng.normal(0, 1, log.shape),
        rng.choice([-1, 0, 1], log.shape, p=[0.01, 0.98, 0.01]),
        np.where(log > 0, rng.choice([-1, 1], log.shape), 0),
    ):
        check_logs(log + size * change, "X")
        check_logs(np.maximum(log + size * change, 0), "X")
        check_logs((log + size * change)[:1], "X")


@pytest.mark.parametrize("depth", [100, 1500, 50_000])
@pytest.mark.parametrize("least", [0.0, -0.1])
def test_z_scores_that_were_cut_off_are_told(depth, least):
    log = logs(counts(200, depth=depth))
    scores = (log - log.mean(axis=0)) / np.maximum(log.std(axis=0), 1e-9)
    for clean in (True, False):
        with pytest.raises(ValueError, match="z-scores" if least == 0 or not clean else "."):
            check_logs(np.clip(scores, least, 10), "X", clean=clean)


def test_one_molecule_is_found_where_no_gene_has_just_one():
    found = np.array([[0, 1, 2, 7, 5], [2, 3, 5, 9, 7], [4, 6, 10, 0, 14], [0, 0, 0, 0, 0], [0, 0, 3, 0, 0]], float)
    unit = np.array([0.7, 3.0, 1.3, 1, 2])
    scaled = sp.csr_matrix(found * unit[:, None])
    np.testing.assert_allclose(
        one_molecule(scaled), [0.7, 3.0, 2.6, 1, 6], rtol=1e-6
    )  # twos and a three cannot be told
