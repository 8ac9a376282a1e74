import logging

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scdae.inputs.counts import read_counts

SIZES = np.random.default_rng(5).gamma(10, 0.1, (40, 1))


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(2.0, (40, 60)).astype(float)


def said(caplog, matrix, **options):
    caplog.clear()
    logger = logging.getLogger("scdae")
    logger.addHandler(caplog.handler)
    try:
        for form in (np.asarray, sp.csr_matrix, sp.csc_matrix):
            adata = ad.AnnData(np.ones(matrix.shape, np.float32), layers={"a": form(matrix)})
            read_counts(adata, layer="a", **options)
    finally:
        logger.removeHandler(caplog.handler)
    assert len({record.getMessage() for record in caplog.records}) <= 1, "the same whatever holds it"
    return caplog.text


def per(counts, target):
    return counts / counts.sum(axis=1, keepdims=True) * target


def test_of_counts_nothing_is_said(caplog, counts):
    downsampled = np.sort(np.random.default_rng(1).multinomial(10_000, np.full(60, 1 / 60), 40))
    for matrix in (counts, counts[:, :2], counts[:3], downsampled, 2 * counts):
        assert said(caplog, matrix) == ""
    estimated = counts + 0.3 * np.random.default_rng(2).poisson(1.0, counts.shape)
    assert said(caplog, estimated, allow_fractional=True) == ""
    halves = counts + 0.5 * np.random.default_rng(2).poisson(0.3, counts.shape)
    without_soup = np.maximum(counts - np.random.default_rng(3).gamma(1.0, 0.1, 60) * SIZES, 0)
    assert said(caplog, halves, allow_fractional=True) == said(caplog, without_soup, allow_fractional=True) == ""


@pytest.mark.parametrize("target", [1e4, 1e5, 1e6])
def test_rounded_values_are_told(caplog, counts, target):
    assert f"layers['a'] looks normalized and then rounded: each cell adds up to about {target:,.0f}" in said(
        caplog, np.round(per(counts, target))
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: np.log1p(per(x, 1e4)), "looks log-normalized (log1p of values that add up to 10,000 per cell)"),
        (lambda x: per(x, 1e6), "looks normalized (each cell adds up to 1,000,000)"),
        (lambda x: x / SIZES, "looks divided by the size of each cell, and not counted"),
        (
            lambda x: np.log1p(x / SIZES),
            "looks log-normalized (log1p of counts that were divided by the size of each cell)",
        ),
        (lambda x: x / x.std(axis=0), "looks scaled (divided by the spread of each gene)"),
        (lambda x: np.minimum(x / x.std(axis=0), 2), "looks scaled (divided by the spread"),
    ],
)
def test_what_is_no_estimated_count_is_told(caplog, counts, change, words):
    assert words in said(caplog, change(counts), allow_fractional=True)


def test_odd_values_are_told(caplog, counts):
    assert "is boolean: it is read as counts of 0 and 1" in said(caplog, counts > 2)
    counts[3, 4] = 2**24 + 1
    assert "values as large as 1.67772e+07" in said(caplog, counts)
