#!/usr/bin/env bash
# scanpy reads CellBender's output as an object with all cells and not a single gene.
#
# Expected: CellBender writes Cell Ranger's HDF5 format, version 3, so `scanpy.read_10x_h5` reads all genes.
# What happens: where its input does not say what kinds of features it has (.h5ad, .loom, .npz, text, Cell Ranger 2),
#   CellBender writes "NA" for the feature type of each gene. `scanpy.read_10x_h5` keeps features of the type "Gene
#   Expression" only, by default, and so keeps none: the result has the right cells and the shape (cells, 0), with no
#   error and no warning.
# Seen with: CellBender 0.4.0, scanpy 1.12.4, anndata 0.13.4, PyTables 3.11.1, Python 3.13.
# Why it matters: removing ambient RNA is the step before restoring counts. The failure shows much later, as an error
#   about an empty matrix, or not at all in a join of samples, which then has no gene in common.
# What scdae does: if no feature says "Gene Expression", those with a placeholder are genes (`features.py`). With
#   scanpy: `read_10x_h5(path, gex_only=False)`.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    scanpy==1.12.4 anndata==0.13.4 tables==3.11.1 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1
# Its reading and writing of files works without PyTorch, which takes gigabytes.
"$work/env/bin/pip" install --quiet --disable-pip-version-check --no-deps cellbender==0.4.0

cd "$work"
env/bin/python -I -W ignore - <<'PY'
import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from cellbender.remove_background.data.io import load_data, write_matrix_to_cellranger_h5
from scipy import sparse

counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1, (50, 20)).astype(np.float32))
cells = pd.DataFrame(index=[f"cell{i}" for i in range(50)])
genes = pd.DataFrame(index=[f"gene{i}" for i in range(20)])
anndata.AnnData(counts, cells, genes).write_h5ad("raw.h5ad")

# The two ends of a run of remove-background: what it reads is what it passes on beside the new counts.
data = load_data("raw.h5ad")
print(f"feature types that CellBender made up: {sorted(set(data['feature_types']))}")
assert set(data["feature_types"]) == {"NA"}
write_matrix_to_cellranger_h5(
    cellranger_version=3,
    output_file="clean.h5",
    count_matrix=data["matrix"].tocsc(),
    **{name: data[name] for name in ("gene_names", "gene_ids", "feature_types", "genomes", "barcodes")},
)

read, whole = sc.read_10x_h5("clean.h5"), sc.read_10x_h5("clean.h5", gex_only=False)
print(f"scanpy.read_10x_h5: {read.shape}; with gex_only=False: {whole.shape}")
assert whole.shape == (50, 20)
assert whole.X.sum() == counts.sum()
assert read.shape == (50, 0)
PY
