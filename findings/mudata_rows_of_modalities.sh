#!/usr/bin/env bash
# Row 0 of a MuData and row 0 of its modality can be different cells.
#
# Expected: a MuData object has one order of cells, and its modalities, which it "aligns", follow it.
# What happens: each modality keeps the order it came in. With the same cells in another order nothing is reordered and
#   nothing is said: `mdata.obs_names` and `mdata["adt"].obs_names` differ, and a mask made of `mdata.obs` picks other
#   cells in `mdata["adt"].X`. Shapes fit, so no error follows. Subsetting the whole object by names puts both into one
#   order.
# Seen with: mudata 0.4.1, anndata 0.13.4, Python 3.13.
# Why it matters: RNA and antibody counts of the same cells come from two pipelines, which sort barcodes differently.
#   Cell types found in one are then compared with the counts of other cells.
# What scdae does: it takes one modality, `mdata["rna"]`, and writes to that, in its order. With mudata:
#   `mdata = mdata[mdata.obs_names].copy()` before you use positions or masks.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    mudata==0.4.1 anndata==0.13.4 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1 h5py==3.16.0

"$work/env/bin/python" -I -W ignore - <<'PY'
import importlib.metadata

import anndata
import mudata
import numpy as np
import pandas as pd

print(f"mudata {importlib.metadata.version('mudata')}, anndata {anndata.__version__}")
barcodes = ["AAAC", "AAAG", "AAAT"]
rna = anndata.AnnData(np.array([[1], [2], [3]], np.float32), pd.DataFrame(index=barcodes), pd.DataFrame(index=["CD4"]))
adt = anndata.AnnData(
    np.array([[30], [20], [10]], np.float32), pd.DataFrame(index=barcodes[::-1]), pd.DataFrame(index=["CD4_protein"])
)
mdata = mudata.MuData({"rna": rna, "adt": adt})
mdata.update()
print(f"cells of the whole: {list(mdata.obs_names)}; of adt: {list(mdata['adt'].obs_names)}")
assert list(mdata.obs_names) == barcodes
assert list(mdata["adt"].obs_names) == barcodes[::-1]

mdata.obs["kind"] = ["T cell", "B cell", "B cell"]  # so AAAC, whose antibody count is 10, is the T cell
mask = (mdata.obs["kind"] == "T cell").to_numpy()
by_mask = mdata["adt"].X[mask].ravel().tolist()
sorted_ = mdata[mdata.obs_names].copy()
by_name = sorted_["adt"].X[mask].ravel().tolist()
print(f"antibody count of the T cell: {by_mask} by mask, {by_name} after the rows were sorted")
assert by_mask == [30] and by_name == [10]
PY
