import numpy as np
import pytest
import scipy.sparse as sp

from scdae.core.panels.predict import predict
from scdae.core.panels.transfer import log_shares


def made(n_obs, rng, efficiency=1.0):
    """Counts of 30 genes in cells of two types and a gradient."""
    loadings = np.random.default_rng(5).normal(size=(3, 30))
    place = np.column_stack([rng.integers(0, 2, n_obs) * 2, rng.normal(size=(n_obs, 2))])
    return rng.poisson(np.exp(0.5 * place @ loadings + 1) * efficiency).astype(float)


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    efficiency = np.exp(0.5 * rng.normal(size=30))
    spatial, reference = made(600, rng, efficiency), made(700, rng)
    result = predict(
        spatial[:, :22],
        reference[:, :22],
        sp.csr_matrix(reference[:, 22:]),
        lambda one, other, lacking: (log_shares(one), log_shares(other), None),
        n_neighbors=30,
        level=0.9,
        rng=rng,
    )
    return result, spatial


def test_hidden_and_unmeasured_genes_are_predicted(found):
    result, spatial = found
    skill = [np.corrcoef(np.log1p(result.counts[:, j]), np.log1p(spatial[:, 22 + j]))[0, 1] for j in range(8)]
    assert np.mean(skill) > 0.5
    assert result.hidden.correlation.mean() > 0.4


def test_hidden_genes_are_in_the_order_of_the_panel(found):
    result, spatial = found
    np.testing.assert_allclose(result.hidden.measured, spatial[:, :22].mean(axis=0))


def test_limits_hold_hidden_counts(found):
    assert found[0].hidden.within.mean() == pytest.approx(0.9, abs=0.03)


def test_predictions_of_one_gene_do_not_depend_on_the_others_but_for_lots(found):
    rng = np.random.default_rng(3)
    spatial, reference = made(50, rng), made(60, rng)

    def counts(columns):
        return predict(
            spatial[:, :20],
            reference[:, :20],
            sp.csr_matrix(reference[:, columns]),
            lambda one, other, lacking: (log_shares(one), log_shares(other), None),
            n_neighbors=10,
            level=None,
            rng=np.random.default_rng(0),
        )

    one, both = counts([25]), counts([24, 25])
    assert one.lower is None and one.calibration is None and one.hidden.within is None
    np.testing.assert_allclose(one.counts[:, 0], both.counts[:, 1], rtol=1e-5)


@pytest.mark.parametrize("knows", [True, False])
def test_what_the_model_predicts_itself_is_weighed_by_hidden_genes(knows):
    rng = np.random.default_rng(4)
    spatial, reference = made(200, rng), made(200, rng)
    asked = []

    def restore(one, other, lacking):
        asked.append(lacking.shape[1])
        columns = [np.flatnonzero((reference == column[:, None]).all(axis=0))[0] for column in lacking.toarray().T]
        own = spatial[:, columns] / one.sum(axis=1, keepdims=True) if knows else rng.random((200, len(columns)))
        return log_shares(one), log_shares(other), own

    found = predict(
        spatial[:, :20],
        reference[:, :20],
        sp.csr_matrix(reference[:, 20:]),
        restore,
        n_neighbors=10,
        level=None,
        rng=np.random.default_rng(0),
    )
    assert asked == [5, 5, 5, 5, 10]
    assert found.weights.shape == (4,)
    assert found.weights[3] > 0.5 if knows else found.weights[3] < 0.1


def test_too_many_genes_for_the_model_are_left_to_the_others(monkeypatch):
    monkeypatch.setattr("scdae.core.panels.predict._MOST_MODELED", 9)
    rng = np.random.default_rng(4)
    spatial, reference = made(50, rng), made(60, rng)
    asked = []

    def restore(one, other, lacking):
        asked.append(lacking)
        return log_shares(one), log_shares(other), None

    found = predict(
        spatial[:, :20],
        reference[:, :20],
        sp.csr_matrix(reference[:, 20:]),
        restore,
        n_neighbors=10,
        level=None,
        rng=np.random.default_rng(0),
    )
    assert asked == [None] * 5 and found.weights.shape == (3,)
