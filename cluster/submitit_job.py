"""Samples restored by an array of jobs that submitit writes: python submitit_job.py shared.scdae samples/*.h5ad

Each job returns the path of its result. A lazy layer could not be returned: h5py's objects cannot be pickled.
"""

from __future__ import annotations

import sys
from pathlib import Path

import submitit


def restore(source: str, model_file: str) -> str:
    """Restore one sample, in a job."""
    import anndata as ad  # where the job runs

    import scdae

    adata = ad.read_h5ad(source)
    scdae.pp.impute(adata, model=scdae.DAE.load(model_file))
    target = Path("by_submitit") / Path(source).name
    target.parent.mkdir(exist_ok=True)
    adata.write_h5ad(target)
    return str(target)


def main(model_file: str, *sources: str) -> None:
    """Submit all, wait for them, and say what they wrote."""
    executor = submitit.AutoExecutor(folder="logs/submitit")
    executor.update_parameters(timeout_min=30, cpus_per_task=2, slurm_mem="1500M", slurm_array_parallelism=20)
    jobs = executor.map_array(restore, sources, [model_file] * len(sources))
    for job in jobs:
        print(job.result())


if __name__ == "__main__":
    main(*sys.argv[1:])
