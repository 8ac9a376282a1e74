"""Tests share a fit only where everything that it is given is the same."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import fit_once
import small
from scdae.core.config import Config

COUNTS = sp.csr_matrix(np.array([[0, 2, 0], [1, 0, 3]], np.float32))
GIVEN = (COUNTS, None, small.of_levels([0, 1]), 2, 2, Config())


def changed(place, value):
    return tuple(value if i == place else kept for i, kept in enumerate(GIVEN))


@pytest.mark.parametrize(
    "other",
    [
        changed(0, sp.csr_matrix(COUNTS * np.float32(1 + 1e-7))),
        changed(0, COUNTS.astype(np.float64)),
        changed(0, sp.csr_matrix((COUNTS.data, COUNTS.indices, COUNTS.indptr), (2, 4))),
        changed(1, COUNTS.astype(bool)),
        changed(2, small.of_levels([1, 0])),
        changed(2, small.of_levels([0, 1], values=[[0.0, 1.0]])),
        changed(2, None),
        changed(4, 0),
        changed(5, replace(Config(), seed=1)),
    ],
    ids=["bit", "dtype", "shape", "mask", "levels", "values", "no conditions", "batches", "seed"],
)
def test_another_bit_is_another_fit(other):
    assert fit_once._key(*GIVEN) != fit_once._key(*other)


def test_copies_are_the_same_fit():
    copies = (COUNTS.copy(), None, small.of_levels([0, 1]), 2, 2, replace(Config()))
    assert fit_once._key(*GIVEN) == fit_once._key(*copies)


@pytest.mark.trains
def test_a_test_that_trains_shares_nothing():
    assert not fit_once.on
