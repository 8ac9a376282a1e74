import logging

import numpy as np

import scdae
from scdae.tools.panels import denoised


def test_platforms_are_restored_as_one_and_stay_in_order():
    adata = scdae.datasets.simulate(n_cells=200, n_genes=30, seed=0)
    counts = np.asarray(adata.to_df())
    spatial, reference = counts[:80], counts[80:]
    logger = logging.getLogger("scdae")
    before = logger.level
    one, other = denoised(spatial, reference, {"max_epochs": 30}, seed=0)
    assert one.shape == spatial.shape and other.shape == reference.shape
    assert logger.level == before
    truth = np.log1p(spatial / spatial.sum(axis=1, keepdims=True) * 150)
    centered = [values - values.mean(axis=0) for values in (one, truth)]
    assert (centered[0] * centered[1]).sum() > 0  # its own cell rather than another
    assert (centered[0][::-1] * centered[1]).sum() < (centered[0] * centered[1]).sum()
    assert one.var(axis=0).mean() < truth.var(axis=0).mean()
