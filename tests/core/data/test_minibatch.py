"""Sizes of minibatches."""

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import cell_data
from scdae.core.data.minibatch import Size


def test_capacities_for_some_genes_suffice_for_their_entries_alone():
    counts = sp.random(40, 3000, 0.3, "csr", dtype=np.float32, random_state=0)
    counts.data[:] = 1
    genes = np.random.default_rng(0).random(3000) < 0.2
    groups = np.arange(40).reshape(4, 10)
    found = Size.of(cell_data(counts, None, None, np.full(3000, 1 / 3000)), groups, genes)
    most = max(counts[group][:, genes].nnz for group in groups)
    assert most < found.chosen <= 2 * most < counts[groups[0]].nnz < found.stored
    empty = cell_data(sp.csr_matrix((40, 3000), dtype=np.float32), None, None, np.full(3000, 1 / 3000))
    assert Size.of(empty, groups, genes).chosen == 256
