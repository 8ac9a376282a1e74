"""Counts that are too many to be held: the same checks, the same model whatever holds them, all cells read out."""

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.core.data import survey
from scdae.inputs.counts import CountBlocks, Counts, open_counts, read_counts
from scdae.io.write import write_atomic
from scdae.matrices import csc_rows as scratch
from scdae.matrices import rows as containers

HOLDERS = ["csr", "csc", "dense", "backed csr", "backed csc", "zarr csr", "zarr csc", "dask"]


@pytest.fixture
def few(monkeypatch):
    """Hold few entries, read few rows at a time, and know few of the cells beforehand."""
    monkeypatch.setattr(scdae.settings, "_max_entries", 1000)
    monkeypatch.setattr(containers, "BLOCK_VALUES", 600)
    monkeypatch.setattr(scratch, "_AT_ONCE", 500)
    monkeypatch.setattr(survey, "_CELLS", (60, 60))


def held(holder, folder, adata=None):
    """The structured data, their counts held in some way."""
    adata = small.structured() if adata is None else adata
    csr = sp.csr_matrix(adata.X)
    kind, _, form = holder.partition(" ")
    if kind == "dask":
        return small.wrap(da.from_array(csr.toarray(), chunks=(40, 25)))
    matrix = {"csr": csr, "csc": csr.tocsc(), "dense": csr.toarray()}[form or kind]
    if not form:
        return small.wrap(matrix)
    path = folder / ("a.h5ad" if kind == "backed" else "a.zarr")
    write_atomic(small.wrap(matrix), path)
    if kind == "backed":
        return ad.read_h5ad(path, backed="r")
    import zarr

    group = zarr.open_group(path, mode="r")
    return ad.AnnData(ad.io.sparse_dataset(group["X"]), obs=adata.obs.copy(), var=adata.var.copy())


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_blocks_are_the_counts(few, tmp_path, holder):
    adata = held(holder, tmp_path)
    counts = small.structured().X.toarray()
    found = open_counts(adata)
    assert isinstance(found, CountBlocks) and found.shape == adata.shape and not found.fractional
    parts = [found.read(start, stop)[0].toarray() for start, stop in found.spans]
    assert len(parts) > 2
    np.testing.assert_array_equal(np.concatenate(parts), counts)
    np.testing.assert_array_equal(found.read(3, 9)[0].toarray(), counts[3:9])
    blocks = found.blocks
    np.testing.assert_array_equal(blocks.lengths, (counts > 0).sum(axis=1))
    np.testing.assert_allclose(blocks.totals, counts.sum(axis=0))
    assert blocks.hidden is None
    assert len(blocks.rows) == 60 and (np.diff(blocks.rows) > 0).all()
    np.testing.assert_array_equal(found.sample.matrix.toarray(), counts[blocks.rows])
    np.testing.assert_array_equal(found.sample.obs_names, adata.obs_names[blocks.rows])


def test_counts_that_fit_are_held(tmp_path):
    assert isinstance(open_counts(held("backed csr", tmp_path)), Counts)
    stored = small.structured().X.nnz
    assert isinstance(open_counts(small.structured(), most=stored), Counts)
    assert isinstance(open_counts(small.structured(), most=stored - 1), CountBlocks)
    assert isinstance(read_counts(small.structured()), Counts)


def test_gaps_come_with_the_blocks(few):
    adata = small.structured()
    observed = np.ones(adata.shape, bool)
    observed[20:90, 7:20] = False
    found = open_counts(adata, mask=observed)
    hidden = np.concatenate([found.read(*span)[1].toarray() for span in found.spans])
    np.testing.assert_array_equal(hidden, ~observed)
    np.testing.assert_array_equal(found.blocks.hidden, (~observed).sum(axis=1))
    np.testing.assert_array_equal(found.sample.unobserved.toarray(), ~observed[found.blocks.rows])
    assert not found.read(20, 90)[0][:, 7:20].nnz


def test_what_is_no_count_is_found_in_the_last_block(few):
    adata = small.structured()
    adata.X[-1, 3] = 0.5
    with pytest.raises(ValueError, match="fractional"):
        open_counts(adata)


@pytest.mark.parametrize("value", [-1, 1.5, True, "many"])
def test_max_entries_is_a_number(value):
    with pytest.raises(ValueError, match="max_entries"):
        scdae.settings.max_entries = value


@pytest.mark.parametrize("holder", ["csr", "backed csc", "zarr csr", "dask"])
def test_same_model_and_layer_whatever_holds_the_counts(few, tmp_path, holder):
    """Block bounds differ, and with them the order of the cells; the rest of the fit is the same."""
    adata = held(holder, tmp_path)
    model = scdae.DAE(max_epochs=40, batch_size=32, n_latent=10, likelihood="nb").fit(adata)
    outcome = model.outcome
    assert outcome.report.skill > 0.02
    assert outcome.n_epochs > 5 and len(outcome.cells) == 60
    restored = model.impute(adata)
    truth, raw = np.asarray(small.structured().layers["truth"]), small.structured().X.toarray()
    assert np.mean((np.log1p(restored) - np.log1p(truth)) ** 2) < 0.6 * np.mean((np.log1p(raw) - np.log1p(truth)) ** 2)
    in_memory = model.impute(small.structured())
    np.testing.assert_allclose(restored, in_memory, rtol=2e-4, atol=1e-5)
    latent = model.latent(adata)
    np.testing.assert_allclose(latent, model.latent(small.structured()), rtol=1e-3, atol=1e-4)


def test_same_seed_same_bits(few):
    settings = {"max_epochs": 7, "likelihood": "nb"}
    one, same = (small.fit(**settings).impute(small.structured()) for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_impute_writes_all_of_it(few):
    adata = small.with_gaps()
    before = adata.X.copy()
    scdae.pp.impute(adata, max_epochs=7, batch_size=32, quantiles=0.9, batch_key="batch", transform_batch="average")
    key = "scdae_as_average"
    assert np.isfinite(adata.layers[key]).all() and np.isfinite(adata.layers[f"{key}_q90"]).all()
    assert (adata.layers[key][3] == 0).all() and (adata.layers[key][:, 5] == 0).all()
    gain = adata.obs[f"{key}_gain"]
    assert 55 <= gain.notna().sum() <= 60 and np.isnan(
        gain.iloc[3]
    )  # of those judged by, those with held-out molecules
    without = np.flatnonzero(adata.var[f"{key}_gain"].isna())
    assert 5 in without and len(without) < 5
    assert (before != adata.X).nnz == 0
    model = scdae.DAE(max_epochs=7).fit(small.structured())
    scdae.pp.impute(adata, model=model, key_added="other")
    assert 55 <= adata.obs["other_gain"].notna().sum() <= 60 and adata.uns["other"]["report"]["skill"] != 0


def test_gaps_and_missing_genes_are_filled(few, log):
    model = small.fit(likelihood="nb", max_epochs=7)  # not one that other tests share: it is fitted by blocks
    adata = small.structured()[:, 4:].copy()
    observed = np.ones(adata.shape, bool)
    observed[20:90, 7:20] = False
    by_blocks = model.impute(adata, mask=observed)
    scdae.settings.max_entries = 10**6
    at_once = model.impute(adata, mask=observed)
    np.testing.assert_allclose(by_blocks, at_once, rtol=1e-3, atol=1e-4)


def test_the_scratch_copy_goes_with_the_fit(few, tmp_path, monkeypatch):
    import gc
    import tempfile

    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    adata = held("backed csc", tmp_path)
    found = open_counts(adata)
    assert len(list(folder.iterdir())) == 1
    found.read(0, 5)
    del found
    gc.collect()
    assert not list(folder.iterdir())
