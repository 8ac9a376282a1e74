import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small

QUICK = {"likelihood": "nb", "max_epochs": 7, "batch_size": 64, "n_latent": 10}


@pytest.fixture
def adata():
    return small.structured()


@pytest.fixture(scope="module")
def expected():
    return small.fitted(likelihood="nb", max_epochs=7).impute(small.structured())


def fingerprint(matrix):
    if sp.issparse(matrix):
        return (
            type(matrix),
            matrix.shape,
            *(p.dtype for p in (matrix.data, matrix.indices)),
            *map(bytes, (matrix.data, matrix.indices, matrix.indptr)),
        )
    return type(matrix), matrix.dtype, matrix.shape, np.asarray(matrix).tobytes()


def test_what_is_written(adata, expected):
    assert scdae.pp.impute(adata, **QUICK) is None
    layer = adata.layers["scdae"]
    assert isinstance(layer, np.ndarray) and layer.dtype == np.float32
    np.testing.assert_array_equal(layer, expected)
    assert adata.obsm["X_scdae"].shape == (150, 10)
    for name in ("dispersion", "dropout", "zero_inflated", "gate", "gain"):
        assert f"scdae_{name}" in adata.var
    assert "scdae_gain" in adata.obs
    entry = adata.uns["scdae"]
    for name in ("output", "unit", "likelihood", "seed", "layer", "n_latent", "version", "report", "settings"):
        assert name in entry
    assert entry["layer"] == "X" and entry["output"] == "mean"
    for name in ("skill", "n_genes_helped", "n_genes", "n_epochs", "history", "zero_inflated_genes"):
        assert name in entry["report"]


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_matrix, np.asfortranarray])
def test_nothing_else_is_touched(make):
    """Also not where the user's matrix is unsorted, has repeats, or stores zeros."""
    matrix = make(small.dense(small.structured()))
    if sp.issparse(matrix):
        matrix.data[::7] = 0  # stored zeros
        first = slice(matrix.indptr[0], matrix.indptr[1])
        matrix.indices[first], matrix.data[first] = matrix.indices[first][::-1].copy(), matrix.data[first][::-1].copy()
        matrix.has_sorted_indices = False
    adata = small.wrap(matrix, layers={"mine": matrix.copy()})
    adata.raw = adata.copy()
    before = {
        "X": fingerprint(adata.X),
        "raw": fingerprint(adata.raw.X),
        "mine": fingerprint(adata.layers["mine"]),
        "obs": adata.obs.copy(),
        "var": adata.var.copy(),
    }
    scdae.pp.impute(adata, **QUICK)
    assert fingerprint(adata.X) == before["X"]
    assert fingerprint(adata.raw.X) == before["raw"]
    assert fingerprint(adata.layers["mine"]) == before["mine"]
    assert adata.obs[before["obs"].columns].equals(before["obs"])
    assert adata.var[before["var"].columns].equals(before["var"])


def test_layer_is_read_and_said_so(adata, expected):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    scdae.pp.impute(adata, layer="counts", key_added="restored", **QUICK)
    np.testing.assert_array_equal(adata.layers["restored"], expected)
    assert adata.uns["restored"]["layer"] == "counts"
    assert "X_restored" in adata.obsm and "restored_gain" in adata.obs


@pytest.mark.parametrize("output", ["prior", "rate", "sd", "log1p"])
def test_outputs_and_their_units(adata, output):
    model = small.fitted(likelihood="nb", max_epochs=7)
    scdae.pp.impute(adata, model=model, output=output)
    np.testing.assert_array_equal(adata.layers["scdae"], model.impute(adata, output=output))
    assert adata.uns["scdae"]["output"] == output and adata.uns["scdae"]["unit"]


@pytest.mark.parametrize("depth", [500, np.linspace(100, 900, small.N_OBS)])
def test_depth_of_log1p_is_recorded(adata, depth):
    model = small.fitted(likelihood="nb", max_epochs=7)
    scdae.pp.impute(adata, model=model, output="log1p", depth=depth)
    np.testing.assert_array_equal(adata.layers["scdae"], model.impute(adata, output="log1p", depth=depth))
    assert not np.allclose(adata.layers["scdae"], model.impute(adata, output="log1p"))
    np.testing.assert_allclose(adata.uns["scdae"]["depth"], depth, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 100}, "for output='log1p' only, but output='mean'"),
        ({"depth": [1.0, 2.0], "output": "log1p"}, "one for each of the 150 cells"),
        ({"depth": -1, "output": "log1p"}, r"1 of 1 are not \(the first: -1.0\)"),
        ({"depth": np.nan, "output": "log1p"}, "positive number of molecules"),
    ],
)
def test_depth_that_does_not_fit(adata, arguments, words):
    with pytest.raises(ValueError, match=words):
        scdae.pp.impute(adata, **arguments)
    assert "scdae" not in adata.layers


def test_copy(adata, expected):
    before = list(adata.layers), list(adata.obsm), list(adata.uns), list(adata.var)
    result = scdae.pp.impute(adata, copy=True, **QUICK)
    np.testing.assert_array_equal(result.layers["scdae"], expected)
    assert (list(adata.layers), list(adata.obsm), list(adata.uns), list(adata.var)) == before


def test_view(adata, expected):
    double = ad.concat([adata, adata], index_unique="-", merge="same")
    view = double[:150]
    assert view.is_view
    scdae.pp.impute(view, **QUICK)
    np.testing.assert_array_equal(view.layers["scdae"], expected)
    assert "scdae" not in double.layers and "scdae" not in double.uns and "scdae_gain" not in double.var


@pytest.mark.parametrize("copy", [False, True])
def test_backed(adata, expected, tmp_path, copy):
    path = tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    before = path.read_bytes()
    backed = ad.read_h5ad(path, backed="r")
    result = scdae.pp.impute(backed, copy=copy, **QUICK)
    np.testing.assert_array_equal((result if copy else backed).layers["scdae"], expected)
    assert not copy or not result.isbacked
    backed.file.close()
    assert path.read_bytes() == before


def test_dask(adata, expected):
    dask = pytest.importorskip("dask.array")
    adata.X = dask.from_array(small.dense(adata), chunks=(40, 60))
    scdae.pp.impute(adata, **QUICK)
    np.testing.assert_array_equal(adata.layers["scdae"], expected)
    assert isinstance(adata.X, dask.Array)


@pytest.mark.filterwarnings("ignore:Writing zarr v2", "ignore:.*zarr")
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_result_can_be_written(adata, tmp_path, kind):
    scdae.pp.impute(adata, batch_key="batch", **QUICK)
    path = tmp_path / f"out.{kind}"
    if kind == "h5ad":
        adata.write_h5ad(path)
        again = ad.read_h5ad(path)
    else:
        adata.write_zarr(path)
        again = ad.read_zarr(path)
    np.testing.assert_array_equal(again.layers["scdae"], adata.layers["scdae"])
    entry, written = adata.uns["scdae"], again.uns["scdae"]
    assert written["report"]["verdict"] == entry["report"]["verdict"]
    np.testing.assert_array_equal(written["report"]["history"]["loss"], entry["report"]["history"]["loss"])
    assert list(written["batch_levels"]) == list(entry["batch_levels"])
    scdae.pp.impute(again, batch_key="batch", **QUICK)  # what came back is known as ours
    np.testing.assert_array_equal(again.layers["scdae"], adata.layers["scdae"])


def test_again_replaces_its_own_output(adata, expected):
    scdae.pp.impute(adata, seed=3, **QUICK)
    assert not np.array_equal(adata.layers["scdae"], expected)
    scdae.pp.impute(adata, **QUICK)
    np.testing.assert_array_equal(adata.layers["scdae"], expected)


def test_a_second_run_without_batches_forgets_them(adata):
    scdae.pp.impute(adata, batch_key="batch", **QUICK)
    scdae.pp.impute(adata, **QUICK)
    assert "batch_key" not in adata.uns["scdae"]


@pytest.mark.parametrize("place", ["layers", "obsm", "var", "obs", "uns"])
def test_what_the_user_has_there_is_kept(adata, place, expected):
    if place == "layers":
        adata.layers["scdae"] = adata.X.copy()
    elif place == "obsm":
        adata.obsm["X_scdae"] = np.zeros((150, 2))
    elif place == "uns":
        adata.uns["scdae"] = {"mine": 1}
    else:
        getattr(adata, place)["scdae_gain"] = 1.0
    before = list(adata.layers), list(adata.var)
    with pytest.raises(ValueError, match=rf"adata\.{place}\[.*key_added=.*overwrite=True"):
        scdae.pp.impute(adata, **QUICK)
    assert (list(adata.layers), list(adata.var)) == before
    scdae.pp.impute(adata, overwrite=True, **QUICK)
    np.testing.assert_array_equal(adata.layers["scdae"], expected)


@pytest.mark.parametrize("key", ["", "a/b", None, 3])
def test_keys_that_are_no_names(adata, key):
    with pytest.raises(ValueError, match="key_added="):
        scdae.pp.impute(adata, key_added=key, **QUICK)


def test_the_layer_of_counts_is_never_the_output(adata):
    adata.layers["counts"] = adata.X.copy()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is the layer that the counts are read from"):
            scdae.pp.impute(adata, layer="counts", key_added="counts", overwrite=overwrite, **QUICK)


def test_unknown_settings_are_listed(adata):
    with pytest.raises(TypeError, match=r"no argument 'n_layers'.*n_latent.*corruption"):
        scdae.pp.impute(adata, n_layers=3)
    with pytest.raises(ValueError, match="output='log'"):
        scdae.pp.impute(adata, output="log")


@pytest.mark.parametrize(
    "given",
    [
        {"n_latent": 5},
        {"likelihood": "nb"},
        {"max_epochs": 3},
        {"batch_key": "batch"},
        {"covariates": ["age"]},
        {"covariates": "age"},
        {"noise": 0.2},
    ],
)
def test_settings_of_the_fit_do_not_go_with_a_model(adata, given):
    with pytest.raises(ValueError, match=f"{next(iter(given))}=.*model="):
        scdae.pp.impute(adata, model=small.fitted(likelihood="nb", max_epochs=7), **given)


def test_model_that_is_none(adata, tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        scdae.pp.impute(adata, model=scdae.DAE())
    with pytest.raises(TypeError, match=r"model must be a fitted scdae\.DAE, got str"):
        scdae.pp.impute(adata, model=str(tmp_path))


def test_model_on_other_cells(adata):
    model = small.fitted(likelihood="nb", max_epochs=7)
    part = adata[20:90].copy()
    scdae.pp.impute(part, model=model)
    np.testing.assert_allclose(part.layers["scdae"], model.impute(adata)[20:90], rtol=1e-4, atol=1e-5)
    assert part.obs["scdae_gain"].notna().all()
    assert part.uns["scdae"]["report"]["skill"] > 0


def test_model_and_genes_it_does_not_know_warn_once(adata, log):
    adata.var_names = ["new", *adata.var_names[1:]]
    scdae.pp.impute(adata, model=small.fitted(likelihood="nb", max_epochs=7))
    assert np.isnan(adata.layers["scdae"][:, 0]).all() and np.isfinite(adata.layers["scdae"][:, 1:]).all()
    warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert len(warnings) == len(set(warnings)) == 2  # one missing, one unknown


def test_masked_cells_and_genes_go_through(adata):
    mask = np.ones(adata.shape, bool)
    mask[3], mask[:, 5] = False, False
    scdae.pp.impute(adata, mask=mask, **QUICK)
    layer = adata.layers["scdae"]
    assert np.isnan(layer[3]).all() and np.isnan(layer[:, 5]).all()  # nothing is known of either
    assert np.isfinite(np.delete(np.delete(layer, 3, 0), 5, 1)).all()
    assert np.isfinite(adata.obsm["X_scdae"]).all() and np.isnan(adata.obs["scdae_gain"].iloc[3])


def test_empty_cells_and_genes_come_back_as_zeros():
    adata = small.with_gaps()
    scdae.pp.impute(adata, **QUICK)
    layer = adata.layers["scdae"]
    assert not layer[3].any() and not layer[:, 5].any()
    assert (np.delete(np.delete(layer, 3, 0), 5, 1) > 0).all()
    assert np.isnan(adata.var["scdae_gain"].iloc[5]) and np.isnan(adata.obs["scdae_gain"].iloc[3])
    assert not adata.var["scdae_helped"].iloc[5] and adata.var["scdae_helped"].dtype == bool


def test_bad_input_writes_nothing(adata):
    adata.X.data[5] = -1
    before = list(adata.layers)
    with pytest.raises(ValueError, match="negative"):
        scdae.pp.impute(adata, **QUICK)
    assert list(adata.layers) == before and "scdae" not in adata.uns


def test_words_about_use_and_size(adata, log):
    scdae.pp.impute(adata, **QUICK)
    assert "150 x 60 float32 takes" in log.text
    assert "differential expression on raw counts" in log.text
    assert adata.uns["scdae"]["report"]["verdict"] in log.text


def test_thin(adata):
    before = fingerprint(adata.X)
    first, second = scdae.pp.thin(adata, 0.7, seed=1)
    assert fingerprint(adata.X) == before
    assert ((first.X + second.X) != adata.X).nnz == 0
    assert first.X.sum() / adata.X.sum() == pytest.approx(0.7, abs=0.01)
    assert first.obs.equals(adata.obs) and second.var.equals(adata.var)
    assert (scdae.pp.thin(adata, 0.7, seed=1)[0].X != first.X).nnz == 0
    assert (scdae.pp.thin(adata, 0.7, seed=2)[0].X != first.X).nnz > 0


def test_thin_of_a_layer_and_of_fractional_counts(adata):
    adata.layers["half"] = adata.X * 0.5
    with pytest.raises(ValueError, match="allow_fractional"):
        scdae.pp.thin(adata, layer="half")
    first, second = scdae.pp.thin(adata, layer="half", allow_fractional=True)
    np.testing.assert_allclose((first.X + second.X).toarray(), adata.layers["half"].toarray(), rtol=1e-5)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 90, float("nan")])
def test_fraction_out_of_range(adata, fraction):
    with pytest.raises(ValueError, match="fraction="):
        scdae.pp.thin(adata, fraction)


def test_quantile_layers():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    scdae.pp.impute(adata, model=model, quantiles=(0.05, 0.5, 0.975))
    expected = model.posterior(adata).quantile([0.05, 0.5, 0.975])
    for name, values in zip(("scdae_q05", "scdae_q50", "scdae_q97.5"), expected, strict=True):
        layer = adata.layers[name]  # of zeros they are interpolated between means
        np.testing.assert_allclose(layer, values, rtol=0.03, atol=1e-4)
        assert np.median(np.abs(layer - values) / np.maximum(values, 1e-6)) < 1e-3
        np.testing.assert_allclose(layer[small.dense(adata) > 0], values[small.dense(adata) > 0], rtol=1e-4)
    np.testing.assert_array_equal(adata.uns["scdae"]["quantiles"], [0.05, 0.5, 0.975])
    scdae.pp.impute(adata, model=model, quantiles=0.05)
    with pytest.raises(ValueError, match=r"quantiles must lie between 0 and 1, but 1 of 2 do not \(the first: 95.0\)"):
        scdae.pp.impute(adata, model=model, quantiles=(0.05, 95))


def test_quantiles_of_genes_in_another_order_and_without_counts():
    adata, model = small.with_gaps(), small.fitted_to_gaps()
    other = adata[:, ::-1].copy()
    scdae.pp.impute(other, model=model, quantiles=0.9)
    assert not other.layers["scdae_q90"][:, small.N_VARS - 6].any()
    expected = model.posterior(adata, genes=[7]).quantile(0.9)
    np.testing.assert_allclose(other.layers["scdae_q90"][:, [small.N_VARS - 8]], expected, rtol=1e-4)


# Corrected for batches ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_batches():
    return small.fitted(batch_key="batch", likelihood="nb")


def test_what_is_corrected_has_a_name_of_its_own(adata, in_batches):
    scdae.pp.impute(adata, model=in_batches)
    before = adata.copy()
    scdae.pp.impute(adata, model=in_batches, transform_batch="average", quantiles=(0.05, 0.95))
    key = "scdae_as_average"
    expected = in_batches.impute(adata, transform_batch="average")
    np.testing.assert_array_equal(adata.layers[key], expected)
    assert {key, f"{key}_q05", f"{key}_q95"} == set(adata.layers) - set(before.layers)
    assert {f"X_{key}"} == set(adata.obsm) - set(before.obsm) and {key} == set(adata.uns) - set(before.uns)
    assert {f"{key}_gain"} == set(adata.obs) - set(before.obs)
    columns = ("dispersion", "dropout", "zero_inflated", "zero_inflated_probability", "gate", "gain", "helped")
    assert {f"{key}_{name}" for name in columns} == set(adata.var) - set(before.var)
    # what was there is untouched
    for name in before.layers:
        assert fingerprint(adata.layers[name]) == fingerprint(before.layers[name])
    assert fingerprint(adata.X) == fingerprint(before.X)
    np.testing.assert_array_equal(adata.obsm["X_scdae"], before.obsm["X_scdae"])
    np.testing.assert_array_equal(adata.obsm[f"X_{key}"], before.obsm["X_scdae"])  # it is common to the batches anyway
    assert adata.obs[before.obs.columns].equals(before.obs) and adata.var[before.var.columns].equals(before.var)
    entry, plain = adata.uns[key], adata.uns["scdae"]
    assert entry["transform_batch"] == "average" and "as if measured in batch 'average'" in entry["unit"]
    assert entry["unit"].startswith(plain["unit"]) and "transform_batch" not in plain
    assert entry["written_by"] == "scdae.pp.impute" and entry["batch_key"] == "batch"
    scdae.pp.impute(adata, model=in_batches, transform_batch="average")  # its own output is replaced
    scdae.pp.impute(adata, model=in_batches, transform_batch="batch_2", key_added="mine")
    assert "mine_as_batch_2" in adata.layers and "mine" not in adata.layers


def test_corrected_layer_differs_less_between_batches(adata, in_batches):
    scdae.pp.impute(adata, model=in_batches)
    scdae.pp.impute(adata, model=in_batches, transform_batch="average")
    first = (adata.obs["batch"] == "batch_1").to_numpy()
    gaps = {}
    for name in ("scdae", "scdae_as_average"):
        share = adata.layers[name] / adata.layers[name].sum(axis=1, keepdims=True)
        gaps[name] = np.abs(np.log(share[first].mean(axis=0) / share[~first].mean(axis=0)))
    assert gaps["scdae_as_average"].mean() < 0.4 * gaps["scdae"].mean()
    assert (gaps["scdae_as_average"] < gaps["scdae"] + 0.1).mean() > 0.8


@pytest.mark.parametrize("batch", ["batch_1", "average"])
def test_quantiles_and_spread_of_what_is_corrected(adata, in_batches, batch):
    key = f"scdae_as_{batch}"
    scdae.pp.impute(adata, model=in_batches, transform_batch=batch, quantiles=(0.05, 0.5, 0.95))
    lower, middle, upper = (adata.layers[f"{key}_q{q}"] for q in ("05", "50", "95"))
    mean = adata.layers[key]
    for values in (lower, middle, upper, mean):
        assert np.isfinite(values).all() and (values >= 0).all()
    assert (lower < middle).all() and (middle < upper).all()
    assert (lower < mean).all() and (mean < upper).mean() > 0.99
    scdae.pp.impute(adata, model=in_batches, transform_batch=batch, output="sd")
    sd = adata.layers[key]
    assert np.isfinite(sd).all() and (sd > 0).all()
    np.testing.assert_allclose(sd, (upper - lower) / 3.29, rtol=0.6)  # about normal
    assert np.median(sd * 3.29 / (upper - lower)) == pytest.approx(1, abs=0.1)
    # the intervals are those of the cell, moved
    own = small.structured()
    scdae.pp.impute(own, model=in_batches, quantiles=(0.05, 0.95))
    ratio = in_batches.impute(adata, output="prior", transform_batch=batch) / in_batches.impute(adata, output="prior")
    for q, values in (("05", lower), ("95", upper)):
        np.testing.assert_allclose(values, own.layers[f"scdae_q{q}"] * ratio, rtol=1e-3, atol=1e-6)


def test_batches_whose_names_are_no_names(adata):
    """Slashes would be folders in a file, and a number is a name."""
    adata.obs["lane"] = np.where(adata.obs["batch"] == "batch_1", "a/1", "b/2")
    adata.obs["run"] = np.where(adata.obs["batch"] == "batch_1", 1, 2)
    for batch_key, batch, name in (
        ("lane", "b/2", "scdae_as_b_2"),
        ("run", 2, "scdae_as_2"),
        ("run", "1", "scdae_as_1"),
    ):
        scdae.pp.impute(adata, batch_key=batch_key, transform_batch=batch, **{**QUICK, "max_epochs": 2})
        assert name in adata.layers and adata.uns[name]["transform_batch"] == str(batch)


@pytest.mark.parametrize("key", ["", "a/b", None, 3])
def test_keys_that_are_no_names_are_none_with_a_batch_behind(adata, in_batches, key):
    before = list(adata.layers)
    with pytest.raises(ValueError, match="key_added="):
        scdae.pp.impute(adata, model=in_batches, transform_batch="average", key_added=key)
    assert list(adata.layers) == before


def test_batches_that_are_not_there(adata, in_batches):
    with pytest.raises(ValueError, match=r"transform_batch='x' is not a batch of obs\['batch'\]. Choose 'average' or"):
        scdae.pp.impute(adata, model=in_batches, transform_batch="x")
    with pytest.raises(ValueError, match=r"transform_batch='x' is not a batch"):  # before any training
        scdae.pp.impute(adata, batch_key="batch", transform_batch="x", max_epochs=10**6)
    with pytest.raises(ValueError, match="transform_batch='average' needs batch_key="):
        scdae.pp.impute(adata, transform_batch="average", max_epochs=10**6)
    with pytest.raises(ValueError, match="transform_batch='average' needs batch_key="):
        scdae.pp.impute(adata, model=small.fitted(likelihood="nb"), transform_batch="average")
    assert not [name for name in adata.layers if str(name).startswith("scdae")]


def test_what_the_user_has_under_the_corrected_name_is_kept(adata, in_batches):
    adata.layers["scdae_as_average"] = np.zeros(adata.shape)
    with pytest.raises(ValueError, match=r"adata\.layers\['scdae_as_average'\] is there already"):
        scdae.pp.impute(adata, model=in_batches, transform_batch="average")
    assert not adata.layers["scdae_as_average"].any()


# Covariates ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Writing zarr v2", "ignore:.*zarr")
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_corrected_result_with_covariates_can_be_written(tmp_path, kind):
    adata = small.covaried()
    columns = {"batch_key": "batch", "covariates": ["donor", "age", "smokes"]}
    settings = {**QUICK, "max_epochs": 2, **columns}
    scdae.pp.impute(adata, transform_batch="batch_2", quantiles=0.9, **settings)
    key, path = "scdae_as_batch_2", tmp_path / f"out.{kind}"
    if kind == "h5ad":
        adata.write_h5ad(path)
        again = ad.read_h5ad(path)
    else:
        adata.write_zarr(path)
        again = ad.read_zarr(path)
    for name in (key, f"{key}_q90"):
        np.testing.assert_array_equal(again.layers[name], adata.layers[name])
    entry, written = adata.uns[key], again.uns[key]
    assert sorted(entry["covariates"]) == ["age", "donor", "smokes"]
    assert list(written["covariates"]) == list(entry["covariates"]) and written["transform_batch"] == "batch_2"
    assert list(written["batch_levels"]) == ["batch_1", "batch_2"] and written["unit"] == entry["unit"]
    scdae.pp.impute(again, transform_batch="batch_2", quantiles=0.9, **settings)  # what came back is known as ours
    np.testing.assert_array_equal(again.layers[key], adata.layers[key])


def test_covariates_come_before_training(adata):
    adata.obs["age"], adata.obs["flat"] = np.arange(small.N_OBS) + 20.0, 1.0
    adata.obs.loc[adata.obs_names[[5, 9]], "age"] = np.nan
    for covariates, words in (
        ("age", rf"obs\['age'\].*no value in 2 of 150 cells.*{adata.obs_names[5]}.*row 5"),
        (["flat"], r"obs\['flat'\] is 1 in all 150 cells and says nothing"),
        (["cell_type", "cell_type"], "'cell_type' is given twice"),
        ("height", "covariates='height' not found in adata.obs"),
    ):
        with pytest.raises(ValueError, match=words):
            scdae.pp.impute(adata, batch_key="batch", covariates=covariates, max_epochs=10**6)
    assert "scdae" not in adata.layers and "scdae" not in adata.uns


def test_a_model_with_covariates_on_other_cells():
    adata, model = small.covaried(), small.fitted_to_covariates()
    part = adata[20:90].copy()
    scdae.pp.impute(part, model=model, transform_batch="average")
    expected = model.impute(adata, transform_batch="average")[20:90]
    np.testing.assert_allclose(part.layers["scdae_as_average"], expected, rtol=1e-4, atol=1e-5)
    assert list(part.uns["scdae_as_average"]["covariates"]) == ["donor", "age"]
    part.obs["donor"] = "eve"
    with pytest.raises(ValueError, match=r"obs\['donor'\] has 1 level\(s\) that the model was not fitted to.*'eve'"):
        scdae.pp.impute(part, model=model)
    assert "scdae" not in part.layers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fraction", "a"),
        ("fraction", None),
        ("fraction", 1.5),
        ("fraction", float("nan")),
        ("fraction", [0.5]),
        ("seed", -1),
        ("seed", "a"),
    ],
)
def test_thin_names_what_is_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name}="):
        scdae.pp.thin(small.structured(), **{"fraction": 0.5, name: value})


def test_few_cells_are_told(adata, log):
    scdae.pp.impute(adata, **QUICK)
    assert "few to learn from" not in log.text
    scdae.pp.impute(adata[:60].copy(), **QUICK)
    assert "60 cells are few to learn from; hundreds are of use" in log.text


def test_the_line_says_how_large_layers_are(adata, log, monkeypatch):
    import scdae.pp._steps as steps

    monkeypatch.setattr(steps, "_LARGE", 1)
    scdae.pp.impute(adata, **QUICK)
    assert (
        "layers['scdae'] (less than 1 MiB, in a file as well; threshold=0.01 or write_h5ad(compression='gzip')"
        in log.text
    )
    log.clear()
    scdae.pp.impute(adata, **QUICK, threshold=1)
    assert "(less than 1 MiB) and obsm['X_scdae']" in log.text
    scdae.pp.impute(adata, **QUICK, lazy=True)
    assert "(less than 1 MiB once computed)" in log.text
