#!/usr/bin/env bash
# A worker process of Dask asks the kernel for new pages for every array, which can double the time of a chunk.
#
# Expected: NumPy and JAX are as quick in a worker of `dask.distributed` as in a process that was started by hand, where glibc
#   reuses the memory of the last temporary array for the next.
# What happens: by its default `distributed.nanny.pre-spawn-environ`, a worker is started with MALLOC_TRIM_THRESHOLD_=65536, so that
#   memory which is freed leaves the process. glibc then also stops to adapt the size from which an array gets pages of its own, and
#   that stays at 128 KiB. Each temporary array of a chunk is mapped anew, and the kernel clears all of its pages.
# Seen with: distributed 2026.8.0, NumPy 2.5.5, Python 3.13, glibc 2.36 on Linux: log1p of blocks of 500 cells x 2,000 genes takes
#   more than ten times the page faults in a worker. Restoring 60,000 cells by scdae took 26 s in such a worker, of which
#   16 s were the system's, and 12 s without the setting.
# Why it matters: chunks of cells by genes are arrays of megabytes, and time in the kernel is easily taken for the price of the
#   cluster.
# What scdae does: it has its own thresholds while it works out a chunk (`core/runtime/freed.py`), and sets back what was set.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check distributed==2026.8.0 dask==2026.8.0 numpy==2.5.5

cd "$work"
cat > look.py <<'PY'
import os
import resource

import dask
import distributed
import numpy as np
from distributed import Client, LocalCluster


def page_faults():
    counts = np.ones((500, 2000), np.float32)  # 4 MB
    np.log1p(counts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        np.log1p(counts)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def in_worker():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        told = client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_")
        return next(iter(told.values())), client.submit(page_faults).result()


if __name__ == "__main__":  # the setting first, as a cluster leaves its variables in the process that has started it
    here = page_faults()
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1}}):
        untold, without = in_worker()
    told, as_it_is = in_worker()
    print(f"distributed {distributed.__version__}, MALLOC_TRIM_THRESHOLD_ {told}: {as_it_is:,} page faults in a worker,")
    print(f"{without:,} in one without it ({untold}), {here:,} in a process of its own")
    assert told == "65536" and untold is None
    assert as_it_is > 10 * max(here, without, 1)
PY
env -u MALLOC_TRIM_THRESHOLD_ env/bin/python -I -W ignore look.py
