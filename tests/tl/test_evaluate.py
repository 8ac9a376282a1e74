import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scdae
import small
from scdae.tl._evaluate import VERDICTS

SETTINGS = {"max_epochs": 40, "batch_size": 64, "n_latent": 10, "likelihood": "nb"}


@pytest.fixture(scope="module")
def evaluated():
    adata = small.with_gaps()
    scdae.tl.evaluate(adata, **SETTINGS)
    return adata


def test_what_is_written(evaluated):
    skill, entry = evaluated.var["scdae_skill"], evaluated.uns["scdae_evaluation"]
    assert skill.dtype == np.float32 and evaluated.obs["scdae_skill"].dtype == np.float32
    assert np.isnan(skill.iloc[5]) and np.isnan(evaluated.obs["scdae_skill"].iloc[3])  # no counts there
    assert evaluated.var["scdae_verdict"].iloc[5] == "not judged"
    assert list(evaluated.var["scdae_verdict"].cat.categories) == VERDICTS
    assert sum(entry["n_genes"].values()) == evaluated.n_vars
    assert entry["written_by"] == "scdae.tl.evaluate" and entry["settings"]["n_latent"] == 10
    assert entry["pit"].sum() == pytest.approx(1) and 0.85 < entry["coverage"] < 0.95
    helped = evaluated.var["scdae_verdict"] == "helped"
    assert scdae.get.evaluation(evaluated).loc["scdae", "skill"] > 0.07
    assert helped.sum() > 15 and (skill[helped] > 2 * evaluated.var["scdae_skill_se"][helped]).all()
    assert not {key for key in evaluated.layers if key is not None} and not len(evaluated.obsm)


def test_table_and_verdict(evaluated):
    table = scdae.get.evaluation(evaluated)
    assert list(table.index) == ["scdae", "scdae with own counts", "gene mean", "raw counts", "low rank"]
    assert table.loc["gene mean", "skill"] == 0
    assert 0.02 < table.loc["scdae", "skill"] < table.loc["scdae with own counts", "skill"]
    assert table.loc["scdae with own counts", "skill"] > table.loc["raw counts", "skill"]
    assert table["log_likelihood"].idxmax() == "scdae with own counts"
    words = evaluated.uns["scdae_evaluation"]["verdict"]
    judged = (evaluated.var["scdae_verdict"] != "not judged").sum()
    assert judged < evaluated.n_vars and f"of {judged} genes with molecules set aside are helped" in words
    assert words.startswith(
        f"It helps: molecules set aside are {np.expm1(table.loc['scdae', 'skill']):.1%} more likely"
    )
    assert "low-rank fit of rank" in words


def test_result_is_written_to_files(evaluated, tmp_path):
    evaluated.write_h5ad(tmp_path / "a.h5ad")
    import anndata as ad

    back = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(scdae.get.evaluation(back), scdae.get.evaluation(evaluated))


def test_same_seed_same_numbers_and_a_second_call_replaces(evaluated):
    again = evaluated.copy()
    again.var["scdae_skill"] += np.float32(1)
    scdae.tl.evaluate(again, **SETTINGS)
    np.testing.assert_array_equal(again.var["scdae_skill"], evaluated.var["scdae_skill"])


def test_nothing_to_find():
    adata = small.noise().copy()
    scdae.tl.evaluate(adata, max_epochs=20, batch_size=64)
    counted = adata.uns["scdae_evaluation"]["n_genes"]
    assert counted["helped"] <= 3
    assert scdae.get.evaluation(adata).loc["scdae", "skill"] < 0.02


def test_settings_of_a_run_are_those_judged():
    adata = small.structured()
    adata.layers["umi"], adata.X = adata.X, None
    adata.layers["seen"] = np.random.default_rng(0).random(adata.shape) < 0.95
    settings = {**SETTINGS, "max_epochs": 7}  # batches: the next test
    scdae.pp.impute(adata, layer="umi", mask="seen", **settings)
    copy = scdae.tl.evaluate(adata, copy=True)
    assert "scdae_evaluation" not in adata.uns
    entry = copy.uns["scdae_evaluation"]
    assert entry["layer"] == "umi" and entry["settings"]["likelihood"] == "nb" and entry["settings"]["max_epochs"] == 7
    other = scdae.tl.evaluate(adata, copy=True, likelihood="poisson").uns["scdae_evaluation"]
    assert other["settings"]["likelihood"] == "poisson" and other["settings"]["max_epochs"] == 7


def test_columns_of_a_run_are_those_judged(tmp_path, monkeypatch):
    """Also from a file, and of a run that was corrected for batches."""
    import anndata as ad

    from scdae.tl import _evaluate

    adata, jobs, plain = small.covaried(), [], _evaluate.read_job
    monkeypatch.setattr(
        _evaluate, "read_job", lambda *args, **options: jobs.append(plain(*args, **options)) or jobs[-1]
    )
    settings = {**SETTINGS, "max_epochs": 2}
    scdae.pp.impute(adata, batch_key="batch", covariates=["age", "donor"], transform_batch="average", **settings)
    adata.write_h5ad(tmp_path / "a.h5ad")
    for data in (adata, ad.read_h5ad(tmp_path / "a.h5ad")):
        scdae.tl.evaluate(data, key="scdae_as_average")
    scdae.tl.evaluate(small.covaried(), small.fitted_to_covariates())
    scdae.tl.evaluate(small.covaried(), covariates="smokes", **settings)
    first, second, of_model, given = jobs
    assert first.covariates == second.covariates and first.covariates.batch_key == "batch"
    assert sorted(first.covariates.others) == ["age", "donor"] and first.config.max_epochs == 2
    assert of_model.covariates == small.fitted_to_covariates().covariates
    assert given.covariates.levels == {"smokes": ["False", "True"]} and given.covariates.batch_key is None
    np.testing.assert_array_equal(first.conditions.levels, second.conditions.levels)
    assert np.isfinite(scdae.get.evaluation(adata, "scdae_as_average").loc["scdae", "skill"])


def test_settings_of_a_model():
    adata, model = small.structured(), small.fitted(likelihood="nb")
    scdae.tl.evaluate(adata, model, key="mine")
    assert adata.uns["mine_evaluation"]["settings"]["batch_size"] == 64
    assert model.outcome is small.fitted(likelihood="nb").outcome
    with pytest.raises(ValueError, match=r"n_latent=... belongs to the fit"):
        scdae.tl.evaluate(adata, model, n_latent=3)
    with pytest.raises(TypeError, match="must be a fitted scdae.DAE"):
        scdae.tl.evaluate(adata, "model")


def test_errors_come_before_training():
    adata = small.structured()
    with pytest.raises(ValueError, match=r"fraction=1\.5"):
        scdae.tl.evaluate(adata, fraction=1.5)
    with pytest.raises(TypeError, match="no argument 'n_layers'"):
        scdae.tl.evaluate(adata, n_layers=3)
    adata.var["scdae_skill"] = 0.0
    with pytest.raises(ValueError, match=r"adata\.var\['scdae_skill'\] is there already"):
        scdae.tl.evaluate(adata)
    with pytest.raises(KeyError, match=r"Call scdae\.tl\.evaluate"):
        scdae.get.evaluation(adata)
    del adata.var["scdae_skill"]
    adata.uns["scdae"] = {"written_by": "scdae.pp.impute", "layer": "X", "mask": "given", "settings": {}}
    with pytest.raises(ValueError, match=r"Pass the same mask="):
        scdae.tl.evaluate(adata)


def test_noise_in_estimated_counts_is_not_called_help():
    """With a share of each fraction in both halves, twice as many genes were."""
    rng = np.random.default_rng(1)
    mean = np.exp(rng.normal(0, 0.3, (600, 1)) + rng.normal(-1, 1, 150))
    counts = rng.poisson(mean / 2) + 0.3 * rng.poisson(mean / 2)  # unique reads, and others by their weight
    adata = ad.AnnData(counts.astype(np.float32))
    scdae.tl.evaluate(adata, fraction=0.5, allow_fractional=True, likelihood="nb", max_epochs=5)
    assert (adata.var["scdae_verdict"] == "helped").mean() <= 0.03
