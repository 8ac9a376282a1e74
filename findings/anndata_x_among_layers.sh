#!/usr/bin/env bash
# anndata 0.13 lists X among the layers, under the key None, and other packages trip over it.
#
# Expected: `adata.layers` holds what was put there, under names that are text, and is empty to begin with.
# What happens: since 0.13 `list(adata.layers)` is [None] for a fresh object, `len` is 1, and `.items()` gives X
#   itself with the key None. Code that goes over all layers, as every converter does, treats X as one more layer
#   without a name. tiledbsoma 2.3.0 accepts any new anndata by its requirements, and cannot store one object of 0.13:
#   TypeError from a function that quotes URLs. singlecellexperiment 0.7.0 of BiocPy takes the same matrix twice, once
#   as the assay None.
# Seen with: anndata 0.13.4, tiledbsoma 2.3.0, singlecellexperiment 0.7.0, Python 3.13.
# Why it matters: a pipeline that writes counts to TileDB-SOMA stops with the update of another package, at any data.
#   Sums, checks or memory estimates over "all layers" count X a second time, silently.
# What scdae does: where it goes over layers it leaves out the key None (`if key is not None`).
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.13.4 tiledbsoma==2.3.0 singlecellexperiment==0.7.0 summarizedexperiment==0.8.0 \
    numpy==2.5.5 scipy==1.18.1 pandas==2.3.3

cd "$work"
env/bin/python -I -W ignore - <<'PY'
import importlib.metadata

import anndata
import numpy as np
import pandas as pd
import tiledbsoma.io
from singlecellexperiment import SingleCellExperiment

cells = pd.DataFrame(index=["cell1", "cell2"])
genes = pd.DataFrame(index=["gene1", "gene2", "gene3"])
adata = anndata.AnnData(np.array([[1, 0, 3], [0, 2, 0]], np.float32), cells, genes)
print(f"layers of an object without layers: {list(adata.layers)}, {len(adata.layers)} in number")
assert list(adata.layers) == [None]
total = sum(float(layer.sum()) for layer in adata.layers.values())
assert total == adata.X.sum() == 6  # the sum over "all layers" is that of X

required = [line for line in importlib.metadata.requires("tiledbsoma") if line.startswith("anndata")]
try:
    tiledbsoma.io.from_anndata("experiment", adata, measurement_name="RNA")
except TypeError as error:
    print(f"tiledbsoma, which requires {', '.join(required)}: TypeError: {error}")
else:
    raise SystemExit("tiledbsoma stored it")

assays = list(SingleCellExperiment.from_anndata(adata).assay_names)
print(f"assays of the SingleCellExperiment: {assays}")
assert assays == [None, "X"], assays
PY
