#!/usr/bin/env bash
# In an .h5ad file of anndata 0.13 with pandas 3, the names of the cells are "mask" and "values" to who reads them.
#
# Expected: `obs/_index` of an .h5ad file is a dataset with one name for each cell, as it has been for years, and as
#   `list(file["obs/_index"])` of h5py gives them.
# What happens: with pandas 3 it is a group, the encoding of nullable strings, though an index has no missing names.
#   Listing it gives the two names of its members, ["mask", "values"]: no error, and a result of the right type. Slicing
#   it fails. In .zarr it is the same. With pandas 2 the same anndata writes the dataset.
# Seen with: anndata 0.13.4 with pandas 3.1.1 and with pandas 2.3.3, h5py 3.16.0, zarr 3.4.2, Python 3.13.
# Why it matters: many tools, viewers and packages of R read .h5ad by its parts. Which of the two they find is decided
#   by the pandas that happened to be installed where the file was written.
# What scdae does: it writes names and complete text as plain arrays, and reads both.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for env in new old; do "$python" -m venv "$work/$env"; done
common=(anndata==0.13.4 numpy==2.5.5 scipy==1.18.1 h5py==3.16.0 zarr==3.4.2)
"$work/new/bin/pip" install --quiet --disable-pip-version-check "${common[@]}" pandas==3.1.1
"$work/old/bin/pip" install --quiet --disable-pip-version-check "${common[@]}" pandas==2.3.3

cd "$work"
cat > look.py <<'PY'
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr

path = sys.argv[1]
cells = pd.DataFrame({"batch": pd.Categorical(["a", "b"])}, index=["cell1", "cell2"])
adata = anndata.AnnData(np.ones((2, 1), np.float32), cells, pd.DataFrame(index=["gene1"]))
adata.write_h5ad(path + ".h5ad")
adata.write_zarr(path + ".zarr")
with h5py.File(path + ".h5ad") as file:
    listed = [str(name.decode() if isinstance(name, bytes) else name) for name in file["obs/_index"]]
    is_group = isinstance(file["obs/_index"], h5py.Group)
in_zarr = isinstance(zarr.open(path + ".zarr", mode="r")["obs/_index"], zarr.Group)
print(f"anndata {anndata.__version__}, pandas {pd.__version__}: names {listed}; a group: {is_group}, in .zarr: {in_zarr}")
assert list(anndata.read_h5ad(path + ".h5ad").obs_names) == ["cell1", "cell2"]  # anndata reads what it wrote
if pd.__version__ == "3.1.1":
    assert listed == ["mask", "values"] and is_group and in_zarr
else:
    assert listed == ["cell1", "cell2"] and not is_group and not in_zarr
PY
new/bin/python -I -W ignore look.py new
old/bin/python -I -W ignore look.py old
