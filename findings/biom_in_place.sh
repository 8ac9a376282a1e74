#!/usr/bin/env bash
# Methods of a BIOM table that return a table change the one they are called on, too; others do not.
#
# Expected: `table.norm()` and `table.filter(ids)`, which return a table, leave `table` as it is, as
#   methods of pandas, AnnData and scikit-bio do, and as `table.subsample(n)` of the same class does.
# What happens: `norm`, `filter` and `transform` work in place by default and return the very same object. After
#   `shares = table.norm()` there are no counts any more; `table` holds shares. `subsample` returns a new table, from
#   which samples with fewer than n counts are gone, without a word.
# Seen with: biom-format 2.1.18, Python 3.13.
# Why it matters: shares of 0 to 1 look like a table to everything that follows, and a model of counts that is fitted to
#   them, or a sample missing after rarefaction, is noticed late.
# What scdae does: it refuses values that are not whole numbers as counts, and says how many there are. With biom:
#   `table.norm(inplace=False)`.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    biom-format==2.1.18 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1 h5py==3.16.0

"$work/env/bin/python" -I -W ignore - <<'PY'
import biom
import numpy as np

print(f"biom-format {biom.__version__}")


def table():
    return biom.Table(np.array([[1, 20], [3, 40]]), ["feature1", "feature2"], ["small", "large"])


counts = table()
shares = counts.norm()
print(f"after norm: {counts.matrix_data.toarray().tolist()}, the same object: {shares is counts}")
assert shares is counts and counts.sum() == 2

counts = table()
kept = counts.filter(["large"])
print(f"after filter: samples {counts.ids().tolist()}, the same object: {kept is counts}")
assert kept is counts and counts.ids().tolist() == ["large"]

counts = table()
assert counts.norm(inplace=False) is not counts and counts.sum() == 64

thinned = counts.subsample(10)
print(f"after subsample to 10: samples {counts.ids().tolist()}; of what it returned: {thinned.ids().tolist()}")
assert counts.sum() == 64 and counts.ids().tolist() == ["small", "large"]
assert thinned.ids().tolist() == ["large"] and thinned.sum() == 10
PY
