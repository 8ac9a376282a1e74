import gzip
import logging
import sys

import anndata as ad
import jax
import numpy as np
import pytest

import scdae
from scdae.sequences.fasta import import_scikit_bio
from scdae.sequences.frames import frame_of


@pytest.fixture(scope="module")
def sequences():
    return scdae.datasets.simulate_16s(n_genera=12, length=600, seed=0)


def fasta(path, sequences, opener=open):
    with opener(path, "wt") as file:
        file.write("".join(f">{name}\n{text[:70]}\n{text[70:]}\n" for name, text in sequences.items()))
    return path


def test_words_are_counted_where_they_begin(sequences):
    adata = scdae.pp.kmers(sequences, k=2, n_windows=3)
    assert adata.shape == (24, 48) and adata.X.dtype == np.float32 and adata.X.format == "csr"
    assert adata.var_names[17] == "1_AC" and adata.var["window"].tolist() == sorted(adata.var["window"])
    counts = adata.to_df()
    for name, (header, text) in zip(adata.obs_names, sequences.items(), strict=True):
        assert header.startswith(name)
        starts = adata[name].obsm["window_starts"][0]
        for window in np.flatnonzero(adata[name].layers["observed"][0, ::16]):
            part = text[starts[window] : starts[window + 1] + 1]
            for word in ("AA", "GC"):
                expected = sum(part[i : i + 2] == word for i in range(len(part) - 1))
                assert counts.loc[name, f"{window}_{word}"] == expected
    assert adata.obs["genus"].iloc[2] == "Genus_2" and (adata.obs["n_anchors"] > 20).all()
    assert adata.layers["observed"].mean() > 0.95


def test_windows_of_relatives_begin_opposite_each_other(sequences):
    adata = scdae.pp.kmers(sequences, k=4, n_windows=4)
    both = adata.X.toarray()
    apart = [np.abs(both[i] - both[i + 1]).sum() / both[i].sum() for i in range(0, 24, 2)]
    assert max(apart) < 0.6, "two sequences of a genus differ in 2 % of the letters, and in up to four words for each"


@pytest.mark.parametrize(("name", "opener"), [("genes.fasta", open), ("genes.fa.gz", gzip.open)])
def test_a_file_is_read_as_a_mapping_is(sequences, tmp_path, name, opener):
    from_file = scdae.pp.kmers(fasta(tmp_path / name, sequences, opener), k=3, n_windows=4)
    from_mapping = scdae.pp.kmers(sequences, k=3, n_windows=4)
    assert (from_file.X != from_mapping.X).nnz == 0
    assert from_file.obs.equals(from_mapping.obs)


def test_a_query_takes_over_the_windows_of_its_reference(sequences):
    names = list(sequences)
    reference = scdae.pp.kmers(sequences, k=3, n_windows=4)
    some = {name: sequences[name] for name in names[3:6]}
    query = scdae.pp.kmers(some, reference=reference)
    assert (query.X != reference[3:6].X).nnz == 0
    half = {
        names[0]: sequences[names[0]][:300],
        "odd": "ACGGT" * 80,
        "rna": sequences[names[1]].replace("T", "u").lower(),
    }
    query = scdae.pp.kmers(half, reference=reference)
    observed = query.layers["observed"][:, ::64]
    assert observed[0, 0] and not observed[0, 3] and observed[1].all()
    assert query[0].X[:, (query.var["window"] == 3).to_numpy()].nnz == 0
    assert query.obs.loc["odd", "n_anchors"] == 0
    assert (query[2].X != reference[1].X).nnz == 0
    with pytest.raises(ValueError, match=r"uns\['kmers'\] is missing"):
        scdae.pp.kmers(some, reference=scdae.datasets.simulate(10, 10))


def test_what_is_odd_is_counted(sequences):
    odd = dict(sequences)
    first, second = list(odd)[:2]
    odd[first] = odd[first][:100] + "NRN" + odd[first][103:]
    odd["copy of it"] = odd[second]
    adata = scdae.pp.kmers(odd, k=3, n_windows=4)
    assert adata.obs["n_ambiguous"].tolist()[:2] == [3, 0]
    assert adata.uns["kmers"]["n_repeated"] == 1
    assert adata.X[0].sum() < adata.X[1].sum()


@pytest.mark.parametrize(
    ("sequences", "words"),
    [
        ({}, "there are none"),
        ({"a x": "ACGT" * 100, "a y": "ACGT" * 100}, "1 identifiers are repeated, the first being 'a'"),
        ({"a": "ACGT" * 100, "b": "ACGT"}, "1 of 2 have fewer than min_length=200 letters, the first being 'b'"),
        ({"a": "ACGT" * 100, "b": "ACGE" * 100}, "1 of 2 hold letters that are not nucleotides.*'b' with 'E'. Only"),
        ({"a": "MKVLAEFQ" * 100}, "These look like proteins"),
        ({"a": "ACGT" * 100, "b": ""}, "1 of 2 have fewer than"),
        ({">": "ACGT" * 100}, "1 of 1 have no identifier"),
        ([5], "item 0 is a int"),
    ],
)
def test_bad_sequences_are_named(sequences, words):
    with pytest.raises(ValueError, match=words):
        scdae.pp.kmers(sequences)


@pytest.mark.parametrize("wrong", [None, 5, b"ACGT", {"a": 5}, {"a": b"ACGT"}, scdae.datasets.simulate(5, 5)])
def test_what_is_no_sequence_is_named(wrong):
    with pytest.raises(TypeError, match="^sequences"):
        scdae.pp.kmers(wrong)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (">a\n" + "ACGE" * 100, "1 of 1 hold letters"),
        (">a\nACGT", "1 of 1 have fewer than"),
        (">a x\n" + "ACGT" * 100 + "\n>a y\n" + "ACGT" * 100, "1 identifiers are repeated"),
    ],
)
def test_errors_about_sequences_name_the_file(tmp_path, content, words):
    (tmp_path / "a.fasta").write_text(content)
    with pytest.raises(ValueError, match=words) as raised:
        scdae.pp.kmers(tmp_path / "a.fasta")
    assert str(raised.value).startswith(f"{tmp_path / 'a.fasta'}: ")


@pytest.mark.parametrize("name", ["k", "n_windows", "min_length"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, True, float("nan")])
def test_numbers_out_of_range_are_named(sequences, name, value):
    with pytest.raises(ValueError, match=rf"{name}={value!r}: use a whole number"):
        scdae.pp.kmers(sequences, **{name: value})


def test_genes_on_both_strands_are_turned_and_it_is_said(sequences, caplog):
    complement = str.maketrans("ACGT", "TGCA")
    mixed = {
        name: text.translate(complement)[::-1] if i % 2 else text for i, (name, text) in enumerate(sequences.items())
    }
    plain, found = (scdae.pp.kmers(each, k=3, n_windows=4) for each in (sequences, mixed))
    assert (plain.X != found.X).nnz == 0 and found.obs["reversed"].tolist() == [False, True] * 12
    logger = logging.getLogger("scdae")
    logger.addHandler(caplog.handler)
    try:
        scdae.pp.kmers(mixed, reference=plain)
    finally:
        logger.removeHandler(caplog.handler)
    assert "12 of 24 sequences lie on the other strand and were turned" in caplog.text


def test_windows_without_letters_are_not_observed(sequences):
    reference = scdae.pp.kmers(sequences, k=3, n_windows=6)
    name, text = next(iter(sequences.items()))
    start = reference.obsm["window_starts"][0]
    gap = slice(start[2], start[4])
    odd = {
        "masked": text[: gap.start] + "N" * (gap.stop - gap.start) + text[gap.stop :],
        "joined": (text[: gap.start] + "N" * 10 + text[gap.stop :]).lower().replace("t", "u"),
        "half": text[: gap.start] + "N" * (start[3] - start[2] - 20) + text[start[3] - 20 :],
        "begins": "N" * start[2] + text[start[2] :],
        "nothing": "N" * 500,
        "scattered": "".join("N" if i % 60 == 0 else letter for i, letter in enumerate(text)),
        "riddled": "".join("N" if i % 3 == 0 else letter for i, letter in enumerate(text)),
    }
    query = scdae.pp.kmers(odd, reference=reference)
    observed = query.layers["observed"][:, ::64].astype(int).tolist()
    assert observed[:2] == [[1, 1, 0, 0, 1, 1]] * 2
    assert observed[2] == [1, 1, 0, 1, 1, 1] and observed[3] == [0, 0, 1, 1, 1, 1]
    assert observed[4] == [0] * 6 and observed[5] == [1] * 6 and observed[6] == [0] * 6
    assert (query.X.toarray()[~query.layers["observed"]] == 0).all()
    same = np.repeat(np.isin(np.arange(6), (0, 1, 4, 5)), 64)
    close = np.abs(query.X[1].toarray() - reference.X[0].toarray())[0, same].sum()
    assert close <= 8, "words across the joint alone are lost"


def test_the_frame_has_a_fingerprint(sequences, tmp_path):
    names = list(sequences)
    reference = scdae.pp.kmers(sequences, k=3, n_windows=4)
    some = {name: sequences[name] for name in names[:8]}
    query, other = scdae.pp.kmers(some, reference=reference), scdae.pp.kmers(some, k=3, n_windows=4)
    assert frame_of(query, "query") == frame_of(reference, "reference") != frame_of(other, "other")
    reference.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert frame_of(again, "again") == frame_of(reference, "reference")
    del again.uns["kmers"]["frame"]  # as written by earlier versions
    assert frame_of(again, "again") == frame_of(reference, "reference")
    with pytest.raises(TypeError, match="reference is a dict"):
        scdae.pp.kmers(some, reference={})


def test_bad_arguments_and_files_are_named(sequences, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="k=9: use a whole number from 1 to 6"):
        scdae.pp.kmers(sequences, k=9)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        scdae.pp.kmers(tmp_path / "none.fasta")
    for name, content in (("empty.fasta", ""), ("text.fasta", "no header\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="not read as FASTA|holds no sequences"):
            scdae.pp.kmers(tmp_path / name)
    monkeypatch.setitem(sys.modules, "skbio", None)
    with pytest.raises(ImportError, match=r"pip install 'scdae\[seq\]'"):
        scdae.pp.kmers(tmp_path / "empty.fasta")


def test_sequences_of_scikit_bio(sequences):
    before = jax.config.read("jax_enable_x64")
    skbio = import_scikit_bio()
    assert jax.config.read("jax_enable_x64") == before, "scikit-bio turns it on"
    items = [skbio.DNA(text, metadata={"id": name.split()[0], "description": name}) for name, text in sequences.items()]
    adata = scdae.pp.kmers(items, k=3, n_windows=4)
    assert (adata.X != scdae.pp.kmers(sequences, k=3, n_windows=4).X).nnz == 0


def test_lists_gaps_lower_case_and_sizes_are_taken(log):
    sequences = scdae.datasets.simulate_16s(n_genera=12, length=400, seed=1)
    texts = list(sequences.values())
    plain = scdae.pp.kmers(texts, k=3, n_windows=4)
    assert plain.obs_names[:2].tolist() == ["sequence_1", "sequence_2"] and "size" not in plain.obs
    gapped = {
        f"a{i};size={i + 1}": text[:50] + "--..-" + text[50:].lower().replace("t", "u") for i, text in enumerate(texts)
    }
    other = scdae.pp.kmers(gapped, k=3, n_windows=4)
    assert "gaps ('-' and '.') were taken out of 24 of 24 sequences" in log.text
    assert (other.X != plain.X).nnz == 0 and other.obs["size"].tolist() == list(range(1, 25))
    by_sequence = scdae.pp.kmers({text: text for text in texts}, k=3, n_windows=4)
    assert (by_sequence.X != plain.X).nnz == 0 and by_sequence.obs[
        "sequence"
    ].tolist() == by_sequence.obs_names.tolist()


def test_windows_are_cut_to_a_region_and_letters_keep_their_columns():
    sequences = scdae.datasets.simulate_16s(n_genera=30, length=900, seed=2)
    parts = {name: text[300:560] for name, text in sequences.items()}
    whole = scdae.pp.kmers(sequences, k=3, n_windows=8)
    assert (scdae.pp.kmers(parts, reference=whole).layers["observed"][:, ::64].sum(axis=1) < 4).mean() > 0.9
    cut = scdae.pp.kmers(sequences, k=3, n_windows=8, region=parts)
    query = scdae.pp.kmers(parts, reference=cut)
    assert 200 < np.ptp(cut.uns["kmers"]["edges"]) < 262
    assert query.layers["observed"][:, ::64].mean() > 0.95
    own, other = cut.obsm["letters"], query.obsm["letters"]
    seen = (own >= 0) & (other >= 0)
    assert (own == other)[seen].mean() > 0.98 and set(np.unique(own)) <= {-1, 0, 1, 2, 3, 4}
    with pytest.raises(ValueError, match="the reference has its windows already"):
        scdae.pp.kmers(parts, reference=cut, region=parts)
    with pytest.raises(ValueError, match="none of its 1 sequences has enough anchors"):
        scdae.pp.kmers(sequences, region={"a": "ACGT" * 80})


def test_sequences_without_anchors_are_laid_over_windows_of_their_length_only():
    sequences = scdae.datasets.simulate_16s(n_genera=30, length=900, seed=2)
    reference = scdae.pp.kmers(sequences, k=3, n_windows=8, region={n: t[300:560] for n, t in sequences.items()})
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 2000))
    query = scdae.pp.kmers(
        {"short": letters[:120], "fits": letters[:250], "long": letters}, reference=reference, min_length=50
    )
    assert query.layers["observed"].any(axis=1).tolist() == [False, True, False]
