"""Columns of obs in a text file: as R, pandas and spreadsheets write it, joined to the cells by name."""

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cases import barcodes
from scdae.matrices.obs_tables import join_obs

CELLS = barcodes(4)


def _adata(**obs):
    return ad.AnnData(np.ones((4, 2), "f4"), obs=pd.DataFrame(obs, index=CELLS))


def _join(folder, text, name="cells.csv", adata=None):
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    adata = _adata() if adata is None else adata
    join_obs(adata, folder / name)
    return adata.obs


def _lines(*columns, mark="", separator=",", header):
    rows = [header, *zip(*columns, strict=True)]
    return "".join(separator.join(row) + "\n" for row in rows).replace("'", mark)


ORDER = [2, 0, 3, 1]
MIXED = [CELLS[i] for i in ORDER]
BATCH = [f"b{i % 2}" for i in ORDER]
SIZE = [str(i) for i in ORDER]
QUOTED = [[f"'{value}'" for value in column] for column in (["1", "2", "3", "4"], MIXED, BATCH)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cells.csv", _lines(MIXED, BATCH, SIZE, header=("", "batch", "size"))),  # pandas; write.csv without quote
        ("cells.csv", _lines(*QUOTED[1:], SIZE, mark='"', header=("''", "'batch'", "'size'"))),  # write.csv
        ("cells.csv", _lines(*QUOTED, SIZE, mark='"', header=("''", "'cell'", "'batch'", "'size'"))),  # names in a column
        ("cells.csv", _lines(*QUOTED[1:], SIZE, mark='"', separator=";", header=("''", "'batch'", "'size'"))),
        ("cells.tsv", '"batch"\t"size"\n' + "".join(f'"{c}"\t"{b}"\t{s}\n' for c, b, s in zip(MIXED, BATCH, SIZE, strict=True))),
        ("cells.txt", '"batch" "size"\n' + "".join(f'"{c}" "{b}" {s}\n' for c, b, s in zip(MIXED, BATCH, SIZE, strict=True))),
        ("cells.txt", _lines(BATCH, SIZE, MIXED, header=("batch", "size", "barcode"))),
        ("cells.csv", _lines(MIXED, BATCH, SIZE, separator="\t", header=("cell", "batch", "size"))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["plain", "gzip", "utf-16", "utf-8-sig", "crlf"])
def test_tables_as_people_save_them(tmp_path, name, text, form):
    content = text.replace("\n", "\r\n").encode() if form == "crlf" else text.encode(form if "utf" in form else "utf-8")
    content = gzip.compress(content) if form == "gzip" else content
    obs = _join(tmp_path, content, name + (".gz" if form == "gzip" else ""))
    assert list(obs.columns) in (["batch", "size"], ["cell", "batch", "size"])
    assert list(obs["batch"]) == ["b0", "b1", "b0", "b1"] and obs["batch"].dtype == "category"
    assert list(obs["size"]) == [0, 1, 2, 3] and obs["size"].dtype.kind == "i"


def test_types(tmp_path):
    text = (
        '"","flag","gap","x","code","level","big","decimal","note","empty"\n'
        f'"{CELLS[0]}",TRUE,FALSE,1.5,007,"1",1,1e-3,"T cell, CD4",NA\n'
        f'"{CELLS[1]}",FALSE,NA,NA,012,"2",2,.5,"NA",\n'
        f'"{CELLS[2]}",TRUE,TRUE,-Inf,007,"1",99999999999999999999,2,NA,NA\n'
        f'"{CELLS[3]}",TRUE,TRUE,2,1_0,"1",3,3.,"",NA\n'
    )
    obs = _join(tmp_path, text)
    assert obs["flag"].dtype == bool and list(obs["flag"]) == [True, False, True, True]
    assert obs["gap"].dtype == "boolean" and list(obs["gap"].isna()) == [False, True, False, False]
    np.testing.assert_array_equal(obs["x"], [1.5, np.nan, -np.inf, 2])
    assert list(obs["code"]) == ["007", "012", "007", "1_0"]
    assert list(obs["level"]) == ["1", "2", "1", "1"] and obs["level"].dtype == "category"  # a factor: no numbers
    assert obs["big"].dtype == np.float64 and list(obs["decimal"]) == [0.001, 0.5, 2, 3]
    assert list(obs["note"].astype(object).where(obs["note"].notna(), None)) == ["T cell, CD4", "NA", None, None]
    assert obs["empty"].isna().all()
    adata = _adata()
    adata.obs = obs
    adata.write_h5ad(tmp_path / "a.h5ad")
    comma = "".join(f"{c};{x}\n" for c, x in zip(CELLS, ("1,5", "2", "0,25", "3"), strict=True))
    assert list(_join(tmp_path, "cell;x\n" + comma)["x"]) == [1.5, 2, 0.25, 3]


def test_columns_that_are_there_and_cells_that_are_not(tmp_path, log):
    text = _lines([*MIXED, "other", "other"], [*BATCH, "b9", "b9"], header=("cell", "batch"))
    obs = _join(tmp_path, text, adata=_adata(batch=["b0", "b1", "b0", "b1"]))
    assert list(obs["batch"]) == ["b0", "b1", "b0", "b1"]
    assert "2 line(s) of other cells are not used" in log.text and "other values" not in log.text
    _join(tmp_path, text, adata=_adata(batch=["b0", "b1", "b0", "x"]))
    assert "obs['batch'] has other values in cells.csv, which replace those of INPUT" in log.text


def test_a_table_of_other_cells_may_be_left_alone(tmp_path):
    text = _lines(["x", "y"], ["b0", "b1"], header=("cell", "batch"))
    assert "4 of the 4 cells have no line" in _error(tmp_path, text)
    adata = _adata()
    join_obs(adata, tmp_path / "cells.csv", if_there=True)
    assert adata.obs.empty
    (tmp_path / "cells.csv").write_text(_lines(CELLS[:3], BATCH[:3], header=("cell", "batch")))
    with pytest.raises(ValueError, match="1 of the 4 cells"):
        join_obs(adata, tmp_path / "cells.csv", if_there=True)


def _error(folder, text, **more):
    with pytest.raises(ValueError, match=".") as caught:
        _join(folder, text, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_joined(tmp_path):
    some = _lines(MIXED[:2], BATCH[:2], header=("cell", "batch"))
    lost = CELLS[1]
    text = _error(tmp_path, some)
    assert f"2 of the 4 cells have no line in the table, the first being {lost!r} (row 1)" in text
    assert f"column 'cell' has names such as {CELLS[2]!r}" in text
    whole = _lines([*MIXED, MIXED[1], MIXED[1]], [*BATCH, "a", "a"], header=("cell", "batch"))
    assert f"1 cell(s) have more than one line in the table, the first being {MIXED[1]!r} (lines 3 and 6" in _error(
        tmp_path, whole
    )
    dots = _lines([c.replace("-", ".") for c in MIXED], BATCH, header=("", "batch"))
    assert "4 of the 4 cells have no line" in _error(tmp_path, dots) and "its first column has names such as" in _error(
        tmp_path, dots
    )
    assert "the first line of the table is that of a cell" in _error(tmp_path, some.partition("\n")[2])
    assert "no further column" in _error(tmp_path, _lines(MIXED, header=("cell",)))
    assert "is empty" in _error(tmp_path, "cell,batch\n") and "is empty" in _error(tmp_path, "")
    assert "1 name(s) of columns that repeat: 'batch'" in _error(
        tmp_path, _lines(MIXED, BATCH, BATCH, header=("c", "batch", "batch"))
    )
    assert "column 3 of the table has no name" in _error(
        tmp_path, _lines(MIXED, BATCH, BATCH, header=("c", "batch", ""))
    )
    assert "line 3 has 3 fields" in _error(tmp_path, "cell,batch\na,b\na,b,c\n")
    assert "zero bytes" in _error(tmp_path, b"ab\x00\x00")
    assert "truncated or damaged" in _error(tmp_path, gzip.compress(some.encode())[:20])
    twice = _adata()
    twice.obs_names = [*CELLS[:3], CELLS[0]]
    assert "adata.obs_names repeat 1 name(s)" in _error(tmp_path, some, adata=twice)
