#!/usr/bin/env bash
# anndata 0.12 reads a file of anndata 0.13, but cannot write what it read.
#
# Expected: what a library reads from a file it can write to another; the more so as nothing was changed.
# What happens: with pandas 3, anndata 0.13 stores the names of cells and genes, and columns of text, as nullable
#   strings. 0.12 reads them without a word and keeps that type, but by default refuses to write it: RuntimeError, at
#   the very end of a script, about the setting `allow_write_nullable_strings`. The user made no such strings and
#   chose no such setting.
# Seen with: files of anndata 0.13.4 with pandas 3.1.1, read by anndata 0.12.19 with pandas 2.3.3. Python 3.13 (on
#   3.11 there is no anndata newer than 0.12, so clusters with an older Python are where the two meet).
# Why it matters: one person prepares the counts on a laptop, another restores them on a cluster. The hours of the run
#   are lost when the result cannot be saved. A backup copy by read and write fails in the same way.
# What scdae does: it turns the setting on around its own writing, and `scdae impute --dry-run` and each run try all
#   parts before training (`writable.py`). In a script: `anndata.settings.allow_write_nullable_strings = True`.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for env in new old; do "$python" -m venv "$work/$env"; done
"$work/new/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.13.4 pandas==3.1.1 numpy==2.5.5 scipy==1.18.1 h5py==3.16.0
"$work/old/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.12.19 pandas==2.3.3 numpy==2.5.5 scipy==1.18.1 h5py==3.16.0

cd "$work"
new/bin/python -I -W ignore - <<'PY'
import anndata
import numpy as np
import pandas as pd

# The plainest of objects: counts, names of cells and genes, and a batch.
cells = pd.DataFrame({"batch": ["a", "b", "b"]}, index=["cell1", "cell2", "cell3"])
genes = pd.DataFrame(index=["gene1", "gene2"])
anndata.AnnData(np.ones((3, 2), np.float32), cells, genes).write_h5ad("counts.h5ad")
PY

old/bin/python -I -W ignore - <<'PY'
import anndata
import h5py

with h5py.File("counts.h5ad") as file:
    kind = file["obs/_index"].attrs["encoding-type"]
print(f"anndata 0.13 stored the names of the cells as {kind}")
assert kind == "nullable-string-array", kind

adata = anndata.read_h5ad("counts.h5ad")
assert list(adata.obs_names) == ["cell1", "cell2", "cell3"]
try:
    adata.write_h5ad("copy.h5ad")
except RuntimeError as error:
    print(f"anndata {anndata.__version__} read the file, and did not write it:", str(error).splitlines()[0])
    assert "allow_write_nullable_strings" in str(error)
else:
    raise SystemExit("it was written")

anndata.settings.allow_write_nullable_strings = True
adata.write_h5ad("copy.h5ad")
assert list(anndata.read_h5ad("copy.h5ad").obs_names) == ["cell1", "cell2", "cell3"]
print("with the setting it was written, and reads back")
PY
