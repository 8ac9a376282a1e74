#!/usr/bin/env bash
# A last column of obs without a name replaces the names of the cells, and all other columns, in .zarr.
#
# Expected: a table with a column that is called "" is written as it is, or refused.
# What happens: anndata writes each column below the path of the table. The path of a column called "" is that of the
#   table itself, so it takes the table's place: `write_zarr` succeeds, and `read_zarr` gives an obs without any
#   columns whose cells are named after the values of that column. No error, no warning. `write_h5ad` of the same
#   object raises TypeError.
# Seen with: anndata 0.13.4 (0.12.19 is the same), zarr 3.4.2, pandas 3.1.1, pyarrow 26.0.1, Python 3.13.
# Why it matters: such a column is what pyarrow and polars make of a CSV file whose lines end in a comma, as
#   spreadsheets export them (pandas calls it "Unnamed: 2"). Batches, cell types and barcodes are lost when the object
#   is read again, perhaps months later, while the counts look fine.
# What scdae does: its command line refuses empty names of columns, keys and indexes before training (`writable.py`).
#   Otherwise rename it, or take it out: `del adata.obs[""]`.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.13.4 zarr==3.4.2 h5py==3.16.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.5.5 scipy==1.18.1

cd "$work"
cat > cells.csv <<'CSV'
barcode,batch,
AAAC,one,10
AAAG,one,20
AAAT,two,30
CSV
env/bin/python -I -W ignore - <<'PY'
import anndata
import numpy as np
import pandas as pd
from pyarrow import csv

cells = csv.read_csv("cells.csv").to_pandas().set_index("barcode")
assert list(cells.columns) == ["batch", ""]
adata = anndata.AnnData(np.ones((3, 2), np.float32), cells, pd.DataFrame(index=["gene1", "gene2"]))
print(f"written: columns {list(adata.obs.columns)}, cells {list(adata.obs_names)}")

adata.write_zarr("counts.zarr")
back = anndata.read_zarr("counts.zarr")
print(f"read from .zarr: columns {list(back.obs.columns)}, cells {list(back.obs_names)}")
assert (back.X == adata.X).all()
assert list(back.obs.columns) == []
assert list(back.obs_names) == ["10", "20", "30"]

try:
    adata.write_h5ad("counts.h5ad")
except TypeError as error:
    print(f".h5ad: TypeError: {str(error).splitlines()[0]}")
else:
    raise SystemExit(".h5ad was written")
PY
