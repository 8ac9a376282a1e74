#!/usr/bin/env bash
# `MuData.update` leaves the columns that were pulled from the modalities as they were.
#
# Expected: `mdata.update()` brings the tables of the whole object up to date with its modalities.
# What happens: it does so for names and for what belongs to which modality only. A column that `pull_obs` copied to
#   `mdata.obs` as "rna:total" keeps the old values when "total" of the modality changes, is written to .h5mu, and
#   contradicts it there. In the other way, too: removing a cell from one modality does not remove it, and it
#   keeps the values that it was pulled with, though its modality has it no longer. `pull_obs` once more gives new values.
# Seen with: mudata 0.4.1, anndata 0.13.4, Python 3.13.
# Why it matters: totals, quality measures and clusters are worked out anew after counts were cleaned or restored.
#   Filters on the whole object then use those of the counts before.
# What scdae does: it writes to the AnnData that it is given. If that is a modality, call `mdata.pull_obs()` afterwards.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    mudata==0.4.1 anndata==0.13.4 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1 h5py==3.16.0

cd "$work"
env/bin/python -I -W ignore - <<'PY'
import importlib.metadata

import anndata
import mudata
import numpy as np
import pandas as pd

print(f"mudata {importlib.metadata.version('mudata')}, anndata {anndata.__version__}")


def modality(gene):
    cells = pd.DataFrame({"total": [1, 2, 3]}, index=["cell1", "cell2", "cell3"])
    return anndata.AnnData(np.ones((3, 1), np.float32), cells, pd.DataFrame(index=[gene]))


mdata = mudata.MuData({"rna": modality("CD4"), "adt": modality("CD4_protein")})
mdata.pull_obs()
mdata["rna"].obs["total"] = [10, 20, 30]
mdata.update()
mdata.write("cells.h5mu")
back = mudata.read_h5mu("cells.h5mu")
stale, fresh = back.obs["rna:total"].tolist(), back["rna"].obs["total"].tolist()
print(f"read from .h5mu: rna:total {stale} for all, total {fresh} in rna")
assert stale == [1, 2, 3] and fresh == [10, 20, 30]

mdata.pull_obs()
print(f"pulled again: {mdata.obs['rna:total'].tolist()}")
assert mdata.obs["rna:total"].tolist() == [10, 20, 30]

mdata.mod["rna"] = mdata["rna"][:2].copy()
mdata.update()
print(f"rna of 2 cells: whole of {mdata.n_obs}, with rna:total {mdata.obs['rna:total'].tolist()}")
assert mdata.n_obs == 3 and mdata.obs.loc["cell3", "rna:total"] == 30
PY
