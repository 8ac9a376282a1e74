"""Guard of cells: `scdae.tl.anomaly_score` and `scdae.tl.anomaly_genes`."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

import scdae
import small

MODEL = {"likelihood": "nb", "max_epochs": 7}


@pytest.fixture(scope="module")
def scene():
    """Five kinds of cells; the fifth, and doublets of the others, are unknown to the model."""
    adata = scdae.datasets.simulate(
        900, 250, n_types=5, trajectory=False, depth=2500, dropout=0.0, batch_effect=0.0, seed=3
    )
    kind = adata.obs["cell_type"].astype(str).to_numpy()
    fifth, known = np.flatnonzero(kind == "type_5"), np.flatnonzero(kind != "type_5")
    rng = np.random.default_rng(0)
    pairs = [pair for pair in rng.choice(known, (200, 2)) if kind[pair[0]] != kind[pair[1]]][:60]
    doublets = sp.csr_matrix(np.stack([np.asarray(adata.X[pair].sum(axis=0)).ravel() for pair in pairs]))
    whole = ad.AnnData(sp.vstack([adata.X[known], adata.X[fifth], doublets]).tocsr().astype(np.float32))
    whole.obs["what"] = ["known"] * len(known) + ["unknown"] * len(fifth) + ["doublet"] * 60
    whole.obs["normal"] = (whole.obs["what"] == "known") & (rng.random(whole.n_obs) < 0.7)
    whole.obs_names = [f"cell_{i}" for i in range(whole.n_obs)]
    whole.var_names = adata.var_names
    scdae.tl.anomaly_score(whole, normal="normal", likelihood="nb", max_epochs=20)
    return whole


def test_unknown_cells_and_doublets_stand_out(scene):
    score = scene.obs["anomaly"].to_numpy()
    unseen = ((scene.obs["what"] == "known") & ~scene.obs["normal"]).to_numpy()
    for what in ("unknown", "doublet"):
        odd = (scene.obs["what"] == what).to_numpy()
        assert stats.mannwhitneyu(score[odd], score[unseen]).statistic / (odd.sum() * unseen.sum()) > 0.9, what
    found = scene.obs["anomaly_fdr"] < 0.1
    assert found[scene.obs["what"] == "unknown"].mean() > 0.5
    assert (scene.obs["what"][found] == "known").mean() < 0.2


def test_p_values_of_cells_that_were_not_seen_are_uniform(scene):
    unseen = (scene.obs["what"] == "known") & ~scene.obs["normal"]
    assert stats.kstest(scene.obs["anomaly_pvalue"][unseen], "uniform").pvalue > 0.01
    entry = scene.uns["anomaly"]
    of_normal = np.sort(scene.obs["anomaly_pvalue"][scene.obs["normal"]])
    assert entry["n_trained"] + entry["n_normal"] == scene.obs["normal"].sum() == len(of_normal)
    assert scene.obs["anomaly_fdr"][scene.obs["normal"]].isna().all()
    assert scene.obs["anomaly_fdr"][~scene.obs["normal"]].notna().all()


def test_score_does_not_depend_on_depth(scene):
    unseen = ((scene.obs["what"] == "known") & ~scene.obs["normal"]).to_numpy()
    depth = np.asarray(scene.X.sum(axis=1)).ravel()
    for name in ("anomaly", "anomaly_rarity", "anomaly_deviance"):
        assert abs(stats.spearmanr(scene.obs[name][unseen], depth[unseen]).statistic) < 0.3, name


def test_genes_say_why():
    """A gene with a hundred molecules where normal cells have none or few."""
    adata = small.structured()
    model, other = small.fitted(**MODEL), adata.copy()
    counts = other.X.tolil()
    gene = int(np.asarray(adata.X[7].todense()).ravel().argmin())
    counts[7, gene] += 100
    other.X = counts.tocsr()
    table = scdae.tl.anomaly_genes(other, model, ["cell_8", "cell_5"], normal=adata, n=3)
    assert table["cell"].tolist() == ["cell_8"] * 3 + ["cell_5"] * 3
    first = table.iloc[0]
    assert first["gene"] == adata.var_names[gene] and first["count"] >= 100
    assert first["deviance"] > 2 * table["deviance"][1:].abs().max()
    assert (np.sign(table["deviance"]) == np.where(table["count"] < table["expected"], -1, 1)).all()
    everything = scdae.tl.anomaly_genes(other, model, [7], n=None)
    np.testing.assert_allclose(everything["expected"].sum(), other.X[7].sum(), rtol=1e-3)


@pytest.mark.parametrize("way", ["column", "array", "other"])
def test_ways_to_name_normal_cells_agree(way):
    adata, model = small.structured(), small.fitted(**MODEL)
    normal = np.arange(small.N_OBS) < 100
    adata.obs["fine"] = normal
    given = {"column": "fine", "array": normal, "other": adata[:100].copy()}[way]
    query = adata[100:].copy() if way == "other" else adata
    scdae.tl.anomaly_score(query, model, normal=given)
    expected = scdae.tl.anomaly_score(adata, model, normal=normal, copy=True, key_added="x").obs["x_pvalue"][100:]
    assert query.uns["anomaly"]["n_normal"] == 100
    assert stats.spearmanr(query.obs["anomaly_pvalue"][-50:], expected).statistic > 0.95


def test_without_normal_cells_they_are_compared_with_one_another(log):
    adata = small.structured()
    scdae.tl.anomaly_score(adata, small.fitted(**MODEL))
    n = small.N_OBS
    np.testing.assert_allclose(np.sort(adata.obs["anomaly_pvalue"]), np.arange(1, n + 1) / n)
    assert "the fraction of cells that look at least as odd" in log.text and "a ranking" in log.text
    assert "anomaly_fdr" not in adata.obs and "n_below_0.05" not in adata.uns["anomaly"]
    adata.obs["fine"] = np.arange(n) < 100
    scdae.tl.anomaly_score(adata, small.fitted(**MODEL), normal="fine")
    assert "anomaly_fdr" in adata.obs
    scdae.tl.anomaly_score(adata, small.fitted(**MODEL))
    assert "anomaly_fdr" not in adata.obs, "what an earlier call called goes with its normal cells"


def test_empty_cells_have_no_score_and_gaps_are_left_out():
    adata = small.structured()
    counts = small.dense(adata).copy()
    counts[4] = 0
    observed = np.ones(counts.shape, bool)
    observed[10:60, :20] = False
    model = small.fitted(**MODEL)
    one, two = (small.wrap(np.where(observed, counts, fill)) for fill in (0, np.nan))
    scdae.tl.anomaly_score(one, model, mask=observed)
    scdae.tl.anomaly_score(two, model, allow_nan=True)
    assert one.obs.iloc[4][["anomaly", "anomaly_pvalue"]].isna().all()
    assert one.obs["anomaly"].notna().sum() == small.N_OBS - 1
    np.testing.assert_allclose(one.obs["anomaly"], two.obs["anomaly"], rtol=1e-4)
    assert one.obs["anomaly_deviance"][10:60].abs().median() < 2


def test_what_is_written_can_be_saved_and_only_that_is_replaced(tmp_path):
    adata, model = small.structured(), small.fitted(**MODEL)
    scdae.tl.anomaly_score(adata, model)
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert read.uns["anomaly"]["n_normal"] == small.N_OBS and read.obs["anomaly"].dtype == np.float32
    scdae.tl.anomaly_score(adata, model)
    adata.obs["mine"] = 1
    with pytest.raises(ValueError, match=r"obs\['mine'\] is there already"):
        scdae.tl.anomaly_score(adata, model, key_added="mine")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"normal": "nobody"}, ValueError, "normal='nobody' not found in adata.obs"),
        ({"normal": "cell_type"}, ValueError, "has to be True or False for each of the 150 cells"),
        ({"normal": np.ones(3, bool)}, ValueError, "for each of the 150 cells"),
        ({"normal": np.arange(150) < 7}, ValueError, "normal names 7 cells to compare with, and at least 20"),
        ({"normal": "other", "mask": np.ones((150, 60), bool)}, ValueError, "mask has to be the name of a layer"),
        ({"max_epochs": 3}, ValueError, "max_epochs=... belongs to the fit"),
        ({"model": "x"}, TypeError, "must be a fitted scdae.DAE"),
    ],
)
def test_what_cannot_be_is_said(given, error, words):
    adata = small.structured()
    given = {"model": small.fitted(**MODEL)} | given
    if isinstance(given.get("normal"), str) and given["normal"] == "other":
        given["normal"] = adata.copy()
    with pytest.raises(error, match=words):
        scdae.tl.anomaly_score(adata, **given)
    assert "anomaly" not in adata.obs


def test_too_few_normal_cells_to_fit_to():
    normal = np.arange(small.N_OBS) < 40
    with pytest.raises(ValueError, match="three tenths of them are 12 cells"):
        scdae.tl.anomaly_score(small.structured(), normal=normal)
    with pytest.raises(ValueError, match="so model= has to be one that was fitted"):
        scdae.tl.anomaly_score(small.structured(), normal=small.structured())


@pytest.mark.parametrize(("n_tested", "said"), [(100, True), (1, False)])
def test_too_few_normal_cells_for_the_false_discovery_rate_are_said(n_tested, said, log):
    adata = scdae.datasets.simulate(n_cells=130, n_genes=40, seed=0)
    model = scdae.DAE(max_epochs=2).fit(adata)
    adata = adata[: 30 + n_tested].copy()
    adata.obs["normal"] = np.arange(adata.n_obs) < 30
    scdae.tl.anomaly_score(adata, model, normal="normal")
    assert adata.uns["anomaly"]["n_below_0.05"] == 0
    assert ("at least 65 of them" in log.text) is said
