"""Names of genes in every type that pandas has for text, with missing ones among them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import scdae
import small
from scdae.arguments.names import names_of_genes

KINDS = ["object", "str", "string", "category", "arrow"]


def index_of(names, kind):
    if kind == "arrow":
        pytest.importorskip("pyarrow")
        return pd.Index(pd.array(names, dtype="string[pyarrow]"))
    if kind == "str" and pd.__version__ < "3":  # plain Python text there, and None would become a word
        kind = "object"
    return pd.Index(names, dtype=kind)


names = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_names_are_as_they_are_written_and_missing_ones_are_counted(kind, data):
    given = data.draw(names)
    assert names_of_genes(index_of(given, kind)).tolist() == [name.rstrip("\0") for name in given]
    lost = data.draw(st.sets(st.integers(0, len(given) - 1), min_size=1))
    for i in lost:
        given[i] = data.draw(st.sampled_from([None, np.nan, pd.NA])) if kind == "object" else None
    found = f"var_names: {len(lost)} of {len(given)} gene name"
    with pytest.raises(ValueError, match=rf"^{found}\(s\) (is|are) missing, the first at position {min(lost)}, and"):
        names_of_genes(index_of(given, kind))


def test_a_gene_may_be_called_nan():
    assert names_of_genes(pd.Index(["nan", "NA", "None"])).tolist() == ["nan", "NA", "None"]


@pytest.mark.filterwarnings("ignore:\\nAnnData expects")  # text, and not categories
@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_name_is_refused_before_training_and_where_a_model_is_applied(kind, monkeypatch):
    adata, model = small.structured(), small.fitted(likelihood="nb")
    monkeypatch.setattr(scdae.DAE, "_fit_counts", lambda *_, **__: pytest.fail("trains"))
    adata.var_names = index_of([None, *map(str, adata.var_names[1:])], kind)
    before = sorted(adata.uns)
    for call in (
        lambda: scdae.pp.impute(adata),
        lambda: scdae.DAE().fit(adata),
        lambda: scdae.tl.evaluate(adata),
        lambda: model.impute(adata),
        lambda: model.latent(adata),
        lambda: scdae.pp.impute(adata, model=model, lazy=True),
        lambda: scdae.tl.purify(adata, model),
        lambda: scdae.pp.align([small.structured(), adata]),
    ):
        with pytest.raises(ValueError, match=r"1 of 60 gene name\(s\) is missing, the first at position 0"):
            call()
    assert sorted(adata.uns) == before and small.layers_of(adata) == small.layers_of(small.structured())
    rest = adata[:, adata.var_names.notna()].copy()
    assert np.isfinite(model.impute(rest)).all()


@pytest.mark.parametrize("where", ["obs", "var"])
def test_columns_whose_names_are_no_text_are_told_and_used(where, log):
    adata, plain = small.structured(), small.structured()
    getattr(adata, where)[0] = 1.0
    adata.obs[7] = adata.obs["batch"]
    options = {"max_epochs": 1, "batch_size": 64}
    scdae.pp.impute(adata, batch_key=7, **options)
    assert "obs has " in log.text and f"{where}.columns = adata.{where}.columns.astype(str)" in log.text
    log.clear()
    scdae.pp.impute(plain, batch_key="batch", **options)
    assert "no text" not in log.text
    np.testing.assert_array_equal(adata.layers["scdae"], plain.layers["scdae"])


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_containers_of_counts_give_the_same(data):
    """X as any sparse array or matrix, or None beside a layer; anndata 0.13 lists X among the layers as None."""
    adata, model = small.structured(), small.fitted(likelihood="nb", max_epochs=7)
    form = data.draw(st.sampled_from([sp.csr_array, sp.csc_array, sp.csr_matrix, sp.csc_matrix, np.asarray]))
    dtype = data.draw(st.sampled_from(["u2", "i4", "i8", "f4", "f8"]))
    counts = form(adata.X.toarray().astype(dtype))
    in_layer = data.draw(st.booleans())
    query = ad.AnnData(None if in_layer else counts, obs=adata.obs, var=adata.var)
    if in_layer:
        query.layers["counts"] = counts
    found = model.impute(query, layer="counts" if in_layer else None)
    np.testing.assert_array_equal(found, model.impute(adata))
    assert [name for name in query.layers if name is not None] == (["counts"] if in_layer else [])
