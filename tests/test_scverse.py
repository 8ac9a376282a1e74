"""At home with scanpy and the containers around AnnData: what users do next with a restored object."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pytest
import scanpy as sc

import scdae
import small
from scdae.io.write import write_atomic

mpl.use("Agg")


def restored():
    adata = small.structured()
    scdae.pp.impute(adata, model=small.fitted(), quantiles=0.9)
    return adata


@pytest.fixture(scope="module")
def result():
    """Restored counts; not to be changed."""
    return restored()


def plain(value):
    """Of `uns`: what a file gives back, with arrays as lists."""
    if hasattr(value, "items"):
        return {str(name): plain(part) for name, part in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize(
    ("level", "words"),
    [(0, []), (1, ["wrote layers['scdae'], layers['scdae_q90'] (less than 1 MiB)", "It helps", "test differential"])],
)
def test_scanpys_verbosity_is_followed(level, words, capsys, monkeypatch):
    monkeypatch.setattr(scdae.settings, "_verbosity", None)
    before, sc.settings.verbosity = sc.settings.verbosity, level
    try:
        restored()
    finally:
        sc.settings.verbosity = before
    said = capsys.readouterr()
    assert said.out == ""
    assert bool(said.err) == bool(words)
    assert all(word in said.err for word in words)


def test_neighbors_and_scores(result):
    adata = result.copy()
    sc.pp.neighbors(adata, use_rep="X_scdae", method="gauss", n_neighbors=10)
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_scdae"
    graph, kind = adata.obsp["connectivities"].tocoo(), adata.obs["cell_type"].to_numpy()
    alike = np.average(kind[graph.row] == kind[graph.col], weights=graph.data)
    assert alike > 0.8, "cells of one type are near one another"
    genes = list(adata.var_names[:5])
    sc.tl.score_genes(adata, genes, layer="scdae", score_name="of_layer", ctrl_size=10)
    sc.tl.score_genes(adata, genes, score_name="of_counts", ctrl_size=10)
    assert np.isfinite(adata.obs["of_layer"]).all()
    assert np.corrcoef(adata.obs["of_layer"], adata.obs["of_counts"])[0, 1] > 0.5


@pytest.mark.filterwarnings("ignore:The set_bad function will be deprecated")  # scanpy's with Matplotlib 3.11
def test_scanpy_draws_the_layer(result):
    adata = result.copy()
    adata.obsm["X_umap"] = adata.obsm["X_scdae"][:, :2]
    gene = adata.var_names[3]
    axes = sc.pl.umap(adata, color=gene, layer="scdae", show=False, sort_order=False)
    np.testing.assert_allclose(axes.collections[0].get_array(), adata.layers["scdae"][:, 3], rtol=1e-6)
    mpl.pyplot.close("all")


def test_the_layer_through_scanpys_steps_leaves_the_layer_alone(result):
    adata = result.copy()
    scaled = sc.pp.normalize_total(adata, target_sum=1e4, layer="scdae", inplace=False)
    adata.layers["logs"] = scaled["X"]
    sc.pp.log1p(adata, layer="logs")
    np.testing.assert_allclose(np.expm1(adata.layers["logs"]).sum(axis=1), 1e4, rtol=1e-4)
    np.testing.assert_array_equal(adata.layers["scdae"], result.layers["scdae"])
    np.testing.assert_array_equal(small.dense(adata), small.dense(result))


def test_imputed_objects_are_joined(result):
    two = {"a": result[:70].copy(), "b": result[70:].copy()}
    joint = ad.concat(two, label="part", merge="same", uns_merge="same")
    np.testing.assert_array_equal(joint.layers["scdae"], result.layers["scdae"])
    np.testing.assert_array_equal(joint.obsm["X_scdae"], result.obsm["X_scdae"])
    assert "scdae_dispersion" in joint.var and "scdae_gain" in joint.obs
    assert plain(joint.uns["scdae"]) == plain(result.uns["scdae"])
    scdae.pp.impute(joint, model=small.fitted())  # replaces its own output
    np.testing.assert_allclose(joint.layers["scdae"], result.layers["scdae"], rtol=1e-5)
    outer = ad.concat({"a": two["a"], "b": two["b"][:, 5:]}, join="outer")
    assert outer.layers["scdae"].shape == result.shape


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_files_give_back_what_was_written(result, tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_atomic(result, path)
    back = ad.read_h5ad(path) if ending == "h5ad" else ad.read_zarr(path)
    for name in ("scdae", "scdae_q90"):
        np.testing.assert_array_equal(back.layers[name], result.layers[name])
    np.testing.assert_array_equal(back.obsm["X_scdae"], result.obsm["X_scdae"])
    assert plain(back.uns["scdae"]) == plain(result.uns["scdae"])
    assert scdae.get.report(back).to_dict() == scdae.get.report(result).to_dict()
    scdae.pp.impute(back, model=small.fitted())  # knows the output for its own
    write_atomic(back, path, overwrite=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MuData 0.3 announces that it will no longer pull columns
def test_a_modality_of_mudata(tmp_path):
    mudata = pytest.importorskip("mudata")
    other = ad.AnnData(np.ones((small.N_OBS, 2), np.float32), obs=small.structured().obs[[]])
    mdata = mudata.MuData({"rna": small.structured(), "prot": other})
    scdae.pp.impute(mdata["rna"], model=small.fitted())
    assert "scdae" in mdata["rna"].layers and list(mdata["prot"].layers) in ([], [None])
    with pytest.raises(TypeError, match="Pass one of its modalities: adata.mod.*'rna'"):
        scdae.pp.impute(mdata)
    mdata.write(tmp_path / "a.h5mu")
    back = mudata.read_h5mu(tmp_path / "a.h5mu")
    np.testing.assert_array_equal(back["rna"].layers["scdae"], mdata["rna"].layers["scdae"])
    assert plain(back["rna"].uns["scdae"]) == plain(mdata["rna"].uns["scdae"])


def test_a_table_of_spatialdata(tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    sdata = spatialdata.SpatialData(tables={"table": small.structured()})
    table = sdata["table"]
    scdae.pp.impute(table, model=small.fitted())
    scdae.tl.evaluate(table, groupby="cell_type", max_epochs=1, batch_size=64)
    scdae.pl.dotplot(table, list(table.var_names[:3]), "cell_type")
    assert mpl.pyplot.gcf().axes
    mpl.pyplot.close("all")
    with pytest.raises(TypeError, match="Pass one of its tables: adata.tables.*'table'"):
        scdae.pp.impute(sdata)
    sdata.write(tmp_path / "a.zarr")
    back = spatialdata.read_zarr(tmp_path / "a.zarr")["table"]
    np.testing.assert_array_equal(back.layers["scdae"], table.layers["scdae"])
    assert plain(back.uns["scdae"]) == plain(table.uns["scdae"])
