#!/usr/bin/env bash
# zarr counts more written chunks than an array has, where its shards reach beyond its end.
#
# Expected: `nchunks_initialized` is at most `nchunks`, and equals it once everything was written, so that a smaller number tells
#   of an unfinished or damaged store.
# What happens: with shards, each shard that is there counts as all the chunks that it has room for, also those beyond the
#   end of the array. A complete array of 10 values in chunks of 4 and one shard of 16 has 3 chunks, of which 4 were written. And of 5 x 100
#   values in chunks of 4 x 4 and shards of 16 x 16, 50 chunks, 64 are counted where 3 of the 7 shards are missing.
# Seen with: zarr 3.4.2, Python 3.13.
# Why it matters: collections for training, such as annbatch's, have shards that are longer than small arrays within them. A check
#   for lost chunks by these two numbers calls them damaged, or misses a loss.
# What scdae does: it counts shards, each of which is one file (`io/stored_checks.py`).
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check zarr==3.4.2 numpy==2.5.5

cd "$work"
env/bin/python -I -W ignore - <<'PY'
import numpy as np
import zarr

print("zarr", zarr.__version__)
seen = []
for shape, chunk, shard, written in (((10,), (4,), (16,), 10), ((5, 100), (4, 4), (16, 16), 64)):
    array = zarr.create_array({}, shape=shape, chunks=chunk, shards=shard, dtype="i4")
    array[..., :written] = 1
    print(f"{shape}, shards of {shard}, {written} columns written: {array.nchunks} chunks, {array.nchunks_initialized} initialized")
    seen.append((array.nchunks, array.nchunks_initialized))
raise SystemExit(seen != [(3, 4), (50, 64)])
PY
