"""A pass over counts that is shared by processes, which are threads here, finds what one process finds."""

import threading
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scdae.inputs.count_types import CountBlocks, Counts
from scdae.inputs.counts import open_counts
from scdae.matrices import rows as containers

N_OBS, N_VARS = 90, 12


class Process:
    """One of several that can tell each other what they have; it remembers which rows it has read."""

    def __init__(self, number, processes, barrier, table):
        self.process, self.processes = number, processes
        self._barrier, self._table = barrier, table

    def gather(self, value):
        self._table[self.process] = value
        self._barrier.wait(20)
        found = [self._table[i] for i in range(self.processes)]
        self._barrier.wait(20)
        return found


def counts(**changed):
    matrix = np.random.default_rng(0).poisson(1.0, (N_OBS, N_VARS)).astype(float)
    for entry, value in changed.get("values", {}).items():
        matrix[entry] = value
    return ad.AnnData(sp.csr_matrix(matrix))


@pytest.fixture(autouse=True)
def blocks_of_ten_rows(monkeypatch):
    monkeypatch.setattr(containers, "BLOCK_VALUES", 80)


def opened_by(number, adata, **options):
    """What each of `number` processes gets of the same counts, or the error that it meets."""
    barrier, table = threading.Barrier(number), {}

    def one(i):
        try:
            return open_counts(adata, together=Process(i, number, barrier, table), **options)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


@pytest.mark.parametrize("number", [2, 3, 9])
def test_each_hears_what_all_have_found(number):
    adata = counts()
    hidden = np.random.default_rng(1).random(adata.shape) < 0.2
    (alone,) = opened_by(1, adata, mask=~hidden, most=0)
    assert isinstance(alone, CountBlocks)
    for found in opened_by(number, adata, mask=~hidden, most=0):
        for name in ("bounds", "lengths", "hidden", "totals", "rows"):
            np.testing.assert_array_equal(getattr(found.blocks, name), getattr(alone.blocks, name), err_msg=name)
        assert (found.sample.matrix != alone.sample.matrix).nnz == 0
        assert (found.sample.unobserved != alone.sample.unobserved).nnz == 0


@pytest.mark.parametrize("number", [2, 3])
def test_each_row_is_read_by_one(number, monkeypatch):
    adata, read, plain = counts(), [], containers.canonical_csr
    monkeypatch.setattr(
        "scdae.inputs.counts.canonical_csr", lambda block: (read.append(block.shape[0]), plain(block))[1]
    )
    opened_by(number, adata, most=0)
    first = number * read[0]  # the first block of each is looked at before, for the number of cells to draw
    assert sum(read) == N_OBS + first


def test_few_counts_are_held_by_all():
    adata = counts()
    for found in opened_by(2, adata, most=10_000):
        assert isinstance(found, Counts)
        assert (found.matrix != adata.X).nnz == 0


def test_fewer_blocks_than_processes_are_read_by_all():
    adata = counts()[:20].copy()
    for found in opened_by(3, adata, most=10_000):
        assert (found.matrix != adata.X).nnz == 0


@pytest.mark.parametrize(
    "values",
    [
        {(85, 3): -2.0},  # of the last share
        {(2, 1): -1.0, (85, 3): -2.0, (86, 3): -2.0},
        {(50, 0): 0.5, (88, 11): -1.0, (3, 2): 1.5},
    ],
)
def test_all_say_what_one_would(values):
    adata = counts(values=values)
    (alone,) = opened_by(1, adata, most=0)
    assert "negative" in alone
    assert opened_by(2, adata, most=0) == [alone, alone]
