"""What works on a lazy layer: each row of the table in docs/lazy.md, tried, and held against the same on a layer in memory."""

import re
from importlib.metadata import version
from pathlib import Path

import dask.array as da
import matplotlib as mpl
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

import scdae
import small
from scdae.matrices import chunk_sizes

mpl.use("Agg")

PAGE = Path(__file__).parent.parent / "docs/lazy.md"
GENES = ["gene_1", "gene_5"]


def newest():
    """Whether the packages are those that the table is of, or later ones."""
    return all(
        tuple(int(part) for part in version(name).split(".")[:2]) >= least
        for name, least in (("scanpy", (1, 12)), ("anndata", (0, 13)))
    )


pytestmark = [
    pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not here"),
    pytest.mark.skipif(not newest(), reason="the table is of scanpy 1.12 and anndata 0.13"),
    pytest.mark.filterwarnings("ignore"),
]


def _as_x(adata):
    """The layer as X, for what takes nothing else."""
    other = adata.copy()
    other.X = other.layers["scdae"].copy()
    return other


def normalize_total(adata):
    return sc.pp.normalize_total(adata, layer="scdae", inplace=False)["X"]


def log1p(adata):
    other = adata.copy()
    sc.pp.log1p(other, layer="scdae")
    return other.layers["scdae"]


def pca(adata):
    other = _as_x(adata)
    sc.pp.pca(other, n_comps=5, svd_solver="covariance_eigh")
    return np.abs(other.obsm["X_pca"])


def highly_variable_genes(adata):
    return sc.pp.highly_variable_genes(adata, layer="scdae", flavor="seurat", inplace=False)["means"]


def aggregate(adata):
    return sc.get.aggregate(adata, "cell_type", "mean", layer="scdae").layers["mean"]


def obs_df(adata):
    return sc.get.obs_df(adata, GENES, layer="scdae").to_numpy()


def to_df(adata):
    return adata.to_df(layer="scdae").to_numpy()


def dotplot(adata):
    return sc.pl.dotplot(adata, GENES, "cell_type", layer="scdae", show=False, return_fig=True).dot_color_df.to_numpy()


def violin(adata):
    sc.pl.violin(adata, GENES, groupby="cell_type", layer="scdae", show=False)


def embedding(adata):
    sc.pl.embedding(adata, "scdae", color=GENES, layer="scdae", show=False)


def t_test(adata):
    other = adata.copy()
    sc.tl.rank_genes_groups(other, "cell_type", layer="scdae", method="t-test")
    return other.uns["rank_genes_groups"]["scores"].tolist()


def wilcoxon(adata):
    other = adata.copy()
    sc.tl.rank_genes_groups(other, "cell_type", layer="scdae", method="wilcoxon")
    return other.uns["rank_genes_groups"]["scores"].tolist()


def decoupler(adata):
    import decoupler
    import pandas as pd

    net = pd.DataFrame(
        {"source": ["a"] * 6 + ["b"] * 6, "target": [f"gene_{i}" for i in range(12)], "weight": [1.0, -1.0] * 6}
    )
    other = adata.copy()
    decoupler.mt.ulm(other, net, layer="scdae", tmin=3)
    return other.obsm["score_ulm"].to_numpy()


def imputed(adata):
    return scdae.get.imputed(adata, genes=GENES).to_numpy()


ROWS = {
    "sc.pp.normalize_total": normalize_total,
    "sc.pp.log1p": log1p,
    "sc.pp.pca": pca,
    "sc.pp.highly_variable_genes": highly_variable_genes,
    "sc.get.aggregate": aggregate,
    "sc.get.obs_df": obs_df,
    "adata.to_df": to_df,
    "sc.pl.dotplot": dotplot,
    "sc.pl.violin": violin,
    "sc.pl.embedding": embedding,
    "sc.tl.rank_genes_groups, t-test": t_test,
    "sc.tl.rank_genes_groups, wilcoxon": wilcoxon,
    "decoupler.mt.ulm": decoupler,
    "scdae.get.imputed": imputed,
}


def table():
    """Rows of the page: name, and whether it works on dense and on CSR chunks."""
    lines = re.findall(r"^\| `([^`]+)`([^|]*)\| (\w+) \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {f"{name}{rest.rstrip()}": {"dense": dense, "CSR": csr} for name, rest, dense, csr in lines}


@pytest.fixture(scope="module")
def layers():
    """The data with a layer in memory, one of dense chunks and one of CSR chunks."""
    found, model = {}, small.fitted(batch_key="batch", likelihood="nb", max_epochs=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_sizes, "CHUNK_VALUES", 40 * small.N_VARS)
        for form, lazy, threshold in (("memory", False, None), ("dense", True, None), ("CSR", True, 1e-6)):
            found[form] = small.structured()
            scdae.pp.impute(found[form], model=model, lazy=lazy, threshold=threshold, output="log1p")
    return found


def in_memory(values):
    values = values.compute() if isinstance(values, da.Array) else values
    return np.asarray(
        values.toarray() if sp.issparse(values) else values, dtype=object if isinstance(values, list) else None
    )


def outcome(function, adata, expected):
    """``yes``, or what the error says; wrong numbers are neither."""
    try:
        values = function(adata)
        values = None if values is None else in_memory(values)
    except Exception as error:  # noqa: BLE001 (of whatever package)
        return f"{type(error).__name__}: {error}"
    if expected is not None:
        np.testing.assert_allclose(
            np.array(values.tolist(), float), np.array(expected.tolist(), float), rtol=2e-3, atol=2e-3
        )
    return "yes"


def test_the_page_has_these_rows():
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("form", ["dense", "CSR"])
@pytest.mark.parametrize("name", ROWS)
def test_the_page_says_what_works(layers, name, form):
    if name.startswith("decoupler"):
        pytest.importorskip("decoupler")
    expected = ROWS[name](layers["memory"])
    found = outcome(ROWS[name], layers[form], None if expected is None else in_memory(expected))
    mpl.pyplot.close("all")
    said = table().get(name, {}).get(form)
    assert said == ("yes" if found == "yes" else "no"), found
