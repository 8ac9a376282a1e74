import pytest

from scdae.arguments.text_tables import counts_rows, decoded, parse_table, unquoted


@pytest.mark.parametrize(
    ("fields", "bare"),
    [
        (['"a"', '"b"'], ["a", "b"]),
        (["'a'", "'b'"], ["a", "b"]),
        (['"a"', "NA", '"b"', ""], ["a", "", "b", ""]),  # R writes NA without marks
        ([r'"a\"b"', '"c""d"'], ['a"b', 'c"d']),
        (['"a"', "b"], ['"a"', "b"]),
        (["3'", "5'"], ["3'", "5'"]),
        (["'", '"'], ["'", '"']),
        (["NA", ""], ["NA", ""]),
        ([], []),
    ],
)
def test_marks_come_off_where_all_fields_have_them(fields, bare):
    assert unquoted(fields) == bare


# What R 4.2 writes: write.table and write.csv of the same table, its arguments as they are left or set.
@pytest.mark.parametrize(
    ("text", "header", "first", "quoted"),
    [
        ('"id"\t"n"\n"1"\t"a"\t1\n"2"\t"b\\"c"\t2\n', ["", "id", "n"], ["1", "a", "1"], (True, True, False)),
        ('"id" "n"\n"1" "a" 1\n"2" "b c" 2\n', ["", "id", "n"], ["1", "a", "1"], (True, True, False)),
        ("id n\n1 a 1\n2 b 2\n", ["", "id", "n"], ["1", "a", "1"], (False, False, False)),
        ("id\tn\n1\ta\t1\n2\tb\t2\n", ["", "id", "n"], ["1", "a", "1"], (False, False, False)),
        ("\tid\tn\n1\ta\t1\n2\tb\t2\n", ["", "id", "n"], ["1", "a", "1"], (False, False, False)),
        ('"id"\t"n"\n"a"\t1\n"b"\t2\n', ["id", "n"], ["a", "1"], (True, False)),
    ],
)
def test_tables_of_write_table(text, header, first, quoted):
    table = parse_table(text)
    assert table.rows.iloc[0].to_list() == header
    assert table.rows.iloc[1].to_list() == first
    assert table.quoted == quoted
    assert table.is_short == (text.split("\n")[0][0] != "\t" and header[0] == "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_write_csv(end):
    text = '"","id","type"\n"1","b""c","T cell, CD4"\n"2",NA,"two\tparts"\n'.replace("\n", end)
    table = parse_table(text, comma=True)
    assert table.rows.to_numpy().tolist() == [["", "id", "type"], ["1", 'b"c', "T cell, CD4"], ["2", "", "two\tparts"]]
    assert table.quoted == (True, True, True)
    semicolons = parse_table('"";"n"\n"a";1,5\n', comma=True)
    assert semicolons.rows.to_numpy().tolist() == [["", "n"], ["a", "1,5"]]
    mixed = parse_table('id,type\na,"T, CD4"\nb,B\n', comma=True)  # as pandas writes: marks where they are needed
    assert mixed.rows.to_numpy().tolist() == [["id", "type"], ["a", "T, CD4"], ["b", "B"]]
    lines = parse_table('id,note\na,"two\nlines"\nb,c\n', comma=True)
    assert lines.rows.to_numpy().tolist() == [["id", "note"], ["a", "two\nlines"], ["b", "c"]]


def test_names_that_hold_marks_and_spaces_stay_as_they_are():
    for text in ("5' end\nHLA-A\n", 'a"\n"b\n', "gene a\ngene b\n", "2 a\n1 b\n", '"a"\nb\n', "1\n2\n", "a\n\nb\n"):
        assert parse_table(text).rows[0].to_list() == text.removesuffix("\n").split("\n")
    assert parse_table('g1\t3" UTR\ng2\t"x\n').rows.to_numpy().tolist() == [["g1", '3" UTR'], ["g2", '"x']]


def test_fields_too_many_or_few():
    with pytest.raises(ValueError, match="line 3 has 2 fields, the first ones have 1"):
        parse_table("a\nb\nc\td\n")
    assert parse_table("a\tb\nc\nd\te\n").rows.to_numpy().tolist() == [["a", "b"], ["c", ""], ["d", "e"]]
    assert parse_table("").rows.empty


def test_text_by_its_bytes():
    for coding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        assert decoded("Zelle_\u00e4".encode(coding)) == "Zelle_\u00e4"
    for content in (b"\x80\x81\xff", b"ab\x00\x00"):
        with pytest.raises(ValueError, match="it "):
            decoded(content)


def test_row_numbers():
    assert counts_rows(["1", "2", "3"])
    assert not counts_rows(["1", "3"]) and not counts_rows([]) and not counts_rows(["01", "02"])
