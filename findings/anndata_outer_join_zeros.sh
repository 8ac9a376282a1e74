#!/usr/bin/env bash
# Joining samples by all their genes makes unmeasured genes zero or missing, by how the matrices are stored.
#
# Expected: `anndata.concat(..., join="outer")` marks a gene that a sample does not have in the same way, whatever
#   the kind of matrix.
# What happens: dense matrices get NaN there, sparse ones a zero, and one sparse among dense ones is enough for
#   zeros in all. A zero of this kind cannot be told from a count of zero afterwards. There is no warning.
# Seen with: anndata 0.13.4, pandas 3.1.1, Python 3.13.
# Why it matters: what is not measured is what should be imputed, and what was counted zero times is evidence. Counts are
#   nearly always sparse, so samples of different references or panels get confident zeros for the genes of the others.
# What scdae does: with `allow_nan=True` it takes NaN as missing; a zero counts as a count. So join by
#   `concat(..., join="outer", fill_value=np.nan)`, which sparse matrices obey.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.13.4 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1 h5py==3.16.0

"$work/env/bin/python" -I -W ignore - <<'PY'
import anndata
import numpy as np
import pandas as pd
from scipy import sparse

print(f"anndata {anndata.__version__}, pandas {pd.__version__}")


def sample(kind, name, genes):
    counts = np.array([[1, 2], [3, 4]], np.float32)
    matrix = sparse.csr_matrix(counts) if kind == "sparse" else counts
    cells = pd.DataFrame(index=[f"{name}{i}" for i in range(2)])
    return anndata.AnnData(matrix, cells, pd.DataFrame(index=genes))


unmeasured = {}
for first, second in (("dense", "dense"), ("sparse", "sparse"), ("dense", "sparse")):
    for fill in (None, np.nan):
        samples = [sample(first, "x", ["gene1", "gene2"]), sample(second, "y", ["gene2", "gene3"])]
        joined = anndata.concat(samples, join="outer", fill_value=fill)
        whole = joined.X.toarray() if sparse.issparse(joined.X) else joined.X
        column = joined.var_names.get_loc("gene3")
        unmeasured[first, second, fill] = whole[:2, column]
        print(f"{first} and {second}, fill_value={fill}: gene3 in the sample without it is {whole[:2, column].tolist()}")

assert np.isnan(unmeasured["dense", "dense", None]).all()
assert (unmeasured["sparse", "sparse", None] == 0).all()
assert (unmeasured["dense", "sparse", None] == 0).all()
assert all(np.isnan(seen).all() for (_, _, fill), seen in unmeasured.items() if fill is not None)
PY
