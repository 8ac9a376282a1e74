"""Objects as anndata generates them for its own tests, with every kind of element: all of it survives, beside what is written."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.io.write import write_atomic

pytest.importorskip("awkward", reason="anndata generates arrays of it")
helpers = pytest.importorskip("anndata.tests.helpers", reason="anndata's tests need packages of their own")
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

FORMS = {"csr": sp.csr_matrix, "csr_array": sp.csr_array, "csc": sp.csc_matrix, "dense": np.asarray}
KINDS = (sp.csr_matrix, sp.csr_array, np.ndarray, pd.DataFrame)  # awkward arrays and xarray are packages of their own


def generated(form):
    """Every kind of element that anndata generates, around counts whose genes a model knows."""
    counts = small.structured()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = {"obsm_types": KINDS, "varm_types": KINDS, "layers_types": (sp.csr_matrix, sp.csr_array, np.ndarray)}
        adata = helpers.gen_adata(counts.shape, random_state=np.random.default_rng(0), **kinds)
    adata.var_names, adata.X = counts.var_names, form(small.dense(counts))
    return adata


def elements(adata):
    """All that lies along the cells or the genes, and `uns`, by name."""
    found = {"X": adata.X, "uns": dict(adata.uns)}
    for place in ("layers", "obsm", "varm", "obsp", "varp"):
        found |= {f"{place}/{name}": part for name, part in getattr(adata, place).items() if name is not None}
    for place in ("obs", "var"):
        found |= {f"{place}/{name}": column.to_frame() for name, column in getattr(adata, place).items()}
    return found


def same(before, after, *, exact=True):
    then, now = elements(before), elements(after)
    written = set(now) - set(then)
    assert set(then) <= set(now) and len(then) > 20
    for name in set(then) - {"uns"}:
        helpers.assert_equal(now[name], then[name], exact=exact, elem_name=name)
    for name, value in then["uns"].items():
        helpers.assert_equal(now["uns"][name], value, exact=exact, elem_name=f"uns/{name}")
    return written


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_nothing_but_its_own_is_changed(form):
    adata, model = generated(form), small.fitted(likelihood="nb", max_epochs=7)
    before = adata.copy()
    scdae.pp.impute(adata, model=model)
    scdae.tl.anomaly_score(adata, model)
    written = same(before, adata)
    assert {"layers/scdae", "obsm/X_scdae"} <= written
    expected = model.impute(small.structured())
    np.testing.assert_array_equal(adata.layers["scdae"], expected)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_files_give_everything_back(tmp_path, ending):
    adata, path = generated(sp.csr_matrix), tmp_path / f"a.{ending}"
    scdae.pp.impute(adata, model=small.fitted(likelihood="nb", max_epochs=7))
    plain = tmp_path / f"plain.{ending}"
    adata.write_h5ad(plain) if ending == "h5ad" else adata.write_zarr(plain)
    write_atomic(adata, path)
    read = ad.read_h5ad if ending == "h5ad" else ad.read_zarr
    assert same(read(plain), read(path)) == set()  # what anndata's own writer gives back, ours does


@pytest.mark.trains
def test_they_are_evaluated():
    adata = generated(sp.csr_array)
    before = adata.copy()
    scdae.tl.evaluate(adata, max_epochs=1, batch_size=64)
    assert same(before, adata) != set()
