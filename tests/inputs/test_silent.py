"""Genes that the model names but never counted, genes and cells that nobody observed: never a silent zero."""

import functools

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.inputs.counts import open_counts
from scdae.inputs.silent import n_never_observed, never_observed

SILENT, HIDDEN = 7, 9  # counted in no cell of the fit; observed in none


def reference():
    adata = small.structured()
    counts = small.dense(adata).copy()
    counts[:, SILENT] = 0
    return small.wrap(sp.csr_matrix(counts))


def observed():
    seen = np.ones((small.N_OBS, small.N_VARS), bool)
    seen[:, HIDDEN] = False
    return seen


@functools.cache
def model():
    return small.fit(reference(), mask=observed(), max_epochs=2)


def query():
    return small.structured()[:40].copy()


def test_own_counts_come_back_and_it_is_said(log):
    adata = query()
    own = small.dense(adata)[:, [SILENT, HIDDEN]]
    assert own.any(axis=0).all()
    np.testing.assert_array_equal(model().impute(adata)[:, [SILENT, HIDDEN]], own)
    assert "2 gene(s) have counts here and had none where the model was fitted, the first being" in log.text
    assert repr(str(adata.var_names[SILENT])) in log.text
    scdae.pp.impute(adata, model=model(), quantiles=0.9)
    np.testing.assert_array_equal(adata.layers["scdae"][:, [SILENT, HIDDEN]], own)
    assert list(adata.uns["scdae"]["genes_as_counted"]) == list(adata.var_names[[SILENT, HIDDEN]])
    np.testing.assert_array_equal(np.isnan(adata.layers["scdae_q90"][:, SILENT]), own[:, 0] > 0)
    np.testing.assert_array_equal(scdae.get.imputed(adata).iloc[:, [SILENT, HIDDEN]], own)
    assert np.isfinite(np.delete(adata.layers["scdae_q90"], [SILENT, HIDDEN], axis=1)).all()


@pytest.mark.parametrize("output", ["mean", "prior", "rate", "sd", "log1p"])
def test_every_way_to_the_values_gives_the_same(output, tmp_path):
    adata, genes = query(), [HIDDEN, SILENT, 3, SILENT]
    whole = model().impute(adata, output=output)
    np.testing.assert_array_equal(whole, model().impute(adata, output=output, lazy=True).compute())
    np.testing.assert_allclose(model().impute(adata, output=output, genes=genes), whole[:, genes], rtol=1e-4)
    other_order = model().impute(adata[:, ::-1].copy(), output=output)[:, ::-1]
    np.testing.assert_allclose(other_order, whole, rtol=1e-3, atol=1e-4)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_allclose(model().impute(backed, output=output), whole, rtol=1e-4, atol=1e-5)
    backed.file.close()
    x = small.dense(adata)[:, SILENT]
    unknown = output in ("prior", "sd")
    np.testing.assert_array_equal(np.isnan(whole[:, SILENT]), (x > 0) & unknown)
    if output in ("rate", "log1p"):
        share = x / np.delete(small.dense(adata), [SILENT, HIDDEN], axis=1).sum(axis=1)
        np.testing.assert_allclose(whole[:, SILENT], share if output == "rate" else np.log1p(1e4 * share), rtol=1e-4)


def test_posterior_gives_counts_and_knows_nothing_else():
    adata = query()
    posterior = model().posterior(adata, genes=[SILENT, 3, HIDDEN])
    own = small.dense(adata)[:, [SILENT, 3, HIDDEN]]
    np.testing.assert_array_equal(posterior.counts, own)
    np.testing.assert_array_equal(posterior.mean[:, [0, 2]], own[:, [0, 2]])
    counted = own[:, 0] > 0
    for values in (posterior.sd, posterior.quantile(0.5), next(posterior.sample())):
        np.testing.assert_array_equal(np.isnan(values[:, 0]), counted)
        assert np.isnan(values[:, 2]).all() and np.isfinite(values[:, 1]).all()


def test_genes_that_no_cell_observed_come_back_as_nan(log):
    adata = reference()
    scdae.pp.impute(adata, mask=observed(), max_epochs=1)
    assert f"1 of {small.N_VARS} genes were observed in no cell (mask), the first being" in log.text
    layer = adata.layers["scdae"]
    assert np.isnan(layer[:, HIDDEN]).all() and np.isfinite(np.delete(layer, HIDDEN, axis=1)).all()
    assert (layer[:, SILENT] == 0).all()  # measured, and never seen: none is expected
    assert adata.uns["scdae"]["missing"]["n_genes_never_observed"] == 1
    assert np.isnan(model().posterior(adata, mask=observed(), genes=[HIDDEN]).mean).all()


def test_cells_of_which_nothing_was_observed_come_back_as_nan(log):
    adata, seen = query(), observed()[:40]
    seen[3] = False
    scdae.pp.impute(adata, model=model(), mask=seen, quantiles=0.5, key_added="s")
    assert "of 1 of 40 cells no gene of the model was observed" in log.text
    for layer in ("s", "s_q50"):
        np.testing.assert_array_equal(np.isnan(adata.layers[layer]).all(axis=1), np.arange(40) == 3)
    assert np.isfinite(adata.obsm["X_s"]).all()
    assert adata.uns["s"]["missing"]["n_cells_never_observed"] == 1
    posterior = model().posterior(adata, mask=seen, cells=[2, 3])
    np.testing.assert_array_equal(np.isnan(posterior.mean).all(axis=1), [False, True])


def test_what_was_never_observed_is_known_after_saving_and_of_counts_by_blocks(tmp_path):
    model().save(tmp_path / "m.scdae")
    assert scdae.DAE.load(tmp_path / "m.scdae").never_observed.tolist() == [HIDDEN]
    seen = observed()
    seen[4] = False
    blocks = open_counts(reference(), mask=seen, most=100)
    assert never_observed(blocks).tolist() == [HIDDEN]
    assert n_never_observed(blocks) == {"n_genes_never_observed": 1, "n_cells_never_observed": 1}
    assert n_never_observed(open_counts(reference())) == {"n_genes_never_observed": 0, "n_cells_never_observed": 0}


def test_tools_say_that_they_leave_them_out(log):
    adata = query()
    scdae.tl.anomaly_score(adata, model())
    assert "the score does not look at them" in log.text
    log.clear()
    scdae.tl.anomaly_genes(adata, model(), [0], n=2)
    assert "they are not in the table" in log.text
    log.clear()
    scdae.tl.rank_genes(adata, "cell_type", model())
    assert "they are not called" in log.text
    table = scdae.get.rank_genes(adata, adata.obs["cell_type"].iloc[0]).loc[adata.var_names[SILENT]]
    assert np.isnan(table["logfoldchanges"]) and table["expected_fdr"] == 1
