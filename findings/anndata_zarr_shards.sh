#!/usr/bin/env bash
# anndata writes a dask array to .zarr several times over, as it rewrites a whole shard for each block.
#
# Expected: writing an array block by block writes about as many bytes as the array has, or fewer, as it is
#   compressed.
# What happens: since 0.13 anndata lets zarr put many chunks into one file, a "shard", unless it is told otherwise. A
#   part of a shard cannot be replaced, so each dask block that reaches it reads the shard back, adds its rows and
#   writes all of it anew. Nothing is said. Blocks of 1,000 rows of an array of 40,000 x 500 cost eight times its
#   size. Without shards, chunks that reach over several blocks are written again, too, which makes 2.7 times in all.
# Seen with: anndata 0.13.4, zarr 3.4.2, dask 2026.8.0, Python 3.13.
# Why it matters: large matrices of counts, and results worked out as they are written, are dask arrays, and .zarr on
#   shared or cloud storage is where they go. Time, traffic and memory grow with the size of a shard, not with that of
#   a block.
# What scdae does: its command line and `write_atomic` write shards that lie within a dask block (`files/zarr_once.py`); chunks of
#   its lazy layers end where a shard ends, while that is small; docs/lazy.md says what to do beyond that.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    anndata==0.13.4 zarr==3.4.2 dask==2026.8.0 numpy==2.5.5 scipy==1.18.1 pandas==3.1.1 h5py==3.16.0

cd "$work"
env/bin/python -I -W ignore - <<'PY'
import anndata
import dask.array as da
import numpy as np
import zarr
from zarr.storage import LocalStore


class Counting(LocalStore):
    """A folder that knows how many bytes were written to it."""

    written = 0

    def set_sync(self, key, value):
        Counting.written += len(value)
        super().set_sync(key, value)

    async def set(self, key, value):
        Counting.written += len(value)
        await super().set(key, value)


values = np.random.default_rng(0).gamma(1, 1, (40_000, 500)).astype(np.float32)
ratio = {}
for shards in (True, False):
    for rows in (8_000, 1_000):
        if shards and rows == 8_000:  # what anndata does by itself
            assert anndata.settings.auto_shard_zarr_v3 is True
        adata = anndata.AnnData(da.from_array(values, chunks=(rows, -1)))
        Counting.written = 0
        path = f"{shards}{rows}.zarr"
        with anndata.settings.override(auto_shard_zarr_v3=shards):
            adata.write_zarr(Counting(path))
        ratio[shards, rows] = Counting.written / values.nbytes
        stored = zarr.open(path)["X"]
        print(
            f"blocks of {rows} rows, chunks {stored.chunks}, shards {stored.shards}: "
            f"{ratio[shards, rows]:.1f} times the bytes of the array"
        )
        assert (stored.shards is not None) == shards

assert ratio[True, 1_000] > 6
assert ratio[False, 1_000] < 4
assert ratio[True, 1_000] > 2 * ratio[False, 1_000]
assert ratio[True, 1_000] > 4 * ratio[True, 8_000]
PY
