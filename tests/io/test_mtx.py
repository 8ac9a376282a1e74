"""Matrix Market files by name, as several programs write them; forms of the small files are theirs, the numbers made up."""

import gzip

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from cases import barcodes
from scdae.io.read import read_any

X = np.random.default_rng(0).poisson(1.0, (6, 5))
GENES = [f"gene{j}" for j in range(5)]
IDS = [f"ENSG{j:011d}" for j in range(5)]
CELLS = barcodes(6)


def _write(folder, name, matrix, tables):
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.mmwrite(folder / name, sp.coo_matrix(matrix))
    for table, lines in tables.items():
        text = "".join(f"{line}\n" for line in lines)
        if table.endswith(".gz"):
            with gzip.open(folder / table, "wt") as stream:
                stream.write(text)
        else:
            (folder / table).write_text(text)
    return folder / name


def _star():
    return {
        "barcodes.tsv": CELLS,
        "features.tsv": [f"{i}\t{g}\tGene Expression" for i, g in zip(IDS, GENES, strict=True)],
    }


_KB = {
    "cells_x_genes.barcodes.txt": CELLS,
    "cells_x_genes.genes.txt": IDS,
    "cells_x_genes.genes.names.txt": [*GENES[:4], ""],
}
_FRY = {"quants_mat_rows.txt": CELLS, "quants_mat_cols.txt": GENES}
_PARSE = {
    "all_genes.csv": ["gene_id,gene_name,genome", *(f"{i},{g},hg38" for i, g in zip(IDS, GENES, strict=True))],
    "cell_metadata.csv": ["bc_wells,sample", *(f"{c},s1" for c in CELLS)],
}
_HTSEQ = {"counts_samples.tsv": CELLS, "counts_features.tsv": ["gene_id", *GENES]}


@pytest.mark.parametrize(
    ("name", "rows", "tables", "names"),
    [
        ("UniqueAndMult-EM.mtx", "genes", _star(), GENES),
        ("umiDedup-Exact.mtx", "genes", _star(), GENES),
        ("spliced.mtx", "genes", _star(), GENES),
        ("cells_x_genes.mtx", "cells", _KB, [*GENES[:4], IDS[4]]),
        ("cells_x_genes.mature.mtx", "cells", _KB, [*GENES[:4], IDS[4]]),
        ("quants_mat.mtx", "cells", _FRY, GENES),
        ("count_matrix.mtx", "cells", _PARSE, GENES),
        ("DGE.mtx", "cells", _PARSE, GENES),
        ("counts.mtx", "cells", _HTSEQ, GENES),
        ("GSM1_a_matrix.mtx", "genes", {f"GSM1_a_{k}.gz": v for k, v in _star().items()}, GENES),
    ],
)
def test_the_file_that_was_named_is_read(tmp_path, name, rows, tables, names):
    path = _write(tmp_path, name, X if rows == "cells" else X.T, tables)
    _write(tmp_path, "other.mtx", np.ones((3, 2)), {})
    adata = read_any(path)
    np.testing.assert_array_equal(adata.X.toarray(), X)
    assert list(adata.obs_names) == CELLS
    assert list(adata.var_names) == names
    if tables is _PARSE:
        assert set(adata.obs["sample"]) == {"s1"}


@pytest.mark.parametrize("rows", ["genes", "cells"])
def test_square_matrices_are_told_apart_by_their_program(tmp_path, rows):
    x = X[:5]
    tables = {k: v[:5] for k, v in (_star() if rows == "genes" else _FRY).items()}
    path = _write(
        tmp_path, "matrix.mtx" if rows == "genes" else "quants_mat.mtx", x.T if rows == "genes" else x, tables
    )
    np.testing.assert_array_equal(read_any(path).X.toarray(), x)


def test_a_folder_of_several_names_them_and_one_that_is_not_called_matrix_is_read(tmp_path, log):
    for name in ("spliced.mtx", "unspliced.mtx", "ambiguous.mtx"):
        _write(tmp_path / "Velocyto", name, X.T, _star())
    with pytest.raises(ValueError, match=r"several matrices \(ambiguous.mtx, spliced.mtx, unspliced.mtx\). Pass one"):
        read_any(tmp_path / "Velocyto")
    _write(tmp_path / "fry", "quants_mat.mtx", X, _FRY)
    np.testing.assert_array_equal(read_any(tmp_path / "fry").X.toarray(), X)
    _write(tmp_path / "star", "matrix.mtx", X.T, _star())
    _write(tmp_path / "star", "UniqueAndMult-EM.mtx", 2 * X.T, {})
    np.testing.assert_array_equal(read_any(tmp_path / "star").X.toarray(), X)
    assert "UniqueAndMult-EM.mtx" in log.text


def _error(path):
    with pytest.raises(ValueError, match=".") as caught:
        read_any(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    path = _write(tmp_path, "matrix.mtx", X.T, _star())
    lines = path.read_text().splitlines()
    for sizes, words in {
        "5 6 99999999999": "too short for the 99,999,999,999 entries",
        "5 9000000000 3": "9,000,000,000 columns, but features.tsv names 5 features",
        "5 -6 3": "sizes are not whole numbers",
        "5 six 3": "truncated or damaged",
    }.items():
        path.write_text("\n".join([lines[0], "%", sizes, *lines[3:]]))
        assert words in _error(path)
    path.write_text("5 6 3\n1 1 1\n")
    assert "does not begin with %%MatrixMarket" in _error(path)


def test_names_that_are_missing(tmp_path):
    path = _write(tmp_path, "matrix.mtx", X.T, {})
    assert "anndata.io.read_mtx" in _error(path)
    (tmp_path / "features.tsv").write_text("".join(f"{g}\n" for g in GENES))
    assert "barcodes.tsv.gz, barcodes.tsv" in _error(path)
    (tmp_path / "barcodes.tsv").write_text("a\n")
    assert "features.tsv names 5 features and barcodes.tsv 1 cells" in _error(path)


def test_kinds_of_features(tmp_path):
    lines = [f"chr1\t{j}\t{j + 1}" for j in range(5)]  # junctions of STARsolo
    path = _write(tmp_path, "matrix.mtx", X.T, {"barcodes.tsv": CELLS, "features.tsv": lines * 1})
    assert "only features of the type 1, 2, 3, 4, 5." in _error(path)
    x = np.ones((6, 40))
    lines = [f"chr1\t{j}\t{j + 1}" for j in range(40)]
    text = _error(_write(tmp_path / "many", "matrix.mtx", x.T, {"barcodes.tsv": CELLS, "features.tsv": lines}))
    assert "13, ..." in text and len(text) < 500


def _r_lines(columns, quote, separator, names):
    """Lines as R's write.table makes them: row numbers, and names of the columns where there are any."""
    mark = '"' if quote else ""
    rows = [separator.join(f"{mark}{field}{mark}" for field in row) for row in zip(*columns, strict=True)]
    return [separator.join(f"{mark}{name}{mark}" for name in names), *rows] if names else rows


@pytest.mark.parametrize("quote", [True, False])
@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_tables_as_r_writes_them(tmp_path, log, quote, separator, numbers, names):
    if separator == " " and not (quote or numbers):
        pytest.skip("nothing says that spaces separate")
    counted = [str(i + 1) for i in range(6)]
    cells = _r_lines([*([counted] if numbers else []), CELLS], quote, separator, ["x"] if names else [])
    genes = _r_lines(
        [*([counted[:5]] if numbers else []), IDS, GENES], quote, separator, ["rownames.m.", "symbol"] if names else []
    )
    path = _write(tmp_path, "matrix.mtx", X.T, {"barcodes.tsv": cells, "genes.tsv": genes})
    adata = read_any(path)
    np.testing.assert_array_equal(adata.X.toarray(), X)
    assert list(adata.obs_names) == CELLS
    assert list(adata.var_names) == GENES and list(adata.var["gene_ids"]) == IDS
    assert ("counts the rows, as R writes it" in log.text) == numbers


def test_tables_of_row_data(tmp_path):
    """write.table(rowData(sce), "features.tsv", sep = "\t"): names of rows without a name, and columns by their names."""
    genes = ['"ID"\t"Symbol"\t"Type"']
    genes += [
        f'"{i}"\t"{i}"\t{g}\t"Gene Expression"' for i, g in zip(IDS, ['"A"', '"B"', "NA", '""', '"C"'], strict=True)
    ]
    cells = ['"","batch"', *(f'"{c}","b1"' for c in CELLS)]
    path = _write(tmp_path, "matrix.mtx", X.T, {"barcodes.csv": cells, "features.tsv": genes})
    adata = read_any(path)
    assert list(adata.var_names) == ["A", "B", IDS[2], IDS[3], "C"] and list(adata.var["gene_ids"]) == IDS
    assert list(adata.obs_names) == CELLS and set(adata.obs["batch"]) == {"b1"}


def test_marks_that_are_part_of_names_stay(tmp_path):
    names = ["5' end", '3"', "HLA-A", "b", "c"]
    path = _write(tmp_path, "matrix.mtx", X.T, {"barcodes.tsv": CELLS, "genes.tsv": names})
    assert list(read_any(path).var_names) == names


def test_a_line_of_names_is_no_cell(tmp_path):
    """One line too few, of which the first is one field short, is no table of these cells."""
    cells = ["x", *(f"{i}\t{c}" for i, c in enumerate(CELLS[:5], 1))]
    path = _write(tmp_path, "matrix.mtx", X.T, {"barcodes.tsv": cells, "genes.tsv": GENES})
    assert "barcodes.tsv 6 cells" in _error(path)
