"""Counts as tables of text, in either orientation."""

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import small
from scdae.cli import app
from scdae.io.read import read_any
from scdae.io.text import _ROWS


@pytest.fixture
def table():
    counts = np.random.default_rng(0).poisson(0.7, (_ROWS + 30, 4))
    return pd.DataFrame(
        counts, index=["007", *(f"cell_{i}" for i in range(1, len(counts)))], columns=["g1", "g2", "2.5", "NA"]
    )


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt.gz", "a.CSV.bz2", "a.tab"])
@pytest.mark.parametrize("transpose", [False, True])
def test_both_orientations_and_all_separators(tmp_path, table, name, transpose):
    separator = {"a.csv": ",", "a.CSV.bz2": ";", "a.tab": " "}.get(name, "\t")
    (table.T if transpose else table).to_csv(tmp_path / name, sep=separator)
    read = read_any(tmp_path / name, transpose=transpose)
    assert list(read.obs_names) == list(table.index) and list(read.var_names) == list(table.columns)
    np.testing.assert_array_equal(read.X.toarray(), table)
    assert read.X.format == "csr" or transpose


def test_header_without_a_name_for_the_first_column(tmp_path, table):
    """As write.table of R does by default."""
    lines = table.head(3).to_csv(sep="\t").splitlines()
    (tmp_path / "r.txt").write_text("\n".join([lines[0].removeprefix("\t"), *lines[1:]]) + "\n")
    read = read_any(tmp_path / "r.txt")
    assert read.shape == (3, 4) and list(read.var_names) == list(table.columns)
    assert list(read.obs_names) == ["007", "cell_1", "cell_2"]
    quoted = '"","g1","g2"\n"c1",1,0\n"c2",0,2\n'
    (tmp_path / "q.csv").write_text("\ufeff" + quoted, encoding="utf-8")
    assert list(read_any(tmp_path / "q.csv").obs_names) == ["c1", "c2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "cell,type,g1\na,B,1\nb,T,2\n",
            "1 column(s) hold text and not counts, the first being 'type', such as 'B' in row 'a'",
        ),
        ("cell,g1\n", "holds no numbers"),
        ("cell,g1,g2\na,1,2\nb,1,2,3\n", "is no table of numbers"),
        ("cell,g1,g2,g3\na,1,2\n", "4 names in the first row, and 3 fields in the second"),
    ],
)
def test_tables_that_are_no_counts(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match="a.csv") as error:
        read_any(tmp_path / "a.csv")
    assert words in str(error.value)


def test_transpose_is_for_tables(tmp_path):
    small.structured().write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="--transpose is for tables of text"):
        read_any(tmp_path / "a.h5ad", transpose=True)


def test_from_the_command_line(tmp_path):
    adata = small.structured()
    frame = pd.DataFrame(small.dense(adata).astype(int), adata.obs_names, adata.var_names)
    frame.T.to_csv(tmp_path / "genes_by_cells.csv.gz")
    words = ["impute", tmp_path / "genes_by_cells.csv.gz", tmp_path / "o.h5ad", "--transpose", "--max-epochs", "2"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.stderr
    back = ad.read_h5ad(tmp_path / "o.h5ad")
    assert back.shape == adata.shape and list(back.obs_names) == list(adata.obs_names)
    np.testing.assert_array_equal(small.dense(back), small.dense(adata))
    assert "scdae" in back.layers


def test_a_table_that_is_turned_the_wrong_way_is_told_the_option(tmp_path):
    rng = np.random.default_rng(0)
    barcodes = ["".join(rng.choice(list("ACGT"), 16)) + "-1" for _ in range(30)]
    genes = ["CD3D", "MS4A1", "LYZ", "GAPDH", "ACTB", *(f"ENSG{i:011d}" for i in range(20))]
    frame = pd.DataFrame(rng.poisson(1, (len(genes), 30)), genes, barcodes)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        frame.to_csv(file)
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "a.csv.gz")])
    assert done.exit_code == 1 and "looks transposed" in done.stderr and "Pass --transpose if INPUT" in done.stderr
