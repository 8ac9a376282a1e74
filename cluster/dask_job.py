"""Lazy layers worked out by the workers of a dask cluster that SLURM runs: python dask_job.py counts.h5ad model.scdae out.zarr

The workers open the file by its path, which has to be the same on all nodes.
"""

from __future__ import annotations

import sys

import anndata as ad
from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import scdae
from scdae.io.write import write_atomic


def main(source: str, model_file: str, target: str) -> None:
    """Restore all cells, chunk by chunk, on two workers, and write the results."""
    cluster = SLURMCluster(
        cores=1,
        processes=1,
        memory="2GB",
        walltime="00:30:00",
        interface="lo" if "--loopback" in sys.argv else None,
        job_extra_directives=["--open-mode=append"],
        log_directory="logs",
    )
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=2)
        client.wait_for_workers(2, timeout=300)
        adata = ad.read_h5ad(source, backed="r")
        scdae.pp.impute(adata, model=scdae.DAE.load(model_file), lazy=True)
        write_atomic(scdae.get.results(adata), target)


if __name__ == "__main__":
    main(*(word for word in sys.argv[1:] if not word.startswith("--")))
