"""Tables, plots and measures of whatever holds the values."""

import anndata as ad
import dask.array as da
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.io.write import write_atomic
from scdae.matrices.columns import as_dense, columns_of, gene_means, totals_of

mpl.use("Agg")


def _model():
    return small.fitted(likelihood="nb", max_epochs=7)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _held(adata, kind, folder):
    """The same data, otherwise held."""
    if kind.startswith("backed"):
        form = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}[kind.split("_")[1]]
        adata.X = form(adata.X)
        write_atomic(adata, folder / "a.h5ad")
        return ad.read_h5ad(folder / "a.h5ad", backed="r")
    if kind == "zarr":
        import zarr

        write_atomic(adata, folder / "a.zarr")
        adata.X = ad.io.sparse_dataset(zarr.open_group(folder / "a.zarr", mode="r")["X"])
        return adata
    x = da.from_array(adata.X.toarray(), chunks=(40, 30))
    adata.X = x.map_blocks(sp.csr_matrix) if kind == "dask_csr" else x
    return adata


@pytest.mark.parametrize("options", [{}, {"lazy": True, "threshold": 0.05, "quantiles": (0.05, 0.95)}])
@pytest.mark.parametrize("kind", ["backed_csr", "backed_csc", "backed_dense", "zarr", "dask", "dask_csr"])
def test_plots_draw_the_same_whatever_holds_the_counts(kind, options, tmp_path):
    genes = ["gene_9", "gene_3"]  # not in the order of the file

    def drawn(adata):
        scdae.pp.impute(adata, model=_model(), **options)
        maps = scdae.pl.before_after(adata, genes, groupby="cell_type", truth="truth", show=False)
        cells = scdae.pl.gene_gene(adata, *genes, color="batch", show=False)
        dots = scdae.pl.embedding(adata, genes, basis="X_scdae", show=False)
        found = [axis.images[0].get_array() for axis in maps]
        found += [part.get_offsets() for axis in cells for part in axis.collections if len(part.get_offsets())]
        return found + [axis.collections[0].get_array() for axis in dots], scdae.get.imputed(adata, genes=genes)

    (expected, table), (found, other) = drawn(small.structured()), drawn(_held(small.structured(), kind, tmp_path))
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other, table, rtol=1e-4, atol=1e-5)


def test_any_matrix_as_columns_totals_and_means():
    x = small.dense(small.structured()).astype(np.float64)
    x[3, 4] = np.nan
    lazy = da.from_array(x, chunks=(50, 20))
    for matrix in (
        x,
        np.asfortranarray(x),
        sp.csc_matrix(x),
        sp.csr_array(x),
        sp.coo_matrix(x),
        lazy,
        lazy.map_blocks(sp.csr_array),
    ):
        np.testing.assert_array_equal(as_dense(matrix), x)
        np.testing.assert_array_equal(columns_of(matrix, np.array([7, 2, 7]), "x"), x[:, [7, 2, 7]])
        np.testing.assert_allclose(totals_of(matrix, "x"), np.nansum(x, axis=1))
        np.testing.assert_allclose(gene_means(matrix, "x"), np.nansum(x, axis=0) / len(x))


@pytest.mark.parametrize(
    "form", [sp.csr_matrix, sp.csr_array, lambda x: da.from_array(x, chunks=(50, 20)).map_blocks(sp.csr_matrix)]
)
def test_measures_of_sparse_and_lazy_values(form):
    x, m = small.dense(small.structured()), small.structured().layers["truth"]
    metrics = scdae.metrics
    base = metrics.gene_mean(x)
    np.testing.assert_array_equal(metrics.gene_mean(form(x)), base)
    np.testing.assert_array_equal(metrics.log_normalize(form(x)), metrics.log_normalize(x))
    np.testing.assert_array_equal(metrics.gene_correlation(form(x), form(m)), metrics.gene_correlation(x, m))
    assert metrics.rmse(form(x), form(m)) == metrics.rmse(x, m)
    assert metrics.deviance_skill(form(x), form(m), form(base)) == metrics.deviance_skill(x, m, base)


def test_repeated_gene_names_are_said_where_they_matter():
    adata = small.structured()
    adata.layers["scdae"] = adata.layers["truth"]
    names = list(adata.var_names)
    adata.var_names = [*names[:-1], names[0]]
    np.testing.assert_array_equal(scdae.get.imputed(adata, genes=[names[2]])[names[2]], adata.layers["truth"][:, 2])
    with pytest.raises(KeyError, match="names 2 genes"):
        scdae.get.imputed(adata, genes=[names[0]])
