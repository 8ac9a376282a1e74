"""A simulated atlas of 360 cell types: how far the restored counts are from those of an oracle that knows the truth."""

import sys
import time
from pathlib import Path

import numpy as np

SIZES = (20_000, 60_000)
_AT_ONCE = 4000
_RARE = (10, 50)  # cells of a type


def rare(shared: Path, sizes: tuple[int, ...] = SIZES) -> None:
    """Print the distance from the oracle's skill, in all cells and in those of rare types."""
    sys.path.insert(0, str(shared / "bench"))
    import anndata as ad
    import atlas_sim

    import scdae

    print("\nSimulated atlas: held-out skill of the oracle's posterior and of scdae, and how far below it is")
    for n in sizes:
        train, test, rho, theta, kind, _ = atlas_sim.make(n)
        total = np.asarray(train.sum(axis=1)).ravel()
        mean, held = np.asarray(train.sum(axis=0)).ravel() / train.sum(), total * (test.sum() / train.sum())
        start = time.perf_counter()
        model = scdae.DAE().fit(ad.AnnData(train))
        seconds, size = time.perf_counter() - start, np.bincount(kind)[kind]
        loss = np.empty((3, n))  # of the gene means, the oracle, and scdae
        for i in range(0, n, _AT_ONCE):
            k = slice(i, i + _AT_ONCE)
            x, y = train[k].toarray(), test[k].toarray()
            oracle = rho[k] * (theta + x) / (theta + total[k, None] * rho[k])
            restored = np.asarray(model.impute(ad.AnnData(train[k]))) / np.maximum(total[k, None], 1)
            for row, share in zip(loss[:, k], (np.broadcast_to(mean, x.shape), oracle, restored), strict=True):
                expected = np.maximum((0.99 * share + 0.01 * mean) * held[k, None], 1e-9)
                row[:] = (expected - y + y * np.log(np.where(y > 0, y, 1) / np.where(y > 0, expected, 1))).sum(axis=1)
        few = (size >= _RARE[0]) & (size <= _RARE[1])
        for name, cells in (("all cells", slice(None)), (f"types of {_RARE[0]} to {_RARE[1]} cells", few)):
            base, best, got = loss[:, cells].sum(axis=1)
            oracle_skill, skill = 1 - best / base, 1 - got / base
            print(
                f"{n:8,d} cells, {name:24s}{oracle_skill:8.4f}{skill:8.4f}{(oracle_skill - skill) / oracle_skill:8.2%}"
                f"   fit {seconds:.0f} s, {model.config.n_latent} latent",
                flush=True,
            )
