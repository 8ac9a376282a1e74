import pytest

from scdae.arguments.gene_lists import read_gene_list

KNOWN = ["CD3E", "CD8A", "MS4A1", "NKG7", "HLA-A"]


@pytest.mark.parametrize(
    "text",
    [
        "CD8A\nNKG7\nCD3E\n",
        "CD8A\r\nNKG7\r\n\r\nCD3E",
        "CD8A, NKG7,CD3E\n",
        "CD8A;NKG7;CD3E",
        "gene\nCD8A\nNKG7\nCD3E\n",
        "Gene Name\nCD8A\nNKG7\nCD3E\n",
        '"gene"\n"CD8A"\n"NKG7"\n"CD3E"\n',
        "gene,skill\nCD8A,0.1\nNKG7,0.2\nCD3E,0.3\n",
        "CD8A\t1\nNKG7\t2\nCD3E\t3\n",
        '"","x"\n"1","CD8A"\n"2","NKG7"\n"3","CD3E"\n',
        '"","gene","skill"\n"1","CD8A",0.1\n"2","NKG7",0.2\n"3","CD3E",0.3\n',
        '"x"\n"1" "CD8A"\n"2" "NKG7"\n"3" "CD3E"\n',
        '"gene" "skill"\n"1" "CD8A" 0.1\n"2" "NKG7" 0.2\n"3" "CD3E" 0.3\n',
        "x\n1 CD8A\n2 NKG7\n3 CD3E\n",
        "1 CD8A\n2 NKG7\n3 CD3E\n",
        "'CD8A'\n'NKG7'\n'CD3E'\n",
        "# markers\nCD8A\nNKG7\nCD3E\nCD8A\n",
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_lists_as_people_save_them(tmp_path, text, coding):
    (tmp_path / "genes.txt").write_bytes(text.encode(coding))
    assert read_gene_list(tmp_path / "genes.txt", KNOWN) == ["CD8A", "NKG7", "CD3E"]


@pytest.mark.parametrize(
    "text", ["CD8\nNKG7\nCD3E\n", "NKG7\nCD8\nCD3E\n", "CD8, NKG7, CD3E\n", "1 CD8\n2 NKG7\n3 CD3E\n"]
)
def test_a_name_that_is_not_there_is_not_taken_for_a_title(tmp_path, text):
    (tmp_path / "genes.txt").write_text(text)
    assert "CD8" in read_gene_list(tmp_path / "genes.txt", KNOWN)


def test_marks_at_one_end_are_part_of_a_name(tmp_path):
    (tmp_path / "genes.txt").write_text('RNA5\'\n"CD3E"\n')
    assert read_gene_list(tmp_path / "genes.txt", ["RNA5'", "CD3E"]) == ["RNA5'", "CD3E"]


def test_what_is_no_list(tmp_path):
    for content, words in {
        b"": "is empty",
        b" \n\n": "is empty",
        b"\x80\x81\xff": "not text",
        b"PK\x03\x00\x00": "not text",
    }.items():
        (tmp_path / "genes.txt").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_gene_list(tmp_path / "genes.txt", KNOWN)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_gene_list(tmp_path / "none.txt", KNOWN)
    with pytest.raises(FileNotFoundError, match="is not a file"):
        read_gene_list(tmp_path, KNOWN)
