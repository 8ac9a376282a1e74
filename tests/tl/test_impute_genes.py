import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae

FAST = {"max_epochs": 5}


@pytest.fixture
def sides():
    adata = scdae.datasets.simulate(n_cells=160, n_genes=60, seed=0)
    panel, reference = adata[:80, :40].copy(), adata[80:].copy()
    panel.obsm["spatial"] = np.arange(160.0).reshape(80, 2)
    return panel, reference, adata[:80].copy()


def test_predicts_beyond_chance_and_keeps_cells(sides):
    panel, reference, whole = sides
    before = panel.copy()
    found = scdae.tl.impute_genes(panel, reference, n_neighbors=20, max_epochs=30)
    assert list(found.var_names) == list(reference.var_names[40:])
    assert list(found.obs_names) == list(panel.obs_names)
    np.testing.assert_array_equal(found.obsm["spatial"], panel.obsm["spatial"])
    truth = whole[:, found.var_names].to_df().to_numpy()
    skill = [np.corrcoef(found.X[:, j], truth[:, j])[0, 1] for j in range(20) if truth[:, j].std() > 0]
    assert np.mean(skill) > 0.1
    inside = (truth >= found.layers["lower"]) & (truth <= found.layers["upper"])
    assert 0.8 < inside.mean() <= 1
    table = found.uns["impute_genes"]["hidden_genes"]
    assert list(table.index) == list(panel.var_names)
    assert table["correlation"].mean() > 0.1
    np.testing.assert_array_equal(panel.to_df(), before.to_df())
    assert list(panel.uns) == list(before.uns)


def test_same_seed_same_result_and_layers_are_read(sides, tmp_path):
    panel, reference, _ = sides
    genes = list(reference.var_names[[50, 45]])
    one = scdae.tl.impute_genes(panel, reference, genes=genes, **FAST)
    for side in (panel, reference):
        side.layers["raw"] = sp.csr_matrix(side.X)
        side.X = np.full(side.shape, 0.5)
    other = scdae.tl.impute_genes(panel, reference, genes=genes, layer="raw", reference_layer="raw", **FAST)
    assert list(other.var_names) == genes
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.layers["upper"], other.layers["upper"])
    one.write_h5ad(tmp_path / "one.h5ad")
    back = anndata.read_h5ad(tmp_path / "one.h5ad").uns["impute_genes"]
    assert list(back["hidden_genes"].index) == list(panel.var_names)


def test_controls_are_left_out_and_said(sides, capsys):
    panel, reference, _ = sides
    names = ["NegControlProbe_00042", "NegControlCodeword_0500", "BLANK_0006", "UnassignedCodeword_0001", "NegPrb3"]
    names += ["Negative1", "SystemControl2", "Blank-7"]
    controls = anndata.AnnData(sp.csr_matrix(np.full((80, 8), 50.0)), var=pd.DataFrame(index=names))
    controls.obs_names = panel.obs_names
    more = anndata.concat([panel, controls], axis=1)
    both = anndata.AnnData(
        sp.hstack([reference.X, np.ones((80, 8))]).tocsr(), var=pd.DataFrame(index=[*reference.var_names, *names])
    )
    plain = scdae.tl.impute_genes(panel, reference, level=None, **FAST)
    found = scdae.tl.impute_genes(more, both, level=None, **FAST)
    assert "spatial: left out 8 control probes or codes" in capsys.readouterr().err
    np.testing.assert_array_equal(found.X, plain.X)
    assert "lower" not in found.layers


def test_cells_without_counts_are_nan(sides):
    panel, reference, _ = sides
    counts = np.array(panel.to_df())
    counts[3] = 0
    panel.X = counts
    found = scdae.tl.impute_genes(panel, reference, genes=reference.var_names[-1], **FAST)
    assert np.flatnonzero(np.isnan(found.X).any(axis=1)).tolist() == [3]
    assert np.isnan(found.layers["lower"][3]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"genes": ["gene_999"]}, "genes: 1 of 1 names are not there"),
        ({"genes": 3}, "were measured by the panel, the first being 'gene_4'"),
        ({"genes": ["gene_50", "gene_50"]}, "1 of 2 are named twice"),
        ({"level": 1.5}, "level=1.5 has to lie between 0 and 1"),
        ({"n_neighbors": 0}, "n_neighbors"),
    ],
)
def test_wrong_arguments(sides, change, words):
    with pytest.raises(ValueError, match=words):
        scdae.tl.impute_genes(*sides[:2], **change)


def test_data_that_do_not_fit(sides):
    panel, reference, _ = sides
    with pytest.raises(TypeError, match="spatial has to be an anndata.AnnData"):
        scdae.tl.impute_genes(None, reference)
    other = panel.copy()
    other.var_names = [f"ENSG{i}" for i in range(40)]
    with pytest.raises(ValueError, match="share 0 gene.s., and at least 4 are needed"):
        scdae.tl.impute_genes(other, reference)
    with pytest.raises(ValueError, match="there is nothing to predict"):
        scdae.tl.impute_genes(panel, panel)
    logs = panel.copy()
    logs.X = np.log1p(panel.to_df().to_numpy())
    with pytest.raises(ValueError, match="does not hold counts"):
        scdae.tl.impute_genes(logs, reference)
