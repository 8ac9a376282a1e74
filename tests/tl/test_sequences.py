import anndata as ad
import numpy as np
import pytest

import scdae

N_TRAIN, N_NORMAL = 70, 25  # genera


@pytest.fixture(scope="module")
def family():
    """A model of seventy genera, sequences of others, and chimeras of two phyla's with their breakpoints."""
    sequences = scdae.datasets.simulate_16s(n_genera=N_TRAIN + 2 * N_NORMAL, n_per_genus=3, length=600, seed=0)
    names = list(sequences)
    rng = np.random.default_rng(5)
    genera = rng.permutation(N_TRAIN + 2 * N_NORMAL)
    parts = [genera[:N_TRAIN], genera[N_TRAIN:-N_NORMAL], genera[-N_NORMAL:]]
    train, held, new = ({names[3 * g + i]: sequences[names[3 * g + i]] for g in part for i in (0, 1)} for part in parts)
    reference = scdae.pp.kmers(train, k=3, n_windows=6)
    model = scdae.DAE(n_latent=16, n_hidden=32, n_components=32, likelihood="poisson", max_epochs=30)
    model.fit(reference, mask="observed")
    calibration = scdae.pp.kmers(held, reference=reference)
    phylum = {name: name.split()[2] for name in train}
    spots, query = {}, dict(new)
    while len(spots) < 40:
        left, right = rng.choice(list(train), 2, replace=False)
        if phylum[left] != phylum[right]:
            name, spot = f"chimera_{len(spots)}", int(rng.integers(150, 420))
            spots[name] = spot
            query[name] = train[left][:spot] + train[right][spot:]
    query |= {f"random_{i}": "".join(rng.choice(list("ACGT"), 580)) for i in range(10)}
    query["half"] = next(iter(new.values()))[:300]
    query |= {f"mate_{g}": sequences[names[3 * g + 2]] for g in parts[0]}
    adata = scdae.pp.kmers(query, reference=reference)
    scdae.tl.score_sequences(adata, model, reference, calibration)
    return model, reference, calibration, adata, spots


def kind(adata, start):
    return adata.obs_names.str.startswith(start)


def test_chimeras_and_strangers_are_told_from_new_genera(family):
    *_, adata, spots = family
    obs = adata.obs
    chimera, stranger, normal = (kind(adata, start) for start in ("chimera_", "random_", "seq_"))
    above = obs["guard_chimera"][chimera].to_numpy()[:, None] > obs["guard_chimera"][normal].to_numpy()
    assert above.mean() > 0.95
    assert (obs["guard_chimera_pvalue"][chimera] <= 0.05).mean() > 0.8
    assert (obs["guard_misfit"][stranger].min() > obs["guard_misfit"][normal]).all()
    assert (obs["guard_misfit_pvalue"][stranger] <= 0.02).all()
    off = obs["guard_breakpoint"][chimera] - np.array(list(spots.values()))
    assert off.abs().median() < 60, "windows have a hundred letters"


def test_normal_sequences_of_new_genera_are_rarely_flagged(family):
    *_, adata, _ = family
    normal = adata.obs[kind(adata, "seq_")]
    for name in ("misfit", "chimera"):
        pvalue = normal[f"guard_{name}_pvalue"]
        assert (pvalue <= 0.05).sum() <= 8, "2.5 of 50 are expected"
        assert pvalue.between(1 / 51, 1).all() and (normal[f"guard_{name}_fdr"] >= pvalue).all()


def test_normal_sequences_of_known_genera_are_rarely_called_chimeras(family):
    """Letters in which two of their genus differ look like two parents to trees that have never seen such."""
    *_, adata, _ = family
    pvalue = adata.obs["guard_chimera_pvalue"][kind(adata, "mate_")]
    assert len(pvalue) == N_TRAIN
    assert (pvalue <= 0.05).sum() <= 12, "3.5 of 70 are expected; once there were 64"


def test_what_is_written_can_be_saved_and_says_why(family, tmp_path):
    *_, reference, _, adata, _ = family
    assert set(adata.obs["guard_left"]) <= set(reference.obs_names)
    assert adata.uns["guard"]["n_calibration"] == 2 * N_NORMAL
    assert np.isfinite(adata.obs.loc["half", "guard_chimera"]), "breakpoints between windows that were observed"
    adata.write_h5ad(tmp_path / "scored.h5ad")
    again = ad.read_h5ad(tmp_path / "scored.h5ad")
    np.testing.assert_array_equal(again.obs["guard_chimera"], adata.obs["guard_chimera"])


def test_without_calibration_there_are_scores_alone(family):
    model, reference, _, adata, _ = family
    some = adata[[0, 60]].copy()
    before = some.X.copy()
    scdae.tl.score_sequences(some, model, reference, key_added="plain")
    assert not [name for name in some.obs if name.startswith("plain") and name.endswith(("pvalue", "fdr"))]
    np.testing.assert_allclose(some.obs["plain_misfit"], adata.obs["guard_misfit"].iloc[[0, 60]], rtol=1e-4)
    np.testing.assert_allclose(some.obs["plain_chimera"], adata.obs["guard_chimera"].iloc[[0, 60]], rtol=0.01)
    assert (some.X != before).nnz == 0


def test_sequences_of_unknown_letters_have_no_scores(family):
    model, reference, calibration, adata, _ = family
    gene = "".join(scdae.datasets.simulate_16s(n_genera=3, length=600, seed=0).popitem())[-560:]
    some = {"normal": gene, "nothing": "N" * 560, "short": "ACGGT" * 50}
    query = scdae.pp.kmers(some, reference=reference)
    scdae.tl.score_sequences(query, model, reference, calibration)
    scores = query.obs.filter(regex="misfit|chimera")
    assert scores.loc["normal"].notna().all() and scores.loc[["nothing", "short"]].isna().all(axis=None)
    assert query.obs.loc["nothing", ["guard_breakpoint", "guard_left", "guard_right"]].tolist() == [0, "", ""]
    with pytest.raises(ValueError, match="calibration: none of its 2 sequences has a misfit score"):
        scdae.tl.score_sequences(adata.copy(), model, reference, query[1:].copy(), overwrite=True)


def test_sets_of_other_windows_are_refused(family):
    model, reference, calibration, _, _ = family
    sequences = list(scdae.datasets.simulate_16s(n_genera=30, length=600, seed=0).items())
    cut = {name: text[150:400] for name, text in sequences}
    wrong = scdae.pp.kmers(cut, k=3, n_windows=6)  # reference= forgotten
    right = scdae.pp.kmers(cut, reference=reference)
    with pytest.raises(ValueError, match="^adata: its windows are not those of reference"):
        scdae.tl.score_sequences(wrong, model, reference, calibration)
    with pytest.raises(ValueError, match="^calibration: its windows are not those of reference"):
        scdae.tl.score_sequences(right, model, reference, wrong)
    with pytest.raises(ValueError, match="^model was fitted to other windows than those of reference"):
        scdae.tl.score_sequences(wrong, model, wrong)
    assert not [name for each in (wrong, right) for name in each.obs if name.startswith("guard")]
    with pytest.raises(TypeError, match="adata has to be an anndata.AnnData, but is a dict"):
        scdae.tl.score_sequences({}, model, reference)


def test_sequences_without_a_label_are_groups_of_their_own(family):
    model, reference, _, adata, _ = family
    scores = []
    for label in ("", None, "own"):
        some, known = adata[:3].copy(), reference.copy()
        genus = known.obs["genus"].astype(object)
        genus.iloc[:20] = [label] * 20 if label != "own" else [f"own_{i}" for i in range(20)]
        known.obs["genus"] = genus
        scdae.tl.score_sequences(some, model, known, overwrite=True)
        scores.append(some.obs["guard_chimera"].to_numpy())
    np.testing.assert_array_equal(scores[0], scores[2])
    np.testing.assert_array_equal(scores[1], scores[2])
    known.obs["genus"] = ""
    with pytest.raises(ValueError, match="no sequence of the reference has a label there"):
        scdae.tl.score_sequences(some, model, known, overwrite=True)


def test_errors_name_what_is_wrong(family):
    model, reference, calibration, adata, _ = family
    score = scdae.tl.score_sequences
    with pytest.raises(ValueError, match="calibration: its variables are not those"):
        score(adata, model, reference, calibration[:, ::-1])
    with pytest.raises(ValueError, match="reference was not made by scdae.pp.kmers"):
        score(adata, model, scdae.datasets.simulate(10, 10))
    with pytest.raises(TypeError, match=r"must be a fitted scdae\.DAE"):
        score(adata, None, reference)
    with pytest.raises(ValueError, match="group_key='tribe' is not a column"):
        score(adata, model, reference, group_key="tribe")
    reference = reference.copy()
    reference.obs["all"] = "one"
    with pytest.raises(ValueError, match=r"has 1 group"):
        score(adata, model, reference, group_key="all")
    taken = adata.copy()
    taken.obs["mine_misfit"] = 1
    with pytest.raises(ValueError, match=r"obs\['mine_misfit'\] is there already"):
        score(taken, model, reference, key_added="mine")


def test_abundances_say_what_is_made_of_others_and_what_cannot_be(family):
    model, reference, calibration, adata, spots = family
    rows = np.r_[np.flatnonzero(kind(adata, "seq_"))[:30], np.flatnonzero(kind(adata, "chimera_"))[:10]]
    some = adata[rows].copy()
    texts = some.obs["sequence"].to_numpy(str)
    some = scdae.pp.kmers(
        {**dict(zip(some.obs_names, texts, strict=True)), "both": texts[0][:300] + texts[1][300:]}, reference=reference
    )
    reads = {name: 500.0 - 10 * i for i, name in enumerate(some.obs_names)} | {"both": 20.0}
    scdae.tl.score_sequences(some, model, reference, calibration, abundance=reads)
    obs = some.obs
    assert obs.index[obs["guard_denovo"]].tolist() == ["both"]
    assert obs.loc["both", ["guard_denovo_left", "guard_denovo_right"]].tolist() == some.obs_names[:2].tolist()
    assert (obs["guard_chimera_pvalue"].iloc[:25] == 1).all(), "no two are twice as abundant"
    with pytest.raises(ValueError, match="abundance has the shape"):
        scdae.tl.score_sequences(some, model, reference, abundance=[1, 2], overwrite=True)
    assert "guard_denovo" in obs and len(spots) == 40


def test_few_windows_are_warned_of_with_the_remedy(log):
    sequences = scdae.datasets.simulate_16s(n_genera=40, length=900, seed=4)
    names = list(sequences)
    parts = {name: sequences[name][300:560] for name in names[60:]}
    genes = {name: sequences[name] for name in names[:60]}
    for region, warned in ((None, True), (parts, False)):
        reference = scdae.pp.kmers(genes, k=2, n_windows=8, region=region)
        model = scdae.DAE(n_latent=4, max_epochs=1).fit(reference, mask="observed")
        query = scdae.pp.kmers(parts, reference=reference)
        log.clear()
        scdae.tl.score_sequences(query, model, reference)
        assert ("region=sequences" in log.text) == warned
    aligned = query.obs["guard_chimera"].to_numpy()
    without = query.copy()
    del without.obs["sequence"]
    scdae.tl.score_sequences(without, model, reference, overwrite=True)
    assert not np.array_equal(without.obs["guard_chimera"], aligned), (
        "letters are aligned where the sequences are known"
    )
    del query.obsm["letters"]
    scdae.tl.score_sequences(query, model, reference, overwrite=True)
    assert "obsm['letters'] is missing in adata" in log.text and query.obs["guard_chimera"].notna().any()


@pytest.mark.parametrize(("shape", "joined"), [("same", True), ("other", False)])
def test_the_reference_steadies_the_tail_where_its_scores_have_the_same_shape(shape, joined):
    from scdae.tl._sequences import _with_reference

    rng = np.random.default_rng(0)
    usual = rng.gumbel(size=2000) if shape == "same" else np.repeat([-1.0, 1.0], 1000) + 0.1 * rng.normal(size=2000)
    usual = 3 * usual - 5  # lies elsewhere
    flagged = []
    for _ in range(10):
        level = _with_reference(rng.gumbel(size=400), usual)
        assert (len(level) == 2400) == joined
        flagged.append((rng.gumbel(size=5000) > np.quantile(level, 0.95)).mean())
    assert 0.03 < min(flagged) and max(flagged) < (0.07 if joined else 0.09)
    assert len(_with_reference(rng.gumbel(size=50), usual)) == 50, "too few to notice"
