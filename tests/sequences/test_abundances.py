import numpy as np
import pandas as pd
import pytest

from scdae.sequences.abundances import find_bimeras, read_abundance, read_table


@pytest.fixture
def sample():
    """Twelve sequences, their exact chimeras, and which two each is of."""
    rng = np.random.default_rng(0)
    parents = ["".join(rng.choice(list("ACGT"), int(n))) for n in rng.integers(90, 110, 12)]
    pairs = [rng.choice(12, 2, replace=False) for _ in range(20)]
    return parents, [parents[a][:40] + parents[b][45:] for a, b in pairs], pairs


def test_exact_chimeras_of_more_abundant_sequences_are_found(sample):
    parents, made, pairs = sample
    found = find_bimeras(parents + made, np.array([[100.0] * 12 + [10.0] * 20]))
    assert found.chimeric.tolist() == [False] * 12 + [True] * 20
    assert [(a, b) for a, b in zip(found.left[12:], found.right[12:], strict=True)] == [tuple(pair) for pair in pairs]
    assert found.rare.tolist() == [False] * 12 + [True] * 20


def test_a_chimera_is_rarer_than_its_parents(sample):
    parents, made, _ = sample
    for reads, chimeric in ((50, True), (51, False), (200, False)):  # twice as abundant in one sample
        assert (
            find_bimeras(parents + made, np.array([[100.0] * 12 + [reads] * 20])).chimeric[12:].tolist()
            == [chimeric] * 20
        )
    assert not find_bimeras(parents + made, np.array([[7.0] * 12 + [1.0] * 20])).chimeric.any(), "eight reads or more"
    changed = [text[:20] + ("A" if text[20] != "A" else "C") + text[21:] for text in made]
    assert not find_bimeras(parents + changed, np.array([[100.0] * 12 + [10.0] * 20])).chimeric.any()
    part = [parents[0][:60], parents[1][30:]]
    assert not find_bimeras(parents + part, np.array([[100.0] * 12 + [10.0] * 2])).chimeric.any(), "parts of one"


def test_several_samples_decide_together(sample):
    parents, made, _ = sample
    reads = np.zeros((4, 13))
    reads[:, :12], reads[:, 12] = 16, 10  # 1.6 times as abundant
    for others, chimeric in ((0, True), (1, True), (2, False)):
        some = reads.copy()
        some[:others, 12] = 15
        assert find_bimeras([*parents, made[0]], some).chimeric[12] == chimeric


def test_numbers_of_reads_are_read_in_all_forms(tmp_path):
    names = pd.Index(["a", "b", "c"])
    obs = pd.DataFrame({"size": [3.0, 2.0, 1.0]}, index=names)
    for one in (
        "size",
        obs["size"],
        {"c": 1, "b": 2, "a": 3},
        [3, 2, 1],
        pd.DataFrame([[1, 2, 3]], columns=["c", "b", "a"]),
    ):
        assert read_abundance(one, names, obs).tolist() == [[3, 2, 1]]
    table = np.array([[3, 2, 1], [0, 5, 6]])
    assert read_abundance(pd.DataFrame(table.T, index=names), names, obs).tolist() == table.tolist()
    assert read_abundance(table.T, names, obs).tolist() == table.tolist()
    for text in (
        "Representative_Sequence\ttotal\ts1\ts2\na\t3\t3\t0\nb\t7\t2\t5\nc\t7\t1\t6\n",
        "# Constructed from biom file\n#OTU ID\ts1\ts2\na\t3\t0\nb\t2\t5\nc\t1\t6\n",
        '"","a","b","c"\n"s1",3,2,1\n"s2",0,5,6\n',
    ):
        (tmp_path / "t.txt").write_text(text)
        assert read_abundance(read_table(tmp_path / "t.txt"), names, obs).tolist() == table.tolist()
    for bad, words in (
        ("reads", "is not a column"),
        ([1, 2], r"has the shape \(1, 2\), and there are 3 sequences"),
        ([1, -2, np.nan], "2 of 3 sequences have a number that is negative or not finite, the first being 'b'"),
        ({"a": 1, "b": 2}, "1 of 3 sequences are not in it, the first being 'c'"),
    ):
        with pytest.raises(ValueError, match=words):
            read_abundance(bad, names, obs)
    (tmp_path / "t.txt").write_text("a\tb\nx\ty\n")
    with pytest.raises(ValueError, match="holds no numbers"):
        read_table(tmp_path / "t.txt")
