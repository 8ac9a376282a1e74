import numpy as np
import scipy.sparse as sp

import scdae
from scdae._log import get_logger
from scdae.tools.panels import restored


def test_platforms_are_restored_as_one_and_stay_in_order():
    adata = scdae.datasets.simulate(n_cells=200, n_genes=30, seed=0)
    counts = np.asarray(adata.to_df())
    spatial, reference = counts[:80], counts[80:]
    logger = get_logger()
    before = logger.level
    one, other, own = restored(spatial, reference, None, {"max_epochs": 30}, seed=0)
    assert own is None
    assert one.shape == spatial.shape and other.shape == reference.shape
    assert logger.level == before
    truth = np.log1p(spatial / spatial.sum(axis=1, keepdims=True) * 150)
    centered = [values - values.mean(axis=0) for values in (one, truth)]
    assert (centered[0] * centered[1]).sum() > 0  # its own cell rather than another
    assert (centered[0][::-1] * centered[1]).sum() < (centered[0] * centered[1]).sum()
    assert one.var(axis=0).mean() < truth.var(axis=0).mean()


def test_genes_that_the_panel_lacks_are_predicted_at_the_reference_s_depth():
    adata = scdae.datasets.simulate(n_cells=400, n_genes=60, seed=0)
    counts = np.asarray(adata.to_df())
    spatial, reference, targets = counts[:150, :45], counts[150:, :45], sp.csr_matrix(counts[150:, 45:])
    one, other, own = restored(spatial, reference, targets, {"max_epochs": 60}, seed=0)
    assert one.shape == spatial.shape and other.shape == reference.shape and own.shape == (150, 15)
    total = spatial.sum(axis=1, keepdims=True)
    seen = np.log1p(counts[:150, 45:] / total * np.median(reference.sum(axis=1)))
    a, b = (values - values.mean(axis=0) for values in (own, seen))
    assert (a * b).sum() > 2 * abs((a[::-1] * b).sum())  # its own cell rather than another
    assert abs(np.expm1(own).mean() / np.expm1(seen).mean() - 1) < 0.2
