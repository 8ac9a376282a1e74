"""What is compiled for one data set serves another: its numbers are arguments, and its lists have lengths in a few sizes."""

import logging

import jax
import numpy as np
import pytest

import fit_once
import scdae
import small
from scdae.core.distributions.law_sums import zero_probability
from scdae.core.distributions.laws import Part, even_laws, filled, some_laws
from scdae.core.steps.numbers import Pace, Terms


def compiled(caplog, monkeypatch, adata, **options):
    """Names and shapes of the steps that a fit compiles."""
    caplog.clear()
    fit_once.forget_steps(monkeypatch)
    with caplog.at_level(logging.DEBUG, "jax"):
        scdae.DAE(max_epochs=2, **options).fit(adata)
    return {
        record.getMessage()
        for record in caplog.records
        if "update" in record.getMessage() and "Compiling" in record.getMessage()
    }


@pytest.mark.filterwarnings("ignore")
def test_other_cells_are_trained_by_the_same_program(caplog, monkeypatch):
    adata = small.structured()
    first = compiled(caplog, monkeypatch, adata[:140].copy(), likelihood="nb")
    second = compiled(caplog, monkeypatch, adata[3:].copy(), likelihood="nb")
    assert len(first) == 1 and first == second


def test_the_genes_with_dropout_are_filled_up():
    class Source:
        n_obs, molecules = 100, 5000.0

    nobody = np.zeros(50, bool)
    plain = Terms.of(Source, nobody, batch_size=10, parts=1)
    assert plain.genes is None and plain.molecules == 500
    some = nobody.copy()
    some[[3, 7, 20, 21, 40]] = True
    terms = Terms.of(Source, some, batch_size=10, parts=2)
    assert len(terms.genes) == 8 and terms.genes[terms.real].tolist() == [3, 7, 20, 21, 40]
    assert terms.column[[3, 40]].tolist() == [0, 4] and terms.cost == plain.cost / 2
    assert len(Terms.of(Source, ~nobody, batch_size=10, parts=1).genes) == 50


def test_the_learning_rate_rises_for_a_twentieth_of_the_steps():
    assert Pace.of(1.0, 400)[1:3] == (20, 380) and Pace.of(1.0, 1)[1:3] == (1, 1)


def test_places_for_dropout_that_no_gene_has_add_nothing():
    even = even_laws(12)
    weight = np.full((1, 8, 3), 1 / 16, np.float32)
    part = Part(weight, np.full(3, 1.5, np.float32), np.full(3, 0.3, np.float32), np.array([1, 5, 11], np.int32))
    laws = even._replace(dropout=part)
    mean = jax.numpy.asarray(np.random.default_rng(0).gamma(1, 1, (4, 12)), "float32")
    more = filled(laws)
    assert len(more.dropout.genes) == 4
    np.testing.assert_array_equal(zero_probability(more, mean), zero_probability(laws, mean))
    assert filled(even) is even and filled(some_laws(laws, np.arange(12))).dropout.genes.shape == (4,)
