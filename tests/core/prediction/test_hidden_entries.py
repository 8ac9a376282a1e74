import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.core.config import FixedPoint
from scdae.core.data.cells import cell_data
from scdae.core.prediction import hidden_entries as hiding
from scdae.core.prediction.hidden_entries import choose_filling, hide_as_others


def test_what_is_hidden_was_observed_and_is_at_most_half():
    rng = np.random.default_rng(0)
    own, others = rng.random((40, 30)) < 0.4, rng.random((9, 30)) < 0.5
    others[4] = False
    hidden = hide_as_others(sp.csr_matrix(own), sp.csr_matrix(others), rng).toarray()
    assert not (hidden & own).any()
    assert (hidden.sum(axis=1) <= 0.5 * (~own).sum(axis=1)).all() and hidden.any(axis=1).mean() > 0.9


def test_a_cell_without_gaps_lacks_what_the_other_lacks():
    others = np.zeros((3, 10), bool)
    others[1, 2:6] = True  # the one with missing entries is the one that is drawn
    hidden = hide_as_others(sp.csr_matrix((5, 10), dtype=bool), sp.csr_matrix(others), np.random.default_rng(0))
    np.testing.assert_array_equal(hidden.toarray(), np.tile(others[1], (5, 1)))


def test_few_observed_entries_in_every_cell_are_filled_in_one_pass():
    """The fixed point multiplied the molecules of such cells by three and more."""
    adata = scdae.datasets.simulate(250, 120, dropout=0.0, seed=0)
    observed = np.random.default_rng(0).random(adata.shape) < 0.3
    model = scdae.DAE(likelihood="nb", max_epochs=30, batch_size=64).fit(adata, mask=observed)
    assert model.outcome.fitted.gaps.max_iter == 0
    restored, counted = model.impute(adata, mask=observed), small.dense(adata)
    assert abs(restored.sum() / counted.sum() - 1) < 0.05
    per_cell = restored.sum(axis=1) / counted.sum(axis=1)
    naive = np.where(observed, counted, 0).sum(axis=1) / observed.mean(axis=1) / counted.sum(axis=1)
    assert np.abs(np.log(per_cell)).max() < 1.1 * np.abs(np.log(naive)).max()


def test_as_many_iterations_as_were_asked_for():
    adata = small.structured()
    observed = np.random.default_rng(0).random(adata.shape) < 0.5
    model = scdae.DAE(gap_max_iter=20, max_epochs=3, batch_size=64, likelihood="nb").fit(adata, mask=observed)
    assert model.outcome.fitted.gaps == FixedPoint(max_iter=20)


@pytest.mark.parametrize("better", [0, 50])
def test_the_better_way_is_chosen(monkeypatch, better):
    model, adata = small.fitted(likelihood="nb"), small.structured()
    fitted = model.outcome.fitted
    unobserved = np.zeros(adata.shape, bool)
    unobserved[::2, ::3] = True
    counts = np.where(unobserved, 0, small.dense(adata))[:, model.outcome.genes].astype(np.float32)
    data = cell_data(sp.csr_matrix(counts), sp.csr_matrix(unobserved[:, model.outcome.genes]), None, fitted.profile)
    seen = []

    def likelihood(fitted, query, hidden, truth):
        seen.append((query, hidden, truth))
        return -1.0 if fitted.gaps.max_iter == better else -2.0

    monkeypatch.setattr(hiding, "_log_likelihood", likelihood)
    assert choose_filling(fitted, data, np.random.default_rng(0)).max_iter == better
    query, hidden, truth = seen[0]
    assert not query.counts.multiply(hidden).nnz and not (hidden > query.unobserved).nnz
    assert query.counts.sum() + truth.sum() == counts[1::2].sum()  # cells with gaps lack the same: nothing to hide


def test_nothing_is_tried_where_one_pass_was_asked_for(monkeypatch):
    monkeypatch.setattr(hiding, "_log_likelihood", None)
    fitted = dataclasses.replace(small.fitted(likelihood="nb").outcome.fitted, gaps=FixedPoint(max_iter=0))
    gaps = sp.csr_matrix(np.eye(len(fitted.profile), dtype=bool))
    data = cell_data(sp.csr_matrix(gaps.shape, dtype=np.float32), gaps, None, fitted.profile)
    assert choose_filling(fitted, data, np.random.default_rng(0)).max_iter == 0
