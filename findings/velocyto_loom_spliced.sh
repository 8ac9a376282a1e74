#!/usr/bin/env bash
# anndata reads the spliced molecules of a velocyto loom as X, and not the main matrix.
#
# Expected: the main matrix of a loom file, which each loom has exactly once and which loompy gives for `ds[:, :]`,
#   becomes X.
# What happens: `anndata.io.read_loom(path)` takes the layer called "spliced" for X wherever there is one, since its
#   argument `X_name` has that default. The main matrix, in which velocyto counts all molecules, moves to a layer
#   "matrix". A loom without such a layer gives its main matrix, so that the same line of code reads different
#   quantities from two files. Every value is still a whole count, and no check finds anything.
# Seen with: anndata 0.13.4, loompy 3.0.8, Python 3.13.
# Why it matters: unspliced molecules are a good part of all in cells and most in nuclei. Library sizes, and all that
#   is fitted to the counts, are then those of the rest.
# What scdae does: it reads .loom itself, with the main matrix as the counts and the layers beside it (`loom.py`).
#   With anndata: `read_loom(path, X_name="")`.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.13.4 loompy==3.0.8 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1 h5py==3.16.0

cd "$work"
env/bin/python -I -W ignore - <<'PY'
import anndata
import loompy
import numpy as np

# As velocyto writes it: genes in rows; the main matrix is the sum of three layers.
rng = np.random.default_rng(0)
layers = {name: rng.poisson(mean, (50, 20)) for name, mean in (("spliced", 1), ("unspliced", 0.5), ("ambiguous", 0.1))}
layers = {"": sum(layers.values()), **layers}
names = {"Gene": np.array([f"gene{i}" for i in range(50)])}, {"CellID": np.array([f"cell{i}" for i in range(20)])}
loompy.create("velocyto.loom", layers, *names)
loompy.create("plain.loom", layers[""], *names)


def molecules(path, **options):
    return int(anndata.io.read_loom(path, **options).X.sum())


with loompy.connect("velocyto.loom", mode="r") as ds:
    main = int(ds[:, :].sum())
print(f"main matrix in loompy: {main} molecules")
print(f"X of the loom without layers: {molecules('plain.loom')}")
print(f"X of velocyto's loom: {molecules('velocyto.loom')}; with X_name='': {molecules('velocyto.loom', X_name='')}")
assert main == int(layers[""].sum()) == molecules("plain.loom") == molecules("velocyto.loom", X_name="")
assert molecules("velocyto.loom") == int(layers["spliced"].sum()) < main
assert int(anndata.io.read_loom("velocyto.loom").layers["matrix"].sum()) == main
PY
