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


def test_many_entries_are_rounded_up_by_a_quarter_at_most():
    """To a power of two, nearly half of the work on entries was on padding."""
    for least in (3, 1000, 2**15, 2**15 + 1, 68_321, 10**6):
        got = Size(least, hidden=0, chosen=least).rounded()
        assert got.hidden == 0 and got.stored == got.chosen
        assert least <= got.stored <= (2 * least if least <= 2**15 else 1.25 * least)
    assert len({Size(least).rounded().stored for least in range(68_000, 80_000)}) == 1
