"""Genes of nothing but noise that are called helped: whole and estimated counts, by every likelihood."""

from __future__ import annotations

import anndata as ad
import numpy as np

import scdae

CELLS, GENES = 1500, 300
MOST = 0.03  # of the genes of noise
MAPPED, WEIGHT = 0.5, 0.3  # share of the reads that map to several places, and what one of them counts
FRACTIONS = (0.9, 0.5)
# name, whether reads are weighted, whether entries of some genes are lost, likelihood
CASES = (
    ("whole counts", False, False, "nb"),
    ("whole counts", False, False, "poisson"),
    ("estimated counts", True, False, "nb"),
    ("estimated counts", True, False, "poisson"),
    ("estimated, zero-inflated", True, True, "zinb"),
)


def draw(rng: np.random.Generator, *, weighted: bool, lossy: bool) -> tuple[ad.AnnData, np.ndarray]:
    """Counts of three types of cells, and which genes are the same in all of them: every second one."""
    depth = np.exp(rng.normal(0, 0.4, (CELLS, 1)))
    noise = np.arange(GENES) % 2 == 1
    fold = np.where(noise, 1.0, np.exp(rng.normal(0, 0.8, (3, GENES))))
    mean = depth * rng.gamma(0.5, 2.0, GENES) * fold[rng.integers(0, 3, CELLS)] * rng.gamma(5, 0.2, (CELLS, GENES))
    if lossy:
        mean = np.where((rng.random(mean.shape) < 0.4) & (np.arange(GENES) % 6 < 2), 0, mean)
    counts = rng.poisson(mean).astype(np.float32)
    if weighted:
        counts = (rng.poisson((1 - MAPPED) * mean) + np.float32(WEIGHT) * rng.poisson(MAPPED * mean)).astype(np.float32)
    counts[:, counts.sum(axis=0) == 0] += 1
    return ad.AnnData(counts), noise


def chance(seeds: int = 3) -> float:
    """Print the shares of such genes by case and by what is held out; returns the largest mean."""
    print(
        f"\nGenes of nothing but noise that are called helped, {CELLS:,} cells, half of {GENES} genes: at most {MOST:.0%}"
    )
    print(
        f"{'':26s}{'likelihood':12s}"
        + "".join(f"{1 - f:>8.1f}" for f in FRACTIONS)
        + f"{'others':>9s}   by share held out"
    )
    worst = 0.0
    for name, weighted, lossy, likelihood in CASES:
        found, others = np.zeros((seeds, len(FRACTIONS))), []
        for seed in range(seeds):
            adata, noise = draw(np.random.default_rng(seed), weighted=weighted, lossy=lossy)
            for i, fraction in enumerate(FRACTIONS):
                scdae.tl.evaluate(
                    adata,
                    likelihood=likelihood,
                    fraction=fraction,
                    allow_fractional=weighted,
                    seed=seed,
                    overwrite=True,
                )
                helped = (adata.var["scdae_verdict"] == "helped").to_numpy()
                found[seed, i] = helped[noise].mean()
                others.append(helped[~noise].mean())
        worst = max(worst, found.mean(axis=0).max())
        cells = "".join(f"{share:8.1%}" for share in found.mean(axis=0))
        print(f"{name:26s}{likelihood:12s}{cells}{np.mean(others):9.1%}", flush=True)
    return worst


if __name__ == "__main__":
    raise SystemExit(chance() > MOST)
