#!/usr/bin/env bash
# Variances of dense counts in a small integer type are negative, and scanpy ranks genes by them.
#
# Expected: the type in which counts are stored (uint8 to save memory, say) does not change their variance.
# What happens: fast-array-utils, which scanpy calls for means and variances, squares a dense NumPy array in the
#   array's own type, where squares wrap around: from 16 on in uint8, from 256 on in uint16. The same counts as a
#   sparse matrix or as floats are right. There is no warning. With flavor="seurat_v3", which is made for raw counts,
#   `highly_variable_genes` then chooses other genes, and the table of variances has negative ones.
# Seen with: scanpy 1.12.4, fast-array-utils 1.5.1, anndata 0.13.4, NumPy 2.5.5, Python 3.13.
# Why it matters: matrices of counts are often kept as uint8 or uint16, as most counts are small. A single
#   count of 16 makes the variance of its gene wrong.
# What scdae does: it adds up counts in float64, whatever their type. For scanpy:
#   `adata.X = adata.X.astype("float32")`.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    scanpy==1.12.4 fast-array-utils==1.5.1 anndata==0.13.4 scikit-misc==0.5.3 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1

"$work/env/bin/python" -I -W ignore - <<'PY'
import anndata
import numpy as np
import scanpy as sc
from fast_array_utils.stats import mean_var
from scipy import sparse

# Two cells and one gene, to begin with: 20 and 10 molecules, whose sample variance is 50.
pair = np.array([[20], [10]], np.uint8)
dense = float(mean_var(pair, axis=0, correction=1)[1][0])
packed = float(mean_var(sparse.csr_matrix(pair), axis=0, correction=1)[1][0])
print(f"counts 20 and 10 as uint8: variance {dense:g} dense, {packed:g} sparse")
assert packed == 50, packed
assert dense < 0, dense

# 400 cells of two kinds. The first 15 of 150 genes are three times as high in the second kind.
rng = np.random.default_rng(0)
mean = np.tile(rng.gamma(0.6, 6, 150), (400, 1))
mean[200:, :15] *= 3
counts = rng.negative_binomial(5, 5 / (5 + mean))
assert 16 <= counts.max() <= 255  # so that uint8 holds all of them


def choose(matrix):
    """Names of the 15 genes chosen, and the lowest variance of all."""
    table = sc.pp.highly_variable_genes(anndata.AnnData(matrix), flavor="seurat_v3", n_top_genes=15, inplace=False)
    return set(np.flatnonzero(table["highly_variable"])), float(table["variances"].min())


kinds = {
    "float32, dense": counts.astype(np.float32),
    "uint8, sparse": sparse.csr_matrix(counts.astype(np.uint8)),
    "uint8, dense": counts.astype(np.uint8),
}
chosen, lowest = {}, {}
for kind, matrix in kinds.items():
    chosen[kind], lowest[kind] = choose(matrix)
    found = sum(gene < 15 for gene in chosen[kind])
    print(f"{kind}: lowest variance {lowest[kind]:.1f}; {found} of the 15 genes that differ are chosen")
assert chosen["uint8, sparse"] == chosen["float32, dense"]
assert lowest["uint8, sparse"] >= 0 and lowest["float32, dense"] >= 0
assert lowest["uint8, dense"] < 0
assert len(chosen["uint8, dense"] & chosen["float32, dense"]) < 10
PY
